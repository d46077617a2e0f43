"""The one rule (`lake.contract.versions`) as DuckDB's SQL: which row of a key is held after all of its changes."""

from __future__ import annotations


def held_rows(seen: str) -> str:
    """The SELECT (key, turn, deleted) of the rows that are held in the end: at most one a key.

    The rule in sequence: a written row is held if its version is newer than that of the row held; a removed
    row leaves nothing if the row held is not newer than it. What is held in the end is the newest of the
    written rows after which no row of their key with the same or a newer version was removed. For a row that
    such a removal follows is not held any more, be it for the removal or for a newer row before it; and a row
    that none follows can only have given way to a newer one, which, if it was itself removed, was so by a
    removal newer than both. The newest over all alone will not do: after a tombstone expired, a repair may
    write the row anew with a lower version. Versions are ASCII, and DuckDB compares text byte by byte, like
    Python. Of equal versions the first stays, as nothing is newer than itself.

    Args:
        seen: a relation with the columns `key`, `version`, `deleted` (it is a tombstone), `removed` (the row was
            removed, not written) and `turn` (which gives the sequence). A row that a store held before is one more
            written row, of an earlier turn.
    """
    return f"""WITH changes AS (
            SELECT seen.key, seen.version, seen.deleted, seen.removed, seen.turn FROM {seen} AS seen),
        removals AS (SELECT changes.key, changes.version, changes.turn FROM changes WHERE changes.removed),
        standing AS (
            SELECT written.key, written.version, written.turn, written.deleted FROM changes AS written
            WHERE NOT written.removed AND NOT EXISTS (
                SELECT 1 FROM removals WHERE removals.key = written.key
                    AND removals.turn > written.turn AND removals.version >= written.version))
        SELECT standing.key, standing.turn, standing.deleted FROM standing
        QUALIFY row_number() OVER (PARTITION BY standing.key ORDER BY standing.version DESC, standing.turn) = 1"""
