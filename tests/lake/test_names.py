"""Names of the data and our own names never meet in SQL: whatever an attribute is called, its rows stay right."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot

from dynalake.jobs.snapshots import snapshot_copy
from expectations.canonical import canonical_text
from expectations.parity import ParityResult, Side, compare
from ingest.walk import Pacing
from lake.contract.catalogue import Observation
from lake.contract.versions import Version
from lake.encode import arrow_items, snapshot_items
from lake.errors import OutdatedSnapshotError, SnapshotError
from lake.export import Layout, export_table
from lake.lines import item_to_line
from lake.open import open_lake
from lake.publish import refresh_snapshot
from lake.snapshot import build_snapshot
from lake.stored import FORMAT, METADATA_COLUMNS, PREFIX
from queries.ddl import Flavour, dynamodb_table, lake_views, parquet_table
from tests.lake.building import ABOUT, as_format_1, lake_row, normal, version
from tests.lake.identifiers import in_every_case, of_duckdb, of_our_sql
from tests.tableau.extracts import content

Item = dict[str, Any]

ROUNDS = int(os.environ.get("DYNALAKE_NAME_ROUNDS", "4"))
"""Tables that are taken through everything; 60 reach every name in some case."""

NAMES_A_TABLE = 90
ROWS = 12


def exactly(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Items in an order of their own, none left out where it stands twice."""
    return sorted(json.dumps(normal(item), sort_keys=True) for item in items)


def drawn(rng: random.Random, count: int) -> list[str]:
    """Names of every source, some of them twice in another case."""
    ours, theirs = of_our_sql(), of_duckdb()
    names: dict[str, None] = {}
    while len(names) < count:
        forms = in_every_case(rng.choice(ours if rng.random() < 0.6 else theirs))
        for form in rng.sample(forms, min(len(forms), rng.choice((1, 1, 1, 2)))):
            names[form] = None
    return list(names)


def value(rng: random.Random, kind: int, names: Sequence[str]) -> dict[str, Any]:
    """A value of the kind; fields of maps are named like attributes."""
    number, text = str(rng.randint(-9, 9)), rng.choice("xyz") * rng.randint(0, 3)
    mixed: list[Item] = [{"S": text}, {"N": number}, {"L": [{"N": number}, {"S": text}]}]
    values: list[Item] = [
        {"S": text},
        {"N": number},
        {"N": f"{number}.5"},
        {"B": rng.choice(["AA==", "+/8="])},
        {"L": [{"N": str(each)} for each in range(rng.randint(1, 3))]},
        {"M": {name: {"N": number} for name in names[:2]}},
        {"L": [{"M": {name: {"S": text} for name in names[:2]}}]},
        {"NS": [number, "77"]},
        {"SS": ["a", text + "b"]},
        rng.choice([{"NULL": True}, {"BOOL": True}]),
        rng.choice(mixed),
    ]
    return values[kind % len(values)]


class Table:
    """A lake table: what it holds, and the stream of what happens to it."""

    def __init__(self, rng: random.Random, key: Sequence[str], names: Sequence[str]) -> None:
        self.rng, self.key = rng, tuple(key)
        self.names = [name for name in names if name not in key]
        self.rows: dict[tuple[str, str], Item] = {}
        self.lake: dict[tuple[str, str], Item] = {}
        self._number = 0

    @property
    def items(self) -> list[Item]:
        """The source's items."""
        return list(self.rows.values())

    def write(self, pk: str, sk: str, names: Sequence[str]) -> Item:
        """Writes an item; gives the lake row."""
        fields = [name for name in names if name.isidentifier()] or ["f"]
        distinct = list({name.casefold(): name for name in fields}.values())
        item: Item = {self.key[0]: {"S": pk}} | ({self.key[1]: {"N": sk}} if len(self.key) > 1 else {})
        for kind, name in enumerate(names):
            if self.rng.random() < 0.8:
                item[name] = value(self.rng, kind, distinct)
        self.rows[pk, sk] = item
        self._number += 1
        self.lake[pk, sk] = lake_row(item, self._number)
        return self.lake[pk, sk]

    def written(self, pk: str, sk: str, names: Sequence[str]) -> Item:
        """The same as a change."""
        return {"NewImage": self.write(pk, sk, names)}

    def deleted(self, pk: str, sk: str) -> Item:
        """Deletes an item; gives the change."""
        item = self.rows.pop((pk, sk))
        del self.lake[pk, sk]
        self._number += 1
        row = lake_row({name: item[name] for name in self.key}, self._number)
        return {"NewImage": row | {"_lake_deleted": {"S": "user"}, "_lake_expires": {"N": "9"}}}

    def some_changes(self, names: Sequence[str]) -> list[Item]:
        """Rows that change, twice some of them, one that goes and one that comes."""
        keys = self.rng.sample(sorted(self.rows), 4)
        changes = [self.written(*each, names) for each in (*keys[1:], keys[1])]
        changes.append(self.deleted(*keys[0]))
        return [*changes, self.written(f"new {self._number}", "1", names)]


