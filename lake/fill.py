"""Fills a snapshot's table from parts, fast: decode with the columns found so far, and look again where they fail.

The columns are found in some rows of the first part. Each part is then read straight into them, and an account
(`lake.account`) tells whether the columns hold all that was in its bytes. Where they do not, the account of each of
its blocks tells where: the rows there that do not fit are looked at, and the columns grow. A new attribute or a
companion is added to the table, and those blocks are read again; where a column must change its type, the parts that
are left are only searched for more of the kind, and the table is filled anew. So every attribute of every row is
seen, the types are those that a look at all rows would have found, and the second look is paid for only where it is
needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import duckdb

from lake.account import account_of_row, account_of_rows, quotes_in
from lake.contract.catalogue import TAGS
from lake.contract.rows import DELETED
from lake.decode import BLOCK, MARKS, METADATA, raw_lines, raw_rows, typed_lines, typed_read, typed_select
from lake.discover import Found, look, majority, settle
from lake.errors import DecodeError
from lake.parts import Block, Part
from lake.shape import Places, merged, settled
from lake.stored import stored
from lake.types import NULLS, Column, duckdb_type, literal

SAMPLE_ROWS: Final = 5000
"""Rows of the first part that the first columns are found in: looking costs five times what reading does."""

PASSES: Final = 4
"""A table that still does not fit after being filled so often is looked at row by row."""

_LINES: Final = 64
"""Rows in Python at a time, of those that do not fit: each may have 400 KB."""


class Filler:
    """One table that is being filled."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        key: Sequence[str],
        work: Path,
        first_seen: Mapping[str, int],
        key_types: Mapping[str, str] | None,
    ) -> None:
        """Fill `table`.

        Args:
            con: a prepared connection (`lake.discover.prepare`).
            table: the table, quoted; it is made, and made anew when it must be.
            key: the key attributes.
            work: a folder for temporary files.
            first_seen: see `lake.discover.discover`.
            key_types: likewise.
        """
        self._con, self._table, self._key, self._work = con, table, key, work
        self._first_seen, self._key_types = first_seen, key_types
        self._parts: list[Part] = []
        self._places: Places = {}
        self._found: tuple[Found, ...] = ()
        self._main_tags: Mapping[str, str | None] = {}
        self._scouting = self._begun = False
        self.generation = 0

    @property
    def found(self) -> tuple[Found, ...]:
        """The columns, with how many rows have each tag once `finish` was called."""
        return tuple(
            replace(one, column=replace(one.column, type=settled(one.column.type))) for one in self._found
        )

    @property
    def parts(self) -> Sequence[Part]:
        """The parts taken so far."""
        return self._parts

    def add(self, part: Part) -> None:
        """Takes a part.

        Raises:
            DecodeError: a row is not an item in DynamoDB JSON.
        """
        self._parts.append(part)
        if not self._found:
            self._places = look(self._con, f"(SELECT line FROM {raw_rows(part)} LIMIT {SAMPLE_ROWS})")
            self._found = self._settle(self._places)
            self._create()
        self._take(part)

    def finish(self) -> None:
        """Sees to it that every row is in the table, and each attribute's main column holds what most rows have.

        Raises:
            DecodeError: a row is not an item in DynamoDB JSON.
        """
        if not self._found:
            self._found = self._settle(self._places)
            self._create()
        for attempt in range(PASSES):
            if not self._scouting:
                counts = self._counts()
                if attempt == PASSES - 1 or not self._note(counts):
                    self._commit()
                    return
                self._found = self._settle(self._places)
            self._again()
        if self._scouting:
            self._look_at_all()
            self._note(self._counts())
            self._commit()

    @property
    def main_tags(self) -> Mapping[str, str | None]:
        """Attribute -> the DynamoDB type of its main column."""
        return self._main_tags

    def trim(self) -> None:
        """Leaves the table as readers get it, and counts its rows: nothing can be added after."""
        self._main_tags = {one.column.attribute: majority(one.rows) for one in self._found}
        counts = self._counts()
        found = []
        for one in self._found:
            rows = {tag: n for tag, n in counts[one.column.attribute].items() if n}
            if rows or one.column.attribute in self._key:
                found.append(replace(one, rows=rows))
                continue
            # Only rows that gave way to newer ones had it.
            for name, _ in _columns([one]):
                self._con.execute(f"ALTER TABLE {self._table} DROP COLUMN {name}")
        self._found = tuple(found)
        for name in (*MARKS, BLOCK):
            self._con.execute(f"ALTER TABLE {self._table} DROP COLUMN {name}")

    def grow(self, rows: str) -> bool:
        """Makes room for more rows, which `insert` can then take.

        Args:
            rows: a relation with a column `line` (JSON), as SQL.

        Returns:
            Whether the table's rows are still where they were; if not, it was filled anew, from the parts.

        Raises:
            DecodeError: a row is not an item in DynamoDB JSON.
        """
        before = self.generation
        self._learn(look(self._con, rows))
        if self._scouting:
            self.finish()
        return self.generation == before

    def insert(self, rows: str) -> None:
        """Puts rows into the table for which `grow` has made room."""
        self._con.execute(f"INSERT INTO {self._table} BY NAME {typed_select(self.found, rows)}")

    def _settle(self, places: Places) -> tuple[Found, ...]:
        return settle(places, self._key, self._first_seen, self._key_types)

    def _create(self) -> None:
        own = {**METADATA, NULLS: ("", "VARCHAR[]"), **MARKS, BLOCK: ("", "INTEGER")}
        columns = [f"{name} {kind}" for name, kind in _columns(self._found)]
        columns += [f"{name} {kind}" for name, (_, kind) in own.items()]
        self._commit()
        self._con.execute(f"CREATE OR REPLACE TABLE {self._table} ({', '.join(columns)})")
        self.generation += 1

    def _begin(self) -> None:
        # In one transaction: each commit would write the last, half full row group to the log, and again later.
        if not self._begun:
            self._con.execute("BEGIN")
        self._begun = True

    def _commit(self) -> None:
        if self._begun:
            self._con.execute("COMMIT")
        self._begun = False

    def _take(self, part: Part) -> None:
        bad = part.blocks if self._scouting else self._read(part)
        if not bad:
            return
        # What is deleted in the transaction that wrote it makes DuckDB write everything again.
        self._commit()
        again = replace(part, blocks=bad)
        self._learn(self._surprises(again))
        if self._scouting:
            return
        numbers = ", ".join(str(block.number) for block in bad)
        self._con.execute(f"DELETE FROM {self._table} WHERE {BLOCK} IN ({numbers})")
        self._scouting = bool(self._read(again))

    def _read(self, part: Part) -> tuple[Block, ...]:
        """Reads a part into the table; gives the blocks that its columns do not hold all of."""
        con = self._con
        self._begin()
        try:
            con.execute(f"INSERT INTO {self._table} BY NAME {typed_read(self._found, part)}")
        except duckdb.InvalidInputException:
            # An integer that is none, unless it is not JSON at all, which the look at it will tell. The transaction
            # is lost, but the column must change its type anyway.
            con.execute("ROLLBACK")
            self._begun, self._scouting = False, True
            return part.blocks
        first, last = part.blocks[0].number, part.blocks[-1].number
        account = f"""count(*), {account_of_rows(self._found, part.wrapper)} FROM {self._table}
            WHERE {BLOCK} BETWEEN {first} AND {last}"""
        if len(part.blocks) == last - first + 1 and _one(con, f"SELECT {account}") == (
            part.rows,
            part.quotes,
        ):
            return ()
        each = con.execute(f"SELECT {BLOCK}, {account} GROUP BY {BLOCK}").fetchall()
        found = {number: (rows, quotes) for number, rows, quotes in each}
        bad = []
        for block in part.blocks:
            rows, quotes = found.get(block.number, (0, 0))
            if rows != block.rows:
                raise DecodeError(f"of {block.rows} rows {rows} were read")
            if quotes != block.quotes:
                bad.append(block)
        return tuple(bad)

    def _surprises(self, part: Part) -> Places:
        """What is in the rows of a part that do not fit the columns."""
        path = self._work / "surprises"
        result = self._con.sql(
            f"""SELECT _lake_line::VARCHAR AS line FROM ({typed_lines(self._found, raw_rows(part))})
            WHERE ({account_of_row(self._found)}) IS DISTINCT FROM {quotes_in("_lake_line::VARCHAR")}"""
        ).to_arrow_reader(_LINES)
        count = 0
        with path.open("wb") as file:
            for batch in result:
                lines = [line.encode() for line in batch.column(0).to_pylist()]
                count += len(lines)
                file.writelines(line + b"\n" for line in lines)
        rows = f"(SELECT json AS line FROM {raw_lines(path)})" if count else raw_rows(part)
        return look(self._con, rows)

    def _learn(self, places: Places) -> None:
        """Adds what rows hold to what is known; if the table cannot just get more columns, it is to be filled anew."""
        known = {one.column.attribute: one for one in self._found}
        for name, one in known.items():
            # The main column stays what it is until all rows are counted.
            tag = majority(one.rows)
            if tag in self._places.get(name, {}):
                most = sum(
                    seen.rows for tree in (self._places, places) for seen in tree.get(name, {}).values()
                )
                self._places[name][tag].rows = most + 1
        self._places = merged(self._places, places)
        found = self._settle(self._places)
        now = {one.column.attribute: one for one in found}
        fits = all(_extends(one, now[name]) for name, one in known.items()) and not self._scouting
        if fits:
            have = {name for name, _ in _columns(self._found)}
            for name, kind in _columns(found):
                if name not in have:
                    self._con.execute(f"ALTER TABLE {self._table} ADD COLUMN {name} {kind}")
        self._found = found
        self._scouting = not fits

    def _again(self) -> None:
        self._scouting = False
        self._create()
        for part in self._parts:
            self._take(part)

    def _look_at_all(self) -> None:
        """The slow way, which needs no luck: look at every row, then decode it."""
        every = " UNION ALL ".join(f"SELECT line FROM {raw_rows(part)}" for part in self._parts)
        self._places = look(self._con, f"({every})")
        self._found = self._settle(self._places)
        self._create()
        self._begin()
        for part in self._parts:
            marks = ", ".join(
                f"json_extract_string(line, '/{name}/{tag}')::{kind} AS {name}"
                for name, (tag, kind) in MARKS.items()
            )
            rows = raw_rows(part)
            self._con.execute(
                f"""INSERT INTO {self._table} BY NAME SELECT * FROM ({typed_select(self.found, rows, marks)})"""
            )
        self._scouting = False

    def _counts(self) -> dict[str, dict[str, int]]:
        """Attribute -> tag -> how many rows of the table have it, tombstones left out."""
        asked: list[tuple[str, str]] = []
        terms: list[str] = []
        for one in self._found:
            column = one.column
            main = majority(one.rows)
            for tag in one.rows:
                if tag == "NULL":
                    continue
                if tag == main:
                    terms.append(f"count({stored(column.name)})")
                else:
                    begin = literal('{"' + tag + '":')
                    terms.append(f"count(*) FILTER (starts_with({stored(column.companion or '')}, {begin}))")
                asked.append((column.attribute, tag))
        alive = f"FROM {self._table} WHERE {DELETED} IS NULL"
        counted = _one(self._con, f"SELECT {', '.join(terms)} {alive}") if terms else ()
        counts: dict[str, dict[str, int]] = {one.column.attribute: {} for one in self._found}
        for (name, tag), rows in zip(asked, counted, strict=True):
            counts[name][tag] = rows
        nulls = self._con.execute(
            f"SELECT n.name, count(*) FROM (SELECT unnest({NULLS}) AS name {alive}) AS n GROUP BY n.name"
        ).fetchall()
        for name, rows in nulls:
            counts[name]["NULL"] = rows
        return counts

    def _note(self, counts: Mapping[str, Mapping[str, int]]) -> bool:
        """Puts the true numbers of rows down; gives whether a main column is not what most rows have."""
        found = []
        wrong = False
        for one in self._found:
            name = one.column.attribute
            rows = {tag: counts[name].get(tag, 0) for tag in TAGS if tag in one.rows}
            for tag, number in rows.items():
                if tag in self._places.get(name, {}):
                    self._places[name][tag].rows = number
            wrong = wrong or majority(rows) != majority(one.rows)
            found.append(replace(one, rows=rows))
        if not wrong:
            self._found = tuple(found)
        return wrong


def _columns(found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """The columns' stored names, as SQL, and types, companions included."""
    for one in found:
        yield stored(one.column.name), duckdb_type(one.column.type)
        if one.column.companion is not None:
            yield stored(one.column.companion), "JSON"


def _extends(old: Found, new: Found) -> bool:
    """Whether a column can stay as it is."""
    was: Column = old.column
    now: Column = new.column
    return (was.name, was.type) == (now.name, now.type) and was.companion in (None, now.companion)


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = con.execute(sql).fetchall()
    return tuple(row)
