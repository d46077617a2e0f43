"""Each prerequisite broken in turn: the doctor names that one, with a remedy, and no other that stands alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dynalake.aws import Account, open_account
from dynalake.config import SideConfig
from dynalake.deploy.names import quarantine_bucket
from dynalake.doctor import Check, Patient, check_up
from dynalake.doctor.functions import ALARMS
from dynalake.errors import UserError
from tests.end_to_end.ministack import REGION
from tests.operate.land import EXTERNAL_ID, LAKE, SOURCE, STRANGER, Land

NAME = "wards"
BUCKET = quarantine_bucket(NAME, SOURCE, REGION)
TABLE = f"dynalake.{SOURCE}.{NAME}"
WRITER = f"dynalake-{NAME}-writer"


@pytest.fixture(scope="module")
def wards(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    topic = f"arn:aws:sns:{REGION}:{SOURCE}:dynalake-{NAME}-alarms"
    land.client("sns", SOURCE).subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{SOURCE}:q"
    )
    return land


@functools.cache
def account(side: str, config: SideConfig) -> Account | UserError:
    """Opened once for all tests: that is what takes time."""
    try:
        return open_account(side, config)
    except UserError as error:
        return error


def failures(land: Land) -> dict[str, Check]:
    """What fails, by side and prerequisite."""
    pipeline = land.pipeline(NAME)
    patient = Patient(NAME, pipeline, account("source", pipeline.source), account("lake", pipeline.lake), {})
    patient.code = land.zip.read_bytes
    return {f"{check.side} {check.what}": check for check in check_up(patient) if check.verdict == "fail"}


def test_a_healthy_pipeline_has_nothing(wards: Land) -> None:
    assert failures(wards) == {}
    answer = wards.run("doctor", NAME)
    lines = answer.out.splitlines()
    assert [line for line in lines[:-1] if not line.startswith(("ok ", "-  "))] == []
    assert lines[-1].endswith("none fails")
    assert len(lines) >= 20


def test_the_canary_goes_all_the_way(wards: Land) -> None:
    answer = wards.run("doctor", NAME, "--canary", "--json")
    assert answer.code == 0, answer.err
    canary = answer.document["canary"]
    assert 0 < canary["written_s"] < 60
    assert 0 < canary["deleted_s"] < 60
    assert wards.client("dynamodb", SOURCE).scan(TableName=NAME)["Items"] == []


Break = Callable[[Land], Callable[[], object]]
"""Breaks something, and gives what mends it."""


def config(**settings: str) -> Break:
    def broken(land: Land) -> Callable[[], object]:
        land.write_config(NAME, **settings)
        return lambda: land.write_config(NAME)

    return broken


def replaced(before: str, after: str) -> Break:
    def broken(land: Land) -> Callable[[], object]:
        text = land.config.read_text(encoding="utf-8")
        assert before in text
        land.config.write_text(text.replace(before, after), encoding="utf-8")
        return lambda: land.write_config(NAME)

    return broken


def reserved_attribute(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", SOURCE)
    key = {"pk": {"S": "odd"}, "sk": {"N": "1"}}
    dynamodb.put_item(TableName=NAME, Item={**key, "_lake_mine": {"S": "?"}})
    return lambda: dynamodb.delete_item(TableName=NAME, Key=key)


def time_to_live(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", LAKE)

    def switch(on: bool) -> None:
        dynamodb.update_time_to_live(
            TableName=TABLE, TimeToLiveSpecification={"Enabled": on, "AttributeName": "_lake_expires"}
        )

    switch(False)
    return lambda: switch(True)


def recovery(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", LAKE)

    def switch(on: bool) -> None:
        dynamodb.update_continuous_backups(
            TableName=TABLE, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": on}
        )

    switch(False)
    return lambda: switch(True)


def protection(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", LAKE)
    dynamodb.update_table(TableName=TABLE, DeletionProtectionEnabled=False)
    return lambda: dynamodb.update_table(TableName=TABLE, DeletionProtectionEnabled=True)


def capacity(land: Land) -> Callable[[], object]:
    """Both tables provisioned, the lake's with less."""
    for account, table, units in ((SOURCE, NAME, 50), (LAKE, TABLE, 5)):
        land.client("dynamodb", account).update_table(
            TableName=table,
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": units},
        )

    def mend() -> None:
        for account, table in ((SOURCE, NAME), (LAKE, TABLE)):
            land.client("dynamodb", account).update_table(TableName=table, BillingMode="PAY_PER_REQUEST")

    return mend


