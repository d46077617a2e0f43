"""An exported file compared with the snapshot that it was written from, row by row, column by column.

The rows that the file should have are selected from the snapshot with the same SQL that the export uses
(`lake.export`), so this holds for every format: nested values as they are, as JSON text, or as a column for each
field. The file's rows are read by the format's own reader: DuckDB for Parquet and CSV, pyarrow for Arrow, and Hyper,
which hands them on as Parquet, for Tableau's extracts. Order is not compared: a table has none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import duckdb

from expectations.errors import ParityError
from expectations.parity import KEPT, MEMORY_LIMIT, ParityResult
from expectations.recheck import Difference
from lake.contract.files import is_within
from lake.contract.numbers import canonical_number
from lake.contract.rows import Item
from lake.export import csv
from lake.export.export import Format, format_of
from lake.export.extract import extract_columns, rows_query
from lake.export.hyper import SCHEMA, hyper_connection
from lake.export.layout import Layout
from lake.export.select import flat_columns, flat_select, lossless_select
from lake.export.tdsx import unpack
from lake.export.trail import NoTrailError
from lake.open import Lake, open_lake
from lake.stored import rows_of
from lake.types import Blob, Text, identifier, literal

_ROWS: Final = 1_000
"""Differences in Python at a time."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as it should be.

    Attributes:
        name: its name in the file.
        type: its type as DuckDB reads it.
        attribute: the DynamoDB attribute, or the metadata, that it holds.
        key: its place in the table's key, from 0; None where it is not part of it.
    """

    name: str
    type: str
    attribute: str
    key: int | None


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a file should hold: a query over the snapshot, and its columns."""

    query: str
    columns: tuple[_Column, ...]


def compare_export(
    snapshot: Path,
    table: str,
    file: Path,
    *,
    on_difference: Callable[[Difference], None] = lambda _: None,
) -> ParityResult:
    """Compare an exported file with the snapshot's table.

    Args:
        snapshot: the snapshot, as it was when the file was written.
        table: the table's name in it.
        file: a file or, for Parquet, a folder that `dynalake export` wrote: Parquet, CSV, Arrow, .hyper or .tdsx.
        on_difference: called with every row that differs, by key.

    Returns:
        A result whose `source_rows` are the snapshot's and whose `lake_rows` are the file's. What is wrong with a
        column, and not with a row, is in `problems`.

    Raises:
        SnapshotError: there is no such snapshot or table.
        ExportError: the file's name does not say its format, or a library for it is not installed.
        ParityError: the file cannot be read.
    """
    form = format_of(file)
    if not file.exists():
        raise ParityError(
            f"there is no file {file}", remedy="name a file or a folder that `dynalake export` wrote"
        )
    with (
        tempfile.TemporaryDirectory(prefix="dynalake-parity-") as folder,
        open_lake(snapshot, table, files=True) as lake,
    ):
        lake.columns(table)
        with duckdb.connect(
            ":memory:", config={"memory_limit": MEMORY_LIMIT, "temp_directory": f"{folder}/spill"}
        ) as con:
            con.execute("SET preserve_insertion_order = false")
            con.execute(f"ATTACH {literal(str(snapshot))} AS lake (READ_ONLY, TYPE duckdb)")
            con.execute("USE lake")
            try:
                return _Comparison(con, lake, table, file, form, Path(folder)).run(on_difference)
            except duckdb.Error as error:
                raise ParityError(f"{file} cannot be compared with {snapshot}: {error}") from error


