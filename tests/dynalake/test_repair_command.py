"""`dynalake repair` as a user calls it: its cost first, cut off and gone on with, and what it closes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ingest.repair
from dynalake.jobs.repairing import progress_of
from dynalake.pipeline import Pipeline
from ingest.repair import Mended, Repair, Wanted
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pipeline(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Eight rows in the source, none in the lake; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ingest.repair, "BATCH", 2)
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": str(n)}} for n in range(8)))
    pipeline.setup()
    return pipeline


def dies_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    settle = Repair.settle
    left = [batches]

    def or_die(self: Repair, batch: Sequence[Wanted]) -> list[Mended]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return settle(self, batch)

    monkeypatch.setattr(Repair, "settle", or_die)


def repair(capsys: Capture, *words: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = command(capsys, "repair", "orders", "--json", *words)
    return code, json.loads(out) if out else {}


def test_a_repair_that_was_cut_off_is_gone_on_with(
    pipeline: Pipeline, capsys: Capture, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        dies_after(patch, 2)
        code, _ = repair(capsys)
    assert code == 130
    kept = tmp_path / "orders.repair.jsonl"
    assert len(kept.read_text().splitlines()) == 8
    done = progress_of(pipeline)
    assert done is not None
    assert done.done == 4
    assert pipeline.health_store.gaps()

    code, answer = repair(capsys)
    assert code == 0
    assert (answer["done_by_an_earlier_run"], answer["repair"]["asked"], answer["repair"]["written"]) == (
        4,
        4,
        4,
    )
    assert set(answer["estimate"]) == {"comparing both tables", "mending"}
    assert not pipeline.health_store.gaps()
    assert not kept.exists()
    assert progress_of(pipeline) is None


def test_one_that_shall_begin_anew_does(pipeline: Pipeline, capsys: Capture, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        dies_after(patch, 2)
        repair(capsys)
    code, answer = repair(capsys, "--restart")
    assert (code, answer["done_by_an_earlier_run"], answer["repair"]["asked"]) == (0, 0, 4)


def test_another_file_begins_at_its_beginning(pipeline: Pipeline, capsys: Capture, tmp_path: Path) -> None:
    found = tmp_path / "found.jsonl"
    command(capsys, "parity", "orders", "--out", found, "--json")
    with pytest.MonkeyPatch.context() as patch:
        dies_after(patch, 1)
        repair(capsys, "--from", found)
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(reversed(found.read_text().splitlines())) + "\n")
    code, answer = repair(capsys, "--from", other)
    assert (code, answer["done_by_an_earlier_run"]) == (0, 0)
    assert (answer["repair"]["written"], answer["repair"]["same"]) == (6, 2)
    assert answer["gaps_closed"] == []
    assert pipeline.health_store.gaps()


def test_a_dry_run_tells_the_cost_and_does_nothing(
    pipeline: Pipeline, capsys: Capture, tmp_path: Path
) -> None:
    code, out, _ = command(capsys, "repair", "orders", "--dry-run")
    assert code == 0
    assert "comparing both tables before and after" in out
    assert not list(tmp_path.glob("*.jsonl"))
    found = tmp_path / "found.jsonl"
    command(capsys, "parity", "orders", "--out", found, "--json")
    code, out, _ = command(capsys, "repair", "orders", "--from", found, "--dry-run")
    assert code == 0
    assert "mending: about 8 rows" in out
    assert "reads 16 and writes at most 8" in out
    lake = pipeline.lake_dynamodb().scan(TableName=pipeline.config.lake_table)
    assert lake["Count"] == 0


def test_a_gap_found_during_the_repair_stays_open(pipeline: Pipeline, capsys: Capture) -> None:
    settle = Repair.settle

    def find(self: Repair, batch: Sequence[Wanted]) -> list[Mended]:
        pipeline.health_store.open_gap("later", "trimmed", "found meanwhile")
        return settle(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repair, "settle", find)
        code, answer = repair(capsys)
    assert code == 0
    assert len(answer["gaps_closed"]) == 1
    assert [gap.id for gap in pipeline.health_store.gaps()] == ["later"]


def test_a_file_that_is_not_there_is_one_line(pipeline: Pipeline, capsys: Capture, tmp_path: Path) -> None:
    code, out, err = command(capsys, "repair", "orders", "--from", tmp_path / "none.jsonl")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "none.jsonl cannot be read" in err
