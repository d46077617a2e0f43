"""An extract for Tableau, in full or by what changed, as a bare .hyper or packaged as a .tdsx."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from lake.contract.files import PRIVATE
from lake.export import hyper
from lake.export.extract import ExtractColumn, extract_columns
from lake.export.increment import Changes, apply_changes, find_changes
from lake.export.layout import Layout
from lake.export.target import local_target, workplace
from lake.export.tdsx import pack, unpack
from lake.export.trail import NoTrailError, Trail, digest, read_trail, trail_of, write_trail
from lake.open import Lake

TableauFormat = Literal["hyper", "tdsx"]

LARGEST_GROWTH: Final = 2
"""An extract so many times as large as when it was last written in full is written in full again."""

_OTHER: Final = "the extract there is not the one that its trail belongs to"


@dataclass(frozen=True, slots=True)
class Increment:
    """How an extract was brought up to date.

    Attributes:
        full: why all of it was written; None where only what changed was.
        deleted: rows deleted from it.
        inserted: rows inserted into it.
    """

    full: str | None
    deleted: int
    inserted: int


def write(lake: Lake, table: str, part: Path, format_: TableauFormat, layout: Layout) -> None:
    """Writes the whole table to the file `part`.

    Raises:
        ExportError: a library is not installed, or Hyper refuses the data.
    """
    _write(lake, table, part, format_, extract_columns(lake, table, layout), layout)


def forget(out: Path) -> None:
    """Removes what is kept beside an extract that was just written over."""
    trail_of(out.absolute()).unlink(missing_ok=True)


def update(
    lake: Lake,
    table: str,
    out: Path,
    format_: TableauFormat,
    layout: Layout,
    mode: int = PRIVATE,
) -> Increment:
    """Brings the extract `out` up to date, by what changed since it was written where that can be told.

    Args:
        lake: the snapshot.
        table: the table's name in it.
        out: the extract; it is written in full where it is missing, or nothing tells what it was made from.
        format_: "hyper" or "tdsx".
        layout: as for `write`; there is no order.
        mode: of a new file.

    Raises:
        ExportError: a library is not installed, the target cannot be written, or Hyper refuses the data.
    """
    out = out.absolute()
    columns = extract_columns(lake, table, layout)
    now = Trail.of(lake, table, columns)
    why = None
    try:
        before, changes = _changes(lake, table, out, now)
        if not changes.gone and not changes.come:
            return Increment(None, 0, 0)
        with _targets(out, mode) as (part, trail_part):
            _exchange(lake, table, out, part, format_, columns, before, changes)
            told = replace(
                now,
                digest=digest(part),
                replaced=before.replaced + changes.gone,
                written_bytes=before.written_bytes,
            )
            write_trail(lake, table, trail_part, told)
            return Increment(None, changes.gone, changes.come)
    except NoTrailError as error:
        why = str(error)
    with _targets(out, mode) as (part, trail_part):
        _write(lake, table, part, format_, columns, layout)
        write_trail(
            lake, table, trail_part, replace(now, digest=digest(part), written_bytes=part.stat().st_size)
        )
    return Increment(why, 0, now.rows)


@contextmanager
def _targets(out: Path, mode: int) -> Iterator[tuple[Path, Path]]:
    """Places for an extract and its trail.

    The extract is put in its place first: between the two it has no trail that fits, and is written in full next.
    """
    with (
        local_target(trail_of(out), directory=False, mode=mode) as trail_part,
        local_target(out, directory=False, mode=mode) as part,
    ):
        yield part, trail_part


def _changes(lake: Lake, table: str, out: Path, now: Trail) -> tuple[Trail, Changes]:
    """What the extract there was made from, and what has changed since.

    Raises:
        NoTrailError: the extract is to be written in full.
    """
    if not out.exists():
        raise NoTrailError("there was no extract yet")
    before = read_trail(out)
    before.require_same(now)
    if not before.rows:
        # Hyper writes to a file without rows each time that it is opened, so its digest tells nothing.
        raise NoTrailError("the extract there had no rows")
    if digest(out) != before.digest:
        raise NoTrailError(_OTHER)
    if out.stat().st_size > before.written_bytes * LARGEST_GROWTH:
        raise NoTrailError(
            "the file has grown much since it last was, as Hyper keeps the room of deleted rows"
        )
    return before, find_changes(lake, table, before, trail_of(out))


def _exchange(
    lake: Lake,
    table: str,
    out: Path,
    part: Path,
    format_: TableauFormat,
    columns: list[ExtractColumn],
    before: Trail,
    changes: Changes,
) -> None:
    """Makes the new extract, in the file `part`, from the old one."""
    if digest(out, part) != before.digest:
        raise NoTrailError(_OTHER)
    if format_ == "hyper":
        apply_changes(lake, table, columns, changes, part)
        return
    with workplace(part) as folder:
        inner = folder / "extract.hyper"
        unpack(part, inner)
        apply_changes(lake, table, columns, changes, inner)
        pack(lake, table, columns, inner, part)


def _write(
    lake: Lake, table: str, part: Path, format_: TableauFormat, columns: list[ExtractColumn], layout: Layout
) -> None:
    with workplace(part) as folder:
        if format_ == "hyper":
            hyper.write(lake, table, part, columns, layout.sort_by)
            return
        inner = folder / "extract.hyper"
        hyper.write(lake, table, inner, columns, layout.sort_by)
        pack(lake, table, columns, inner, part)