def forgotten(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", LAKE)
    key = {"pipeline": {"S": TABLE}, "entry": {"S": "stream"}}
    item = dynamodb.get_item(TableName="dynalake.checkpoints", Key=key)["Item"]
    dynamodb.delete_item(TableName="dynalake.checkpoints", Key=key)
    return lambda: dynamodb.put_item(TableName="dynalake.checkpoints", Item=item)


def another_stream_noted(land: Land) -> Callable[[], object]:
    dynamodb = land.client("dynamodb", LAKE)
    key = {"pipeline": {"S": TABLE}, "entry": {"S": "stream"}}
    item = dynamodb.get_item(TableName="dynalake.checkpoints", Key=key)["Item"]
    dynamodb.put_item(
        TableName="dynalake.checkpoints", Item={**item, "arn": {"S": item["arn"]["S"][:-3] + "999"}}
    )
    return lambda: dynamodb.put_item(TableName="dynalake.checkpoints", Item=item)


def trust(land: Land) -> Callable[[], object]:
    """The whole source account is trusted, without an ExternalId."""
    iam = land.client("iam", LAKE)
    before = iam.get_role(RoleName=WRITER)["Role"]["AssumeRolePolicyDocument"]
    open_ = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{SOURCE}:root"},
        "Action": "sts:AssumeRole",
    }
    iam.update_assume_role_policy(
        RoleName=WRITER, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [open_]})
    )
    return lambda: iam.update_assume_role_policy(RoleName=WRITER, PolicyDocument=json.dumps(before))


def role(land: Land) -> Callable[[], object]:
    iam, name = land.client("iam", SOURCE), f"dynalake-{NAME}-function"
    document = iam.get_role_policy(RoleName=name, PolicyName="replicate")["PolicyDocument"]
    iam.delete_role_policy(RoleName=name, PolicyName="replicate")
    return lambda: iam.put_role_policy(
        RoleName=name, PolicyName="replicate", PolicyDocument=json.dumps(document)
    )


def mapping(**change: Any) -> Break:
    def broken(land: Land) -> Callable[[], object]:
        functions = land.client("lambda", SOURCE)
        (found,) = functions.list_event_source_mappings(FunctionName=f"dynalake-{NAME}")[
            "EventSourceMappings"
        ]
        functions.update_event_source_mapping(UUID=found["UUID"], **change)
        whole = {
            "Enabled": True,
            "BisectBatchOnFunctionError": True,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": found["DestinationConfig"],
            "MaximumRetryAttempts": -1,
            "MaximumRecordAgeInSeconds": 72000,
            "FilterCriteria": {"Filters": []},
        }
        return lambda: functions.update_event_source_mapping(UUID=found["UUID"], **whole)

    return broken


def own_mapping(land: Land) -> dict[str, Any]:
    (found,) = land.client("lambda", SOURCE).list_event_source_mappings(FunctionName=f"dynalake-{NAME}")[
        "EventSourceMappings"
    ]
    return found  # type: ignore[no-any-return]


def make_mapping(land: Land, like: dict[str, Any], **change: Any) -> Callable[[], object]:
    """A mapping of the function like this one, but for the change; gives what deletes it."""
    functions = land.client("lambda", SOURCE)
    names = {
        "EventSourceArn",
        "FunctionName",
        "StartingPosition",
        "BatchSize",
        "BisectBatchOnFunctionError",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "ParallelizationFactor",
        "FunctionResponseTypes",
        "DestinationConfig",
    }
    settings = {**like, "FunctionName": f"dynalake-{NAME}", **change}
    made = functions.create_event_source_mapping(**{name: settings[name] for name in names & settings.keys()})
    return lambda: functions.delete_event_source_mapping(UUID=made["UUID"])


