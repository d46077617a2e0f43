"""A data source of which only changed rows are exchanged is the one that a full publication makes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from dynalake.errors import PublishError
from dynalake.jobs.publishing import Destination, PublishReport, publish_table
from dynalake.tableau.token import Token
from lake.export import export_table
from tests.lake.building import build
from tests.stubs.tableau import Fault, TableauStub
from tests.tableau.extracts import EVERY_TYPE, content, row
from tests.tableau.test_increment import full, things
from tests.tableau.test_publish import publish, tableau

__all__ = ["tableau"]


def update(tableau: TableauStub, snapshot: Path, format_: Any = "tdsx") -> PublishReport:
    report = publish(tableau, snapshot, format=format_, incremental=True)
    assert content(tableau.extract("things")) == content(full(snapshot, snapshot.parent, format_)), (
        report.increment
    )
    return report


def did(report: PublishReport) -> tuple[int, int]:
    assert report.increment is not None
    assert report.increment.full is None, report.increment.full
    return report.increment.deleted, report.increment.inserted


def why(report: PublishReport) -> str:
    assert report.increment is not None
    assert report.increment.full is not None
    return report.increment.full


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", things(20, **EVERY_TYPE))
    return tmp_path / "lake.duckdb"


def change(snapshot: Path, number: int) -> None:
    """Changes a row; each number is a later write."""
    build(snapshot, things(20, {3: number}, **EVERY_TYPE))


@pytest.mark.parametrize("format_", ["hyper", "tdsx"])
def test_only_what_changed_is_sent(tableau: TableauStub, snapshot: Path, format_: Any) -> None:
    assert why(update(tableau, snapshot, format_)) == "there was no such data source yet"
    build(snapshot, [*things(19, {3: 100}, **EVERY_TYPE), row({"pk": {"S": "new"}, **EVERY_TYPE}, 101)])
    report = update(tableau, snapshot, format_)
    assert did(report) == (2, 2)
    assert tableau.count("PATCH", "/data") == 1
    begun = tableau.begun
    assert did(update(tableau, snapshot, format_)) == (0, 0)
    assert (tableau.begun, tableau.count("PATCH", "/data")) == (begun, 1), "nothing is sent"


@pytest.mark.parametrize("key", [("pk", "sk"), ("sk",), ("raw", "pk")], ids=str)
def test_rows_are_found_by_keys_of_every_type(
    tableau: TableauStub, tmp_path: Path, key: tuple[str, ...]
) -> None:
    snapshot = tmp_path / "lake.duckdb"

    def rows(changed: dict[int, int]) -> list[dict[str, Any]]:
        found = []
        for number in range(12):
            raw = base64.b64encode(bytes([number // 3, 0xFF])).decode()
            item = {"pk": {"S": f"k{number % 3}"}, "sk": {"N": f"{number}.5"}, "raw": {"B": raw}}
            write = changed.get(number, 0)
            found.append(row({**item, "v": {"N": str(write)}}, write or number))
        return found

    build(snapshot, rows({}), key=key)
    update(tableau, snapshot)
    build(snapshot, rows({2: 100, 7: 101})[:-1], key=key)
    assert did(update(tableau, snapshot)) == (3, 2)


def test_all_is_published_and_the_reason_said_where_that_is_in_doubt(
    tableau: TableauStub, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(tableau, snapshot)
    tableau.source("things").updated = tableau.now()
    change(snapshot, 100)
    assert why(update(tableau, snapshot)) == "somebody has changed the data source since it was published"
    publish(tableau, snapshot)
    assert (
        why(update(tableau, snapshot))
        == "it was not published from this snapshot before, or a run was cut off"
    )
    build(snapshot, things(20, {3: 100}, **EVERY_TYPE, more={"S": "x"}))
    assert why(update(tableau, snapshot)) == "the columns have changed (new: more)"
    change(snapshot, 101)
    assert why(update(tableau, snapshot)) == "the columns have changed (gone: more)"
    change(snapshot, 102)
    tableau.version = "3.12"
    assert why(update(tableau, snapshot)) == (
        "this server (REST API 3.12) does not update data sources row by row"
    )


def test_a_run_that_is_cut_off_is_mended_by_the_next(
    tableau: TableauStub, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(tableau, snapshot)
    change(snapshot, 100)
    tableau.faults.append(Fault("PATCH", "/data", done=True, times=1_000))
    with pytest.raises(PublishError, match="while updating things in Finance"):
        publish(tableau, snapshot, incremental=True)
    tableau.faults.clear()
    change(snapshot, 101)
    assert "a run was cut off" in why(update(tableau, snapshot))
    change(snapshot, 102)
    assert did(update(tableau, snapshot)) == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PATCH", "/data", done=True),
        Fault("PATCH", "/data"),
        Fault("PATCH", "/data", status=503),
        Fault("PUT", "fileUploads"),
    ],
    ids=["lost", "dropped", "busy", "a part dropped"],
)
def test_an_update_of_which_the_answer_is_lost_is_done_once(
    tableau: TableauStub, snapshot: Path, fault: Fault
) -> None:
    update(tableau, snapshot)
    change(snapshot, 100)
    tableau.faults.append(fault)
    assert did(update(tableau, snapshot)) == (1, 1)
    assert not fault.times
    assert len(tableau.done) == 1, "under one number"
    change(snapshot, 101)
    assert did(update(tableau, snapshot)) == (1, 1)


def test_what_the_server_will_not_exchange_is_published_whole(tableau: TableauStub, snapshot: Path) -> None:
    update(tableau, snapshot)
    change(snapshot, 100)
    tableau.faults.append(Fault("PATCH", "/data", status=400))
    assert why(update(tableau, snapshot)) == "the server would not exchange rows: Fault"
    change(snapshot, 101)
    tableau.failing_updates = "the data source is no live connection to Hyper"
    assert "no live connection to Hyper" in why(update(tableau, snapshot))


def test_where_nothing_can_be_remembered_nothing_is_published(tableau: TableauStub, snapshot: Path) -> None:
    (snapshot.parent / ".lake.duckdb.published").write_text("in the way")
    with pytest.raises(PublishError, match=r"cannot be created .*leave --incremental out"):
        publish(tableau, snapshot, incremental=True)
    assert not tableau.requests


def test_the_description_moves_along(tableau: TableauStub, snapshot: Path) -> None:
    update(tableau, snapshot)
    build(snapshot, [*things(20, **EVERY_TYPE), row({"pk": {"S": "new"}, **EVERY_TYPE}, 101)])
    update(tableau, snapshot)
    assert "21 rows" in tableau.source("things").description


@pytest.mark.parametrize(
    ("table", "name"),
    [('we"ird [x]', 'Orders, by: day & "more"'), ("naïve 🛫", "🛫 <b>"), ("gone", "rows"), ("it's", "x/y")],
)
def test_names_of_every_kind_survive(tableau: TableauStub, tmp_path: Path, table: str, name: str) -> None:
    snapshot = tmp_path / "lake.duckdb"
    key = ("pk", 'a "quoted" [name]')
    for write, expected in ((50, "there was no such data source yet"), (60, None)):
        build(snapshot, things(8, {1: write}, **EVERY_TYPE), table=table, key=key)
        report = publish_table(
            snapshot,
            table,
            Destination(tableau.url, "Finance", name=name),
            Token(*tableau.token),
            incremental=True,
        )
        assert report.increment is not None
        assert report.increment.full == expected
    assert len(tableau.sources) == 1
    export_table(snapshot, table, "tdsx", tmp_path / "full.tdsx")
    assert content(tableau.extract(name), table) == content(tmp_path / "full.tdsx", table)
