"""An analyst with credentials of the lake account alone: whatever does not read the source never asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynalake.aws import Account
from dynalake.demo.world import SOURCE_ACCOUNT
from dynalake.pipeline import Pipeline
from ingest.facts import FactsStore
from lake import open_lake
from lake.contract.facts import FACTS_ENTRY
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]

COMMANDS = (
    ("snapshot", "orders"),
    ("refresh", "orders"),
    ("refresh", "orders", "--source", "scan"),
    ("export", "orders", "--out", "orders.csv", "--format", "csv"),
    ("ddl", "orders"),
    ("dictionary", "orders"),
)


@pytest.fixture
def analyst(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose source side has a profile that this machine does not know."""
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, policy='{ pk = "hash", ssn = "drop" }')
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "9d41c07be2a85f3366b1d0e94c72fa18")
    pipeline = open_pipeline(config)
    make_source(pipeline, {"pk": "N"})
    pipeline.setup()
    put(pipeline, {"pk": {"N": "1"}, "ssn": {"S": "x"}, "n": {"N": "1"}})
    pipeline.backfill()
    monkeypatch.delenv("DYNALAKE_HASH_KEY")
    role = f'role_arn = "arn:aws:iam::{SOURCE_ACCOUNT}:role/dynalake"'
    text = config.read_text().replace(role, 'profile = "unknown-here"')
    config.write_text("".join(line for line in text.splitlines(True) if not line.startswith("policy")))
    return config


def test_commands_that_read_the_lake_never_open_the_source(analyst: Path, capsys: Capture) -> None:
    for words in COMMANDS:
        code, out, err = command(capsys, *words, "--config", analyst)
        assert "unknown-here" not in err, words
        assert code == 0, (words, out, err)
    with open_lake("lake.duckdb") as lake:
        (key,) = lake.connection.execute("SELECT pk FROM orders").fetchall()[0]
    assert len(key) == 64, "it is hashed, so it is text in the lake"


def test_the_dictionary_tells_the_policy_that_the_lake_knows(analyst: Path, capsys: Capture) -> None:
    _, out, _ = command(capsys, "dictionary", "orders", "--json", "--config", analyst)
    assert "hashed by policy" in out


def test_status_says_what_it_could_not_see(analyst: Path, capsys: Capture) -> None:
    code, out, _ = command(capsys, "status", "orders", "--json", "--config", analyst)
    assert code == 0
    (status,) = json.loads(out)["pipelines"]
    (unseen,) = [text for text in status["unseen"] if text.startswith("the source account")]
    assert "unknown-here" in unseen
    assert status["attributes"] == 2
    assert status["source_rows"] is None


def test_commands_that_read_the_source_say_that_they_cannot(analyst: Path, capsys: Capture) -> None:
    for words in (("backfill", "orders"), ("parity", "orders"), ("run", "orders", "--until-caught-up")):
        code, _, err = command(capsys, *words, "--config", analyst)
        assert code == 2
        assert "the source side's profile 'unknown-here' is unknown" in err


def test_no_account_is_opened_before_it_is_needed(
    analyst: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    session = vars(Account)["session"].fget

    def watched(account: Account) -> object:
        opened.append(account.config.account)
        return session(account)

    monkeypatch.setattr(Account, "session", property(watched))
    pipeline: Pipeline = open_pipeline(analyst)
    assert not opened
    pipeline.check_job(metrics=False).history()
    assert pipeline.config.lake.account in opened
    assert SOURCE_ACCOUNT not in opened


def test_without_facts_what_the_lake_table_itself_tells_suffices(analyst: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(analyst)
    pipeline.checkpoints().delete(FACTS_ENTRY)
    for words in COMMANDS[:2]:
        code, _, err = command(capsys, *words, "--config", analyst)
        assert code == 0, err


def test_facts_are_stored_and_what_others_added_stays(analyst: Path) -> None:
    pipeline = open_pipeline(analyst)
    store = FactsStore(pipeline.lake_dynamodb(), pipeline.config.checkpoint_table, pipeline.config.lake_table)
    facts = store.read()
    assert facts is not None
    assert facts.account == SOURCE_ACCOUNT
    assert facts.policy == {"pk": "hash", "ssn": "drop"}
    assert [(part.type, part.lake_type) for part in facts.key] == [("N", "S")]
    pipeline.lake_dynamodb().update_item(
        TableName=pipeline.config.checkpoint_table,
        Key={"pipeline": {"S": pipeline.config.lake_table}, "entry": {"S": FACTS_ENTRY}},
        UpdateExpression="SET of_a_later_release = :x, hash_key_fingerprint = :f",
        ExpressionAttributeValues={":x": {"S": "kept"}, ":f": {"S": "abc"}},
    )
    store.write(facts)
    item = pipeline.checkpoints().get(FACTS_ENTRY)
    assert item is not None
    assert item["of_a_later_release"] == {"S": "kept"}
    again = store.read()
    assert again is not None
    assert again.hash_key_fingerprint == "abc"
