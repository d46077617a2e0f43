"""Every kind of fault in a snapshot is found at its place, and nothing else is; what moved on since is no fault."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dynalake.jobs.parity import Scope
from dynalake.pipeline import Pipeline
from expectations.parity import ParityResult
from ingest.walk import Pacing
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.lake.building import change_rows

Capture = pytest.CaptureFixture[str]
QUICK = Pacing(least_s=0.01, most_s=0.05, quiet_answers=2, quiet_s=0.05)
ROWS = 30
Found = set[tuple[str, str, tuple[str, ...]]]


def item(number: int, **more: Any) -> dict[str, Any]:
    """An item with an attribute of each of the ten types."""
    return {
        "pk": {"S": f"k{number}"},
        "s": {"S": f"text {number}"},
        "n": {"N": str(number)},
        "b": {"B": base64.b64encode(bytes([number])).decode()},
        "bool": {"BOOL": number % 2 == 0},
        "null": {"NULL": True},
        "ss": {"SS": ["a", f"b{number}"]},
        "ns": {"NS": ["1", f"{number + 2}"]},
        "bs": {"BS": [base64.b64encode(b"x").decode(), base64.b64encode(bytes([number])).decode()]},
        "l": {"L": [{"N": str(number)}, {"N": "2"}]},
        "m": {"M": {"street": {"S": f"street {number}"}, "no": {"N": str(number)}}},
        **more,
    }


@dataclass
class World:
    """A pipeline whose lake moved on between two snapshots, and both."""

    config: Path
    pipeline: Pipeline
    before: Path
    now: Path
    names: int = field(default=0)

    def compared(self, snapshot: Path) -> ParityResult:
        return self.pipeline.parity(Scope(lake=str(snapshot)), looks=2, pause_s=0.0, pacing=QUICK)

    def spoilt(self, *statements: str, recount: bool = True) -> Path:
        """A copy of the snapshot of now, changed by SQL in which `old` is the snapshot before."""
        self.names += 1
        file = self.now.with_name(f"spoilt{self.names}.duckdb")
        shutil.copyfile(self.now, file)
        with duckdb.connect(str(file)) as con:
            con.execute(f"ATTACH '{self.before}' AS old (READ_ONLY)")
            for statement in statements:
                change_rows(con, "orders", statement)
            if recount:
                con.execute("UPDATE _lake.tables SET row_count = (SELECT count(*) FROM _lake.orders)")
        return file


@pytest.fixture
def world(tmp_path: Path, aws: None) -> World:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    put(pipeline, *(item(number) for number in range(ROWS)))
    pipeline.setup()
    pipeline.backfill()
    before = tmp_path / "before.duckdb"
    pipeline.snapshot(before, pacing=QUICK)
    put(pipeline, item(3, s={"S": "changed"}))
    pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": "k4"}})
    pipeline.repair([{"pk": {"S": "k3"}}, {"pk": {"S": "k4"}}])
    now = tmp_path / "now.duckdb"
    pipeline.snapshot(now, pacing=QUICK)
    return World(config, pipeline, before, now)


def found_in(result: ParityResult) -> Found:
    return {(each.reason, each.key["pk"]["S"], each.attributes) for each in result.differences}


def takes(table: str, key: str) -> tuple[str, ...]:
    """SQL that gives the snapshot the row that it had before."""
    return (
        f"DELETE FROM _lake.orders WHERE pk = '{key}'",
        f"INSERT INTO _lake.orders BY NAME SELECT * FROM {table}._lake.orders WHERE pk = '{key}'",
    )


VERSION_AND_TIME = ("_lake_version", "_lake_at")
FAULTS: Mapping[str, tuple[tuple[str, ...], Found]] = {
    "a stale row": (takes("old", "k3"), {("different", "k3", ("s", *VERSION_AND_TIME))}),
    "a deleted row is back": (takes("old", "k4"), {("extra", "k4", ())}),
    "a missing row": (("DELETE FROM _lake.orders WHERE pk = 'k5'",), {("missing", "k5", ())}),
    "an extra row": (
        (
            "INSERT INTO _lake.orders BY NAME SELECT * REPLACE ('stranger' AS pk) FROM _lake.orders WHERE pk = 'k6'",
        ),
        {("extra", "stranger", ())},
    ),
    "a key twice": (
        ("INSERT INTO _lake.orders BY NAME SELECT * FROM _lake.orders WHERE pk = 'k7'",),
        {("duplicate", "k7", ())},
    ),
    "a key twice, with another content": (
        ("INSERT INTO _lake.orders BY NAME SELECT * FROM old._lake.orders WHERE pk = 'k3'",),
        {("duplicate", "k3", ())},
    ),
    "a version swapped": (
        ("UPDATE _lake.orders SET _lake_version = '0~000009' WHERE pk = 'k8'",),
        {("different", "k8", ("_lake_version",))},
    ),
    "a version lost": (
        ("UPDATE _lake.orders SET _lake_version = NULL WHERE pk = 'k9'",),
        {("different", "k9", ("_lake_version",))},
    ),
    "S": (("UPDATE _lake.orders SET s = 'other' WHERE pk = 'k10'",), {("different", "k10", ("s",))}),
    "N": (("UPDATE _lake.orders SET n = n + 1 WHERE pk = 'k11'",), {("different", "k11", ("n",))}),
    "B": (("UPDATE _lake.orders SET b = 'x'::BLOB WHERE pk = 'k12'",), {("different", "k12", ("b",))}),
    "BOOL": (
        ('UPDATE _lake.orders SET "bool" = NOT "bool" WHERE pk = \'k13\'',),
        {("different", "k13", ("bool",))},
    ),
    "NULL is absent": (
        ("UPDATE _lake.orders SET _lake_nulls = NULL WHERE pk = 'k14'",),
        {("different", "k14", ("null",))},
    ),
    "absent is NULL": (
        ("UPDATE _lake.orders SET s = NULL, _lake_nulls = ['null', 's'] WHERE pk = 'k15'",),
        {("different", "k15", ("s",))},
    ),
    "SS": (("UPDATE _lake.orders SET ss = ['a'] WHERE pk = 'k16'",), {("different", "k16", ("ss",))}),
    "NS": (("UPDATE _lake.orders SET ns = [1, 2, 3] WHERE pk = 'k17'",), {("different", "k17", ("ns",))}),
    "BS": (("UPDATE _lake.orders SET bs = ['x'::BLOB] WHERE pk = 'k18'",), {("different", "k18", ("bs",))}),
    "L in another order": (
        ("UPDATE _lake.orders SET l = list_reverse(l) WHERE pk = 'k19'",),
        {("different", "k19", ("l",))},
    ),
    "M": (
        ("UPDATE _lake.orders SET m = struct_pack(no := m.no, street := 'other') WHERE pk = 'k20'",),
        {("different", "k20", ("m",))},
    ),
}


def test_each_fault_is_found_where_it_is_and_nothing_else(world: World) -> None:
    whole = world.compared(world.now)
    assert (whole.exact, whole.copy_rows, whole.lake_rows) == (True, ROWS - 1, ROWS - 1)
    for name, (statements, expected) in FAULTS.items():
        result = world.compared(world.spoilt(*statements))
        assert found_in(result) == expected, name
        assert {each.where for each in result.differences} == {"copy"}, name
        assert not result.exact, name
        assert not result.problems, (name, result.problems)


def test_what_does_not_add_up_is_never_the_same(world: World) -> None:
    for statement, said in (
        ("UPDATE _lake.tables SET row_count = 7", "says that it has 7 rows, and it has 29"),
        ("UPDATE _lake.tables SET tombstones = 7", "says that it keeps 7 deletions"),
        ('ALTER TABLE _lake_rows.orders ALTER "a:n" TYPE VARCHAR',
         "'n' of the snapshot is VARCHAR, and it should be BIGINT"),
        ("CREATE OR REPLACE VIEW orders AS SELECT * EXCLUDE (s, \"bool\"), 'x' AS s, true AS \"bool\" "
         "FROM _lake.orders", "view does not show"),
        ("CREATE OR REPLACE VIEW orders AS FROM _lake.orders WHERE pk <> 'k1'", "view does not show"),
        ("DROP VIEW orders", "view does not show"),
    ):  # fmt: skip
        result = world.compared(world.spoilt(statement, recount=False))
        assert not result.exact, statement
        assert result.differences == (), statement
        assert any(said in problem for problem in result.problems), (statement, result.problems)


def test_a_row_that_was_changed_or_deleted_after_the_snapshot_is_no_fault(world: World) -> None:
    """The same rows are faults in a snapshot of now; that of before is right to have them."""
    result = world.compared(world.before)
    assert (result.exact, result.copy_rows, result.in_flight) == (True, ROWS, 2)
    put(world.pipeline, item(40), item(5, s={"S": "later"}))
    world.pipeline.repair([{"pk": {"S": "k40"}}, {"pk": {"S": "k5"}}])
    again = world.compared(world.now)
    assert (again.exact, again.in_flight) == (True, 2)


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_refreshed_snapshot_is_of_its_new_moment(world: World, *, refreshed: bool) -> None:
    from dynalake.jobs.refresh import refresh

    put(world.pipeline, item(5, s={"S": "later"}))
    world.pipeline.repair([{"pk": {"S": "k5"}}])
    if refreshed:
        refresh(world.pipeline, world.now, pacing=QUICK)
    assert world.compared(world.now).exact
    result = world.compared(world.spoilt(*takes("old", "k5")))
    assert found_in(result) == ({("different", "k5", ("s", *VERSION_AND_TIME))} if refreshed else set())


def test_without_the_stream_the_row_s_own_time_decides(world: World) -> None:
    """The lake's stream was switched off and on since: only the times of the rows tell."""
    with duckdb.connect(str(world.now)) as con:
        con.execute("UPDATE _lake.shards SET stream = stream || 'x'")
    assert world.compared(world.now).exact
    assert found_in(world.compared(world.spoilt(*takes("old", "k4")))) == {("extra", "k4", ())}
    put(world.pipeline, item(5, s={"S": "later"}))
    world.pipeline.repair([{"pk": {"S": "k5"}}])
    assert world.compared(world.now).exact


