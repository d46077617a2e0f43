"""A refresh shows what a full build would show, whatever came between, and costs by the changes alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lake.contract.catalogue import Observation
from lake.contract.positions import StreamPositions
from lake.contract.rows import VERSION
from lake.contract.versions import Version
from lake.encode import snapshot_items
from lake.errors import DecodeError, SnapshotBusyError, SnapshotError
from lake.lines import item_to_line
from lake.open import open_lake
from lake.publish import RefreshReport, refresh_snapshot
from lake.types import Decimal38, Int64, Json, NumberText, Struct, Text
from tests.lake.building import ABOUT, build, by_key, lake_row, normal, version
from tests.lake.test_roundtrip import NAMES, VALUES

Row = dict[str, Any]

EXAMPLES = int(os.environ.get("DYNALAKE_TEST_EXAMPLES", "10"))
"""Set it higher for a long run."""


def refresh(
    out: Path, changes: Sequence[Mapping[str, Any]], table: str = "things", **more: Any
) -> RefreshReport:
    pages = [[item_to_line(change) for change in changes]] if changes else []
    return refresh_snapshot(out, table, pages, lambda: ABOUT, **more)


def row(key: str, number: int, **attributes: Any) -> Row:
    return {"NewImage": lake_row({"pk": {"S": key}} | attributes, number)}


def tombstone(key: str, number: int, change: str = "NewImage") -> Row:
    image = lake_row({"pk": {"S": key}}, number) | {"_lake_deleted": {"S": "user"}}
    return {change: image | {"_lake_expires": {"N": "1"}}}


def shown(out: Path, table: str = "things") -> dict[str, Any]:
    return by_key(snapshot_items(out, table))


def told(out: Path, table: str = "things") -> tuple[Any, ...]:
    """What the snapshot tells of its rows: how many, how many tombstones, and who holds which type."""
    with open_lake(out) as lake:
        counts = {d.column.attribute: dict(d.rows) for d in lake.schema(table) if d.rows}
        (rows,) = lake.sql(
            "SELECT row_count, tombstones FROM _lake.tables WHERE table_name = ?", [table]
        ).fetchall()
    return counts, rows


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """A lake table's stream: what the lake, which obeys the rule, wrote and removed."""
    stream: list[Row] = []
    state: dict[str, str] = {}
    held: dict[str, Row] = {}
    for number in range(1, draw(st.integers(1, 14)) + 1):
        key = draw(st.sampled_from("abc"))
        attributes = draw(st.dictionaries(NAMES, VALUES, max_size=4))
        match draw(st.sampled_from(["write", "write", "write", "delete", "expire"])), state.get(key):
            case "expire", "tombstone":
                stream.append({"OldImage": held[key]})
                state[key] = "expired"
                continue
            case "delete", _:
                change, state[key] = tombstone(key, number), "tombstone"
            case _, "expired":
                # A repair, or a backfill, finds no row: the version starts low again.
                change = row(key, number, **attributes)
                change["NewImage"][VERSION] = {"S": "0~000001"}
                state[key] = "row"
            case _:
                change, state[key] = row(key, number, **attributes), "row"
        held[key] = change["NewImage"]
        stream.append(change)
    return stream


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=4))
@example([row("a", 1, n={"N": "1"}), row("b", 2, n={"S": "x"}), row("c", 3, n={"S": "y"})], [(0, 1), (1, 1)])
@example([row("a", 1, n={"L": []}), row("a", 2, n={"L": [{"N": "1E-130"}]}), row("b", 3)], [(0, 1), (2, 1)])
@example([row("a", 1), tombstone("a", 2), tombstone("a", 2, "OldImage"), row("a", 1)], [(0, 1), (1, 2)])
def test_step_by_step_is_as_at_once(stream: list[Row], steps: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        at_once, by_steps = Path(folder) / "once", Path(folder) / "steps"
        read = min(steps[0][0], len(stream))
        build(by_steps, [], stream[:read])
        for forward, again in [*steps[1:], (len(stream), steps[0][1])]:
            start, read = max(0, read - again), min(read + forward, len(stream))
            refresh(by_steps, stream[start:read])
        build(at_once, [], stream)
        assert shown(by_steps) == shown(at_once)
        assert told(by_steps) == told(at_once)


def test_an_older_change_does_not_pass_a_tombstone_until_its_removal_was_read(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 8)["NewImage"]])
    assert refresh(out, [tombstone("a", 9)]).applied.rows == 0
    assert refresh(out, [row("a", 8)]).applied.rows == 0
    with open_lake(out) as lake:
        assert lake.sql("SELECT version FROM _lake.tombstones").fetchall() == [(version(9),)]
        assert lake.tables() == ("things",)
    anew = row("a", 1, n={"N": "7"})
    anew["NewImage"][VERSION] = {"S": "0~000001"}
    assert refresh(out, [anew]).applied.rows == 0
    assert refresh(out, [tombstone("a", 9, "OldImage"), anew]).applied.rows == 1
    assert shown(out) == by_key([{"pk": {"S": "a"}, "n": {"N": "7"}}])


