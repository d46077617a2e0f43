"""What `status` says of a deployed pipeline: its numbers are those which were put there."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dynalake.costs import DAYS_PER_MONTH, HOURS_PER_MONTH, Usage, monthly
from dynalake.deploy.names import quarantine_bucket
from dynalake.doctor.functions import ALARMS
from expectations.history import Check
from expectations.suites import Outcome
from tests.end_to_end.ministack import REGION
from tests.operate.land import LAKE, SOURCE, Land
from tests.waiting import until

NAME = "gauges"
BUCKET = quarantine_bucket(NAME, SOURCE, REGION)
TABLE = f"dynalake.{SOURCE}.{NAME}"


@pytest.fixture(scope="module")
def gauges(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME, deploy='lake = { BillingMode = "PROVISIONED", WriteCapacity = 40 }')
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    for number in range(3):
        land.put(NAME, {"pk": {"S": "a"}, "sk": {"N": str(number)}})
    until(lambda: len(land.rows(TABLE)) == 3, land.aws.tail)
    return land


def put(
    land: Land, account: str, namespace: str, dimension: tuple[str, str], ago_s: int, **metrics: float
) -> None:
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    land.client("cloudwatch", account).put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": dimension[0], "Value": dimension[1]}],
                "Timestamp": at,
                "Value": value,
            }
            for name, value in metrics.items()
        ],
    )


def put_check(land: Land, ago_s: int, *, ratio: float | None, behind_s: float | None) -> None:
    """What `dynalake check` keeps of a check."""
    check = Check(
        pipeline=NAME,
        at=int((datetime.now(UTC).timestamp() - ago_s) * 1000),
        outcomes=(Outcome("parity", "Source and lake are the same", "fail", "they are not"),),
        parity={"ratio": ratio, "tombstones": 4} if ratio is not None else None,
        freshness={"behind_s": behind_s} if behind_s is not None else None,
    )
    entry, content = check.to_entry()
    key = {"pipeline": {"S": TABLE}, "entry": {"S": entry}}
    land.client("dynamodb", LAKE).put_item(TableName="dynalake.checkpoints", Item={**key, **content})


def look(land: Land, *words: str) -> dict[str, Any]:
    answer = land.run("status", NAME, "--json", *words)
    assert answer.code == 0, answer.err
    (document,) = answer.document["pipelines"]
    return dict(document)


def test_before_any_number_is_known(gauges: Land) -> None:
    found = look(gauges)
    assert found["by_function"]
    assert found["state"] == "gap", "the rows from before the stream are not in the lake yet"
    assert found["unseen"] == []
    assert found["lag_s"] is None
    assert found["parity"] is None
    assert found["put_away"] == {"quarantine": 0, "failed": 0, "given_up": 0}
    assert len(found["alarms"]) == len(ALARMS)
    assert [gap["kind"] for gap in found["gaps"]] == ["not backfilled"]
    assert found["writes"]["provisioned"] == 40


def test_the_numbers_are_those_of_cloudwatch(gauges: Land) -> None:
    service, function = ("service", NAME), ("FunctionName", f"dynalake-{NAME}")
    for lag in (800, 900, 1000):
        put(gauges, SOURCE, "dynalake", service, 120, lag=lag)
    put(gauges, SOURCE, "dynalake", service, 4000, applied=3)
    put(gauges, SOURCE, "AWS/Lambda", function, 130, IteratorAge=2500)
    put(gauges, SOURCE, "AWS/Lambda", function, 7200, Invocations=1000, Duration=1_000_000)
    put_check(gauges, 9000, ratio=0.5, behind_s=7)
    put_check(gauges, 3600, ratio=0.25, behind_s=12)
    put_check(gauges, 60, ratio=None, behind_s=None)
    put(gauges, LAKE, "AWS/DynamoDB", ("TableName", TABLE), 120, ConsumedWriteCapacityUnits=600)
    put(gauges, SOURCE, "dynalake", service, 9000, quarantined=1)
    s3 = gauges.client("s3", SOURCE)
    (mapping,) = gauges.client("lambda", SOURCE).list_event_source_mappings(FunctionName=f"dynalake-{NAME}")[
        "EventSourceMappings"
    ]
    for key in (
        f"quarantine/{NAME}/a.json",
        f"quarantine/{NAME}/b.json",
        "quarantine/another/a.json",
        f"aws/lambda/{mapping['UUID']}/shard/x",
        "aws/lambda/another-mapping/shard/x",
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    found = look(gauges)
    assert found["tombstones"] == 4, "as the last check counted them"
    assert found["last_check"]["verdict"] == "fail"
    found = look(gauges, "--tombstones")
    assert found["unseen"] == []
    assert found["lag_s"]["p50"] == pytest.approx(0.9, abs=0.1)
    assert found["iterator_age_s"] == 2.5
    assert found["parity"]["value"] == 0.25, "the last check that compared rows"
    assert found["freshness"]["value"] == 12
    assert found["put_away"] == {"quarantine": 2, "failed": 0, "given_up": 1}
    assert found["alarms"]["quarantine"] == "ALARM"
    assert "given up" in [gap["kind"] for gap in found["gaps"]], "which Lambda tells nobody"
    assert found["writes"]["used"] == pytest.approx(10)
    assert found["writes"]["share"] == pytest.approx(0.25)
    assert found["tombstones"] == 0
    ago_s = datetime.now(UTC).timestamp() - found["last_change"] / 1000
    assert 4000 <= ago_s < 4400
    cost = found["monthly_usd"]
    assert cost["capacity"] == pytest.approx(HOURS_PER_MONTH * (25 * 0.00013 + 40 * 0.00065))
    # 1,000 invocations and 1,000 s at half a gigabyte, every day
    assert cost["function"] == pytest.approx(DAYS_PER_MONTH * (1000 * 0.2 / 1e6 + 500 * 0.0000133334))


def test_a_function_far_behind_is_catching_up_and_one_that_is_stopped_is_paused(gauges: Land) -> None:
    put(gauges, SOURCE, "AWS/Lambda", ("FunctionName", f"dynalake-{NAME}"), 10, IteratorAge=7_200_000)
    for ago_s in (70, 130, 190):
        put(gauges, SOURCE, "AWS/Lambda", ("FunctionName", f"dynalake-{NAME}"), ago_s, IteratorAge=7_200_000)
        put(gauges, SOURCE, "dynalake", ("service", NAME), ago_s, behind=7_200_000)
    found = look(gauges)
    assert found["state"] == "gap", "an open gap comes before being behind"
    assert found["alarms"]["iterator-age"] == "ALARM", "the alarm of the template, set off by its metric"
    functions = gauges.client("lambda", SOURCE)
    (mapping,) = functions.list_event_source_mappings(FunctionName=f"dynalake-{NAME}")["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    assert look(gauges)["state"] == "paused"
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def test_people_see_what_matters_first_and_within_80_columns(
    gauges: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = gauges.run("status", NAME)
    assert answer.code == 0, answer.err
    lines = [line for line in answer.out.splitlines() if line.strip()]
    assert lines[0].startswith(f"{NAME}: gap, with 2 gap(s), ")
    assert lines[0].endswith("ALARM(S)")
    table = [line for line in lines if not line.startswith("GAP")]
    assert max(map(len, table)) <= 80
    assert any(line.startswith("alarms") and "ON: " in line for line in table)


def test_watching_with_json_gives_a_document_a_line(gauges: Land) -> None:
    command = [sys.executable, "-m", "dynalake", "status", NAME, "--watch", "--every", "1", "--json"]
    with subprocess.Popen(
        [*command, "--config", str(gauges.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
    assert looks[1]["at"] > looks[0]["at"]
    assert looks[1]["pipelines"][0]["pipeline"] == NAME


def test_what_may_not_be_seen_is_named_and_the_rest_is_told(
    gauges: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = gauges.client("iam", SOURCE)
    iam.create_user(UserName="reader")
    allowed = {"Effect": "Allow", "Action": ["dynamodb:DescribeTable", "s3:ListBucket"], "Resource": "*"}
    iam.put_user_policy(
        UserName="reader",
        PolicyName="some",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    credentials = gauges.folder / "aws-credentials"
    before = credentials.read_text(encoding="utf-8")
    reader = f"[reader]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    credentials.write_text(before + reader, encoding="utf-8")
    config = gauges.config.read_text(encoding="utf-8")
    gauges.config.write_text(config.replace('profile = "shop"', 'profile = "reader"'), encoding="utf-8")
    try:
        found = look(gauges)
    finally:
        gauges.config.write_text(config, encoding="utf-8")
        credentials.write_text(before, encoding="utf-8")
    assert found["writes"]["used"] is not None
    assert found["put_away"]["quarantine"] == 2
    unseen = " ".join(found["unseen"])
    assert "the function" in unseen
    assert "the alarms" in unseen


def test_a_month_s_costs() -> None:
    used = monthly(
        Usage(table_bytes=10 << 30, write_units=1e6, read_units=2e6, alarms=12, metrics=8, dashboards=1)
    )
    assert used.parts["capacity"] == pytest.approx(DAYS_PER_MONTH * (0.625 + 0.25))
    assert used.parts["storage"] == pytest.approx(10 * 0.45)
    assert used.parts["alarms, metrics and logs"] == pytest.approx(1.2 + 2.4 + 3)
    assert used.usd == pytest.approx(sum(used.parts.values()))