def test_a_lake_row_changed_by_hand_is_told_as_the_lake_s(world: World) -> None:
    lake = world.pipeline.lake_dynamodb()
    table = world.pipeline.config.lake_table
    row = lake.get_item(TableName=table, Key={"pk": {"S": "k9"}})["Item"]
    lake.put_item(TableName=table, Item={**row, "s": {"S": "by hand"}})
    result = world.compared(world.now)
    assert [(each.where, each.attributes) for each in result.differences] == [("lake", ("s",))]


def test_the_command_ends_with_1_and_says_what_to_do(world: World, capsys: Capture, tmp_path: Path) -> None:
    def words(file: Path) -> tuple[str | Path, ...]:
        out = tmp_path / "found.jsonl"
        return ("parity", "orders", "--config", world.config, "--snapshot", file, "--out", out)

    code, out, _ = command(capsys, *words(world.now), "--json")
    document = json.loads(out)
    assert (code, document["snapshot_rows"], document["problems"]) == (0, ROWS - 1, [])
    spoilt = world.spoilt(*takes("old", "k4"), recount=False)
    code, out, _ = command(capsys, *words(spoilt))
    assert code == 1
    assert "the same" not in out
    assert "dynalake snapshot orders" in out
    assert "dynalake repair" not in out
    (line,) = (tmp_path / "found.jsonl").read_text().splitlines()
    assert json.loads(line) | {"source_key": None} == {
        "reason": "extra", "key": {"pk": {"S": "k4"}}, "source_key": None, "attributes": [], "where": "snapshot",
        "forged": False,
    }  # fmt: skip
