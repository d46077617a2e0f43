"""A source table that is not the one that the pipeline was set up for is refused by everything that reads it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dynalake.pipeline import Pipeline
from ingest.errors import SourceChangedError
from lake.contract.evidence import TableStream
from lake.contract.facts import FACTS_ENTRY
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.dynalake.test_health import QUICK

Capture = pytest.CaptureFixture[str]

READS_THE_SOURCE = (
    ("run", "orders", "--until-caught-up"),
    ("backfill", "orders"),
    ("backfill", "orders", "--dry-run"),
    ("repair", "orders"),
    ("redrive", "orders"),
    ("parity", "orders"),
    ("parity", "orders", "--since", "6h"),
)
OTHER_KEYS: Mapping[str, Mapping[str, str]] = {
    "renamed": {"id": "S"},
    "of another type": {"pk": "N"},
    "with a sort key": {"pk": "S", "sk": "S"},
}


def recreate(pipeline: Pipeline, key: Mapping[str, str]) -> None:
    pipeline.source_dynamodb().delete_table(TableName=pipeline.config.source.table)
    make_source(pipeline, key)


def age_stored_facts(pipeline: Pipeline) -> None:
    """Make the stored creation time an hour older, since the engine's clock does not move between two calls."""
    facts = pipeline.facts_store().read()
    assert facts is not None
    pipeline.lake_dynamodb().update_item(
        TableName=pipeline.config.checkpoint_table,
        Key={"pipeline": {"S": pipeline.config.lake_table}, "entry": {"S": FACTS_ENTRY}},
        UpdateExpression="SET table_created_at = :then",
        ExpressionAttributeValues={":then": {"N": str(facts.table_created_at - 3_600_000)}},
    )


def forget_facts(pipeline: Pipeline) -> None:
    """The pipeline as version 0.1 set it up."""
    pipeline.checkpoints().delete(FACTS_ENTRY)


def lake_rows(pipeline: Pipeline) -> list[Mapping[str, object]]:
    items = pipeline.lake_dynamodb().scan(TableName=pipeline.config.lake_table)["Items"]
    return sorted(items, key=str)


