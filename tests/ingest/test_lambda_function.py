"""The function around the handler: its time, its logs, its metrics, its quarantine, and what it imports."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from ingest.apply import Applier
from ingest.errors import QuarantineError
from ingest.handler import Replicator
from ingest.lakewriter import direct_writer
from ingest.lambda_function import (
    ATTEMPTS,
    CONNECT_TIMEOUT_S,
    MAX_LAG_SAMPLES,
    READ_TIMEOUT_S,
    TIME_GUARD_S,
    LambdaFunction,
    _quarantine_place,
    sampled,
)
from ingest.mapping import Effect, MappingFault
from ingest.measures import STOPPED_MS, behind_ms, heartbeat_values
from ingest.policy import Policy
from ingest.quarantine import S3Place, SqsPlace
from ingest.sessions import client_config
from tests.ingest.building import ARN, LAKE, NOW_MS, ORIGIN, LakeSide, event_of, item, record
from tests.ingest_speed.endpoint import Endpoint
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


class Context(SimpleNamespace):
    """Lambda's context object, whose time runs."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            function_name="f", memory_limit_in_mb=512, aws_request_id="r", invoked_function_arn="a"
        )
        self._monotonic = monotonic
        self._until = monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self._until - self._monotonic()) * 1000))


@pytest.fixture
def side() -> LakeSide:
    return LakeSide()


def called(side: LakeSide, *records: Mapping[str, Any], pipeline: str = "orders") -> dict[str, Any]:
    return LambdaFunction(side.replicator(), pipeline)(event_of(*records), Context(60))


def metrics(printed: str) -> dict[str, Any]:
    """What one batch published, in two parts: its age before it was worked on, and the rest after."""
    first, last = (json.loads(line) for line in printed.splitlines() if '"_aws"' in line)
    assert [name for name in first if isinstance(first[name], list)] == ["behind"]
    document: dict[str, Any] = last
    return document


# Metrics and logs