def mapping_made_anew(**change: Any) -> Break:
    def broken(land: Land) -> Callable[[], object]:
        whole = own_mapping(land)
        land.client("lambda", SOURCE).delete_event_source_mapping(UUID=whole["UUID"])
        delete = make_mapping(land, whole, **change)
        return lambda: (delete(), make_mapping(land, whole))

    return broken


def second_trigger(land: Land) -> Callable[[], object]:
    dynamodb, table = land.client("dynamodb", SOURCE), f"{NAME}-other"
    land.make_source(table)
    stream = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    delete = make_mapping(land, own_mapping(land), EventSourceArn=stream)
    return lambda: (delete(), dynamodb.delete_table(TableName=table))


def stream_off(land: Land) -> Callable[[], object]:
    """The table's stream is off; the mapping is still there and Enabled."""
    dynamodb, before = land.client("dynamodb", SOURCE), own_mapping(land)
    dynamodb.update_table(TableName=NAME, StreamSpecification={"StreamEnabled": False})
    return lambda: on_again(land, before)


def stream_off_and_on(land: Land) -> Callable[[], object]:
    """The mapping reads the stream that the table had before."""
    mend = stream_off(land)
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    land.client("dynamodb", SOURCE).update_table(TableName=NAME, StreamSpecification=specification)
    return mend


def on_again(land: Land, before: dict[str, Any]) -> None:
    """The stream on, the mapping on it, and the lake's note of it."""
    dynamodb = land.client("dynamodb", SOURCE)
    table = dynamodb.describe_table(TableName=NAME)["Table"]
    if not table.get("StreamSpecification", {}).get("StreamEnabled"):
        specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        dynamodb.update_table(TableName=NAME, StreamSpecification=specification)
        table = dynamodb.describe_table(TableName=NAME)["Table"]
    land.client("lambda", SOURCE).delete_event_source_mapping(UUID=before["UUID"])
    make_mapping(land, before, EventSourceArn=table["LatestStreamArn"])
    land.client("dynamodb", LAKE).update_item(
        TableName="dynalake.checkpoints",
        Key={"pipeline": {"S": TABLE}, "entry": {"S": "stream"}},
        UpdateExpression="SET arn = :arn",
        ExpressionAttributeValues={":arn": {"S": table["LatestStreamArn"]}},
    )


def concurrency(land: Land) -> Callable[[], object]:
    functions, name = land.client("lambda", SOURCE), f"dynalake-{NAME}"
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    return lambda: functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=20)


def public(land: Land) -> Callable[[], object]:
    s3 = land.client("s3", SOURCE)
    before = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    s3.put_public_access_block(
        Bucket=BUCKET, PublicAccessBlockConfiguration={**before, "BlockPublicPolicy": False}
    )
    return lambda: s3.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=before)


def alarm(land: Land) -> Callable[[], object]:
    cloudwatch, name = land.client("cloudwatch", SOURCE), f"dynalake-{NAME}-{ALARMS[0]}"
    cloudwatch.disable_alarm_actions(AlarmNames=[name])
    return lambda: cloudwatch.enable_alarm_actions(AlarmNames=[name])


def listener(land: Land) -> Callable[[], object]:
    sns = land.client("sns", SOURCE)
    topic = f"arn:aws:sns:{REGION}:{SOURCE}:dynalake-{NAME}-alarms"
    (found,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
    return lambda: sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=found["Endpoint"])


LAKE_PROFILE = 'profile = "lake"'


