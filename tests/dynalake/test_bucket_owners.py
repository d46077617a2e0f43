"""Buckets whose names anybody can guess: only the expected account's are used, and only the right code is deployed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from cfnlint.decode.cfn_yaml import loads

from dynalake.aws import Account
from dynalake.config import load_config, parse_config
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT
from dynalake.deploy.buckets import wrong_settings
from dynalake.deploy.code import key_of
from dynalake.deploy.deployer import Deployer
from dynalake.deploy.names import code_bucket, quarantine_bucket
from dynalake.deploy.remove import remove_source
from dynalake.deploy.templates import template
from dynalake.doctor.buckets import of_buckets
from dynalake.doctor.checkup import FailedError, Patient, WarnedError
from dynalake.errors import ConfigError, DeployError
from dynalake.pipeline import Pipeline
from ingest.errors import QuarantineError
from ingest.lambda_function import _quarantine_place, build
from ingest.sessions import client_config
from lake.errors import ExportError
from lake.export.target import s3_target
from queries.athena import AthenaSettings, stream_on_athena
from queries.errors import EngineError
from tests.dynalake.accounts import ROLE, command, make_source, open_pipeline, write_config
from tests.stubs.owners import Request, client_of, owners_enforced

STRANGER = "222222222222"
CODE = b"the zip that was built here"
FOREIGN = b"the zip of somebody else"
QUARANTINE = quarantine_bucket("orders", SOURCE_ACCOUNT, REGION)
CODE_BUCKET = code_bucket(SOURCE_ACCOUNT, REGION)
DEPLOY = '{ external_id = "orders-and-nothing-else" }'
KEY = f"arn:aws:kms:{REGION}:{SOURCE_ACCOUNT}:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture
def requests(aws: None) -> Iterator[list[Request]]:
    with owners_enforced() as requests:
        yield requests


@pytest.fixture
def pipeline(requests: list[Request], tmp_path: Path) -> Pipeline:
    path = write_config(tmp_path, deploy=DEPLOY)
    path.write_text(path.read_text().replace(str(tmp_path / "quarantine"), f"s3://{QUARANTINE}/put-away"))
    pipeline = open_pipeline(path)
    make_source(pipeline)
    return pipeline


def deployer(pipeline: Pipeline) -> Deployer:
    return Deployer("orders", pipeline.config, *accounts(pipeline))


def accounts(pipeline: Pipeline) -> tuple[Account, Account]:
    return Account("source", pipeline.config.source), Account("lake", pipeline.config.lake)


def squat(*buckets: str) -> Any:
    """Take the names first, as somebody else who lets everybody in."""
    s3 = client_of(STRANGER)
    for bucket in buckets:
        s3.create_bucket(Bucket=bucket)
    return s3


# The function's code


def test_code_is_not_deployed_from_somebody_else_s_bucket(pipeline: Pipeline) -> None:
    squat(CODE_BUCKET).put_object(Bucket=CODE_BUCKET, Key=key_of(CODE), Body=FOREIGN)
    with pytest.raises(DeployError, match="another account") as refused:
        deployer(pipeline).bring(CODE)
    assert "deploy.code_bucket" in refused.value.remedy
    assert client_of(STRANGER).get_object(Bucket=CODE_BUCKET, Key=key_of(CODE))["Body"].read() == FOREIGN


@pytest.mark.parametrize("stored", [FOREIGN, CODE + b"and more", CODE[:-1], b""])
def test_a_foreign_zip_under_the_right_name_is_replaced_by_a_new_version(
    pipeline: Pipeline, stored: bytes
) -> None:
    deploying = deployer(pipeline)
    first = deploying.bring(CODE)
    s3 = client_of(SOURCE_ACCOUNT)
    s3.put_object(Bucket=CODE_BUCKET, Key=key_of(CODE), Body=stored)
    (plan,) = (each for each in deploying.plans("source", CODE) if "CodeKey" in each.parameters)
    assert plan.parameters["CodeVersion"] == "", "what is stored now is not the code"
    version = deploying.bring(CODE)
    assert version not in ("", first)
    found = s3.get_object(Bucket=CODE_BUCKET, Key=key_of(CODE), VersionId=version)
    assert found["Body"].read() == CODE
    (plan,) = (each for each in deploying.plans("source", CODE) if "CodeKey" in each.parameters)
    assert plan.parameters["CodeVersion"] == version
    assert deploying.bring(CODE) == version, "what is there already is not uploaded again"


def test_the_function_is_made_from_the_pinned_version() -> None:
    code = loads(template("source.yaml"))["Resources"]["Function"]["Properties"]["Code"]
    assert code["S3ObjectVersion"] == {
        "Fn::If": ["HasCodeVersion", {"Ref": "CodeVersion"}, {"Ref": "AWS::NoValue"}]
    }


def test_the_code_bucket_that_is_made_is_private_versioned_and_reached_by_tls_alone(
    pipeline: Pipeline,
) -> None:
    deployer(pipeline).bring(CODE)
    s3 = client_of(SOURCE_ACCOUNT)
    assert list(wrong_settings(s3, CODE_BUCKET, REGION)) == []
    block = s3.get_public_access_block(Bucket=CODE_BUCKET)["PublicAccessBlockConfiguration"]
    assert all(block.values())
    assert s3.get_bucket_versioning(Bucket=CODE_BUCKET)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=CODE_BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=CODE_BUCKET)["Policy"])["Statement"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    (rule,) = s3.get_bucket_ownership_controls(Bucket=CODE_BUCKET)["OwnershipControls"]["Rules"]
    assert rule["ObjectOwnership"] == "BucketOwnerEnforced"


def test_a_code_bucket_of_an_earlier_release_gets_what_it_lacks_and_keeps_what_it_has(
    pipeline: Pipeline,
) -> None:
    s3 = client_of(SOURCE_ACCOUNT)
    s3.create_bucket(Bucket=CODE_BUCKET)
    mine = {"Effect": "Allow", "Principal": {"AWS": STRANGER}, "Action": "s3:GetObject", "Resource": "*"}
    s3.put_bucket_policy(
        Bucket=CODE_BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [mine]})
    )
    s3.put_object(Bucket=CODE_BUCKET, Key=key_of(CODE), Body=CODE)
    assert deployer(pipeline).bring(CODE), "an object without a version cannot be pinned"
    assert list(wrong_settings(s3, CODE_BUCKET, REGION)) == []
    assert mine in json.loads(s3.get_bucket_policy(Bucket=CODE_BUCKET)["Policy"])["Statement"]


def test_a_bucket_that_the_user_chose_keeps_its_settings(pipeline: Pipeline) -> None:
    s3 = client_of(SOURCE_ACCOUNT)
    s3.create_bucket(Bucket="our-artifacts")
    chosen = pipeline.config.deploy.model_copy(update={"code_bucket": "our-artifacts"})
    config = pipeline.config.model_copy(update={"deploy": chosen})
    deploying = Deployer("orders", config, *accounts(pipeline))
    assert deploying.bring(CODE) == ""
    assert "Status" not in s3.get_bucket_versioning(Bucket="our-artifacts")
    (plan,) = (each for each in deploying.plans("source", CODE) if "CodeKey" in each.parameters)
    assert plan.parameters["CodeVersion"] == ""


# Quarantine and dead letters


def test_no_record_is_put_into_somebody_else_s_bucket(pipeline: Pipeline) -> None:
    stranger = squat(QUARANTINE)
    with pytest.raises(QuarantineError, match="AccessDenied") as refused:
        pipeline.quarantine().keep_record("label/1", {"pk": {"S": "a person"}}, "a reason", 1)
    assert "source.bucket_owners" in refused.value.remedy
    assert stranger.list_objects_v2(Bucket=QUARANTINE)["KeyCount"] == 0


def test_the_function_puts_no_record_into_somebody_else_s_bucket(requests: list[Request]) -> None:
    stranger = squat(QUARANTINE)
    place = _quarantine_place(f"s3://{QUARANTINE}/q", boto3.Session(), client_config(), SOURCE_ACCOUNT)
    with pytest.raises(QuarantineError):
        place.put("label/1", {"record": {}})
    assert stranger.list_objects_v2(Bucket=QUARANTINE)["KeyCount"] == 0


def test_the_function_expects_the_account_of_its_stream(pipeline: Pipeline, requests: list[Request]) -> None:
    stranger = squat(QUARANTINE)
    pipeline.setup()
    arn = f"arn:aws:dynamodb:{REGION}:{SOURCE_ACCOUNT}:table/orders/stream/2026-01-01T00:00:00.000"
    function = build(
        {
            "DYNALAKE_PIPELINE": "orders",
            "DYNALAKE_STREAM_ARN": arn,
            "DYNALAKE_LAKE_TABLE": pipeline.config.lake_table,
            "DYNALAKE_CATALOGUE_TABLE": "dynalake.catalogue",
            "DYNALAKE_CHECKPOINT_TABLE": "dynalake.checkpoints",
            "DYNALAKE_LAKE_REGION": REGION,
            "DYNALAKE_LAKE_ROLE_ARN": ROLE.format(LAKE_ACCOUNT),
            "DYNALAKE_EXTERNAL_ID": "orders-and-nothing-else",
            "DYNALAKE_QUARANTINE": f"s3://{QUARANTINE}/q",
            "DYNALAKE_KEY_ATTRIBUTES": '["pk"]',
            "DYNALAKE_WRITER": "plain",
        },
        boto3.Session(),
    )
    spoilt = {"eventSourceARN": arn, "eventName": "?", "dynamodb": {"SequenceNumber": "1"}}
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    answer = function({"Records": [spoilt]}, context)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}, "it comes again, and is not lost"
    puts = [request for request in requests if request.operation == "PutObject"]
    assert {(request.bucket, request.owner) for request in puts} == {(QUARANTINE, SOURCE_ACCOUNT)}
    assert stranger.list_objects_v2(Bucket=QUARANTINE)["KeyCount"] == 0


@pytest.mark.parametrize("owner", ["", "11111111111", "arn:aws:iam::111111111111:root"])
def test_an_owner_that_is_no_account_is_refused(owner: str) -> None:
    side = {"account": LAKE_ACCOUNT, "region": REGION}
    source = {"table": "orders", **side, "bucket_owners": {"our-lake": owner}}
    with pytest.raises(ConfigError, match="bucket_owners"):
        parse_config({"pipelines": {"orders": {"source": source, "lake": side}}}, "a test")


@pytest.mark.parametrize(("owner", "expected"), [(None, {}), (STRANGER, {"ExpectedBucketOwner": STRANGER})])
def test_athena_is_told_the_owner_of_its_output(owner: str | None, expected: dict[str, str]) -> None:
    client = boto3.client("athena", REGION, aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_response(
            "start_query_execution",
            {"QueryExecutionId": "1"},
            {
                "QueryString": "SELECT 1",
                "ClientRequestToken": ANY,
                "QueryExecutionContext": {"Database": "lake", "Catalog": "AwsDataCatalog"},
                "WorkGroup": "primary",
                "ResultConfiguration": {"OutputLocation": "s3://b/a/", **expected},
            },
        )
        stub.add_client_error("get_query_execution", "InvalidRequestException")
        stub.add_response("stop_query_execution", {}, {"QueryExecutionId": "1"})
        settings = AthenaSettings(output="s3://b/a/", output_owner=owner)
        with pytest.raises(EngineError), stream_on_athena(client, settings, "SELECT 1"):
            pass


@pytest.mark.parametrize("kind", ["quarantine/orders", "failed/orders"])
def test_nothing_is_redriven_from_somebody_else_s_bucket(pipeline: Pipeline, kind: str) -> None:
    stranger = squat(QUARANTINE)
    stranger.put_object(Bucket=QUARANTINE, Key=f"put-away/{kind}/1.json", Body=b"{}")
    shelf = pipeline.shelf(f"s3://{QUARANTINE}/put-away/{kind}")
    for act in (lambda: shelf.count(), lambda: next(shelf.stored())):
        with pytest.raises(QuarantineError, match="AccessDenied") as refused:
            act()
        assert "source.bucket_owners" in refused.value.remedy


def test_an_owner_can_be_named_in_the_configuration(pipeline: Pipeline) -> None:
    squat("their-failures")
    source = pipeline.config.source.model_copy(update={"bucket_owners": {"their-failures": STRANGER}})
    account = Account("source", source)
    assert account.s3().list_objects_v2(Bucket="their-failures")["KeyCount"] == 0
    assert account.s3_of_any_owner().list_objects_v2(Bucket="their-failures")["KeyCount"] == 0
    mine = Account("source", source.model_copy(update={"bucket_owners": {"*": SOURCE_ACCOUNT}}))
    with pytest.raises(Exception, match="AccessDenied"):
        mine.s3_of_any_owner().list_objects_v2(Bucket="their-failures")


def test_a_function_s_quarantine_belongs_to_its_own_account(pipeline: Pipeline) -> None:
    source = pipeline.config.source.model_copy(update={"bucket_owners": {QUARANTINE: STRANGER}})
    config = pipeline.config.model_copy(update={"source": source})
    with pytest.raises(DeployError, match="buckets of the source account only"):
        Deployer("orders", config, *accounts(pipeline)).deployment.quarantine()


def test_remove_deletes_nothing_in_somebody_else_s_bucket(pipeline: Pipeline) -> None:
    stranger = squat(QUARANTINE)
    stranger.put_object(Bucket=QUARANTINE, Key="theirs", Body=b"")
    source, _ = accounts(pipeline)
    with pytest.raises(DeployError, match="could not be deleted"):
        remove_source("orders", pipeline.config, source, None, deletes_data=True, now_ms=lambda: 1)
    assert stranger.list_objects_v2(Bucket=QUARANTINE)["KeyCount"] == 1


# Exports


def test_an_export_goes_to_the_expected_account_alone(requests: list[Request]) -> None:
    stranger = squat("our-lake")
    side = {"account": LAKE_ACCOUNT, "region": REGION, "role_arn": ROLE.format(LAKE_ACCOUNT)}
    source = {"table": "orders", "account": SOURCE_ACCOUNT, "region": REGION}

    def lake(**more: Any) -> Account:
        document = {"pipelines": {"orders": {"source": source, "lake": {**side, **more}}}}
        return Account("lake", parse_config(document, "a test").pipelines["orders"].lake)

    def export(account: Account) -> None:
        s3 = account.s3_of_any_owner()
        with s3_target("s3://our-lake/t.csv", s3, directory=False, on_progress=lambda *_: None) as part:
            part.write_bytes(b"a,b\n")

    with pytest.raises(ExportError):
        export(lake(bucket_owners={"our-lake": LAKE_ACCOUNT}))
    assert stranger.list_objects_v2(Bucket="our-lake")["KeyCount"] == 0
    export(lake())
    assert stranger.list_objects_v2(Bucket="our-lake")["KeyCount"] == 1, "an owner that is not named is any"


def test_every_request_names_the_owner(pipeline: Pipeline, requests: list[Request]) -> None:
    """Of all that is done with quarantine and code, only CreateBucket names none, since it has no such parameter."""
    client_of(SOURCE_ACCOUNT).create_bucket(Bucket=QUARANTINE)
    account, _ = accounts(pipeline)
    requests.clear()
    deployer(pipeline).bring(CODE)
    list(wrong_settings(account.s3(), QUARANTINE, REGION))
    pipeline.quarantine().keep_record("label/1", {}, "a reason", 1)
    shelf = pipeline.shelf(f"s3://{QUARANTINE}/put-away/quarantine")
    for stored in list(shelf.stored()):
        shelf.replace(stored, {"other": True})
        shelf.take_away(stored)
    remove_source("orders", pipeline.config, account, None, deletes_data=True, now_ms=lambda: 1)
    assert {request.operation for request in requests if request.owner is None} == {"CreateBucket"}
    assert {request.owner for request in requests} == {None, SOURCE_ACCOUNT}
    assert {"PutObject", "GetObject", "ListObjectsV2", "DeleteObject", "DeleteBucket"} <= {
        request.operation for request in requests
    }


# init, deploy and doctor


@pytest.mark.parametrize("side", ["lake", "source"])
@pytest.mark.parametrize("squatted", [QUARANTINE, CODE_BUCKET])
def test_deploy_refuses_somebody_else_s_bucket_before_anything_is_made(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], squatted: str, side: str
) -> None:
    squat(squatted)
    code = tmp_path / "lambda.zip"
    code.write_bytes(CODE)
    words = ("--side", side, "--yes", "--json", "--code", code, "--config", tmp_path / "dynalake.toml")
    exit_code, out, _ = command(capsys, "deploy", "orders", *words)
    answer = json.loads(out)
    assert exit_code == answer["exit_code"] == 2
    assert squatted in answer["error"]
    assert "another account" in answer["error"]
    assert ("deploy.code_bucket" if squatted == CODE_BUCKET else "quarantine") in answer["remedy"]
    assert boto3.client("cloudformation", REGION).describe_stacks()["Stacks"] == []


OWN = "123456789012"
"""The account of moto's own credentials, which `init` takes without a profile."""


