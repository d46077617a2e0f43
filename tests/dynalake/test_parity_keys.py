"""A hashed key and the source's own key are written to one file only where that is asked for."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

import ingest.repair
from dynalake.pipeline import Pipeline
from ingest.repair import Repair
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]
PLAIN = [f"someone-{number}@example.com" for number in range(3)]


@pytest.fixture
def pipeline(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Three rows in the source, whose key the policy hashes; none in the lake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "8c1f0be5a7a94d63b2f4c0d97b1e6a35")
    pipeline = open_pipeline(write_config(tmp_path, policy='{ pk = "hash" }'))
    make_source(pipeline)
    put(pipeline, *({"pk": {"S": each}} for each in PLAIN))
    pipeline.setup()
    return pipeline


def parity(capsys: Capture, *words: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = command(capsys, "parity", "orders", "--json", *words)
    return code, json.loads(out)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_file_of_differences_pairs_no_keys_unless_it_is_asked_to(
    pipeline: Pipeline, capsys: Capture, tmp_path: Path
) -> None:
    report = tmp_path / "orders.parity.jsonl"
    assert parity(capsys)[0] == 1
    assert not any(plain in report.read_text() for plain in PLAIN)
    assert [(line["reason"], line["source_key"]) for line in lines(report)] == [("missing", None)] * 3
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert parity(capsys, "--source-keys")[0] == 1
    assert sorted(line["source_key"]["pk"]["S"] for line in lines(report)) == PLAIN
    assert all(line["key"]["pk"]["S"] not in PLAIN for line in lines(report))
    code, out, _ = command(capsys, "repair", "orders", "--json", "--from", report)
    assert (code, json.loads(out)["repair"]["written"]) == (0, 3)


def test_a_repair_finds_its_rows_without_that_file(
    pipeline: Pipeline, capsys: Capture, tmp_path: Path
) -> None:
    code, found = parity(capsys, "--repair")
    assert (code, found["repair"]["written"]) == (0, 3)
    assert (tmp_path / "orders.parity.jsonl").read_text() == ""


def test_the_file_by_which_a_repair_is_resumed_holds_no_hashed_keys(
    pipeline: Pipeline, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(_self: Repair, _batch: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.repair.Repair, "settle", dies)
        assert command(capsys, "repair", "orders", "--json")[0] == 130
    kept = tmp_path / "orders.repair.jsonl"
    assert [line["key"] for line in lines(kept)] == [None] * 3
    assert sorted(line["source_key"]["pk"]["S"] for line in lines(kept)) == PLAIN
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    code, out, _ = command(capsys, "repair", "orders", "--json")
    assert (code, json.loads(out)["repair"]["written"]) == (0, 3)
