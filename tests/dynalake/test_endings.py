"""Each long command as a process: it shows how far it is on a terminal and nothing of it in a pipe, `--json` is one
document, and ended from outside it says so in a line and can be run again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynalake.cli.app import app
from dynalake.cli.endings import ANSWERS_NO, STAYS, told_to_end
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT
from tests.dynalake.accounts import ROLE, command
from tests.dynalake.held import Gate, OnATerminal, in_a_pipe, serving

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

ROWS = 60
EMPTY_MS = 400
"""By then a terminal shows what a command that waits is at."""


@dataclass(frozen=True)
class Case:
    """A command in the midst of something.

    Attributes:
        words: the command.
        call: the call to AWS that is held back while the signal comes.
        shows: what a terminal shows meanwhile.
        passes: so many of these calls pass before.
        ends: the exit code of the run after that; None where there is none, as it takes long.
        deletes: an item of the source that is deleted before.
    """

    words: tuple[str, ...]
    call: str
    shows: str
    passes: int = 0
    ends: int | None = 0
    deletes: str = ""

    @property
    def name(self) -> str:
        return self.words[0]


CASES = (
    Case(("setup", "orders"), "CreateTable", "setting up orders", passes=1),
    Case(("backfill", "orders"), "PutItem", "backfill ", passes=ROWS // 2),
    Case(("status", "orders"), "DescribeTable", "looking"),
    Case(("doctor", "orders"), "DescribeTable", "ok", passes=2, ends=1),
    Case(("redrive", "orders"), "GetItem", "redrive ", passes=4, ends=1),
    Case(("parity", "orders"), "Scan", "rows compared", deletes="odd"),
    Case(("repair", "orders"), "Scan", "rows compared"),
    Case(("check", "orders", "--suite", "parity", "--no-metrics"), "Scan", "check", ends=None),
    Case(("snapshot", "orders"), "Scan", "rows read"),
    Case(("export", "orders", "--out", "orders.parquet"), "Scan", "rows read"),
    Case(("refresh", "orders"), "GetRecords", "changes read"),
)
SHORT = {"demo", "init", "report", "ddl", "dictionary", "queries", "notebooks"}
"""These read little, or say each step as they come to it."""
ELSEWHERE = {"run", "follow", "query", "deploy", "remove", "publish"}


@dataclass(frozen=True)
class World:
    """A pipeline, the AWS of its accounts, and a client of its source."""

    gate: Gate
    folder: Path
    source: DynamoDBClient


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A pipeline whose table has rows, one of which goes to quarantine; the cases build upon one another."""
    import boto3

    folder = tmp_path_factory.mktemp("world")
    with serving() as gate:
        sides = {
            account: f'account = "{account}", region = "{REGION}", role_arn = "{ROLE.format(account)}", '
            f'endpoint_url = "{gate.url}"'
            for account in (SOURCE_ACCOUNT, LAKE_ACCOUNT)
        }
        (folder / "dynalake.toml").write_text(
            f'[pipelines.orders]\nsource = {{ table = "orders", {sides[SOURCE_ACCOUNT]} }}\n'
            f"lake = {{ {sides[LAKE_ACCOUNT]} }}\n"
            f'quarantine = "{folder / "quarantine"}"\n'
        )
        root = boto3.Session("test", "test", region_name=REGION)
        role = root.client("sts", endpoint_url=gate.url).assume_role(
            RoleArn=ROLE.format(SOURCE_ACCOUNT), RoleSessionName="test"
        )["Credentials"]
        source = boto3.client(
            "dynamodb",
            REGION,
            endpoint_url=gate.url,
            aws_access_key_id=role["AccessKeyId"],
            aws_secret_access_key=role["SecretAccessKey"],
            aws_session_token=role["SessionToken"],
        )
        source.create_table(
            TableName="orders",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        for number in range(ROWS):
            source.put_item(TableName="orders", Item={"pk": {"S": str(number)}, "n": {"N": str(number)}})
        source.put_item(TableName="orders", Item={"pk": {"S": "odd"}, "_lake_x": {"S": "reserved"}})
        yield World(gate, folder, source)


def test_every_command_says_what_it_leaves_and_is_looked_at_here_or_elsewhere() -> None:
    names = {each.callback.__name__ for each in app.registered_commands if each.callback}
    assert STAYS.keys() == names
    assert ANSWERS_NO.keys() < names
    assert names == {case.name for case in CASES} | SHORT | ELSEWHERE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ended_in_the_midst_it_says_so_in_a_line_and_goes_on_when_run_again(world: World, case: Case) -> None:
    gate, folder = world.gate, world.folder
    if case.deletes:
        world.source.delete_item(TableName="orders", Key={"pk": {"S": case.deletes}})
    number = signal.SIGTERM if CASES.index(case) % 2 else signal.SIGINT
    how, code = {signal.SIGTERM: ("ended by SIGTERM", 143), signal.SIGINT: ("interrupted", 130)}[number]
    before = set(folder.rglob("*"))
    gate.hold(case.call, case.passes)
    running = OnATerminal(folder, *case.words)
    running.until(lambda: gate.arrived.is_set() and case.shows in running.seen)
    running.tell(number)
    time.sleep(EMPTY_MS / 1000)
    gate.release()
    assert running.end() == code, running.seen
    assert running.lines[-1] == f"dynalake: {how}: {STAYS[case.name]}"
    assert "Traceback" not in running.seen
    left = {path for path in set(folder.rglob("*")) - before if path.name.startswith(".")}
    assert not left, "nothing half-written stays"
    if case.ends is None:
        return
    ended, document, beside = in_a_pipe(folder, *case.words)
    assert ended == case.ends, (document, beside)
    assert isinstance(document, dict)
    assert case.shows not in beside
    assert "\x1b" not in beside


def test_backfill_ended_by_a_scheduler_goes_on_where_it_stood(world: World) -> None:
    """The rows that were written stay; the run after it fills what lacks and says that it went on."""
    gate, folder = world.gate, world.folder
    in_a_pipe(folder, "setup", "orders")
    for number in range(ROWS):
        world.source.put_item(TableName="orders", Item={"pk": {"S": f"new {number}"}})
    gate.hold("PutItem", ROWS // 2)
    running = OnATerminal(folder, "backfill", "orders", "--restart")
    running.until(gate.arrived.is_set)
    running.tell(signal.SIGTERM)
    gate.release()
    assert running.end() == 143
    assert running.lines[-1] == f"dynalake: ended by SIGTERM: {STAYS['backfill']}"
    ended, document, _ = in_a_pipe(folder, "backfill", "orders")
    assert ended == 0
    done = document["backfill"]
    assert done["resumed"]
    assert done["filled"] > 0
    _, document, _ = in_a_pipe(folder, "backfill", "orders", "--restart")
    assert (document["backfill"]["filled"], document["backfill"]["present"]) == (0, 2 * ROWS)


def test_a_query_is_cancelled_at_once_where_duckdb_is_at_work(world: World) -> None:
    """DuckDB says "Query interrupted" by an error of its own, which was a traceback."""
    in_a_pipe(world.folder, "setup", "orders")
    in_a_pipe(world.folder, "snapshot", "orders")
    (world.folder / "endless.sql").write_text(
        "-- what: nothing\n-- grain: one row\n"
        "SELECT sum(a.range * b.range) AS n FROM range(10000000) AS a, range(10000000) AS b"
    )
    for number, code, how in ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")):
        running = OnATerminal(world.folder, "query", "./endless.sql", "--lake", "lake.duckdb")
        running.until(lambda: "endless" in running.seen)  # noqa: B023 - called at once
        time.sleep(0.5)
        running.tell(number)
        assert running.end() == code, running.seen
        assert running.lines[-1] == f"dynalake: {how}: {STAYS['query']}"


def test_a_question_that_is_interrupted_is_no_answer(world: World) -> None:
    running = OnATerminal(world.folder, "init", "other")
    running.until(lambda: "Source table" in running.seen)
    running.tell(signal.SIGINT)
    assert running.end() == 130
    assert running.lines[-1] == f"dynalake: interrupted: {STAYS['init']}"
    assert "other" not in (world.folder / "dynalake.toml").read_text()


def test_signals_that_are_ignored_stay_so_and_handlers_are_given_back() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with told_to_end() as told:
            os.kill(os.getpid(), signal.SIGTERM)
            seen = [told.number]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            seen.append(told.number)
        assert seen == [None, signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, before_interrupt)
    # In another thread no handler can be set, and none is.
    thread = threading.Thread(target=lambda: told_to_end().__enter__())
    thread.start()
    thread.join()


def test_a_defect_is_never_taken_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Python would end with 1: of `check` a warning, with which a scheduler goes on."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dynalake.cli.checks.open_set_up", broken)
    code, out, err = command(capsys, "check", "orders", "--config", tmp_path / "dynalake.toml")
    assert (code, out) == (70, "")
    assert "ZeroDivisionError" in err