@pytest.fixture
def config(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A pipeline with two rows, caught up."""
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path)
    pipeline = open_pipeline(path)
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, {"pk": {"S": "a"}}, {"pk": {"S": "b"}})
    pipeline.backfill()
    return path


def refused(capsys: Capture, config: Path, *words: str) -> str:
    code, out, err = command(capsys, *words, "--config", config)
    assert code == 2, (words, out, err)
    assert "Traceback" not in err
    return err


def test_every_command_refuses_another_key_and_writes_nothing(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    before = lake_rows(pipeline)
    recreate(pipeline, {"pk": "S", "sk": "S"})
    put(pipeline, {"pk": {"S": "a"}, "sk": {"S": "1"}}, {"pk": {"S": "a"}, "sk": {"S": "2"}})
    for words in (*READS_THE_SOURCE, ("setup", "orders"), ("setup", "orders", "--accept-recreated-table")):
        err = refused(capsys, config, *words)
        assert "was recreated with the key pk (S) + sk (S)" in err, words
        assert "lake.table" in err, "it says what to do"
    assert lake_rows(pipeline) == before
    (gap,) = [gap for gap in pipeline.health().gaps if gap.id.startswith("source-changed/")]
    assert "recreated" in gap.detail


@pytest.mark.parametrize("stored", [True, False], ids=["with facts", "set up by version 0.1"])
@pytest.mark.parametrize("key", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_any_other_key_is_refused(config: Path, key: Mapping[str, str], stored: bool) -> None:
    pipeline = open_pipeline(config)
    if not stored:
        forget_facts(pipeline)
    recreate(pipeline, key)
    for work in (pipeline.backfill, pipeline.parity, pipeline.setup, lambda: pipeline.repair([])):
        with pytest.raises(SourceChangedError, match=r"another key|with the key") as caught:
            work()
        assert "lake.table" in caught.value.remedy


def test_a_sort_key_that_was_removed_is_refused(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline, {"pk": "S", "sk": "N"})
    pipeline.setup()
    recreate(pipeline, {"pk": "S"})
    assert "pk (S) + sk (N)" in refused(capsys, config, *READS_THE_SOURCE[0])


def test_the_same_key_and_another_table_is_refused_until_it_is_accepted(
    config: Path, capsys: Capture
) -> None:
    pipeline = open_pipeline(config)
    before = lake_rows(pipeline)
    recreate(pipeline, {"pk": "S"})
    put(pipeline, {"pk": {"S": "b"}, "n": {"N": "2"}}, {"pk": {"S": "c"}})
    age_stored_facts(pipeline)
    for words in (*READS_THE_SOURCE, ("setup", "orders")):
        assert "--accept-recreated-table" in refused(capsys, config, *words)
    assert lake_rows(pipeline) == before

    code, _, err = command(capsys, "setup", "orders", "--accept-recreated-table", "--config", config)
    assert code == 0, err
    assert not open_pipeline(config).health().complete, "the lake still has rows of the earlier table"
    code, out, err = command(capsys, "repair", "orders", "--json", "--config", config)
    assert code == 0, err
    assert json.loads(out)["after"]["parity"] == {"missing": 0, "extra": 0, "different": 0}
    assert open_pipeline(config).health().gaps == ()
    live = {row["pk"]["S"] for row in lake_rows(pipeline) if "_lake_deleted" not in row}  # type: ignore[index]
    assert live == {"b", "c"}
    code, _, err = command(capsys, "run", "orders", "--until-caught-up", "--config", config)
    assert code == 0, err


def test_a_table_id_decides_where_the_engine_has_one(config: Path) -> None:
    pipeline = open_pipeline(config)
    facts = pipeline.facts_store().read()
    assert facts is not None
    pipeline.lake_dynamodb().update_item(
        TableName=pipeline.config.checkpoint_table,
        Key={"pipeline": {"S": pipeline.config.lake_table}, "entry": {"S": FACTS_ENTRY}},
        UpdateExpression="SET table_id = :id",
        ExpressionAttributeValues={":id": {"S": "the-first"}},
    )
    same, other = open_pipeline(config), open_pipeline(config)
    same.__dict__["described_source"] = replace(same.described_source, id="the-first", created_at=1)
    assert same.source_table.id == "the-first"
    other.__dict__["described_source"] = replace(other.described_source, id="the-second")
    with pytest.raises(SourceChangedError, match="recreated"):
        _ = other.source_table


def test_a_pipeline_of_version_0_1_gets_its_facts_from_the_next_command_that_sees_the_source(
    config: Path, capsys: Capture
) -> None:
    pipeline = open_pipeline(config)
    before = pipeline.facts_store().read()
    assert before is not None
    forget_facts(pipeline)
    assert command(capsys, "parity", "orders", "--config", config)[0] == 0
    after = pipeline.facts_store().read()
    assert after is not None
    assert (after.arn, after.key, after.table_created_at) == (before.arn, before.key, before.table_created_at)


def test_a_recreated_table_of_version_0_1_is_known_by_the_stream_that_was_noted(
    config: Path, capsys: Capture
) -> None:
    pipeline = open_pipeline(config)
    forget_facts(pipeline)
    noted = pipeline.checkpoints().stream()
    assert noted is not None
    earlier = noted.arn.rpartition("/stream/")[0] + "/stream/2020-01-01T00:00:00.000"
    pipeline.checkpoints().note_stream(replace(noted, arn=earlier))
    assert "--accept-recreated-table" in refused(capsys, config, *READS_THE_SOURCE[0])
    assert command(capsys, "setup", "orders", "--accept-recreated-table", "--config", config)[0] == 0
    stream = pipeline.checkpoints().stream()
    assert stream is not None
    assert stream.arn == noted.arn


def test_another_table_under_the_same_lake_table_is_refused(config: Path, capsys: Capture) -> None:
    """`source.table` was changed in the configuration, and `lake.table` names the lake table of before."""
    text = config.read_text().replace('table = "orders"', 'table = "others"')
    lake_table = open_pipeline(config).config.lake_table
    config.write_text(text.replace("lake = {", f'lake = {{ table = "{lake_table}",'))
    make_source(open_pipeline(config))
    for words in (READS_THE_SOURCE[0], ("setup", "orders")):
        assert "was set up for" in refused(capsys, config, *words)


def test_status_and_doctor_tell(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    recreate(pipeline, {"pk": "S", "sk": "S"})
    _, out, _ = command(capsys, "status", "orders", "--json", "--config", config)
    (status,) = json.loads(out)["pipelines"]
    assert not status["complete"]
    code, out, _ = command(capsys, "doctor", "orders", "--json", "--config", config)
    assert code == 1
    (check,) = [check for check in json.loads(out)["checks"] if check["what"] == "same table"]
    assert check["verdict"] == "fail"
    assert "lake.table" in check["remedy"]


@pytest.mark.parametrize("key", [{"pk": "S", "sk": "S"}, {"pk": "S"}], ids=["another key", "the same key"])
def test_a_worker_looks_at_the_table_again_before_it_continues_with_a_new_stream(
    config: Path, monkeypatch: pytest.MonkeyPatch, key: Mapping[str, str]
) -> None:
    pipeline = open_pipeline(config)
    caught_up = threading.Event()
    caught_up.set()
    before: list[Mapping[str, object]] = []
    look = pipeline.table_stream

    def recreated_meanwhile() -> TableStream:
        if not before:
            before.extend(lake_rows(pipeline))
            recreate(pipeline, key)
            age_stored_facts(pipeline)
            put(pipeline, {"pk": {"S": "new"}, "sk": {"S": "1"}})
        return replace(look(), arn=f"{pipeline.origin.table_arn}/stream/2999-01-01T00:00:00.000")

    monkeypatch.setattr(pipeline, "table_stream", recreated_meanwhile)
    with pytest.raises(SourceChangedError):
        pipeline.run_worker(threading.Event(), caught_up, pacing=QUICK)
    assert before
    assert [row["pk"] for row in lake_rows(pipeline)] == [row["pk"] for row in before]
    assert any(gap.id.startswith("source-changed/") for gap in pipeline.health_store.gaps())