@pytest.mark.parametrize("squatted", [quarantine_bucket("orders", OWN, REGION), code_bucket(OWN, REGION)])
def test_init_proposes_no_bucket_of_somebody_else_s(
    requests: list[Request], tmp_path: Path, capsys: pytest.CaptureFixture[str], squatted: str
) -> None:
    boto3.client("dynamodb", REGION).create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    squat(squatted)
    config = tmp_path / "dynalake.toml"
    words = ["--source-table", "orders", "--source-account", OWN, "--lake-account", LAKE_ACCOUNT]
    words += ["--lake-role-arn", ROLE.format(LAKE_ACCOUNT), "--region", REGION]
    exit_code, out, _ = command(capsys, "init", "orders", *words, "--json", "--config", config)
    answer = json.loads(out)
    assert exit_code == 2
    assert squatted in answer["error"]
    assert answer["remedy"]
    assert not config.exists()
    others = ("--quarantine", "s3://our-own-quarantine/orders", "--code-bucket", "our-own-code")
    exit_code, out, err = command(capsys, "init", "orders", *words, *others, "--json", "--config", config)
    assert exit_code == 0, err
    written = load_config(config).pipelines["orders"]
    assert written.quarantine == "s3://our-own-quarantine/orders"
    assert written.deploy.code_bucket == "our-own-code"


