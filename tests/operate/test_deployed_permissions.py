"""Each permission that the templates give is needed, and all of them together suffice.

Sufficient: the function applies, notes the schema, puts records away and notes the gap, with the deployed roles and
nothing else. Needed: without one of them, that fails. The calls which Lambda itself makes in the function's role
(stream, failure destination, logs) ministack does not hold to the role; that they are those which AWS documents
is checked by name, and `test_deploy` shows that a record comes through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.operate.land import EXTERNAL_ID, LAKE, SOURCE, STRANGER, Land
from tests.waiting import until

NAME = "secured"
WRITER = f"dynalake-{NAME}-writer"
FUNCTION = f"dynalake-{NAME}-function"
WRITER_ARN = f"arn:aws:iam::{LAKE}:role/{WRITER}"
ALL = os.environ.get("DYNALAKE_TEST_EVERY_PERMISSION")
"""Set to try every permission anew, which takes a minute, and not only those that no faster test covers."""


@pytest.fixture(scope="module")
def secured(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    return land


def document(land: Land, account: str, role: str) -> dict[str, Any]:
    """What a role may do."""
    iam = land.client("iam", account)
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policy = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    return dict(policy if isinstance(policy, dict) else json.loads(policy))


def actions(statement: Mapping[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


@contextmanager
def without(land: Land, account: str, role: str, sid: str, action: str) -> Iterator[None]:
    """The role lacks one action of one statement for as long as the context lasts."""
    iam = land.client("iam", account)
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    before = document(land, account, role)
    statements = []
    for statement in before["Statement"]:
        kept = [each for each in actions(statement) if statement["Sid"] != sid or each != action]
        if kept:
            statements.append({**statement, "Action": kept})
    assert statements != [{**each, "Action": actions(each)} for each in before["Statement"]]
    policy = {**before, "Statement": statements}
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(policy))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(before))


def records(tag: str) -> list[dict[str, Any]]:
    """An item with an attribute never seen, and two that cannot be applied."""
    stream = f"arn:aws:dynamodb:eu-central-1:{SOURCE}:table/{NAME}/stream/2026-01-01T00:00:00.000"
    bodies = [
        {"pk": {"S": tag}, "sk": {"N": "1"}, f"new_{tag}": {"S": "x"}},
        {"pk": {"S": tag}, "sk": {"N": "2"}, "_lake_x": {"S": "?"}},
        {"pk": {"S": tag}, "sk": {"N": "3"}, "_lake_x": {"S": "?"}},
    ]
    return [
        {
            "eventID": f"{tag}{number}",
            "eventName": "INSERT",
            "eventSourceARN": stream,
            "dynamodb": {
                "ApproximateCreationDateTime": 1795000000,
                "Keys": {"pk": image["pk"], "sk": image["sk"]},
                "NewImage": image,
                "SequenceNumber": f"{1000 + number:021d}",
            },
        }
        for number, image in enumerate(bodies)
    ]


def beat(land: Land, tag: str) -> tuple[bool, dict[str, Any]]:
    """Let the function beat, in a container that knows nothing yet; whether it could, and what it answered."""
    functions, name = land.client("lambda", SOURCE), f"dynalake-{NAME}"
    known = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**known, "TAG": tag}}
    )
    until(
        lambda: functions.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful",
        land.aws.tail,
    )
    answer = functions.invoke(FunctionName=name, Payload=b'{"dynalake": "heartbeat"}')
    return not answer.get("FunctionError"), dict(json.loads(answer["Payload"].read()))


def health_entry(land: Land) -> dict[str, Any]:
    """What the lake knows of the pipeline's stream."""
    key = {"pipeline": {"S": land.pipeline(NAME).lake_table}, "entry": {"S": "health"}}
    item: dict[str, Any] = land.client("dynamodb", LAKE).get_item(TableName="dynalake.checkpoints", Key=key)
    return dict(item["Item"])


