"""The demo as a new user runs it, in a process and a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import dynalake
from dynalake.demo.flights import flights, story
from dynalake.demo.tour import Summary

ROOT = Path(dynalake.__file__).parent.parent


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "dynalake", "demo", "--json", "--out", folder / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "out", json.loads(done.stdout)


def test_the_summary_has_what_scripts_read(demonstrated: tuple[Path, dict[str, object]]) -> None:
    _, facts = demonstrated
    played = story()
    deletes = sum(write.kind == "delete" for write in played.live)
    inserts = sum(write.kind == "insert" for write in played.live)
    assert facts["source_rows"] == facts["lake_rows"] == len(played.before) + inserts - deletes
    assert facts["tombstones"] == deletes
    assert facts["parity"] == {"missing": 0, "extra": 0, "different": 0}
    assert facts["false_claims"] == []
    lag = facts["lag_ms"]
    assert isinstance(lag, dict)
    assert 0 < lag["p50"] <= lag["p99"]


def test_the_files_hold_what_the_flights_did(demonstrated: tuple[Path, dict[str, object]]) -> None:
    """The data's own account of the day, computed from the published file, against the snapshot's."""
    folder, facts = demonstrated
    with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as lake:
        counted = dict(lake.sql("SELECT status, count(*) FROM flights GROUP BY ALL").fetchall())
        delays = dict(
            lake.sql(
                "SELECT carrier_flight || ' ' || departs, dep_delay FROM flights WHERE status = 'arrived'"
            ).fetchall()
        )
    published = {
        f"{flight.carrier}{flight.number} {flight.scheduled:%Y-%m-%dT%H:%M}#{flight.origin}": flight
        for flight in flights()
    }
    assert sum(counted.values()) == facts["source_rows"]
    assert "cancelled" not in counted
    assert len(delays) > 600
    assert all(published[key].dep_delay == delay for key, delay in delays.items())
    assert pq.read_metadata(folder / "flights.parquet").num_rows == facts["source_rows"]


def test_it_leaves_what_the_note_names(demonstrated: tuple[Path, dict[str, object]]) -> None:
    folder, facts = demonstrated
    note = (folder / "NEXT.md").read_text()
    for name in ("lake.duckdb", "flights.parquet", "flights.hive.sql", "dynalake.toml", "summary.json"):
        assert name in note
        assert (folder / name).stat().st_size > 0
    assert json.loads((folder / "summary.json").read_text()) == facts


def test_the_story_is_as_long_as_promised() -> None:
    played = story()
    changes = [write for write in played.live if write.kind != "insert"]
    assert len(played.before) + len(played.live) - len(changes) >= 3000
    assert len(changes) >= 1500
    assert played.live == sorted(played.live, key=lambda write: write.at)


def test_a_false_claim_is_kept() -> None:
    summary = Summary()
    summary.claim("true", True)
    assert summary.false_claims == []
    summary.claim("the earth is flat", False)
    assert summary.false_claims == ["the earth is flat"]
