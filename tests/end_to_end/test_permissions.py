"""Who may write to the lake, and that the function needs each of its permissions.

That the permissions suffice, `test_replication` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.end_to_end.estate import (
    BUCKET,
    CATALOGUE,
    CHECKPOINTS,
    LAKE,
    SOURCE,
    STRANGER,
    Estate,
    Permission,
    Pipeline,
    lake_permissions,
    source_permissions,
)

SESSION = "a-session"

Clients = Callable[[str], Any]
"""Makes the client of a service."""


def put_some(pipeline: Pipeline) -> list[Mapping[str, Any]]:
    """Records of one item that can be applied, and of two that cannot."""
    pipeline.put({"pk": {"S": "good"}, "sk": {"N": "1"}})
    for number in (2, 3):
        pipeline.put({"pk": {"S": "bad"}, "sk": {"N": str(number)}, "_lake_x": {"S": "?"}})
    return pipeline.records()


@pytest.fixture(scope="module")
def trusted(estate: Estate) -> Pipeline:
    """A pipeline that works, so that what is denied to others is not denied to all."""
    pipeline = Pipeline(estate, "trusted")
    assert pipeline.invoke(put_some(pipeline)).applied_all
    assert len(pipeline.lake()) == 1
    return pipeline


def assume(estate: Estate, account: str, pipeline: Pipeline, **request: Any) -> Any:
    """Assume the lake's role as the administrator of an account."""
    key, secret = estate.administrator(account)
    return estate.aws.client("sts", key, secret).assume_role(
        RoleArn=pipeline.lake_role_arn, RoleSessionName=SESSION, **request
    )


def test_a_third_account_is_denied_though_it_knows_the_external_id(estate: Estate, trusted: Pipeline) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(estate, STRANGER, trusted, ExternalId=trusted.external_id)


def test_others_of_the_source_account_are_denied(estate: Estate, trusted: Pipeline) -> None:
    """The lake's role trusts the function's role, not the account."""
    with pytest.raises(ClientError, match="AccessDenied"):
        assume(estate, SOURCE, trusted, ExternalId=trusted.external_id)


@pytest.mark.parametrize("external_id", ["not-that-of-the-function", ""])
def test_a_function_with_another_external_id_is_denied(estate: Estate, external_id: str) -> None:
    pipeline = Pipeline(
        estate,
        f"confused{len(external_id)}",
        environment={"DYNALAKE_EXTERNAL_ID": external_id},
    )
    answer = pipeline.invoke(put_some(pipeline))
    assert answer.error
    assert "AccessDenied" in str(answer.payload)
    assert pipeline.lake() == {}


def test_a_role_that_trusts_another_is_no_help(estate: Estate) -> None:
    pipeline = Pipeline(estate, "betrayed", trusted=f"arn:aws:iam::{STRANGER}:root")
    answer = pipeline.invoke(put_some(pipeline))
    assert answer.error
    assert "AccessDenied" in str(answer.payload)
    assert pipeline.lake() == {}


def of_the_function(estate: Estate, account: str, name: str, permissions: list[Permission]) -> Clients:
    """Clients in a role of these permissions, which the account's administrator may assume."""
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "sts:AssumeRole",
    }
    arn = estate.role(account, name, {"Version": "2012-10-17", "Statement": [trust]}, permissions)
    key, secret = estate.administrator(account)
    credentials = estate.aws.client("sts", key, secret).assume_role(RoleArn=arn, RoleSessionName=SESSION)[
        "Credentials"
    ]
    return lambda service: estate.aws.client(
        service, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]
    )


