"""The one rule in a snapshot, its atomic replacement, and what it tells of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.contract.catalogue import Observation
from lake.contract.rows import is_tombstone, source_item, version_of
from lake.contract.versions import Version, is_newer
from lake.encode import snapshot_items
from lake.errors import SnapshotError
from lake.lines import item_to_line
from lake.open import open_lake
from lake.snapshot import build_snapshot
from tests.lake.building import ABOUT, build, by_key, lake_row, version

Row = dict[str, Any]


def tombstone(key: str, number: int) -> Row:
    return lake_row({"pk": {"S": key}}, number) | {
        "_lake_deleted": {"S": "user"},
        "_lake_expires": {"N": "1"},
    }


def row(key: str, number: int, **attributes: Any) -> Row:
    return lake_row({"pk": {"S": key}, "n": {"N": str(number)}} | attributes, number)


def shown(out: Path) -> dict[str, Any]:
    return by_key(snapshot_items(out, "things"))


def model(rows: list[Row], changes: Sequence[Mapping[str, Row]]) -> dict[str, Any]:
    """The rule, one change after another."""
    held: dict[str, Row] = {}
    for change in [*({"NewImage": r} for r in rows), *changes]:
        ((kind, image),) = change.items()
        key = image["pk"]["S"]
        if kind == "NewImage":
            if is_newer(version_of(image), version_of(held.get(key))):
                held[key] = image
        elif key in held and not is_newer(version_of(held[key]), version_of(image)):
            del held[key]
    return by_key(source_item(r) for r in held.values() if not is_tombstone(r))


@st.composite
def images(draw: st.DrawFn) -> Row:
    key = draw(st.sampled_from("ab"))
    number = draw(st.integers(1, 4))
    # The same version always shows the same row: a version names one state of one item.
    image = tombstone(key, number) if number == 3 else row(key, number)
    if draw(st.booleans()):
        image["_lake_version"] = {"S": image["_lake_version"]["S"] + "~000001"}
        image.setdefault("repaired", {"BOOL": True})
    return image


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    st.lists(images(), max_size=4),
    st.lists(st.tuples(st.sampled_from(["NewImage", "OldImage"]), images()), max_size=8),
)
def test_a_snapshot_holds_what_the_rule_holds(rows: list[Row], changes: list[tuple[str, Row]]) -> None:
    events = [{kind: image} for kind, image in changes]
    want = model(rows, events)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "l.duckdb"
        report = build(out, rows, events)
        assert shown(out) == want
        assert (report.rows, report.rows_read, report.changes_read) == (len(want), len(rows), len(events))


def test_an_old_change_after_a_new_one_changes_nothing(tmp_path: Path) -> None:
    build(tmp_path / "l", [row("a", 5)], [{"NewImage": row("a", 4)}, {"NewImage": tombstone("a", 3)}])
    assert shown(tmp_path / "l")["{'S': 'a'}"]["n"] == {"N": "5"}


def test_a_row_that_is_written_anew_after_its_tombstone_expired_is_there(tmp_path: Path) -> None:
    anew = row("a", 1) | {"_lake_version": {"S": "0~000001"}}
    changes = [{"NewImage": tombstone("a", 9)}, {"OldImage": tombstone("a", 9)}, {"NewImage": anew}]
    build(tmp_path / "l", [row("a", 8)], changes)
    assert shown(tmp_path / "l").keys() == {"{'S': 'a'}"}


def test_a_late_removal_leaves_a_newer_row(tmp_path: Path) -> None:
    build(tmp_path / "l", [row("a", 5), row("b", 5)], [{"OldImage": row("a", 4)}, {"OldImage": row("b", 5)}])
    assert shown(tmp_path / "l").keys() == {"{'S': 'a'}"}


def test_keys_are_equal_as_numbers_are(tmp_path: Path) -> None:
    rows = [
        lake_row({"pk": {"N": text}, "n": {"S": text}}, i) for i, text in enumerate(["1.0", "1", "10E-1"])
    ]
    report = build(tmp_path / "l", [*rows, lake_row({"pk": {"N": "2"}}, 1) | {"_lake_deleted": {"S": "ttl"}}])
    assert (report.rows, report.tombstones) == (1, 1)
    assert next(snapshot_items(tmp_path / "l", "things"))["n"] == {"S": "10E-1"}


def test_composite_keys_do_not_run_together(tmp_path: Path) -> None:
    rows = [
        lake_row({"pk": {"S": pk}, "sk": {"S": sk}})
        for pk, sk in [("a", "bS"), ("aS", "b"), ("a:1", ""), ("a", ":1")]
    ]
    assert build(tmp_path / "l", rows, key=("pk", "sk")).rows == 4


def failing() -> Iterator[list[bytes]]:
    yield [item_to_line(row("b", 1))]
    raise ConnectionError("the network is gone")


def test_a_failed_build_leaves_the_old_snapshot_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)])
    before = out.read_bytes()
    with pytest.raises(ConnectionError):
        build_snapshot(out, "things", ["pk"], failing(), list, lambda: ABOUT)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_killed_build_leaves_the_old_snapshot_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)])
    script = f"""
import os, signal
from pathlib import Path
from lake.snapshot import build_snapshot
from tests.lake.building import ABOUT
def pages():
    yield [b'{{"pk":{{"S":"b"}}}}']
    os.kill(os.getpid(), signal.SIGKILL)
build_snapshot(Path({str(out)!r}), "things", ["pk"], pages(), list, lambda: ABOUT)
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert killed.returncode < 0
    assert shown(out).keys() == {"{'S': 'a'}"}
    assert len(list(tmp_path.iterdir())) > 1
    build(out, [row("c", 1)])
    assert list(tmp_path.iterdir()) == [out]


