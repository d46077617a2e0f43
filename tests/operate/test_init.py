"""What `init` finds out before anything is made."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from dynalake.config import load_config
from tests.end_to_end.ministack import REGION
from tests.operate.land import LAKE, SOURCE, Answer, Land

KEY = f"arn:aws:kms:{REGION}:{SOURCE}:key/11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def shop(land: Land) -> Land:
    """A source account with a few tables, and the tables of a lake."""
    land.make_source("invoices")
    land.make_source("quiet", stream=None)
    dynamodb = land.client("dynamodb", SOURCE)
    dynamodb.create_table(
        TableName="ledger",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "B"}],
        ProvisionedThroughput={"ReadCapacityUnits": 3, "WriteCapacityUnits": 90},
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY},
    )
    land.make_source("odd")
    land.put("odd", {"pk": {"S": "a"}, "sk": {"N": "1"}, "_lake_version": {"S": "?"}})
    land.write_config("invoices")
    assert land.run("setup", "invoices").code == 0
    land.config.unlink()
    return land


def init(land: Land, table: str, *more: str, name: str | None = None) -> Answer:
    land.config.unlink(missing_ok=True)
    return land.run(
        "init",
        name or table,
        "--source-table",
        table,
        *("--source-account", SOURCE, "--source-profile", "shop"),
        *("--lake-account", LAKE, "--lake-profile", "lake"),
        *("--region", REGION, "--endpoint-url", land.aws.endpoint),
        *more,
    )


def written(land: Land, name: str) -> dict[str, Any]:
    return dict(tomllib.loads(land.config.read_text(encoding="utf-8"))["pipelines"][name])


def test_what_is_proposed_follows_the_source_table(shop: Land) -> None:
    answer = init(shop, "ledger", "--json")
    assert answer.code == 0, answer.err
    source = answer.document["source"]
    assert source["key"] == [["id", "B"]]
    assert source["stream"] == "NEW_IMAGE"
    assert source["provisioned"] == [3, 90]
    pipeline = written(shop, "ledger")
    assert pipeline["max_wcu"] == 90
    assert pipeline["deploy"]["lake"] == {
        "BillingMode": "PROVISIONED",
        "ReadCapacity": 5,
        "WriteCapacity": 90,
    }
    assert pipeline["deploy"]["source"] == {"SourceKmsKeyArn": KEY}
    assert pipeline["quarantine"] == f"s3://dynalake-ledger-{SOURCE}-{REGION}"
    assert len(pipeline["deploy"]["external_id"]) >= 16
    assert load_config(shop.config).pipelines["ledger"].lake_table == f"dynalake.{SOURCE}.ledger"
    assert shop.deploy("ledger").code == 0, "and what is proposed can be deployed"


def test_a_table_on_demand_gets_a_lake_on_demand(shop: Land) -> None:
    assert init(shop, "invoices").code == 0
    pipeline = written(shop, "invoices")
    assert "max_wcu" not in pipeline
    assert pipeline["deploy"].keys() == {"external_id"}


def test_a_stream_that_is_off_is_said_with_its_remedy(shop: Land) -> None:
    answer = init(shop, "quiet")
    assert answer.code == 0
    assert "stream: OFF" in answer.out
    command = f"aws dynamodb update-table --profile shop --region {REGION} --table-name quiet"
    assert command in " ".join(answer.out.split())


def test_a_worker_s_pipeline_has_a_folder_and_no_deployment(shop: Land) -> None:
    answer = init(shop, "invoices", "--runs-in", "worker")
    assert answer.code == 0
    assert "dynalake setup invoices" in answer.out
    assert written(shop, "invoices").keys() == {"source", "lake"}


def test_a_table_that_is_not_there_is_refused(shop: Land) -> None:
    answer = init(shop, "invioces")
    assert answer.code == 2
    assert "there is no table 'invioces'" in answer.err
    assert not shop.config.exists()


def test_reserved_names_are_refused(shop: Land) -> None:
    answer = init(shop, "odd")
    assert answer.code == 2
    assert "'_lake_version'" in answer.err
    assert not shop.config.exists()


def test_two_accounts_under_one_alias_are_refused(shop: Land) -> None:
    """Another account's table has the lake table's name already."""
    dynamodb = shop.client("dynamodb", LAKE)
    entry = {"pipeline": {"S": "dynalake.shop.invoices"}, "entry": {"S": "stream"}}
    arn = f"arn:aws:dynamodb:{REGION}:222222222222:table/invoices/stream/2026-01-01T00:00:00.000"
    dynamodb.put_item(
        TableName="dynalake.checkpoints", Item={**entry, "arn": {"S": arn}, "noted_at": {"N": "1"}}
    )
    answer = init(shop, "invoices", "--source-alias", "shop")
    assert answer.code == 2
    assert "holds the rows of" in answer.err
    assert "source.alias" in answer.err
    assert not shop.config.exists()
    dynamodb.delete_item(TableName="dynalake.checkpoints", Key=entry)


def test_a_table_that_is_replicated_already_is_said(shop: Land) -> None:
    answer = init(shop, "invoices", "--source-alias", "again", name="again")
    assert answer.code == 0
    assert "replicated already" in " ".join(answer.out.split())


def test_a_lake_table_of_another_key_is_refused(shop: Land) -> None:
    dynamodb = shop.client("dynamodb", LAKE)
    dynamodb.create_table(
        TableName="dynalake.taken.invoices",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    answer = init(shop, "invoices", "--source-alias", "taken")
    assert answer.code == 2
    assert "belongs to something else" in answer.err


def test_a_role_that_another_region_s_pipeline_has_is_refused(shop: Land) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    shop.client("iam", SOURCE).create_role(
        RoleName="dynalake-twin-function",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    answer = init(shop, "invoices", name="twin")
    assert answer.code == 2
    assert "dynalake-twin-function exists already" in answer.err


def test_more_concurrency_than_the_account_has_is_said_before_anything_is_made(shop: Land) -> None:
    assert init(shop, "invoices", name="greedy").code == 0
    text = shop.config.read_text(encoding="utf-8")
    shop.config.write_text(
        text.replace("deploy = {", "deploy = { source = { ReservedConcurrency = 950 },"), encoding="utf-8"
    )
    answer = shop.deploy("greedy", "--side", "source")
    assert answer.code == 2
    assert "950 concurrent executions cannot be reserved" in answer.err
    stacks = shop.client("cloudformation", SOURCE).describe_stacks()["Stacks"]
    assert "dynalake-greedy-source" not in [stack["StackName"] for stack in stacks]


def test_without_credentials_the_file_is_written_and_says_what_was_not_looked_at(shop: Land) -> None:
    shop.config.unlink(missing_ok=True)
    answer = shop.run(
        "init",
        "blind",
        *("--source-table", "invoices", "--source-account", SOURCE, "--source-profile", "nobody"),
        *("--lake-account", LAKE, "--lake-profile", "nobody", "--region", REGION),
    )
    assert answer.code == 0, answer.err
    assert answer.out.count("could not be checked") == 2
    assert written(shop, "blind")["deploy"]["external_id"]


def test_what_watching_costs_is_said_before_anything_is_made(shop: Land) -> None:
    answer = init(shop, "invoices", "--json")
    assert answer.code == 0, answer.err
    parts = answer.document["watching_usd_per_month"]
    assert parts.keys() == {"alarms, metrics and a dashboard", "heartbeat", "checks"}
    assert parts["heartbeat"] > 0
    said = " ".join(init(shop, "invoices").out.split())
    assert "watching it costs about $" in said
    assert "deploy.checks.target" in said
    worker = init(shop, "invoices", "--runs-in", "worker", "--json")
    assert "watching_usd_per_month" not in worker.document