def test_the_lake_role_may_not_read_or_delete_rows(estate: Estate, trusted: Pipeline) -> None:
    """Credentials that leak from the source account can neither read the lake nor take from it."""
    dynamodb = of_the_function(estate, LAKE, "leaked", lake_permissions(trusted.lake_table))("dynamodb")
    row = {"pk": {"S": "good"}, "sk": {"N": "1"}}
    for call, more in (
        (dynamodb.get_item, {"Key": row}),
        (dynamodb.scan, {}),
        (dynamodb.delete_item, {"Key": row}),
        (dynamodb.update_item, {"Key": row}),
        (dynamodb.delete_table, {}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call(TableName=trusted.lake_table, **more)
    dynamodb.put_item(TableName=trusted.lake_table, Item={"pk": {"S": "probe"}, "sk": {"N": "0"}})


# Each statement is needed: by the function, as far as it is the function that asks


def is_for(action: str, resource: str) -> Callable[[Permission], bool]:
    return lambda permission: permission.action == action and resource in permission.resource


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("nolake", is_for("dynamodb:PutItem", "nolake")),
        ("noquery", is_for("dynamodb:Query", CATALOGUE)),
        ("nocatalogue", is_for("dynamodb:PutItem", CATALOGUE)),
        ("norole", is_for("sts:AssumeRole", "")),
    ],
)
def test_without_this_permission_the_batch_fails_and_comes_again(
    estate: Estate, name: str, missing: Callable[[Permission], bool]
) -> None:
    pipeline = Pipeline(estate, name, without=missing)
    answer = pipeline.invoke(put_some(pipeline))
    assert answer.error
    assert "AccessDenied" in str(answer.payload)


@pytest.mark.parametrize(
    ("name", "missing", "failed"),
    [
        ("nobucket", is_for("s3:PutObject", ""), 1),
        ("nogap", is_for("dynamodb:PutItem", CHECKPOINTS), 1),
        ("nogapagain", is_for("dynamodb:UpdateItem", CHECKPOINTS), 2),
    ],
)
def test_without_this_permission_what_cannot_apply_is_not_passed_over(
    estate: Estate, name: str, missing: Callable[[Permission], bool], failed: int
) -> None:
    """The record that could not be put away, or not be noted, is the one that is reported."""
    pipeline = Pipeline(estate, name, without=missing)
    records = put_some(pipeline)
    answer = pipeline.invoke(records)
    assert not answer.error
    number = records[failed]["dynamodb"]["SequenceNumber"]
    assert answer.payload == {"batchItemFailures": [{"itemIdentifier": number}]}
    assert len(pipeline.lake()) == 1, "what can be applied is"


# And by Lambda on the function's behalf. ministack lets its own event source mapping and its own logs do all, so
# what is shown is that this statement, and none of the others, allows the call. For the three that read the stream
# it cannot be shown: ministack knows no stream as a resource. They are those of AWS's own policy
# (AWSLambdaDynamoDBExecutionRole), held to one stream.

ON_BEHALF: Mapping[str, Callable[[Clients, str], Any]] = {
    "s3:ListBucket": lambda aws, _: aws("s3").list_objects_v2(Bucket=BUCKET, MaxKeys=1),
    "dynamodb:ListStreams": lambda aws, _: aws("dynamodbstreams").list_streams(),
    "logs:CreateLogGroup": lambda aws, group: aws("logs").create_log_group(logGroupName=f"{group}-more"),
    "logs:CreateLogStream": lambda aws, group: aws("logs").create_log_stream(
        logGroupName=group, logStreamName="probe"
    ),
    "logs:PutLogEvents": lambda aws, group: aws("logs").put_log_events(
        logGroupName=group, logStreamName="more", logEvents=[{"timestamp": 1, "message": "x"}]
    ),
}


def test_each_statement_alone_allows_its_call(estate: Estate, trusted: Pipeline) -> None:
    group = f"/aws/lambda/{trusted.name}"
    estate.aws.client("logs", SOURCE).create_log_stream(logGroupName=group, logStreamName="more")
    everything = source_permissions(trusted.name, trusted.stream_arn, trusted.lake_role_arn)
    for action, call in ON_BEHALF.items():
        name = action.replace(":", "-")
        alone = [permission for permission in everything if permission.action == action]
        others = [permission for permission in everything if permission.action != action]
        assert len(alone) == 1
        with pytest.raises(ClientError, match="AccessDenied"):
            call(of_the_function(estate, SOURCE, f"without-{name}", others), group)
        call(of_the_function(estate, SOURCE, f"only-{name}", alone), group)