def patient(pipeline: Pipeline, **deploy: Any) -> Patient:
    config = pipeline.config
    if deploy:
        config = config.model_copy(update={"deploy": config.deploy.model_copy(update=deploy)})
    source, lake = accounts(pipeline)
    return Patient("orders", config, source, lake)


def look(subject: Patient, what: str) -> str:
    (found,) = (each for each in of_buckets(subject) if each.what == what)
    return found.look()


Break = Callable[[Any, str], object]


def public(s3: Any, bucket: str) -> object:
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True}
    return s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)


def half_a_policy(s3: Any, bucket: str) -> object:
    """It refuses plain HTTP for listing the bucket, and not for reading what is in it."""
    document = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    document["Statement"][0]["Resource"] = f"arn:aws:s3:::{bucket}"
    return s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


BROKEN: dict[str, tuple[Break, str, str, bool]] = {
    "public access": (public, "may be made public", "put-public-access-block", True),
    "no public access block": (
        lambda s3, bucket: s3.delete_public_access_block(Bucket=bucket),
        "may be made public",
        "put-public-access-block",
        True,
    ),
    "access control lists": (
        lambda s3, bucket: s3.delete_bucket_ownership_controls(Bucket=bucket),
        "access control lists",
        "put-bucket-ownership-controls",
        False,
    ),
    "no policy": (
        lambda s3, bucket: s3.delete_bucket_policy(Bucket=bucket),
        "without TLS",
        "put-bucket-policy",
        True,
    ),
    "half a policy": (half_a_policy, "without TLS", "put-bucket-policy", True),
    "no encryption": (
        lambda s3, bucket: s3.delete_bucket_encryption(Bucket=bucket),
        "no encryption",
        "put-bucket-encryption",
        True,
    ),
    "no versions": (
        lambda s3, bucket: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "keeps no versions",
        "put-bucket-versioning",
        False,
    ),
}


