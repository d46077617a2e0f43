"""Every setting of an event source mapping under which records are not read, or may be skipped, is a fault."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from ingest.mapping import latest_stream, mapping_faults, mappings_faults

TABLE = "arn:aws:dynamodb:eu-central-1:111111111111:table/orders"
STREAM = f"{TABLE}/stream/2026-01-01T00:00:00.000"
OTHER = f"{TABLE}/stream/2026-02-01T00:00:00.000"
SOUND: dict[str, Any] = {
    "UUID": "6f1c",
    "State": "Enabled",
    "EventSourceArn": STREAM,
    "FunctionArn": "arn:aws:lambda:eu-central-1:111111111111:function:dynalake-orders",
    "StartingPosition": "TRIM_HORIZON",
    "BatchSize": 1000,
    "BisectBatchOnFunctionError": True,
    "MaximumRetryAttempts": -1,
    "MaximumRecordAgeInSeconds": 72000,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::bucket"}},
    "LastProcessingResult": "OK",
    "TumblingWindowInSeconds": 0,
}


def test_a_sound_mapping_has_no_fault() -> None:
    assert mapping_faults(SOUND, STREAM) == []
    for name, value in (
        ("FilterCriteria", None),
        ("FilterCriteria", {"Filters": []}),
        ("LastProcessingResult", "No records processed"),
        ("LastProcessingResult", None),
    ):
        assert mapping_faults({**SOUND, name: value}, STREAM) == []


@pytest.mark.parametrize(
    ("change", "effect", "said", "command"),
    [
        ({"State": "Disabled"}, "stops reading", "Disabled", "--enabled"),
        ({"State": "Disabling"}, "stops reading", "Disabling", "--enabled"),
        ({"State": "Deleting"}, "stops reading", "Deleting", "--enabled"),
        ({"State": None}, "stops reading", "None", "--enabled"),
        ({"State": "Creating"}, "stops reading", "not yet Enabled", None),
        ({"EventSourceArn": OTHER}, "stops reading", OTHER, None),
        ({"LastProcessingResult": "PROBLEM: Function call failed"}, "stops reading", "call failed", None),
        (
            {"FilterCriteria": {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]}},
            "may skip records",
            "FilterCriteria",
            "--filter-criteria",
        ),
        ({"FilterCriteriaError": {"ErrorCode": "x"}}, "may skip records", "FilterCriteria", None),
        ({"StartingPosition": "LATEST"}, "may skip records", "LATEST", "delete-event-source-mapping"),
        ({"StartingPosition": "AT_TIMESTAMP"}, "may skip records", "AT_TIMESTAMP", None),
        ({"MaximumRetryAttempts": 0}, "may skip records", "after 0 retries", "--maximum-retry-attempts"),
        ({"MaximumRetryAttempts": 10}, "may skip records", "after 10 retries", None),
        ({"MaximumRecordAgeInSeconds": 60}, "may skip records", "60 s", "--maximum-record-age-in-seconds"),
        ({"MaximumRecordAgeInSeconds": -1}, "may skip records", "24 hours", None),
        ({"MaximumRecordAgeInSeconds": 86_400}, "may skip records", "24 hours", None),
        ({"DestinationConfig": None}, "may skip records", "destination", "--destination-config"),
        ({"DestinationConfig": {"OnFailure": {}}}, "may skip records", "destination", None),
        ({"FunctionResponseTypes": None}, "may skip records", "partial batch", "--function-response-types"),
        ({"FunctionResponseTypes": []}, "may skip records", "partial batch", None),
        ({"BisectBatchOnFunctionError": False}, "may skip records", "bisect", "--bisect-batch"),
        ({"TumblingWindowInSeconds": 30}, "may skip records", "tumbling", "--tumbling-window-in-seconds 0"),
    ],
)
def test_each_fault_is_named_with_its_effect_and_its_remedy(
    change: dict[str, Any], effect: str, said: str, command: str | None
) -> None:
    (fault,) = mapping_faults({**SOUND, **change}, STREAM, pipeline="orders", profile="shop")
    assert fault.effect == effect
    assert fault.loses_records
    assert said in fault.message
    assert fault.remedy
    if command:
        assert command in fault.remedy
        words = shlex.split(fault.remedy.partition(";")[0])
        assert words[:2] == ["aws", "lambda"]
        assert words[words.index("--profile") + 1] == "shop"
        assert words[words.index("--region") + 1] == "eu-central-1"
        assert words[words.index("--uuid") + 1] == "6f1c"


def test_a_stream_that_is_off_is_a_fault_with_the_command_that_switches_it_on() -> None:
    off = {"LatestStreamArn": STREAM}
    assert latest_stream(off) is None
    assert latest_stream({**off, "StreamSpecification": {"StreamEnabled": False}}) is None
    assert latest_stream({**off, "StreamSpecification": {"StreamEnabled": True}}) == STREAM
    (fault,) = mapping_faults(SOUND, None, profile="shop")
    assert fault.effect == "stops reading"
    assert "--table-name orders" in fault.remedy
    assert "--profile shop --region eu-central-1" in fault.remedy


def test_several_faults_come_gravest_first() -> None:
    faults = mapping_faults({**SOUND, "MaximumRetryAttempts": 3, "State": "Disabled"}, OTHER)
    assert [fault.effect for fault in faults] == ["stops reading", "stops reading", "may skip records"]


def test_a_function_without_a_mapping_and_one_with_two() -> None:
    (fault,) = mappings_faults([], STREAM, pipeline="orders")
    assert fault.effect == "stops reading"
    assert mappings_faults([SOUND], STREAM) == []
    second = {**SOUND, "UUID": "77aa", "EventSourceArn": TABLE.replace("orders", "other") + "/stream/x"}
    for mappings in ([SOUND, second], [second, SOUND]):
        (fault,) = mappings_faults(mappings, STREAM)
        assert "second trigger" in fault.message
        assert not fault.loses_records
        assert "--uuid 77aa" in fault.remedy