def test_a_build_keeps_tombstones_for_the_refresh(tmp_path: Path) -> None:
    build(tmp_path / "l", [row("a", 1)["NewImage"], tombstone("b", 5)["NewImage"]])
    assert refresh(tmp_path / "l", [row("b", 4), row("c", 1)]).applied.rows == 2
    assert refresh(tmp_path / "l", [row("b", 6)]).applied.tombstones == 0


WIDENINGS: list[tuple[Any, Any, Any]] = [
    ({"N": "1"}, {"N": "2"}, Int64()),
    ({"N": "1"}, {"N": "0.005"}, Decimal38(3)),
    ({"N": "12345.67"}, {"N": "0.00000000000000000000000000000001"}, Decimal38(32)),
    ({"N": "9223372036854775807"}, {"N": "0.000000000000000000001"}, NumberText()),
    ({"N": "7"}, {"N": "0.000000000000000000000000000000000001"}, Decimal38(36)),
    ({"N": "1.50"}, {"N": "1E-130"}, NumberText()),
    ({"NS": ["1", "2"]}, {"NS": ["0.5"]}, None),
    ({"M": {"a": {"S": "x"}}}, {"M": {"b": {"N": "1"}}}, Struct((("a", Text()), ("b", Int64())))),
    ({"M": {"a": {"N": "1.5"}}}, {"M": {"a": {"N": "-99"}}}, Struct((("a", Decimal38(1)),))),
    ({"M": {"a": {"N": "1.5"}, "b": {"B": "AAE="}}}, {"M": {"a": {"S": '"'}}}, Json()),
    ({"M": {"a": {"BOOL": False}, 'q"': {"SS": ["1", '"']}}}, {"M": {"A": {"S": "x"}}}, Json()),
    ({"M": {"a": {"L": [{"N": "1"}, {"S": ""}]}}}, {"M": {"a": {"L": [{"N": "1"}]}}}, Struct((("a", Json()),))),
    ({"L": [{"L": [{"N": "1"}]}, {"L": []}]}, {"L": [{"L": [{"N": "1.25"}]}]}, None),
    ({"L": [{"M": {"n": {"N": "5"}}}]}, {"L": [{"NULL": True}]}, Json()),
    ({"L": [{"BS": ["AA==", "AQ=="]}]}, {"L": [{"S": "x"}]}, Json()),
    ({"L": [{"S": "a"}]}, {"L": []}, None),
    ({"NULL": True}, {"M": {"a": {"N": "1"}}}, Struct((("a", Int64()),))),
    ({"S": "x" * 70_000}, {"N": "1"}, Text()),
    ({"M": {"a": {"S": "x"}}}, {"M": {"a": {"S": "y" * 70_000}}}, Json()),
    ({"M": {"a": {"S": "x"}}}, {"M": {f"f{n}": {"S": "y"} for n in range(100)}}, Json()),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "kind"), WIDENINGS)
