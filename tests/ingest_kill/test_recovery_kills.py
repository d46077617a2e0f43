"""kill -9 of what mends: a backfill from an export, a repair and a redrive go on where they were cut off.

DYNALAKE_KILL_ROUNDS=20 scripts/test tests/ingest_kill -s        # the long mode
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.end_to_end.ministack import Ministack
from tests.ingest_kill.field import Field, Hand
from tests.stubs.exports import full_export

ROUNDS: Final = int(os.environ.get("DYNALAKE_KILL_ROUNDS", "1"))
SEED: Final = int(os.environ.get("DYNALAKE_KILL_SEED", "1"))
ROWS: Final = 400


@pytest.fixture
def field(ministack: Ministack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Field]:
    name = "".join(letter for letter in request.node.name.removeprefix("test_") if letter.isalnum())[:40]
    made = Field(tmp_path, ministack, name)
    yield made
    made.close()


def killed_and_ended(field: Field, *words: str) -> int:
    """Runs `dynalake <words>` again and again, killed at any moment, and then to its end; gives the kills."""
    random = Random(SEED)
    kills = 0
    for _ in range(ROUNDS):
        running = field.start(*words)
        until = time.monotonic() + random.uniform(1.0, 4.0)
        while running.lives and time.monotonic() < until:
            time.sleep(0.02)
        if running.lives:
            running.kill()
            kills += 1
        else:
            assert running.end() == 0, running.said()
    field.do(*words)
    return kills


def caught_up(field: Field) -> None:
    field.do("run", "--until-caught-up")
    assert field.shown() == field.source_items()
    assert '"complete": true' in field.do("status", "--json")


def test_a_backfill_from_an_export(field: Field) -> None:
    hand = Hand(field, ROWS, Random(SEED))
    for _ in range(ROWS):
        hand.write_once()
    field.do("setup")
    described = field.source.describe_table(TableName=field.name)["Table"]
    export = full_export(
        described["TableArn"],
        list(field.source_items().values()),
        shows_ms=round(time.time() * 1000),
        per_file=20,
        tableId=described.get("TableId", ""),
    ).save(field.folder / "export")
    with hand:
        kills = killed_and_ended(field, "backfill", "--source", f"export:{export}")
    caught_up(field)
    print(f"{kills} backfills from an export killed")


def test_a_repair(field: Field) -> None:
    hand = Hand(field, ROWS, Random(SEED))
    for _ in range(ROWS):
        hand.write_once()
    field.do("setup")
    field.do("run", "--until-caught-up")
    field.do("backfill")
    table = field.config.lake_table
    damaged = [pk for pk, row in sorted(field.lake_rows().items()) if "_lake_deleted" not in row][::2]
    for number, pk in enumerate(damaged):
        if number % 2:
            field.lake.delete_item(TableName=table, Key={"pk": {"S": pk}})
        else:
            field.lake.update_item(
                TableName=table,
                Key={"pk": {"S": pk}},
                UpdateExpression="SET n = :n",
                ExpressionAttributeValues={":n": {"N": "-1"}},
            )
    assert field.shown() != field.source_items()
    worker = field.start("run")
    with hand:
        kills = killed_and_ended(field, "repair")
    worker.kill()
    caught_up(field)
    print(f"{kills} repairs of {len(damaged)} damaged rows killed")


def test_a_redrive(field: Field) -> None:
    field.do("setup")
    field.do("backfill")
    for number in range(ROWS // 2):
        key = {"pk": {"S": f"q{number}"}}
        field.source.put_item(TableName=field.name, Item={**key, "_lake_own": {"S": "no source may have it"}})
    field.do("run", "--until-caught-up")
    quarantine = field.folder / "quarantine"
    assert sum(path.is_file() for path in quarantine.rglob("*")) > 0
    assert field.shown() == {}
    for number in range(ROWS // 2):
        field.source.put_item(TableName=field.name, Item={"pk": {"S": f"q{number}"}, "n": {"N": str(number)}})
    kills = killed_and_ended(field, "redrive")
    left = [path for path in quarantine.rglob("*") if path.is_file() and "done" not in path.parts]
    assert left == [], "what is settled is put aside"
    caught_up(field)
    print(f"{kills} redrives killed")