def invoke(land: Land, tag: str, *, variables: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Call the function, in a container that knows nothing yet; whether all was applied, and what it said."""
    functions = land.client("lambda", SOURCE)
    name = f"dynalake-{NAME}"
    known = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**known, "TAG": tag, **(variables or {})}}
    )
    until(
        lambda: functions.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful",
        land.aws.tail,
    )
    payload = json.dumps({"Records": records(tag)}).encode()
    answer = functions.invoke(FunctionName=name, Payload=payload)
    said = json.loads(answer["Payload"].read())
    if variables:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": known})
    return not answer.get("FunctionError") and said == {"batchItemFailures": []}, json.dumps(said)


def test_together_they_suffice(secured: Land) -> None:
    applied, said = invoke(secured, "first")
    assert applied, said
    table = secured.pipeline(NAME).lake_table
    assert [row["pk"]["S"] for row in secured.rows(table)] == ["first"]
    entries = {row["entry"]["S"] for row in secured.rows("dynalake.checkpoints")}
    assert "gap/given-up" in entries
    seen = {row["attribute"]["S"] for row in secured.rows("dynalake.catalogue") if row["table"]["S"] == table}
    assert "new_first" in seen
    bucket = secured.pipeline(NAME).quarantine.removeprefix("s3://")
    found = secured.client("s3", SOURCE).list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["Key"].split("/")[0] for entry in found} == {"quarantine"}


def test_no_record_leaves_the_account_although_the_bucket_s_name_was_taken(secured: Land) -> None:
    """Somebody else has a bucket that lets everybody in, and the role may write to buckets of that name."""
    foreign = "taken-by-a-stranger"
    stranger, iam = secured.client("s3", STRANGER), secured.client("iam", SOURCE)
    stranger.create_bucket(Bucket=foreign, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:*"}
    resources = [f"arn:aws:s3:::{foreign}", f"arn:aws:s3:::{foreign}/*"]
    stranger.delete_public_access_block(Bucket=foreign)
    stranger.put_bucket_policy(
        Bucket=foreign,
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [{**everybody, "Resource": resources}]}),
    )
    (name,) = iam.list_role_policies(RoleName=FUNCTION)["PolicyNames"]
    before = document(secured, SOURCE, FUNCTION)
    own = secured.pipeline(NAME).quarantine.removeprefix("s3://")
    there = json.loads(json.dumps(before).replace(own, foreign))
    lax = json.loads(json.dumps(there))
    for statement in lax["Statement"]:
        if statement["Sid"] in ("PutRecordsAway", "PutGivenUpBatchesAway", "FindTheBucket"):
            assert statement.pop("Condition") == {"StringEquals": {"aws:ResourceAccount": SOURCE}}
    variables = {"DYNALAKE_QUARANTINE": f"s3://{foreign}/quarantine"}
    try:
        iam.put_role_policy(RoleName=FUNCTION, PolicyName=name, PolicyDocument=json.dumps(there))
        applied, _ = invoke(secured, "kept", variables=variables)
        assert not applied
        assert "Contents" not in stranger.list_objects_v2(Bucket=foreign)
        # It was the condition that refused: without it the emulator, which knows no expected owner, lets it pass.
        iam.put_role_policy(RoleName=FUNCTION, PolicyName=name, PolicyDocument=json.dumps(lax))
        applied, said = invoke(secured, "leaked", variables=variables)
        assert applied, said
        assert stranger.list_objects_v2(Bucket=foreign)["Contents"]
    finally:
        iam.put_role_policy(RoleName=FUNCTION, PolicyName=name, PolicyDocument=json.dumps(before))


NEEDED = [
    (LAKE, WRITER, "ApplyChanges", "dynamodb:PutItem"),
    (LAKE, WRITER, "NoteTheSchema", "dynamodb:Query"),
    (LAKE, WRITER, "NoteTheSchema", "dynamodb:PutItem"),
    (LAKE, WRITER, "NoteGaps", "dynamodb:PutItem"),
    (LAKE, WRITER, "NoteGaps", "dynamodb:UpdateItem"),
    (SOURCE, FUNCTION, "BecomeTheWriter", "sts:AssumeRole"),
    (SOURCE, FUNCTION, "PutRecordsAway", "s3:PutObject"),
]
BY_LAMBDA = [
    ("ReadTheStream", "dynamodb:DescribeStream"),
    ("ReadTheStream", "dynamodb:GetRecords"),
    ("ReadTheStream", "dynamodb:GetShardIterator"),
    ("FindTheStream", "dynamodb:ListStreams"),
    ("PutGivenUpBatchesAway", "s3:PutObject"),
    ("FindTheBucket", "s3:ListBucket"),
    ("WriteLogs", "logs:CreateLogStream"),
    ("WriteLogs", "logs:PutLogEvents"),
]
"""AWS Lambda developer guide: "Execution role permissions" for DynamoDB streams, "Retain discarded records for a
DynamoDB event source in Lambda", and AWSLambdaBasicExecutionRole (whose CreateLogGroup the template's own log group
makes needless)."""


WITHOUT_A_RESOURCE = {"FindTheStream", "SeeItsOwnMappings", "SeeHowFarBehindItIs"}
"""Their actions know no resource (service authorization reference)."""

BY_THE_HEARTBEAT = [
    (LAKE, WRITER, "ReadItsHealth", "dynamodb:GetItem"),
    (SOURCE, FUNCTION, "SeeWhichStreamTheTableHas", "dynamodb:DescribeTable"),
    (SOURCE, FUNCTION, "SeeItsOwnMappings", "lambda:ListEventSourceMappings"),
    (SOURCE, FUNCTION, "SeeThatItExists", "lambda:GetFunctionConfiguration"),
    (SOURCE, FUNCTION, "SeeHowFarBehindItIs", "cloudwatch:GetMetricData"),
]


def test_together_they_suffice_for_the_heartbeat(secured: Land) -> None:
    beats, said = beat(secured, "beats")
    assert beats, said
    assert said == {"faults": []}
    table = secured.client("dynamodb", SOURCE).describe_table(TableName=NAME)["Table"]
    entry = health_entry(secured)
    assert entry["table_stream"]["S"] == entry["stream"]["S"] == table["LatestStreamArn"]
    assert entry["read_by"]["S"] == "function"


@contextmanager
def without_a_mapping(land: Land) -> Iterator[None]:
    """The function exists and nothing triggers it, which it can tell only by looking at itself."""
    functions = land.client("lambda", SOURCE)
    (found,) = functions.list_event_source_mappings(FunctionName=f"dynalake-{NAME}")["EventSourceMappings"]
    functions.delete_event_source_mapping(UUID=found["UUID"])
    names = (
        "EventSourceArn",
        "StartingPosition",
        "BatchSize",
        "BisectBatchOnFunctionError",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "ParallelizationFactor",
        "FunctionResponseTypes",
        "DestinationConfig",
    )
    try:
        yield
    finally:
        settings = {name: found[name] for name in names if name in found}
        functions.create_event_source_mapping(FunctionName=f"dynalake-{NAME}", **settings)


@pytest.mark.parametrize(("account", "role", "sid", "action"), BY_THE_HEARTBEAT)
def test_without_one_there_is_no_heartbeat(
    secured: Land, account: str, role: str, sid: str, action: str
) -> None:
    """It fails then and publishes nothing, and the alarm takes silence for the worst."""
    alone = without_a_mapping(secured) if sid == "SeeThatItExists" else nullcontext()
    with alone:
        with without(secured, account, role, sid, action):
            beats, said = beat(secured, f"no{sid}")
            assert not beats, said
        beats, said = beat(secured, f"again{sid}")
        assert beats, said


def test_there_are_no_others(secured: Land) -> None:
    def given(account: str, role: str) -> set[tuple[str, str]]:
        found = document(secured, account, role)["Statement"]
        allowed = [statement for statement in found if statement["Effect"] == "Allow"]
        return {(statement["Sid"], action) for statement in allowed for action in actions(statement)}

    needed = [*NEEDED, *BY_THE_HEARTBEAT]
    assert given(LAKE, WRITER) == {(sid, action) for account, _, sid, action in needed if account == LAKE}
    expected = {(sid, action) for account, _, sid, action in needed if account == SOURCE} | set(BY_LAMBDA)
    assert given(SOURCE, FUNCTION) == expected


def test_no_statement_reaches_further_than_its_own_things(secured: Land) -> None:
    for account, role in ((LAKE, WRITER), (SOURCE, FUNCTION)):
        for statement in document(secured, account, role)["Statement"]:
            wide = statement["Resource"] == "*"
            assert wide == (statement["Sid"] in WITHOUT_A_RESOURCE), statement


@pytest.mark.parametrize(("account", "role", "sid", "action"), NEEDED if ALL else NEEDED[::2])
def test_without_one_it_does_not_work(secured: Land, account: str, role: str, sid: str, action: str) -> None:
    tag = f"{sid}{action.rpartition(':')[2]}"
    if action == "dynamodb:PutItem" and sid == "NoteGaps":
        # An open gap is noted as found again, which is an update after a refused put: close it first.
        table = secured.client("dynamodb", LAKE)
        key = {"pipeline": {"S": secured.pipeline(NAME).lake_table}, "entry": {"S": "gap/given-up"}}
        table.delete_item(TableName="dynalake.checkpoints", Key=key)
    with without(secured, account, role, sid, action):
        applied, said = invoke(secured, tag)
        assert not applied, said
    applied, said = invoke(secured, f"{tag}again")
    assert applied, said


@contextmanager
def session_of_the_writer(land: Land) -> Iterator[Any]:
    """A DynamoDB client in the writer's role, as if the function's credentials had leaked."""
    iam = land.client("iam", LAKE)
    before = iam.get_role(RoleName=WRITER)["Role"]["AssumeRolePolicyDocument"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{LAKE}:root"}, "Action": "sts:AssumeRole"}
    opened = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.update_assume_role_policy(RoleName=WRITER, PolicyDocument=opened)
    try:
        key, secret = administrator(land, LAKE)
        credentials = land.aws.client("sts", key, secret).assume_role(
            RoleArn=WRITER_ARN, RoleSessionName="leaked"
        )["Credentials"]
        yield land.aws.client(
            "dynamodb",
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )
    finally:
        iam.update_assume_role_policy(RoleName=WRITER, PolicyDocument=json.dumps(before))


def administrator(land: Land, account: str) -> tuple[str, str]:
    """The access key of a user who may do everything that is his account's to allow."""
    iam = land.client("iam", account)
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName="administrator")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.put_user_policy(UserName="administrator", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="administrator")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def test_credentials_that_leak_reach_no_other_pipeline_s_entries_and_read_no_row(secured: Land) -> None:
    own = secured.pipeline(NAME).lake_table
    with session_of_the_writer(secured) as dynamodb:
        for table, partition, sort in (
            ("dynalake.catalogue", "table", "observation"),
            ("dynalake.checkpoints", "pipeline", "entry"),
        ):
            entry = {partition: {"S": own}, sort: {"S": "probe"}}
            dynamodb.put_item(TableName=table, Item=entry)
            with pytest.raises(ClientError, match="AccessDenied"):
                dynamodb.put_item(TableName=table, Item={**entry, partition: {"S": "dynalake.another.table"}})
            with pytest.raises(ClientError, match="AccessDenied"):
                dynamodb.delete_item(TableName=table, Key=entry)
            with pytest.raises(ClientError, match="AccessDenied"):
                dynamodb.scan(TableName=table)
            secured.client("dynamodb", LAKE).delete_item(TableName=table, Key=entry)
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.scan(TableName=own)
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.delete_item(TableName=own, Key={"pk": {"S": "first"}, "sk": {"N": "1"}})