@pytest.mark.parametrize("what", ["quarantine", "code bucket"])
def test_doctor_names_what_is_wrong_with_a_bucket_and_the_command_that_corrects_it(
    pipeline: Pipeline, what: str
) -> None:
    bucket, s3 = make_sound(pipeline, what), client_of(SOURCE_ACCOUNT)
    for broken, (break_, said, operation, is_serious) in BROKEN.items():
        assert f"{bucket}: this account's" in look(patient(pipeline), what), broken
        break_(s3, bucket)
        with pytest.raises(FailedError, match=said) as failed:
            look(patient(pipeline), what)
        assert isinstance(failed.value, WarnedError) is not is_serious, broken
        assert f"aws s3api {operation} --region {REGION} --bucket {bucket} --" in failed.value.remedy
        carry_out(s3, failed.value.remedy)


def carry_out(s3: Any, command: str) -> None:
    """Do what a command of the AWS CLI would do, which takes the same arguments in JSON."""
    _, _, operation, *words = shlex.split(command)
    options = dict(zip(words[::2], words[1::2], strict=True))
    del options["--region"]
    arguments = {
        "".join(part.capitalize() for part in name.strip("-").split("-")): value
        for name, value in options.items()
    }
    getattr(s3, operation.replace("-", "_"))(
        **{
            name: value if name in ("Bucket", "Policy") else json.loads(value)
            for name, value in arguments.items()
        }
    )


