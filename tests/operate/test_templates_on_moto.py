"""The templates with everything that can be asked of them, on moto's CloudFormation.

Neither moto nor ministack makes a table's expiry, recovery and encryption from a template: those are held to AWS's
schemas by cfn-lint, and `deploy` looks after expiry and recovery itself when it notes the pipeline.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from cfnlint.decode.cfn_yaml import loads
from moto import mock_aws

from dynalake.deploy.templates import template

REGION = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield


def make(name: str, **parameters: str) -> None:
    boto3.client("cloudformation", REGION).create_stack(
        StackName="stack",
        TemplateBody=template(name),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )


def lake(**more: str) -> dict[str, Any]:
    make(
        "lake.yaml",
        **{
            "PipelineName": "orders",
            "LakeTableName": "dynalake.shop.orders",
            "FunctionRoleArn": "arn:aws:iam::111111111111:role/dynalake-orders-function",
            "ExternalId": "0123456789abcdef",
            "PartitionKeyName": "pk",
            "SortKeyName": "sk",
            **more,
        },
    )
    return dict(boto3.client("dynamodb", REGION).describe_table(TableName="dynalake.shop.orders")["Table"])


def test_a_lake_table_with_all_that_can_be_asked_for(aws: None) -> None:
    table = lake(
        SortKeyType="N",
        BillingMode="PROVISIONED",
        ReadCapacity="7",
        WriteCapacity="11",
        KmsKeyArn=KEY,
        DeletionProtection="false",
    )
    assert table["AttributeDefinitions"] == [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "N"},
    ]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 7
    assert table["ProvisionedThroughput"]["WriteCapacityUnits"] == 11
    assert table["DeletionProtectionEnabled"] == "false", "moto keeps the word"
    (name,) = boto3.client("iam", REGION).list_role_policies(RoleName="dynalake-orders-writer")["PolicyNames"]
    document: Any = boto3.client("iam", REGION).get_role_policy(
        RoleName="dynalake-orders-writer", PolicyName=name
    )["PolicyDocument"]
    # moto gives the words that Python has for it, and None for what is left out.
    statements = [each for each in ast.literal_eval(document)["Statement"] if each]
    (statement,) = [each for each in statements if each["Sid"] == "UseTheTablesKey"]
    assert statement["Resource"] == KEY
    assert statement["Condition"]["StringEquals"]["kms:ViaService"] == f"dynamodb.{REGION}.amazonaws.com"


def test_a_source_side_with_customer_keys(aws: None) -> None:
    """Everything that the stack makes and that can have a key has it, and the function may use what it needs of it."""
    resources: Any = loads(template("source.yaml"))["Resources"]
    of_the_stack = ["HasKmsKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]
    for name, key in (("Logs", "KmsKeyId"), ("Function", "KmsKeyArn"), ("AlarmTopic", "KmsMasterKeyId")):
        assert resources[name]["Properties"][key] == {"Fn::If": of_the_stack}, name
    (rule,) = resources["Quarantine"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    condition, with_key, _ = rule["ServerSideEncryptionByDefault"]["Fn::If"]
    assert condition == "HasKmsKey"
    assert with_key == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "KmsKeyArn"}}
    (policy,) = resources["FunctionRole"]["Properties"]["Policies"]
    found = {
        each["Fn::If"][1]["Sid"]: (each["Fn::If"][0], each["Fn::If"][1])
        for each in policy["PolicyDocument"]["Statement"]
        if "Fn::If" in each
    }
    for sid, condition, action, service in (
        ("DecryptTheHashKey", "HasHashKeyKmsKey", "kms:Decrypt", "secretsmanager"),
        ("EncryptWhatIsPutAway", "HasKmsKey", "kms:GenerateDataKey", "s3"),
    ):
        assert found[sid][0] == condition
        assert found[sid][1]["Action"] == action
        via = found[sid][1]["Condition"]["StringEquals"]["kms:ViaService"]["Fn::Sub"]
        assert via.startswith(f"{service}.")


def test_the_writer_may_use_the_key_of_the_shared_tables(aws: None) -> None:
    lake(SharedKmsKeyArn=KEY)
    document: Any = boto3.client("iam", REGION).get_role_policy(
        RoleName="dynalake-orders-writer", PolicyName="write-the-lake-table"
    )["PolicyDocument"]
    statements = {each["Sid"]: each for each in ast.literal_eval(document)["Statement"] if each}
    assert statements["UseTheSharedTablesKey"]["Resource"] == KEY
    assert "UseTheTablesKey" not in statements


def test_an_existing_lake_table_is_left_alone(aws: None) -> None:
    boto3.client("dynamodb", REGION).create_table(
        TableName="dynalake.shop.orders",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table = lake(LakeTable="existing")
    assert table["DeletionProtectionEnabled"] is False
    boto3.client("iam", REGION).get_role(RoleName="dynalake-orders-writer")


def test_the_shared_tables(aws: None) -> None:
    make("lake-shared.yaml", Prefix="ours.", KmsKeyArn=KEY)
    dynamodb = boto3.client("dynamodb", REGION)
    for name in ("ours.catalogue", "ours.checkpoints"):
        table: Any = dynamodb.describe_table(TableName=name)["Table"]
        assert table["DeletionProtectionEnabled"] == "true", "moto keeps the word"