def test_a_column_grows_exactly(tmp_path: Path, old: Any, new: Any, kind: Any) -> None:
    out = tmp_path / "l"
    items = [{"pk": {"S": "a"}, "v": old}, {"pk": {"S": "b"}}, {"pk": {"S": "c"}, "v": new}]
    build(out, map(lake_row, items[:2]))
    refresh(out, [{"NewImage": lake_row(items[2])}])
    assert shown(out) == by_key(items)
    with open_lake(out) as lake:
        (column,) = [d.column for d in lake.schema("things") if d.column.attribute == "v"]
        assert kind in (None, column.type)
    # And it is as wide as it has become for what comes next.
    refresh(out, [{"NewImage": lake_row(items[0] | {"pk": {"S": "d"}}, 2)}])
    assert shown(out) == by_key([*items, items[0] | {"pk": {"S": "d"}}])


def test_the_main_type_stays_though_another_comes_to_prevail(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1, v={"N": "1"})["NewImage"]])
    refresh(out, [row(key, 1, v={"S": key}) for key in "bcd"])
    report = refresh(out, [row("e", 1, v={"N": "2"}), row("f", 1, v={"S": "f"})])
    assert (report.applied.added, report.applied.widened) == ((), ())
    with open_lake(out) as lake:
        assert lake.sql("SELECT v, v__other FROM things ORDER BY pk").fetchall() == [
            (1, None), (None, '{"S":"b"}'), (None, '{"S":"c"}'), (None, '{"S":"d"}'), (2, None), (None, '{"S":"f"}'),
        ]  # fmt: skip


def test_a_newcomer_takes_nobodys_column(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1, Name={"S": "1"})["NewImage"]])
    seen = [Observation(n, "S", t, Version(version(1))) for n, t in [("name", 1), ("Name", 2)]]
    report = refresh(out, [row("b", 1, name={"S": "2"})], history=lambda: seen)
    assert report.applied.added == ("name_2",)
    with open_lake(out) as lake:
        assert lake.sql('SELECT "Name", name_2 FROM things ORDER BY pk').fetchall() == [
            ("1", None),
            (None, "2"),
        ]
        assert lake.sql("SELECT count(*) FROM _lake.schema_history").fetchall() == [(2,)]


@pytest.mark.parametrize("kind", ["N", "B"])
def test_keys_of_each_type_are_found_and_grow(tmp_path: Path, kind: str) -> None:
    def keyed(pk: str, sk: str, number: int) -> Row:
        item = {"pk": {kind: pk}, "sk": {"N": sk}, "n": {"N": str(number)}}
        return {"NewImage": lake_row(item, number)}

    out, a, b = tmp_path / "l", *(("1", "1.5") if kind == "N" else ("AA==", "AQ=="))
    build(out, [keyed(a, "1", 1)["NewImage"]], key=("pk", "sk"))
    changes = [keyed(a, "1.0", 2), keyed(b, "1", 3), keyed(a, "1.5", 4), keyed(a, "1E40", 5)]
    assert refresh(out, changes).applied.rows == 4
    changes = [
        keyed(a, "10E-1", 6),
        keyed(b, "1", 7),
        keyed(a, "1.50", 8),
        keyed(a, "1E40", 9),
        keyed(b, "2", 1),
    ]
    assert refresh(out, changes).applied.rows == 5
    assert sorted(int(item["n"]["N"]) for item in snapshot_items(out, "things")) == [1, 6, 7, 8, 9]


def test_two_tables_in_one_file_are_refreshed_in_turn(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)["NewImage"]], table="first")
    build(out, [row("a", 1)["NewImage"]], table="second")
    want = {"first": 1, "second": 1}
    for number in range(2, 8):
        table = "second" if number in (3, 4, 7) else "first"
        report = refresh(out, [row(str(number), number, **{f"n{number}": {"N": "1"}})], table)
        want[table] += 1
        assert report.copied == (number == 2)
        assert {name: len(shown(out, name)) for name in want} == want
    with open_lake(out) as lake:
        assert lake.sql("SELECT count(*) FROM first JOIN second USING (pk)").fetchall() == [(1,)]