def test_a_reader_keeps_what_it_opened_and_the_next_one_sees_the_new(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)])
    with open_lake(out) as old:
        assert old.sql("SELECT count(*) FROM things").fetchall() == [(1,)]
        build(out, [row("a", 1), row("b", 1)])
        with open_lake(out) as new:
            assert new.sql("SELECT count(*) FROM things").fetchall() == [(2,)]
        assert old.sql("SELECT count(*) FROM things").fetchall() == [(1,)]


def test_other_tables_in_the_file_stay(tmp_path: Path) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)], table="first.table")
    build(out, [row("a", 1), row("b", 1)], table='second "table"')
    build(out, [row("c", 1, extra={"S": "x"})], table="first.table")
    with open_lake(out) as lake:
        assert lake.tables() == ("first.table", 'second "table"')
        assert lake.table("first.table").to_pylist() == [{"pk": "c", "extra": "x", "n": 1}]
        assert lake.table('second "table"').num_rows == 2
        assert lake.sql("SELECT count(*) FROM _lake.columns").fetchall() == [(5,)]


def never() -> Iterator[list[bytes]]:
    yield [pytest.fail("rows were read")]


@pytest.mark.parametrize("table", ["tables", "Columns", "schema_history", "THINGS", "", "a\0b"])
def test_a_name_that_another_table_has_is_refused(tmp_path: Path, table: str) -> None:
    out = tmp_path / "l"
    build(out, [row("a", 1)])
    with pytest.raises(SnapshotError):
        build_snapshot(out, table, ["pk"], never(), list, lambda: ABOUT)
    assert shown(out).keys() == {"{'S': 'a'}"}


@pytest.mark.parametrize("kind", ["directory", "text", "foreign", "no folder", "log"])
def test_what_cannot_be_replaced_is_refused_before_rows_are_read(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "l"
    match kind:
        case "directory":
            out.mkdir()
        case "text":
            out.write_text("something else, of some length")
        case "foreign":
            duckdb.connect(str(out)).execute("CREATE TABLE mine AS SELECT 1").close()
        case "no folder":
            out = tmp_path / "missing" / "l"
        case "log":
            build(out, [row("a", 1)])
            (tmp_path / "l.wal").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SnapshotError):
        build_snapshot(out, "things", ["pk"], never(), list, lambda: ABOUT)
    assert sorted(tmp_path.iterdir()) == before


def test_a_living_writer_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / f".l.{os.getppid()}.work").mkdir()
    with pytest.raises(SnapshotError, match=f"process {os.getppid()}"):
        build_snapshot(tmp_path / "l", "things", ["pk"], never(), list, lambda: ABOUT)


def test_an_empty_table_has_its_key(tmp_path: Path) -> None:
    report = build(tmp_path / "l", [], key=("pk", "sk"), key_types={"pk": "B", "sk": "N"})
    assert report.rows == 0
    with open_lake(tmp_path / "l") as lake:
        assert [d.duckdb_type for d in lake.schema("things")] == ["BLOB", "BIGINT"]
        assert lake.table("things").column_names == ["pk", "sk"]


def test_a_snapshot_tells_of_itself(tmp_path: Path) -> None:
    out = tmp_path / "l"
    history = [Observation("n", "N.int64", 1_767_225_600_000, Version(version(1)))]
    about = replace(ABOUT, complete=False, gaps=("a shard was trimmed",))
    lines = [
        [item_to_line(row("a", 1) | {"_lake_source_at": {"N": "7000"}}), item_to_line(tombstone("b", 2))]
    ]
    build_snapshot(out, "things", ["pk"], lines, list, lambda: about, history)
    with open_lake(out) as lake:
        fresh = lake.freshness("things")
        assert (fresh.watermark, fresh.complete, fresh.gaps) == (
            "shard-1:100",
            False,
            ("a shard was trimmed",),
        )
        assert (fresh.newest_source_at, fresh.rows) == (7000, 1)
        assert "things: 1 row as of" in repr(lake)
        assert "a shard was trimmed" in repr(lake)
        assert lake.sql("SELECT tombstones, lake_table, key FROM _lake.tables").fetchall() == [
            (1, "dynalake.a.things", ["pk"])
        ]
        assert lake.sql("SELECT attribute, kind, version FROM _lake.schema_history").fetchall() == [
            ("n", "N.int64", version(1))
        ]
        assert lake.schema("things")[1].rows == {"N": 1}
        assert lake.sql("SELECT n FROM things WHERE pk = $pk", {"pk": "a"}).fetchall() == [(1,)]
        reader = lake.sql("FROM range(10000)").to_arrow_reader(10)
        assert next(reader).num_rows > 0
        assert lake.tables() == ("things",), "a result that is half read is in nobody's way"
    assert "closed" in repr(lake)
    with duckdb.connect(str(out), read_only=True) as any_client:
        assert any_client.sql("FROM things").columns == ["pk", "n"]


def test_opening_what_is_no_snapshot_says_so(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="there is no snapshot"):
        open_lake(tmp_path / "missing")
    with pytest.raises(SnapshotError, match="not a file"):
        open_lake(tmp_path)
    (tmp_path / "text").write_text("something else, of some length")
    with pytest.raises(SnapshotError, match="cannot be opened"):
        open_lake(tmp_path / "text")
    duckdb.connect(str(tmp_path / "foreign")).close()
    with pytest.raises(SnapshotError, match="not a snapshot"):
        open_lake(tmp_path / "foreign")
    build(tmp_path / "l", [row("a", 1)])
    with open_lake(tmp_path / "l") as lake, pytest.raises(SnapshotError, match="it has things"):
        lake.table("missing")