class _Comparison:
    """One comparison."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, lake: Lake, table: str, file: Path, form: Format, work: Path
    ) -> None:
        self._con, self._lake, self._table, self._file, self._form = con, lake, table, file, form
        self._schema = lake.schema(table)
        ((key,),) = lake.sql("SELECT key FROM _lake.tables WHERE table_name = ?", params=[table]).fetchall()
        self._key: tuple[str, ...] = tuple(key)
        self._actual = self._relation(work)

    def run(self, on_difference: Callable[[Difference], None]) -> ParityResult:
        has = self._types(f"FROM {self._actual}")
        expected = self._best(has)
        problems = list(self._column_problems(expected, has))
        self._lay_out(expected, has)
        problems += self._key_problems(expected)
        counts: dict[str, Any] = dict.fromkeys(("missing", "extra", "different", "duplicate"), 0)
        kept: list[Difference] = []
        for difference in self._differences(expected):
            counts[difference.reason] += 1
            if len(kept) < KEPT:
                kept.append(difference)
            on_difference(difference)
        return ParityResult(
            source_rows=self._count("expected"),
            lake_rows=self._count("actual"),
            tombstones=0,
            **counts,
            in_flight=0,
            differences=tuple(kept),
            problems=tuple(problems),
        )

    def _relation(self, work: Path) -> str:
        """The file's rows as a relation, in SQL."""
        match self._form:
            case "parquet":
                return self._parquet()
            case "csv":
                return (
                    f"read_csv({literal(str(self._file))}, delim = ',', quote = '\"', escape = '\"', header = true, "
                    "all_varchar = true, allow_quoted_nulls = false, strict_mode = true)"
                )
            case "arrow":
                import pyarrow.dataset as ds

                self._con.register("arrow_file", ds.dataset(self._file, format="ipc"))
                return "arrow_file"
            case "hyper" | "tdsx":
                return f"read_parquet({literal(str(_as_parquet(self._file, self._table, work)))})"

    def _parquet(self) -> str:
        if self._file.is_file():
            return f"read_parquet({literal(str(self._file))}, hive_partitioning = false)"
        files = sorted(
            path
            for path in self._file.rglob("*.parquet")
            if not any(part.startswith((".", "_")) for part in path.relative_to(self._file).parts)
        )
        if not files:
            raise ParityError(f"there is no Parquet file in {self._file}")
        if outside := next((path for path in files if not is_within(path, self._file)), None):
            raise ParityError(f"{outside} is a link that leads out of the folder {self._file}")
        named = ", ".join(literal(str(path)) for path in files)
        # Columns that only the folders' names hold have the type that the snapshot gives them.
        held = self._types(f"FROM read_parquet({literal(str(files[0]))}, hive_partitioning = false)")
        types = [
            f"{identifier(name)}: {kind}"
            for name, kind in self._types(
                lossless_select(self._lake.columns(self._table), self._table)
            ).items()
            if name not in held and any(part.startswith(f"{name}=") for part in files[0].parts)
        ]
        hive = f", hive_types = {{{', '.join(types)}}}" if types else ""
        return f"read_parquet([{named}], hive_partitioning = true, hive_types_autocast = false{hive})"

    def _types(self, query: str) -> dict[str, str]:
        relation = self._con.sql(query)
        return dict(zip(relation.columns, map(str, relation.types), strict=True))

    def _best(self, has: dict[str, str]) -> _Expected:
        """Of the ways in which the table may have been exported, that which the file's columns fit best."""
        return max(
            self._candidates(), key=lambda one: sum(has.get(each.name) == each.type for each in one.columns)
        )

    def _candidates(self) -> Iterator[_Expected]:
        columns = self._lake.columns(self._table)
        attributes = {column.name: column.attribute for column in columns}
        attributes |= {column.companion: column.attribute for column in columns if column.companion}
        keys = {
            column.name: self._key.index(column.attribute)
            for column in columns
            if column.attribute in self._key
        }
        match self._form:
            case "parquet" | "arrow":
                yield self._expected(lossless_select(columns, self._table), attributes, keys)
            case "csv":
                for flatten in (False, True):
                    flat = flat_columns(columns, flatten=flatten)
                    query = flat_select(columns, self._table, csv.cell, csv.header, flatten=flatten)
                    yield self._expected(
                        f"SELECT COLUMNS(*)::VARCHAR FROM ({query})",
                        {csv.header(each.name): each.column.attribute for each in flat},
                        {
                            csv.header(each.name): self._key.index(each.column.attribute)
                            for each in flat
                            if each.column.attribute in self._key and not each.companion
                        },
                    )
            case "hyper" | "tdsx":
                for flatten, dates in product((False, True), repeat=2):
                    extract = extract_columns(self._lake, self._table, Layout(flatten=flatten, dates=dates))
                    yield self._expected(
                        rows_query(extract, rows_of(self._table)),
                        {each.name: each.attribute for each in extract},
                        {each.name: self._key.index(each.attribute) for each in extract if each.is_key},
                    )

    def _expected(self, query: str, attributes: dict[str, str], keys: dict[str, int]) -> _Expected:
        return _Expected(
            query,
            tuple(
                _Column(name, kind, attributes.get(name, name), keys.get(name))
                for name, kind in self._types(query).items()
            ),
        )

    def _column_problems(self, expected: _Expected, has: dict[str, str]) -> Iterator[str]:
        for column in expected.columns:
            if column.name not in has:
                yield f"the file lacks the column {column.name!r}"
            elif has[column.name] != column.type:
                yield f"the file's column {column.name!r} is {has[column.name]}, and it should be {column.type}"
        known = {column.name for column in expected.columns} | set(self._folders())
        for name in has:
            if name not in known:
                yield f"the file has a column {name!r}, which the snapshot does not have"

    def _folders(self) -> Iterator[str]:
        """The names of a folder's partitions."""
        if self._file.is_dir():
            yield from (path.name.partition("=")[0] for path in self._file.rglob("*=*") if path.is_dir())

    def _lay_out(self, expected: _Expected, has: dict[str, str]) -> None:
        """The views `expected` and `actual`, with columns c0, c1, … and the key as the list of texts `key`."""
        for column in expected.columns:
            if column.key is not None and column.name not in has:
                raise ParityError(f"{self._file} lacks the key's column {column.name!r}")
        right, left = [], []
        for number, column in enumerate(expected.columns):
            name = identifier(column.name)
            same = has.get(column.name) == column.type
            right.append(f"{name}{'' if same else '::VARCHAR'} AS c{number}")
            if column.name in has:
                left.append(f"{name}{'' if same else '::VARCHAR'} AS c{number}")
        for view, columns, rows in (
            ("expected", right, f"({expected.query})"),
            ("actual", left, self._actual),
        ):
            self._con.execute(
                f"CREATE TEMP VIEW {view} AS SELECT *, {_key_list(expected.columns)} AS key "
                f"FROM (SELECT {', '.join(columns)} FROM {rows} AS held)"
            )

    def _key_problems(self, expected: _Expected) -> Iterator[str]:
        found = self._count(f"actual WHERE {_keyless(expected)}")
        if found:
            yield f"{found:,} rows of the file have no key"
        found = self._count("(SELECT key FROM expected GROUP BY key HAVING count(*) > 1)")
        if found:
            yield f"the snapshot holds {found:,} keys more than once: compare it with the lake first"

    def _differences(self, expected: _Expected) -> Iterator[Difference]:
        held = {row[0] for row in self._con.execute("DESCRIBE actual").fetchall()}
        compared = [
            (f"c{number}", column.attribute)
            for number, column in enumerate(expected.columns)
            if f"c{number}" in held and column.key is None
        ]
        differ = [
            f"CASE WHEN e.{name} IS DISTINCT FROM a.{name} THEN {literal(attribute)} END"
            for name, attribute in compared
        ]
        columns = ", ".join(["key", "true AS there", *(name for name, _ in compared)])
        keyless = _keyless(expected)
        self._con.execute(
            f"CREATE TEMP TABLE twice AS SELECT key FROM actual WHERE NOT ({keyless}) GROUP BY key HAVING count(*) > 1"
        )
        self._con.execute(
            f"""CREATE TEMP TABLE differing AS SELECT * FROM (
                SELECT coalesce(e.key, a.key) AS key, e.there IS NULL AS extra, a.there IS NULL AS missing,
                    list_filter([{", ".join(differ) or "NULL::VARCHAR"}], lambda x: x IS NOT NULL) AS attributes
                FROM (SELECT {columns} FROM expected ANTI JOIN twice USING (key)) AS e
                FULL JOIN (SELECT {columns} FROM actual ANTI JOIN twice USING (key) WHERE NOT ({keyless})) AS a
                    ON e.key = a.key)
            WHERE extra OR missing OR len(attributes) > 0
            UNION ALL BY NAME SELECT key, NULL AS attributes FROM twice"""
        )
        result = self._con.execute("SELECT key, extra, missing, attributes FROM differing ORDER BY key")
        while rows := result.fetchmany(_ROWS):
            for key, extra, missing, attributes in rows:
                if attributes is None:
                    yield Difference("duplicate", self._wire(key), None, where="copy")
                elif extra or missing:
                    yield Difference("extra" if extra else "missing", self._wire(key), None, where="copy")
                else:
                    names = tuple(dict.fromkeys(attributes))
                    yield Difference("different", self._wire(key), None, names, where="copy")

    def _wire(self, key: Sequence[str | None]) -> Item:
        """A key as DynamoDB JSON, from its texts."""
        kinds = {one.column.attribute: one.column.type for one in self._schema}
        item: dict[str, dict[str, Any]] = {}
        for name, text in zip(self._key, key, strict=True):
            held = csv.original(text) if text is not None and self._form == "csv" else text
            match kinds[name]:
                case Text():
                    item[name] = {"S": held}
                case Blob():
                    item[name] = {"B": held}
                case _:
                    item[name] = {"N": None if held is None else canonical_number(held)}
        return item

    def _count(self, rows: str) -> int:
        ((found,),) = self._con.execute(f"SELECT count(*) FROM {rows}").fetchall()
        return int(found)


