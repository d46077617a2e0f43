"""The function's heartbeat: what it looks at, what it stores in the lake, and what is judged from that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ingest.checkpoints import StreamCheckpoint
from ingest.errors import SourceError
from ingest.heartbeat import Heartbeat, look_at_function
from ingest.lambda_function import LambdaFunction
from ingest.measures import HEARTBEAT_EVENT
from lake.contract.evidence import FUNCTION_SILENT_S, Reading, TableStream
from lake.contract.health import Health
from tests.ingest.building import ARN, LABEL, LakeSide, event_of, record
from tests.ingest.test_lambda_function import Context
from tests.ingest.test_mapping import SOUND
from tests.stubs.faults import client_error

NEW = ARN.replace(LABEL, "2026-11-25T00:00:00.000")
HOUR_S = 3600


class Source:
    """A source account: its table's stream, its function's mappings, its function's iterator age."""

    def __init__(self) -> None:
        self.side = LakeSide()
        self.stream: str | None = ARN
        self.mappings: list[dict[str, Any]] = [{**SOUND, "EventSourceArn": ARN}]
        self.function = True
        self.ages_ms: list[float] = []
        self.denied: set[str] = set()
        self.side.checkpoints.note_stream(StreamCheckpoint(ARN, self.side.clock.now_ms()))

    def describe_table(self, **_: Any) -> dict[str, Any]:
        self._check("DescribeTable")
        table: dict[str, Any] = {"LatestStreamArn": self.stream or ARN}
        if self.stream:
            table["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
        return {"Table": table}

    def get_paginator(self, _: str) -> Source:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        self._check("ListEventSourceMappings")
        return [{"EventSourceMappings": self.mappings}]

    def get_function_configuration(self, **_: Any) -> dict[str, Any]:
        if not self.function:
            raise client_error("GetFunctionConfiguration", "ResourceNotFoundException")
        return {}

    def get_metric_data(self, **_: Any) -> dict[str, Any]:
        self._check("GetMetricData")
        return {"MetricDataResults": [{"Values": self.ages_ms}]}

    def _check(self, operation: str) -> None:
        if operation in self.denied:
            raise client_error(operation, "AccessDeniedException")

    def heartbeat(self) -> Heartbeat:
        client: Any = self
        return Heartbeat(
            client,
            client,
            client,
            self.side.health,
            self.side.checkpoints,
            table="orders",
            pipeline="orders",
            now_ms=self.side.clock.now_ms,
        )

    def beat(self) -> Health:
        self.heartbeat().beat("dynalake-orders")
        return self.health()

    def health(self) -> Health:
        return self.side.health.health("orders")


def test_a_sound_mapping_is_caught_up_as_long_as_hearts_beat() -> None:
    source = Source()
    assert source.health().state == "not started"
    health = source.beat()
    assert (health.state, health.complete, health.by) == ("caught up", True, "function")
    source.side.clock.sleep(FUNCTION_SILENT_S + 1)
    health = source.health()
    assert (health.state, health.complete) == ("not known", False)
    assert "no heartbeat" in health.reason


def test_a_mapping_on_another_stream_is_a_gap_at_once() -> None:
    source = Source()
    source.beat()
    source.stream = NEW
    health = source.beat()
    assert (health.state, health.complete) == ("gap", False)
    (gap,) = source.side.health.gaps()
    assert (gap.kind, gap.id) == ("stream changed", "stream-changed/2026-11-25T00:00:00.000")
    source.side.clock.sleep(1)
    source.side.health.close_gaps("repair", source.side.clock.now_ms())
    assert source.health().state == "gap", "a repair does not bring the mapping to the new stream"
    source.mappings = [{**SOUND, "EventSourceArn": NEW}]
    source.beat()
    noted = source.side.checkpoints.stream()
    assert noted is not None
    assert noted.arn == NEW
    source.side.clock.sleep(1)
    source.side.health.close_gaps("repair", source.side.clock.now_ms())
    assert source.beat().complete


def test_a_stream_that_is_off_is_a_gap() -> None:
    source = Source()
    source.stream = None
    assert source.beat().state == "gap"
    assert [gap.kind for gap in source.side.health.gaps()] == ["stream changed"]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"State": "Disabled"}, "paused"),
        ({"LastProcessingResult": "PROBLEM: Function call failed"}, "paused"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}, "not known"),
        ({"StartingPosition": "LATEST"}, "not known"),
        ({"MaximumRetryAttempts": 3}, "not known"),
        ({"MaximumRecordAgeInSeconds": 60}, "not known"),
        ({"DestinationConfig": {}}, "not known"),
        ({"BisectBatchOnFunctionError": False}, "not known"),
        ({"FunctionResponseTypes": []}, "not known"),
        ({"TumblingWindowInSeconds": 30}, "not known"),
    ],
)
def test_every_setting_that_may_skip_records_is_known_in_the_lake(
    change: Mapping[str, Any], state: str
) -> None:
    source = Source()
    source.mappings[0] |= change
    health = source.beat()
    assert (health.state, health.complete) == (state, False)
    assert health.reason
    assert health.remedy