def make_sound(pipeline: Pipeline, what: str) -> str:
    """A bucket with which nothing is wrong."""
    if what == "code bucket":
        deployer(pipeline).bring(CODE)
        return CODE_BUCKET
    s3 = client_of(SOURCE_ACCOUNT)
    s3.create_bucket(Bucket=QUARANTINE)
    for setting in wrong_settings(s3, QUARANTINE, REGION):
        getattr(s3, setting.operation.replace("-", "_"))(Bucket=QUARANTINE, **setting.arguments)
    return QUARANTINE


def test_doctor_tells_whether_the_quarantine_s_records_expire(pipeline: Pipeline) -> None:
    make_sound(pipeline, "quarantine")
    assert look(patient(pipeline), "quarantine").endswith("records never expire")
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 90}}
    client_of(SOURCE_ACCOUNT).put_bucket_lifecycle_configuration(
        Bucket=QUARANTINE, LifecycleConfiguration={"Rules": [rule]}
    )
    assert look(patient(pipeline), "quarantine").endswith("records expire")


def test_doctor_demands_the_customer_key_that_the_configuration_names(pipeline: Pipeline) -> None:
    make_sound(pipeline, "quarantine")
    encrypted = patient(pipeline, source={"KmsKeyArn": KEY})
    with pytest.raises(FailedError, match="KmsKeyArn") as failed:
        look(encrypted, "quarantine")
    assert KEY in failed.value.remedy
    (setting,) = wrong_settings(client_of(SOURCE_ACCOUNT), QUARANTINE, REGION, kms_key=KEY)
    client_of(SOURCE_ACCOUNT).put_bucket_encryption(Bucket=QUARANTINE, **setting.arguments)
    assert look(encrypted, "quarantine")