def _keyless(expected: _Expected) -> str:
    """The condition of rows that lack a part of their key."""
    return " OR ".join(
        f"c{number} IS NULL" for number, column in enumerate(expected.columns) if column.key is not None
    )


def _key_list(columns: Sequence[_Column]) -> str:
    parts = sorted(
        (column.key, f"to_base64(c{number})" if column.type == "BLOB" else f"c{number}::VARCHAR")
        for number, column in enumerate(columns)
        if column.key is not None
    )
    return f"[{', '.join(part for _, part in parts)}]"


def _as_parquet(extract: Path, table: str, work: Path) -> Path:
    """An extract's table as a Parquet file; the extract is copied first, since Hyper may write to what it opens."""
    copied, out = work / "extract.hyper", work / "extract.parquet"
    if extract.suffix == ".tdsx":
        try:
            unpack(extract, copied)
        except NoTrailError as error:
            raise ParityError(f"{extract} is no package of Tableau: {error}") from error
    else:
        shutil.copyfile(extract, copied)
    name = ".".join(map(identifier, ("extract", SCHEMA, table)))
    with hyper_connection(copied) as hyper:
        hyper.execute_command(
            f"COPY (SELECT * FROM {name}) TO {literal(str(out))} WITH (FORMAT => 'parquet')"
        )
    return out