def test_no_mapping_at_all_is_paused() -> None:
    source = Source()
    source.mappings = []
    assert source.beat().state == "paused"


def test_an_iterator_age_is_how_far_the_function_is_behind() -> None:
    source = Source()
    source.ages_ms = [61_000.0, 5.0]
    assert source.beat().state == "catching up"
    source.ages_ms = [500.0, 61_000.0]
    source.side.clock.sleep(1)
    assert source.beat().state == "caught up"
    source.ages_ms = [24 * HOUR_S * 1000.0]
    source.side.clock.sleep(1)
    assert not source.beat().complete
    assert [gap.kind for gap in source.side.health.gaps()] == ["trimmed"]


def test_a_day_in_which_nothing_shows_that_the_stream_was_read_is_a_gap() -> None:
    source = Source()
    source.beat()
    source.side.clock.sleep(12 * HOUR_S)
    source.mappings[0]["State"] = "Disabled"
    assert source.beat().state == "paused"
    source.side.clock.sleep(13 * HOUR_S)
    source.mappings[0]["State"] = "Enabled"
    health = source.beat()
    assert health.state == "gap"
    ((kind, detail),) = [(gap.kind, gap.detail) for gap in health.gaps]
    assert kind == "trimmed"
    assert "for 25 hours" in detail


def test_who_may_not_see_the_iterator_age_says_nothing_good_and_everything_bad() -> None:
    source = Source()
    source.denied = {"GetMetricData"}
    with pytest.raises(SourceError, match="iterator age"):
        source.beat()
    assert source.health().state == "not started"
    source.mappings[0]["State"] = "Disabled"
    assert source.beat().state == "paused"


def test_a_pipeline_without_a_function_has_none_to_look_at() -> None:
    source = Source()
    source.mappings, source.function = [], False
    client: Any = source
    table = TableStream(source.side.clock.now_ms(), ARN)
    assert look_at_function(table, client, client, "dynalake-orders", pipeline="orders") is None


def test_the_function_beats_and_publishes_and_applies_batches_as_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Source()
    made: list[Heartbeat] = []

    def heartbeat() -> Heartbeat:
        made.append(source.heartbeat())
        return made[-1]

    function = LambdaFunction(source.side.replicator(), "orders", heartbeat=heartbeat)
    function(event_of(record(1)), Context(60))
    assert not made, "a batch needs no heartbeat's clients"
    capsys.readouterr()
    assert function(HEARTBEAT_EVENT, Context(60)) == {"faults": []}
    assert source.health().complete
    (said,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert (said["Heartbeat"], said["behind"]) == ([1.0], [0.0])
    source.mappings[0]["State"] = "Disabled"
    function(HEARTBEAT_EVENT, Context(60))
    (said,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert said["Heartbeat"] == [0.0]
    assert said["behind"][0] > 0


def test_a_worker_s_reading_is_replaced_by_the_function_s_that_takes_over() -> None:
    source = Source()
    now = source.side.clock.now_ms()
    source.side.health.read(Reading("worker", now, ARN, at_end=False, newest_source_at=7))
    source.side.clock.sleep(1)
    health = source.beat()
    assert (health.by, health.newest_source_at) == ("function", 7)