@pytest.mark.parametrize(
    ("what", "break_", "said"),
    [
        ("source credentials", replaced('profile = "shop"', 'profile = "stranger"'), STRANGER),
        ("lake credentials", replaced(LAKE_PROFILE, 'profile = "stranger"'), STRANGER),
        ("source table", replaced(f'table = "{NAME}"', 'table = "wrads"'), "does not exist"),
        ("source attribute names", reserved_attribute, "_lake_mine"),
        ("source policy", config(more='policy = { total = "hash" }\n'), "hash"),
        ("lake shared tables", config(lake=', prefix = "other."'), "other.catalogue is missing"),
        ("lake table", config(lake=', table = "other.table"'), "other.table is missing"),
        ("lake tombstones' expiry", time_to_live, "is off"),
        ("lake recovery", recovery, "is off"),
        ("lake deletion protection", protection, "is off"),
        ("lake capacity", capacity, "the source has 50"),
        ("lake pipeline is noted", forgotten, "does not know"),
        ("lake pipeline is noted", another_stream_noted, "switched off and on"),
        ("lake writer's trust", trust, "alone"),
        ("lake writer's trust", replaced(EXTERNAL_ID, f"{EXTERNAL_ID}-more"), "ExternalId"),
        ("source function's role", role, "may do nothing"),
        ("source function", config(more='policy = { total = "drop" }\n'), "DYNALAKE_POLICY"),
        ("source mapping", mapping(Enabled=False), "Disabled"),
        ("source mapping", mapping(FunctionResponseTypes=[]), "partial batch responses"),
        ("source mapping", mapping(BisectBatchOnFunctionError=False), "bisecting"),
        ("source mapping", mapping(DestinationConfig={"OnFailure": {}}), "failure destination"),
        ("source mapping", mapping(MaximumRetryAttempts=3), "after 3 retries"),
        ("source mapping", mapping(MaximumRecordAgeInSeconds=60), "60 s"),
        ("source mapping", mapping(MaximumRecordAgeInSeconds=-1), "24 hours"),
        ("source mapping", mapping(FilterCriteria={"Filters": [{"Pattern": "{}"}]}), "FilterCriteria"),
        ("source mapping", mapping_made_anew(StartingPosition="LATEST"), "LATEST"),
        ("source mapping", second_trigger, "second trigger"),
        ("source mapping", stream_off, "stream is off"),
        ("source mapping", stream_off_and_on, "the table's stream is"),
        ("source stream", stream_off, "is off"),
        ("source concurrency", concurrency, "1 reserved"),
        ("source quarantine", public, "may be made public"),
        ("source alarms", alarm, f"switched off: {ALARMS[0]}"),
        ("source alarms' listeners", listener, "nobody listens"),
    ],
)
def test_one_thing_broken(wards: Land, what: str, break_: Break, said: str) -> None:
    with broken(wards, break_):
        found = failures(wards)
        assert what in found, found
        assert said in found[what].detail
        remedy = found[what].remedy
        assert remedy
        if "aws " in remedy:
            profile = "lake" if what.startswith("lake") else "shop"
            assert f"--profile {profile} --region {REGION}" in remedy


@contextmanager
def broken(land: Land, break_: Break) -> Iterator[None]:
    mend = break_(land)
    try:
        yield
    finally:
        mend()


@pytest.mark.parametrize("stream", [None, "KEYS_ONLY"])
def test_a_stream_that_carries_no_images(wards: Land, stream: str | None) -> None:
    table = f"{NAME}-{stream or 'off'}".lower()
    wards.make_source(table, stream)
    with broken(wards, replaced(f'table = "{NAME}"', f'table = "{table}"')):
        found = failures(wards)
        assert ("is off" if stream is None else stream) in found["source stream"].detail
        assert found["source stream"].remedy


def test_what_was_broken_is_mended(wards: Land) -> None:
    """So each of the above failed for its own reason, and for no other's."""
    assert failures(wards) == {}


def test_all_of_it_missing_is_no_traceback(wards: Land) -> None:
    """A configuration whose function, bucket and alarms were never made."""
    with broken(wards, replaced(f"[pipelines.{NAME}", "[pipelines.nobody")):
        answer = wards.run("doctor", "nobody", "--json")
    assert answer.code == 1
    failed = {check["what"]: check for check in answer.document["checks"] if check["verdict"] == "fail"}
    assert {"function", "function's role", "writer's trust", "alarms"} <= failed.keys()
    assert all(check["remedy"] for check in failed.values())


def test_a_worker_s_pipeline_needs_no_function(wards: Land) -> None:
    text = wards.config.read_text(encoding="utf-8")
    wards.config.write_text(text.partition(f"[pipelines.{NAME}.deploy]")[0], encoding="utf-8")
    try:
        answer = wards.run("doctor", NAME, "--json")
    finally:
        wards.write_config(NAME)
    assert answer.code == 0, answer.out
    skipped = [check["what"] for check in answer.document["checks"] if check["verdict"] == "skip"]
    assert {"function", "mapping", "alarms"} <= set(skipped)
