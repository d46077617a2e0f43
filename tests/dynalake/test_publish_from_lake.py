"""Publishing straight from the lake table: a snapshot is made for it, and is gone afterwards."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.stubs.tableau import TableauStub
from tests.tableau.extracts import content


def test_a_lake_table_is_published_without_a_snapshot_to_keep(
    tmp_path: Path, aws: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": str(n)}} for n in range(20)))
    at = ("--config", config, "--json")
    command(capsys, "setup", "orders", *at)
    command(capsys, "backfill", "orders", *at)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with TableauStub() as tableau:
        for name, value in tableau.environment.items():
            monkeypatch.setenv(name, value)
        code, out, error = command(
            capsys, "publish", "orders", "--server", tableau.url, "--project", "default", *at
        )
        assert code == 0, error
        assert json.loads(out)["rows"] == 20
        columns, rows = content(tableau.extract("orders"), "orders")
        assert sorted(rows) == sorted((str(n), n) for n in range(20))
        assert dict(columns) == {"pk": "TEXT", "n": "BIG_INT"}
    assert not [path for path in scratch.iterdir() if path.name.startswith("dynalake-")]