@pytest.mark.parametrize(("what", "bucket"), [("quarantine", QUARANTINE), ("code bucket", CODE_BUCKET)])
def test_doctor_tells_that_a_bucket_is_somebody_else_s(pipeline: Pipeline, what: str, bucket: str) -> None:
    squat(bucket)
    with pytest.raises(DeployError, match="another account") as failed:
        look(patient(pipeline), what)
    assert failed.value.remedy


# The templates


def test_the_function_s_role_writes_to_buckets_of_its_own_account_alone() -> None:
    (policy,) = loads(template("source.yaml"))["Resources"]["FunctionRole"]["Properties"]["Policies"]
    about_s3 = [
        statement
        for statement in policy["PolicyDocument"]["Statement"]
        if str(statement.get("Action", "")).startswith("s3:")
    ]
    assert len(about_s3) == 3
    for statement in about_s3:
        condition = statement["Condition"]["StringEquals"]
        assert condition == {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}, statement["Sid"]


def test_the_quarantine_that_is_made_expires_keeps_versions_for_a_while_and_can_log_access() -> None:
    document = loads(template("source.yaml"))
    bucket, parameters = document["Resources"]["Quarantine"]["Properties"], document["Parameters"]
    assert parameters["QuarantineDays"]["Default"] == 90
    assert parameters["QuarantineVersionDays"]["Default"] == 14
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    expire, tidy = bucket["LifecycleConfiguration"]["Rules"]
    assert expire["ExpirationInDays"] == {
        "Fn::If": ["Expires", {"Ref": "QuarantineDays"}, {"Ref": "AWS::NoValue"}]
    }
    assert expire["NoncurrentVersionExpiration"] == {"NoncurrentDays": {"Ref": "QuarantineVersionDays"}}
    assert tidy["Fn::If"][2]["ExpiredObjectDeleteMarker"] is True
    condition, logging, _ = bucket["LoggingConfiguration"]["Fn::If"]
    assert condition == "HasQuarantineLog"
    assert logging["DestinationBucketName"] == {"Ref": "QuarantineLogBucket"}
