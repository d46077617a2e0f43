"""What an extract for Tableau costs in full, and what it costs when 1,000 rows have changed: scripts/bench extracts.

CPU seconds, Hyper's own included, from an open snapshot to the file in its place; and the bytes that publishing sends.
Before it counts, the extract that was brought up to date is held against a full one, row for row, by Hyper.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.items import KEY, lines, shapes
from benchmarks.snapshots import REFRESHED, TABLE, changes

TABLE_NAME: Final = "orders"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dynalake-bench-") as folder:
        found = measure(Path(folder), asked.rows)
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    print(f"{asked.rows:,} rows, {REFRESHED:,} changed")
    print(f"{'':14}{'CPU s':>8}{'bytes':>14}")
    for name, (cpu, size) in found.items():
        print(f"{name:14}{cpu:8.2f}{size:14,}" if cpu else f"{name:14}{'':8}{size:14,}")


def measure(folder: Path, rows: int) -> dict[str, tuple[float, int]]:
    """CPU seconds and bytes of each."""
    from lake.export import export_table
    from lake.publish import refresh_snapshot
    from lake.snapshot import SnapshotAbout, build_snapshot

    about = SnapshotAbout(TABLE, TABLE_NAME, "", True, (), "a benchmark", 1_767_225_600_000)
    snapshot = folder / "lake.duckdb"
    ready = shapes()
    pages = (list(lines(min(1_000, rows - begin), begin, False, ready)) for begin in range(0, rows, 1_000))
    build_snapshot(snapshot, TABLE_NAME, KEY, pages, list, lambda: about)
    # What is seen for the first time in the changes would change the columns, and so be written in full.
    refresh_snapshot(snapshot, TABLE_NAME, [changes(rows, 1, ready)], lambda: about)
    found = {}
    for format_ in ("hyper", "tdsx"):
        found[f"full {format_}"] = timed(snapshot, folder / f"kept.{format_}", format_)
    refresh_snapshot(snapshot, TABLE_NAME, [changes(rows, 2, ready)], lambda: about)
    sent = payload(snapshot, folder)
    for format_ in ("hyper", "tdsx"):
        found[f"changed {format_}"] = timed(snapshot, folder / f"kept.{format_}", format_, changed=REFRESHED)
    found["sent"] = (0.0, sent)
    export_table(snapshot, TABLE_NAME, "hyper", folder / "full.hyper")
    require_same(folder / "kept.hyper", folder / "full.hyper")
    return found


def timed(snapshot: Path, out: Path, format_: Any, changed: int | None = None) -> tuple[float, int]:
    """Brings an extract up to date; `changed` rows are to be exchanged, all to be written where it is None."""
    from lake.export import export_table

    before = cpu_s()
    report = export_table(snapshot, TABLE_NAME, format_, out, incremental=True)
    took = cpu_s() - before
    told = report.increment
    if (
        told is None
        or (told.full is None) != (changed is not None)
        or told.inserted != (changed or report.rows)
    ):
        raise SystemExit(f"{out.name} was not brought up to date as it should: {told}")
    return took, report.bytes


def payload(snapshot: Path, folder: Path) -> int:
    """The bytes that publishing would send."""
    from lake.export.extract import extract_columns
    from lake.export.increment import find_changes, write_changes
    from lake.export.layout import Layout
    from lake.export.trail import read_trail, trail_of
    from lake.open import open_lake

    kept, part = folder / "kept.hyper", folder / "payload.hyper"
    with open_lake(snapshot) as lake:
        columns = extract_columns(lake, TABLE_NAME, Layout())
        find_changes(lake, TABLE_NAME, columns, read_trail(kept), trail_of(kept))
        write_changes(lake, TABLE_NAME, columns, part)
    return part.stat().st_size


def require_same(extract: Path, full: Path) -> None:
    """Checks that two extracts hold the same rows."""
    from lake.export.hyper import hyper_connection

    names = [f'{database}."public"."{TABLE_NAME}"' for database in ("extract", "other")]
    with hyper_connection(extract, other=full) as hyper:
        for one, other in (names, names[::-1]):
            rows = hyper.execute_scalar_query(
                f"SELECT count(*) FROM (SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}) AS differing"
            )
            if rows:
                raise SystemExit(f"{rows:,} rows of the extract differ from a full export")


def cpu_s() -> float:
    """This process's CPU seconds, and those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