def refresh(out: Path, changes: Sequence[Item]) -> None:
    refresh_snapshot(out, "things", [[item_to_line(change) for change in changes]], lambda: ABOUT)


def parity(out: Path, table: Table) -> ParityResult:
    def by_key(rows: Iterable[Item]) -> Callable[[Sequence[Any]], list[Any]]:
        found = {canonical_text({name: row[name] for name in table.key}): row for row in rows}
        return lambda keys: [found.get(canonical_text(key)) for key in keys]

    rows = table.lake.values()
    source = Side([[item_to_line(item) for item in table.items]], by_key(table.items))
    lake = Side([[item_to_line(row) for row in rows]], by_key(rows))
    with snapshot_copy(
        out, "things", table.key, stream=None, now_ms=lambda: 0, monotonic=lambda: 0.0, pacing=Pacing()
    ) as copy:
        return compare(source, lake, table.key, None, copy=copy, sleep=lambda _: None)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_name_goes_through_everything(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    names = drawn(rng, NAMES_A_TABLE)
    key = names[:2] if seed % 2 else names[:1]
    late, early = names[2:20], names[20:]
    table = Table(rng, key, names)
    out = tmp_path / "lake.duckdb"

    rows = [table.write(str(number), "1", early) for number in range(ROWS)]
    concurrent = table.some_changes(early)
    types: Any = dict(zip(table.key, "SN", strict=False))
    build_snapshot(
        out,
        "things",
        table.key,
        [[item_to_line(row)] for row in rows],
        lambda: [[item_to_line(change) for change in concurrent]],
        lambda: ABOUT,
        key_types=types,
    )
    assert exactly(snapshot_items(out, "things")) == exactly(table.items)
    extracts = [tmp_path / "things.hyper", tmp_path / "things.tdsx"]
    for each in extracts:
        export_table(out, "things", each.suffix[1:], each, incremental=True)  # type: ignore[arg-type]

    for columns in (early, [*late, *early[3:], *early[:3]]):
        refresh(out, table.some_changes(columns))
        assert exactly(snapshot_items(out, "things")) == exactly(table.items)
        check_extracts(out, extracts, tmp_path)
    result = parity(out, table)
    assert (result.exact, result.copy_rows, result.in_flight) == (True, len(table.rows), 0), result
    check_exports(out, table, rng, tmp_path)
    check_ddl(tmp_path / "things.parquet", table)


def check_extracts(out: Path, extracts: Sequence[Path], folder: Path) -> None:
    """An extract that was brought up to date is the one that is written in full."""
    full = folder / "full.hyper"
    export_table(out, "things", "hyper", full)
    for each in extracts:
        export_table(out, "things", each.suffix[1:], each, incremental=True)  # type: ignore[arg-type]
        assert content(each) == content(full)


def check_exports(out: Path, table: Table, rng: random.Random, folder: Path) -> None:
    with open_lake(out) as lake:
        shown = [one.column.name for one in lake.schema("things")]
        (hash_name, *_) = [one.column.name for one in lake.schema("things") if one.is_key]
        # People see the true names, and `rowid` is the attribute where there is one.
        assert lake.sql("FROM things").columns == [
            name for one in lake.columns("things") for name in (one.name, one.companion) if name is not None
        ]
    quoted = '"' + hash_name.replace('"', '""') + '"'
    layout = Layout(sort_by=(f"{rng.choice(shown)} desc", f"{rng.choice(shown)}", f"length({quoted})"))
    export_table(out, "things", "parquet", folder / "things.parquet", layout=layout)
    assert exactly(arrow_items(pq.read_table(folder / "things.parquet"))) == exactly(table.items)
    export_table(out, "things", "arrow", folder / "things.arrow", layout=layout)
    assert exactly(arrow_items(pa.ipc.open_file(folder / "things.arrow").read_all())) == exactly(table.items)
    parts = Layout(partition_by=(f"first_letter=left({quoted}, 1)",), sort_by=layout.sort_by)
    export_table(out, "things", "parquet", folder / "parts", layout=parts)
    found = [
        row for file in (folder / "parts").rglob("*.parquet") for row in arrow_items(pq.read_table(file))
    ]
    assert exactly(found) == exactly(table.items)
    export_table(out, "things", "csv", folder / "things.csv", layout=Layout(flatten=True))
    with (folder / "things.csv").open(newline="") as file:
        cells = [row[hash_name] for row in csv.DictReader(file)]
    assert sorted(cells) == sorted(item[table.key[0]]["S"] for item in table.items)


def check_ddl(file: Path, table: Table) -> None:
    schema = pq.read_schema(file)
    flavours: tuple[Flavour, ...] = ("hive", "spark", "athena")
    for flavour in flavours:
        over_files = parquet_table(
            schema, location="s3://bucket/things/", database="lake", table="things_parquet", flavour=flavour
        )
        columns = [column.name.lower() for column in over_files.columns]
        assert len(set(columns)) == len(columns) == len(schema)
        for statement in (over_files.create, *(view.text for view in lake_views(over_files, "things"))):
            assert sqlglot.parse_one(statement, read=flavour) is not None
    kinds = sorted({(name, tag) for item in table.items for name, found in item.items() for tag in found})
    seen = [
        Observation(name, f"{tag}.fraction" if tag in ("N", "NS") else tag, 0, Version(version(1)))
        for name, tag in kinds
    ]
    roles: Any = [
        (name, tag, role) for name, tag, role in zip(table.key, "SN", ("HASH", "RANGE"), strict=False)
    ]
    over_lake = dynamodb_table(
        seen, roles, lake_table="dynalake.a.things", region="eu-west-1", database="lake", table="things"
    )
    mapping = dict(over_lake.properties)["dynamodb.column.mapping"]
    pairs = [pair.split(":", 1) for pair in mapping.split(",")]
    assert len({column for column, _ in pairs}) == len(pairs) == len({attribute for _, attribute in pairs})
    for statement in (over_lake.create, *(view.text for view in lake_views(over_lake, "things_now"))):
        assert sqlglot.parse_one(statement, read="hive") is not None


def test_the_identifiers_are_those_of_the_sources() -> None:
    """The list that the other tests draw from is not empty by mistake."""
    assert {"rowid", "key", "k0", "id", "x0", "y0", "turn", "version", "held", "line", "m", "t"} <= {
        *of_our_sql()
    }
    assert {"select", "rowid", "list_transform", "file_index"} <= {*of_duckdb()}


def test_no_stored_column_of_the_data_has_a_name_that_sql_could_mean(tmp_path: Path) -> None:
    """Whatever an attribute is called: a column of the table is named with the prefix, or it is dynalake's own."""
    out = tmp_path / "lake.duckdb"
    names = drawn(random.Random(0), 150)
    make(out, [{"pk": {"S": "a"}} | {name: {"N": str(n)} for n, name in enumerate(names)}])
    refresh(out, [{"NewImage": lake_row({"pk": {"S": "b"}, "ROWID": {"NULL": True}, "late": {"S": "x"}}, 2)}])
    with duckdb.connect(str(out), read_only=True) as con:
        columns = con.sql("FROM _lake_rows.things").columns
        assert (
            len(columns)
            == len({column.casefold() for column in columns})
            == len({*names, "pk", "ROWID", "late"}) + 4
        )
        assert {column for column in columns if not column.startswith(PREFIX)} == {*METADATA_COLUMNS}
        assert not any(name.startswith(PREFIX) for name in (*of_our_sql(), *of_duckdb()))


# What went wrong before format 2, one by one.


@pytest.mark.parametrize("name", ["rowid", "ROWID", "RowId"])
def test_rows_whose_rowid_attribute_is_the_same_stay(name: str, tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items = {pk: {"pk": {"S": pk}, name: {"N": "1"}, "n": {"N": "0"}} for pk in "abc"}
    make(out, items.values())
    items["b"] |= {"n": {"N": "2"}}
    refresh(out, [{"NewImage": lake_row(items["b"], 2)}])
    assert exactly(snapshot_items(out, "things")) == exactly(items.values())
    with open_lake(out) as lake:
        assert lake.sql("SELECT pk, rowid, n FROM things ORDER BY pk").fetchall() == [
            ("a", 1, 0), ("b", 1, 2), ("c", 1, 0),
        ]  # fmt: skip


def test_a_row_id_on_one_row_neither_repeats_a_row_nor_keeps_a_deleted_one(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items: dict[str, Item] = {pk: {"pk": {"S": pk}} for pk in "abc"}
    items["a"]["RowId"] = {"N": "1"}
    make(out, items.values())
    items["b"]["n"] = {"N": "2"}
    tombstone = lake_row({"pk": {"S": "c"}}, 3) | {
        "_lake_deleted": {"S": "user"},
        "_lake_expires": {"N": "1"},
    }
    refresh(out, [{"NewImage": lake_row(items["b"], 2)}, {"NewImage": tombstone}])
    assert exactly(snapshot_items(out, "things")) == exactly([items["a"], items["b"]])


def test_a_row_id_attribute_does_not_mislead_changes_during_a_scan(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items: dict[str, Item] = {pk: {"pk": {"S": pk}, "rowid": {"N": "1"}} for pk in "abc"}
    old = [lake_row(item) for item in items.values()]
    items["b"]["n"] = {"N": "2"}
    changed = item_to_line({"NewImage": lake_row(items["b"], 2)})
    build_snapshot(
        out, "things", ["pk"], [[item_to_line(row) for row in old]], lambda: [[changed]], lambda: ABOUT
    )
    assert exactly(snapshot_items(out, "things")) == exactly(items.values())


@pytest.mark.parametrize("format_", ["hyper", "tdsx"])
def test_a_row_id_attribute_does_not_mislead_an_incremental_extract(format_: Any, tmp_path: Path) -> None:
    out, extract = tmp_path / "lake.duckdb", tmp_path / f"things.{format_}"
    items: list[Item] = [{"pk": {"S": str(n)}, "rowid": {"N": "1"}, "n": {"N": "0"}} for n in range(9)]
    make(out, items)
    export_table(out, "things", format_, extract, incremental=True)
    items[3]["n"] = {"N": "7"}
    refresh(out, [{"NewImage": lake_row(items[3], 2)}])
    done = export_table(out, "things", format_, extract, incremental=True)
    assert done.increment is not None
    assert (done.increment.full, done.increment.deleted, done.increment.inserted) == (None, 1, 1)
    full = tmp_path / "full.hyper"
    export_table(out, "things", "hyper", full)
    assert content(extract) == content(full)


@pytest.mark.parametrize("key", [["key"], ["k0"], ["k0", "key"], ["KEY", "K1"], ["id", "version"]])
def test_a_table_with_such_keys_is_refreshed(key: list[str], tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items = [
        {name: {"S": f"{n}"} for name in key} | {"k0": {"S": f"{n}"}, "key": {"S": f"{n}"}} for n in range(4)
    ]
    build_snapshot(out, "things", key, [[item_to_line(lake_row(i)) for i in items]], list, lambda: ABOUT)
    items[1]["turn"] = {"S": "x"}
    refresh(out, [{"NewImage": lake_row(items[1], 2)}])
    assert exactly(snapshot_items(out, "things")) == exactly(items)


@pytest.mark.parametrize("name", ["x", "x0", "X0", "m", "y0", "t", "j"])
def test_the_parameters_of_our_lambdas_are_not_shadowed(name: str, tmp_path: Path) -> None:
    """DuckDB takes a column rather than a lambda's parameter of the same name."""
    out = tmp_path / "lake.duckdb"
    lists = {"L": [{"M": {"f": {"N": "1"}}}, {"M": {"f": {"N": "2"}}}]}
    items: list[Item] = [
        {"pk": {"S": "a"}, name: {"N": "5"}, "list": lists, "a": {"NULL": True}, "b": {"NULL": True}},
        {"pk": {"S": "b"}, "list": lists, "a": {"N": "1E3"}, "b": {"NS": ["1.50", "2e1"]}},
    ]
    make(out, items)
    assert exactly(snapshot_items(out, "things")) == exactly(items)
    export_table(out, "things", "csv", tmp_path / "things.csv")
    with (tmp_path / "things.csv").open(newline="") as file:
        assert {row["list"] for row in csv.DictReader(file)} == {'[{"f":1},{"f":2}]'}


@pytest.mark.parametrize("table", ["_lake", "_lake_grown", "_LAKE_new", "tables"])
def test_a_table_cannot_have_a_name_of_ours(table: str, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="another name"):
        build_snapshot(tmp_path / "l", table, ["pk"], [], list, lambda: ABOUT)


def make(out: Path, items: Iterable[Mapping[str, Any]]) -> None:
    lines = [item_to_line(lake_row(item)) for item in items]
    build_snapshot(out, "things", ["pk"], [lines], list, lambda: ABOUT)


def test_a_snapshot_of_an_earlier_version_is_neither_read_nor_refreshed_nor_exported(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items: list[Item] = [{"pk": {"S": pk}, "rowid": {"N": "1"}} for pk in "ab"]
    make(out, items)
    as_format_1(out)
    remedy = f"run `dynalake refresh things --out {out}`"
    with pytest.raises(OutdatedSnapshotError, match=remedy):
        open_lake(out)
    for target in ("things.parquet", "things.hyper"):
        with pytest.raises(OutdatedSnapshotError, match=remedy):
            export_table(out, "things", target.rpartition(".")[2], tmp_path / target)  # type: ignore[arg-type]
        assert not (tmp_path / target).exists()
    with pytest.raises(OutdatedSnapshotError, match=remedy):
        list(snapshot_items(out, "things"))
    before = out.read_bytes()
    with pytest.raises(OutdatedSnapshotError, match="earlier version"):
        refresh(out, [{"NewImage": lake_row(items[0], 2)}])
    assert out.read_bytes() == before


def test_a_snapshot_of_an_earlier_version_is_rebuilt_beside_other_tables(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    items: list[Item] = [{"pk": {"S": pk}, "rowid": {"N": "1"}} for pk in "ab"]
    make(out, items)
    lines = [item_to_line(lake_row(item)) for item in items]
    build_snapshot(out, "others", ["pk"], [lines], list, lambda: ABOUT)
    as_format_1(out)
    with open_lake(out, "others") as lake:
        assert lake.sql("SELECT count(*) FROM others").fetchall() == [(2,)]
    with pytest.raises(OutdatedSnapshotError, match="'things'"):
        open_lake(out)
    make(out, items[:1])
    with open_lake(out) as lake:
        assert lake.sql("FROM things").fetchall() == [("a", 1)]
        assert lake.sql("SELECT DISTINCT format FROM _lake.tables").fetchall() == [(FORMAT,)]


def test_a_snapshot_of_a_later_version_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    make(out, [{"pk": {"S": "a"}}])
    duckdb.connect(str(out)).execute("UPDATE _lake.tables SET format = format + 1").close()
    with pytest.raises(SnapshotError, match=r"later version .* update dynalake"):
        open_lake(out)