def test_a_batch_is_measured(side: LakeSide, capsys: pytest.CaptureFixture[str]) -> None:
    called(side, record(1, "a"), record(2, "b"))
    capsys.readouterr()
    answer = called(
        side,
        record(1, "a"),
        record(3, "b", "REMOVE"),
        record(4, "c"),
        {**record(5, "d"), "eventName": "?"},
    )
    assert answer == {"batchItemFailures": []}
    said = metrics(capsys.readouterr().out)
    values = {name: said[name] for name in said if isinstance(said[name], list)}
    assert values["applied"] == [2]
    assert values["stale"] == [1]
    assert values["deleted"] == [1]
    assert values["quarantined"] == [1]
    assert values["throttled"] == [0]
    assert values["failed"] == [0]
    assert values["batch_size"] == [4]
    assert values["lag"] == [1000, 1000]
    assert said["service"] == "orders"
    (declared,) = said["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "dynalake"
    units = {metric["Name"]: metric["Unit"] for metric in declared["Metrics"]}
    assert units["lag"] == "Milliseconds"
    assert units["applied"] == "Count"


def test_a_batch_that_fails_has_published_how_far_behind_it_is(
    side: LakeSide, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is retried again and again must raise the alarm, also if each invocation times out."""
    replicator = side.replicator()

    def dies(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(replicator, "process", dies)
    old, new = record(1, "a"), record(2, "b")
    at = old["dynamodb"]["ApproximateCreationDateTime"]
    new["dynamodb"] = {**new["dynamodb"], "ApproximateCreationDateTime": at + 100}
    function = LambdaFunction(replicator, "orders", now_ms=lambda: round(at * 1000) + 600_000)
    with pytest.raises(RuntimeError):
        function(event_of(new, old), Context(60))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert json.loads(line)["behind"] == [600_000]


@pytest.mark.parametrize(
    "odd",
    [None, "x", {"dynamodb": None}, {"dynamodb": {}}, {"dynamodb": {"ApproximateCreationDateTime": "x"}}],
)
def test_an_odd_record_has_no_age_and_does_not_hide_the_others(odd: Any) -> None:
    sound = {"dynamodb": {"ApproximateCreationDateTime": 100.0}}
    assert behind_ms({"Records": [odd, sound, odd]}, 160_000) == 60_000
    assert behind_ms({"Records": [odd]}, 160_000) is None
    assert behind_ms({}, 160_000) is None
    assert behind_ms({"Records": [sound]}, 99_000) == 0, "clocks differ"


@pytest.mark.parametrize(
    ("effects", "heartbeat", "behind"),
    [
        ([], 1, 0),
        (["slows reading"], 1, 0),
        (["may skip records"], 0, 0),
        (["stops reading"], 0, STOPPED_MS),
        (["may skip records", "stops reading"], 0, STOPPED_MS),
    ],
)
def test_what_a_heartbeat_publishes_of_the_mapping(
    effects: list[Effect], heartbeat: int, behind: int
) -> None:
    faults = [MappingFault(effect, "m", "r") for effect in effects]
    assert heartbeat_values(faults) == {"Heartbeat": heartbeat, "behind": behind}


@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_rows_that_the_policy_cannot_be_applied_to_are_counted(
    mode: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    side = LakeSide(Policy({"address.street": "drop"}, mismatch=mode))
    wrong = item("b", 2, address={"S": "canary"})
    right = item("c", 3, address={"M": {"street": {"S": "canary"}}})
    called(side, record(1, "a"), record(2, "b", NewImage=wrong), record(3, "c", NewImage=right))
    printed = capsys.readouterr().out
    said = metrics(printed)
    assert said["policy_mismatches"] == [1]
    assert said["quarantined"] == [int(mode == "quarantine")]
    assert said["applied"] == [2 if mode == "quarantine" else 3]
    assert "canary" not in printed


@pytest.mark.parametrize("count", [0, 1, 2, 98, 99, 100, 101, 1000])
def test_the_median_the_p99_and_the_greatest_lag_survive_the_metric_s_limit(count: int) -> None:
    values = [n * n for n in range(count)]
    Random(count).shuffle(values)
    kept = sampled(values, MAX_LAG_SAMPLES)
    assert len(kept) == min(count, MAX_LAG_SAMPLES)
    if count:
        values.sort()
        assert kept[0] == values[0]
        assert kept[-1] == values[-1]
        for share in (0.5, 0.99):
            place = round(share * (len(kept) - 1))
            rank = values.index(kept[place])
            assert abs(rank - share * (count - 1)) <= count / MAX_LAG_SAMPLES + 1


def test_no_value_of_an_item_is_logged(side: LakeSide, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    """Neither of what is applied, nor of what can never apply, nor of what fails."""
    secret = "Tr0ub4dor&3"
    good = record(1, "a", NewImage=item("a", 1, note={"S": secret}))
    reserved = record(2, "b", NewImage=item("b", 2, _lake_x={"S": secret}))
    large = record(3, "c", NewImage=item("c", 3, x={"S": secret + "x" * (400 * 1024 - 40)}))
    odd = record(4, "d", NewImage=item("d", 4, x={"N": secret}))
    shapeless = record(5, "e", NewImage=item("e", 5, x={secret: secret}))
    nothing = record(6, "f", NewImage={secret: secret})
    with caplog.at_level(logging.DEBUG):
        called(side, good, reserved, large, odd, shapeless, nothing)
        side.place.full = True
        called(side, reserved)
    assert side.place.documents
    said = capsys.readouterr()
    for text in (said.out, said.err, caplog.text, str([vars(entry) for entry in caplog.records])):
        assert secret not in text
    for document in side.place.documents.values():
        assert secret not in document["reason"]


# Time


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as made:
        yield made


def over_http(
    side: LakeSide, endpoint: Endpoint, *, sleep: Callable[[float], None] = time.sleep
) -> Replicator:
    """A replicator whose rows go to the endpoint, with timeouts that a test can wait for."""
    client = boto3.Session("AKID", "secret", region_name="eu-west-1").client(
        "dynamodb",
        endpoint_url=endpoint.url,
        config=client_config(connect_timeout_s=0.3, read_timeout_s=0.3, attempts=2),
    )
    applier = Applier(
        client,
        LAKE,
        now_ms=lambda: NOW_MS,
        sleep=sleep,
        random=Random(1),
        writer=direct_writer(client),
    )
    return Replicator(
        applier, side.policy, side.quarantine(), side.observer(), side.gaps, side.clock.now_ms, origin=ORIGIN
    )


def test_a_lake_that_does_not_answer_leaves_time_to_report(side: LakeSide, endpoint: Endpoint) -> None:
    def silent(_connection: Any, _request: Any) -> bool:
        clock.sleep(0.1)  # three requests run at once, and each waits for 0.3 s
        time.sleep(3)
        return False

    clock = side.clock
    endpoint.otherwise = silent
    replicator = over_http(side, endpoint, sleep=clock.sleep)
    function = LambdaFunction(replicator, "orders", guard_s=0.9, monotonic=clock.monotonic)
    context = Context(3.0, clock.monotonic)
    answer = function(event_of(record(7, "a"), record(5, "b"), record(6, "c")), context)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "5"}]}
    assert context.get_remaining_time_in_millis() > 200


def test_the_guard_outlasts_the_longest_call() -> None:
    assert TIME_GUARD_S >= ATTEMPTS * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S)


def test_a_short_invocation_still_works(side: LakeSide) -> None:
    """The guard is longer than Lambda's own default timeout of 3 s."""
    assert LambdaFunction(side.replicator(), "orders")(event_of(record(1)), Context(3.0)) == {
        "batchItemFailures": []
    }
    assert side.shown() == {"a": "1"}


def test_what_is_put_away_takes_time_too(side: LakeSide) -> None:
    """A batch of nothing but spoilt records must not outlast the invocation."""
    left = iter([9.0, 9.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0])
    spoilt = [{**record(number), "eventName": "?"} for number in range(1, 6)]
    report = side.replicator().process(event_of(*spoilt), lambda: next(left))
    assert len(side.place.documents) == 2
    assert report.failed_from == "3"


# The quarantine


def test_the_quarantine_is_a_bucket_or_a_queue() -> None:
    session = boto3.Session("AKID", "secret", region_name="eu-west-1")
    assert isinstance(_quarantine_place("s3://b/p", session, client_config(), "111111111111"), S3Place)
    queue = "sqs:https://sqs.eu-west-1.amazonaws.com/111111111111/put-away"
    assert isinstance(_quarantine_place(queue, session, client_config(), "111111111111"), SqsPlace)
    with pytest.raises(QuarantineError, match="keeps no folder"):
        _quarantine_place("/tmp/quarantine", session, client_config(), "111111111111")


# What it imports

THE_RUNTIME_HAS = {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"}
MAY_BE_THERE = {"certifi"}  # botocore takes its certificates where it is installed
THE_ZIP_HAS = {"aws_lambda_powertools", "jmespath", "typing_extensions"}

CLOSURE = """
import sys
before = set(sys.modules)
import ingest.lambda_function
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_the_function_imports_the_sdk_powertools_and_small_modules_of_ours() -> None:
    """In a process of its own: whatever the tests have imported is not there."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    modules = set(done.stdout.split())
    ours = {
        name
        for name in modules
        if name.split(".")[0] in ("ingest", "lake", "dynalake", "queries", "expectations")
    }
    assert "ingest.apply" in ours
    assert all(
        name.split(".")[0] == "ingest" or name in ("lake", "lake.errors") or name.startswith("lake.contract")
        for name in ours
    ), ours
    assert not ours & {
        f"ingest.{job}" for job in ("worker", "walk", "backfill", "redrive", "repair", "lease")
    }
    others = {name.split(".")[0] for name in modules - ours}
    foreign = {name for name in others if not name.startswith("_")} - sys.stdlib_module_names
    assert foreign <= THE_RUNTIME_HAS | THE_ZIP_HAS | MAY_BE_THERE, foreign


def test_a_pipeline_s_arn_is_what_versions_come_from(side: LakeSide) -> None:
    called(side, record(1, "a"))
    row = side.row("a")
    assert row is not None
    assert row["_lake_version"]["S"].startswith(ARN.rpartition("/")[2])
