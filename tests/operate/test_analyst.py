"""An analyst has credentials of the lake account alone, and the permissions of `examples/policies/analyst.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.environments import ROOT
from tests.operate.land import LAKE, SOURCE, Land

NAME: Final = "analysed"
USER: Final = "analyst"
POLICY: Final = ROOT / "examples" / "policies" / "analyst.json"

READS: Final = (
    ("snapshot", NAME),
    ("refresh", NAME),
    ("export", NAME, "--format", "csv", "--out", "rows.csv"),
    ("ddl", NAME),
    ("dictionary", NAME),
    ("status", NAME),
)
NEEDED: Final = (
    ("ReadTheLakeTable", "dynamodb:DescribeTable", READS[0]),
    ("ReadTheLakeTable", "dynamodb:Scan", READS[0]),
    ("ReadTheLakeTablesStream", "dynamodb:DescribeStream", READS[1]),
    ("ReadTheLakeTablesStream", "dynamodb:GetShardIterator", READS[1]),
    ("ReadTheLakeTablesStream", "dynamodb:GetRecords", READS[1]),
    ("ReadTheSchema", "dynamodb:Query", READS[3]),
    ("ReadHealthAndFacts", "dynamodb:GetItem", READS[5]),
    ("ReadHealthAndFacts", "dynamodb:Query", READS[5]),
)


def policy_of(lake_table: str, region: str) -> dict[str, Any]:
    text = POLICY.read_text(encoding="utf-8")
    for placeholder, value in (("LAKE_ACCOUNT", LAKE), ("LAKE_TABLE", lake_table), ("REGION", region)):
        text = text.replace(placeholder, value)
    return dict(json.loads(text))


@pytest.fixture(scope="module")
def analyst(land: Land) -> Iterator[Land]:
    """A pipeline with a row in the lake, and a configuration whose source profile the analyst does not have."""
    land.make_source(NAME)
    land.write_config(NAME, more='policy = { secret = "mask" }')
    assert land.run("setup", NAME).code == 0
    land.put(NAME, {"pk": {"S": "a"}, "sk": {"N": "1"}, "secret": {"S": "x"}})
    assert land.run("backfill", NAME).code == 0
    iam = land.client("iam", LAKE)
    iam.create_user(UserName=USER)
    allow(land, policy_of(land.pipeline(NAME).lake_table, land.pipeline(NAME).lake.region))
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    credentials = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    before = credentials.read_text(encoding="utf-8")
    credentials.write_text(
        f"{before}[{USER}]\naws_access_key_id = {key['AccessKeyId']}\n"
        f"aws_secret_access_key = {key['SecretAccessKey']}\n",
        encoding="utf-8",
    )
    text = land.config.read_text(encoding="utf-8")
    assert 'profile = "shop"' in text
    text = text.replace('profile = "shop"', 'profile = "not-the-analysts"')
    land.config.write_text(text.replace('profile = "lake"', f'profile = "{USER}"'), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(land.folder)
        yield land


def allow(land: Land, policy: dict[str, Any]) -> None:
    land.client("iam", LAKE).put_user_policy(
        UserName=USER, PolicyName="analyst", PolicyDocument=json.dumps(policy)
    )


@contextmanager
def without(land: Land, sid: str, action: str) -> Iterator[None]:
    whole = policy_of(land.pipeline(NAME).lake_table, land.pipeline(NAME).lake.region)
    statements = []
    for statement in whole["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        kept = [each for each in actions if (statement["Sid"], each) != (sid, action)]
        statements += [{**statement, "Action": kept}] if kept else []
    assert statements != whole["Statement"]
    allow(land, {**whole, "Statement": statements})
    try:
        yield
    finally:
        allow(land, whole)


def test_the_policy_suffices_and_the_source_is_never_asked(analyst: Land) -> None:
    for words in READS:
        answer = analyst.run(*words)
        assert answer.code == 0, (words, answer.err)
    status = analyst.run("status", NAME, "--json").document["pipelines"][0]
    assert any("not-the-analysts" in text for text in status["unseen"])
    assert "masked by policy" in analyst.run("dictionary", NAME, "--json").out


def test_there_are_no_others(analyst: Land) -> None:
    given = {
        (statement["Sid"], action)
        for statement in policy_of("t", "r")["Statement"]
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert given == {(sid, action) for sid, action, _ in NEEDED}


@pytest.mark.parametrize(("sid", "action", "words"), NEEDED, ids=[f"{sid}-{what}" for sid, what, _ in NEEDED])
def test_each_permission_is_needed(analyst: Land, sid: str, action: str, words: tuple[str, ...]) -> None:
    analyst.run("snapshot", NAME)
    with without(analyst, sid, action):
        answer = analyst.run(*words)
    assert answer.code != 0, answer.out
    assert "AccessDenied" in answer.err


def test_what_reads_the_source_says_that_it_cannot(analyst: Land) -> None:
    for words in (("backfill", NAME), ("parity", NAME), ("setup", NAME)):
        answer = analyst.run(*words)
        assert answer.code == 2
        assert "not-the-analysts" in answer.err


def test_nothing_is_written_and_no_other_pipeline_is_read(analyst: Land) -> None:
    session = _client_of_the_analyst(analyst)
    table = analyst.pipeline(NAME).lake_table
    for call, request in (
        (session.put_item, {"TableName": table, "Item": {"pk": {"S": "x"}, "sk": {"N": "1"}}}),
        (session.query, _entries("dynalake.checkpoints", "pipeline", f"another.{SOURCE}")),
        (session.query, _entries("dynalake.catalogue", "table", f"another.{SOURCE}")),
        (session.scan, {"TableName": "dynalake.checkpoints"}),
    ):
        with pytest.raises(session.exceptions.ClientError, match="AccessDenied"):
            call(**request)


def _client_of_the_analyst(land: Land) -> Any:
    import boto3

    credentials = boto3.Session(profile_name=USER).get_credentials()
    assert credentials is not None
    return land.aws.client("dynamodb", credentials.access_key, credentials.secret_key)


def _entries(table: str, key: str, value: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "KeyConditionExpression": "#key = :key",
        "ExpressionAttributeNames": {"#key": key},
        "ExpressionAttributeValues": {":key": {"S": value}},
    }