def test_a_refresh_tells_where_it_is(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)["NewImage"]])
    positions = StreamPositions("arn:x/stream/2026", {"s1": "7", "s2": None}, frozenset({"s0"}), 1_000)
    about = replace(
        ABOUT, watermark=positions.watermark, complete=False, gaps=("trimmed",), positions=positions
    )
    refresh_snapshot(out, "things", [[item_to_line(row("b", 1))]], lambda: about)
    refresh_snapshot(out, "things", [], lambda: about)
    with open_lake(out) as lake:
        fresh = lake.freshness("things")
        assert (fresh.watermark, fresh.complete, fresh.gaps) == ("2026 (s1 7)", False, ("trimmed",))
        assert lake.positions("things") == positions
        assert lake.sql("SELECT count(*) FROM things").fetchall() == [(2,)]


def test_what_cannot_be_refreshed_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "l"
    with pytest.raises(SnapshotError, match="no snapshot"):
        refresh(out, [])
    build(out, [row("a", 1)["NewImage"]])
    before = out.read_bytes()
    with pytest.raises(SnapshotError, match="no table 'other'"):
        refresh(out, [], "other")
    for bad in [
        b"{",
        b'{"NewImage":{"pk":{"S":"z"},"n":{"X":1},"_lake_version":{"S":"1"}}}',
        b'{"NewImage":{"n":{"N":"1"}}}',
        b"{}",
    ]:
        with pytest.raises(DecodeError):
            refresh_snapshot(out, "things", [[bad]], lambda: ABOUT)
    (tmp_path / f".l.{os.getppid()}.work").mkdir()
    with pytest.raises(SnapshotBusyError):
        refresh(out, [row("b", 1)])
    (tmp_path / f".l.{os.getppid()}.work").rmdir()
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_snapshot_that_others_write_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)["NewImage"]])
    refresh(out, [row("b", 1)])
    duckdb.connect(str(out)).execute("CREATE TABLE mine AS SELECT 1 AS x").close()
    assert refresh(out, [row("c", 1)]).copied
    assert duckdb.connect(str(out), read_only=True).execute("FROM mine").fetchall() == [(1,)]
    assert len(shown(out)) == 3

    def meanwhile() -> Any:
        duckdb.connect(str(out)).execute("INSERT INTO mine VALUES (2)").close()
        yield [item_to_line(row("d", 1))]

    with pytest.raises(SnapshotError, match="changed by somebody else"):
        refresh_snapshot(out, "things", meanwhile(), lambda: ABOUT)
    assert refresh(out, [row("d", 1)]).applied.rows == 4


def test_rows_keep_their_metadata(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [])
    change = row("a", 3, n={"NULL": True})
    change["NewImage"] |= {"_lake_source_at": {"N": "7000"}}
    refresh(out, [change])
    (item,) = snapshot_items(out, "things", metadata=True)
    assert normal(item) == normal(change["NewImage"])


def test_large_items_are_refreshed(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1, v={"N": "1"})["NewImage"]])
    changes = [row(key, 2, v={"S": key * 390_000}, w={"M": {"a": {"S": key}}}) for key in "abcd"]
    assert refresh(out, changes).applied.rows == 4
    assert {len(item["v"]["S"]) for item in snapshot_items(out, "things")} == {390_000}
    assert told(out)[0]["v"] == {"S": 4}


def test_permissions_stay(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)["NewImage"]])
    out.chmod(0o640)
    for _ in range(3):
        refresh(out, [row("a", 2)])
        assert out.stat().st_mode & 0o777 == 0o640


def test_a_snapshot_of_another_layout_says_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)["NewImage"]])
    duckdb.connect(str(out)).execute("ALTER TABLE _lake.columns DROP COLUMN main_type").close()
    with pytest.raises(SnapshotError, match="make a new one"):
        refresh(out, [row("b", 1)])
