"""A copy of the lake table, such as a snapshot, compared with the lake: content, version and times of every row.

A copy is of a moment, and the lake goes on. A row of the lake that was not written after that moment must be in the
copy as it is: the same content, version and times. A row that differs is explained only by evidence that the lake's
row, or its tombstone, was written after the moment (`Evidence`); nothing is assumed.

What a row's absence from the lake proves: a deletion leaves a tombstone, which lives for `TOMBSTONE_LIFE_S`. So
within that time after the copy's moment, a row of the copy that the lake has neither as a row nor as a tombstone was
deleted before the moment, or was never there. Of an older copy this cannot be told, and the row counts as extra.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import duckdb

from expectations.bulk import Item, Pages
from expectations.canonical import canonical_text, differing_attributes
from expectations.recheck import AT_ONCE, Difference, Reader
from lake.contract.expiry import Expiry
from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT, is_tombstone, source_item

STATE: Final = (VERSION, WRITTEN_AT, SOURCE_AT)
"""The metadata that a copy keeps of a row: its version, and when it was written."""


class Evidence(Protocol):
    """What tells whether a row of the lake was written after the copy's moment."""

    def written_after(self, row: Item) -> bool | None:
        """Whether a lake row or tombstone was written after the moment; None where only `settle` can tell."""
        ...

    def settle(self, rows: Mapping[str, Item]) -> Collection[str]:
        """Of lake rows, by the canonical text of their keys, those that were written after the moment."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the lake table.

    Attributes:
        pages: every row with its metadata, as pages of raw lines of DynamoDB JSON, in any order.
        read: the rows of each key; more than one where the copy holds a key more than once.
        evidence: tells which rows of the lake were written after the copy's moment.
        problems: what does not add up within the copy, one sentence each.
    """

    pages: Pages
    read: Callable[[Sequence[Item]], Sequence[Sequence[Item]]]
    evidence: Evidence
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class Judged:
    """How many rows that differ from the copy were written after its moment."""

    moved: int = 0


def judge_candidates(
    database: duckdb.DuckDBPyConnection,
    lake: Reader,
    copy: Copy,
    key_is_plain: Callable[[Item], bool],
    judged: Judged,
    expiry: Expiry | None = None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> Iterator[Difference]:
    """Judge the rows of the table `copy_candidates (key, source_key)`.

    Args:
        database: it has the table.
        lake: reads the lake, consistently.
        copy: the copy.
        key_is_plain: whether a key of the lake is the source's too.
        judged: counts the rows that the lake has changed since.
        expiry: which rows are left out because they have expired; none if None.
        on_progress: called with the rows judged so far.

    Yields:
        The rows in which the copy is wrong, by key.
    """
    cursor = database.cursor()
    cursor.execute("SELECT key, source_key FROM copy_candidates ORDER BY key")
    unsure: dict[str, tuple[Item, Difference]] = {}
    done = 0
    while rows := cursor.fetchmany(AT_ONCE):
        keys = [json.loads(key) for key, _ in rows]
        for (text, source_text), key, live, shown in zip(
            rows, keys, lake(keys), copy.read(keys), strict=True
        ):
            source_key = json.loads(source_text) if source_text else (key if key_is_plain(key) else None)
            difference = _difference(key, source_key, live, shown)
            if difference is None or _is_left_out(live, shown, expiry):
                continue
            if difference.reason == "duplicate" or live is None or _is_state_of(shown, live):
                yield difference
                continue
            after = copy.evidence.written_after(live)
            if after is None:
                unsure[text] = live, difference
            elif after:
                judged.moved += 1
            else:
                yield difference
        done += len(rows)
        on_progress(done)
    if unsure:
        after_all = copy.evidence.settle({text: live for text, (live, _) in unsure.items()})
        judged.moved += len(after_all)
        yield from (difference for text, (_, difference) in unsure.items() if text not in after_all)


def _difference(
    key: Item, source_key: Item | None, live: Item | None, shown: Sequence[Item]
) -> Difference | None:
    """How the copy differs from the lake in one key; None where it does not."""
    if len(shown) > 1:
        return Difference("duplicate", key, source_key, where="copy")
    is_live = live is not None and not is_tombstone(live)
    if not shown:
        return Difference("missing", key, source_key, where="copy") if is_live else None
    if live is None or not is_live:
        return Difference("extra", key, source_key, where="copy")
    (row,) = shown
    attributes = differing_attributes(source_item(row), source_item(live))
    attributes += [name for name in STATE if _number_or_text(row, name) != _number_or_text(live, name)]
    return Difference("different", key, source_key, tuple(attributes), where="copy") if attributes else None


def _is_left_out(live: Item | None, shown: Sequence[Item], expiry: Expiry | None) -> bool:
    """Whether every row that there is, in the lake and in the copy, has expired."""
    if expiry is None or len(shown) > 1:
        return False
    there = [*shown, *([] if live is None or is_tombstone(live) else [live])]
    return all(map(expiry.has_passed, there))


def _is_state_of(shown: Sequence[Item], live: Item) -> bool:
    """Whether the copy's row is of the same write as the lake's row: then nothing has been written since."""
    return (
        bool(shown)
        and not is_tombstone(live)
        and all(
            _number_or_text(shown[0], name) == _number_or_text(live, name) for name in (VERSION, WRITTEN_AT)
        )
    )


def _number_or_text(row: Item, name: str) -> Any:
    return canonical_text({name: row[name]}) if name in row else None