@pytest.mark.parametrize("values", ["ALL_OLD", "UPDATED_OLD"])
def test_a_put_may_not_return_the_row_that_it_replaces(secured: Land, values: str) -> None:
    """What a put with a condition that fails may return is not IAM's to deny; docs/security.md says so."""
    own = secured.pipeline(NAME).lake_table
    with session_of_the_writer(secured) as dynamodb:
        row = {"pk": {"S": "returned"}, "sk": {"N": "1"}}
        dynamodb.put_item(TableName=own, Item={**row, "secret": {"S": "?"}})
        dynamodb.put_item(TableName=own, Item={**row, "secret": {"S": "?"}}, ReturnValues="NONE")
        with pytest.raises(ClientError, match="AccessDenied"):
            dynamodb.put_item(TableName=own, Item=row, ReturnValues=values)
        with pytest.raises(ClientError, match="ConditionalCheckFailed") as refused:
            dynamodb.put_item(
                TableName=own,
                Item=row,
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        returned: Any = refused.value.response
        assert "secret" in returned["Item"], "if this is denied one day, the threat model says too much"
    secured.client("dynamodb", LAKE).delete_item(TableName=own, Key=row)


def test_a_wrong_external_id_is_denied(secured: Land) -> None:
    applied, said = invoke(secured, "confused", variables={"DYNALAKE_EXTERNAL_ID": f"not-{EXTERNAL_ID}"})
    assert not applied
    assert "AccessDenied" in said


@pytest.mark.parametrize("account", [STRANGER, SOURCE, LAKE])
def test_others_are_denied_though_they_know_the_external_id(secured: Land, account: str) -> None:
    key, secret = administrator(secured, account)
    with pytest.raises(ClientError, match="AccessDenied"):
        secured.aws.client("sts", key, secret).assume_role(
            RoleArn=WRITER_ARN, RoleSessionName="stranger", ExternalId=EXTERNAL_ID
        )
