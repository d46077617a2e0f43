"""The dbt project of docs/dbt.md, run by dbt itself over a snapshot of the demo's flights."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.environments import ROOT, UnavailableError, environment, unavailable
from tests.queries.lake_of_flights import make
from tests.waiting import PATIENCE_S

PROJECT = ROOT / "examples" / "dbt"
RUNNER = """
import json, os, sys
from dbt.cli.main import dbtRunner

folder, project, *snapshots = sys.argv[1:]
said = []
for snapshot in snapshots:
    os.environ["SNAPSHOT"] = snapshot
    for words in (["build"], ["source", "freshness"]):
        done = dbtRunner().invoke([
            *words, "--quiet", "--project-dir", project, "--profiles-dir", project,
            "--target-path", f"{folder}/target", "--log-path", f"{folder}/logs",
        ])
        if done.exception:
            raise done.exception
        said.append({each.node.name: str(each.status) for each in done.result.results})
with open(f"{folder}/said.json", "w") as file:
    json.dump(said, file)
"""


@pytest.fixture(scope="module")
def dbt(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    try:
        return environment("dbt", pytestconfig.cache.mkdir("dbt"))
    except UnavailableError as error:
        unavailable(str(error))


def snapshot(folder: Path, *, hours_old: float, complete: bool) -> Path:
    """A snapshot of the flights that says this of itself."""
    folder.mkdir()
    file, _ = make(folder)
    with duckdb.connect(str(file)) as con:
        con.execute(
            "INSERT INTO _lake.shards SELECT 'flights', 'stream', 'shard-1', '1', false, "
            "(now() AT TIME ZONE 'UTC') - to_seconds(?::BIGINT)",
            [round(hours_old * 3600)],
        )
        con.execute("UPDATE _lake.tables SET complete = ?", [complete])
    return file


def run(python: Path, folder: Path, *snapshots: Path) -> list[Mapping[str, Any]]:
    """`dbt build` and `dbt source freshness` over each; gives the status of each node."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
    done = subprocess.run(
        [python, "-c", RUNNER, folder, PROJECT, *snapshots],
        # A zone far from UTC: the snapshot's moments are UTC wherever dbt runs.
        env={**kept, "MARTS": str(folder / "marts.duckdb"), "DO_NOT_TRACK": "1", "TZ": "Asia/Tokyo"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[Mapping[str, Any]] = json.loads((folder / "said.json").read_text())
    return found


def test_dbt_builds_and_tests_over_a_snapshot_and_leaves_it_as_it_was(dbt: Path, tmp_path: Path) -> None:
    fresh = snapshot(tmp_path / "fresh", hours_old=0.5, complete=True)
    stale = snapshot(tmp_path / "stale", hours_old=3, complete=False)
    before = hashlib.sha256(fresh.read_bytes()).digest()

    built, freshness, built_of_stale, staleness = run(dbt, tmp_path, fresh, stale)

    assert {name: built.pop(name) for name in ("stg_flights", "route_delays")} == {  # type: ignore[attr-defined]
        "stg_flights": "success",
        "route_delays": "success",
    }
    assert len(built) == 7
    assert set(built.values()) == {"pass"}
    assert freshness == {"flights": "pass"}
    assert hashlib.sha256(fresh.read_bytes()).digest() == before

    assert built_of_stale["nothing_is_missing"] == "fail"
    assert staleness == {"flights": "warn"}

    with duckdb.connect(str(tmp_path / "marts.duckdb"), read_only=True) as con:
        con.execute(f"ATTACH '{stale}' AS lake (READ_ONLY)")
        routes = con.sql("FROM route_delays ORDER BY ALL").fetchall()
        wanted = con.sql(
            """SELECT origin, dest, count(*), count(*) FILTER (status = 'arrived'), round(avg(arr_delay), 1),
            count(*) FILTER (arr_delay > 15) FROM lake.flights GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        assert routes == wanted
        assert len(routes) > 100
        # Both ways in which the scheduled arrival came are times.
        assert con.sql("SELECT count(scheduled_arrival) FROM stg_flights").fetchall() == [(3077,)]
        events = con.sql("SELECT DISTINCT last_event FROM stg_flights ORDER BY ALL").fetchall()
        assert events == [("arrived",), ("departed",), ("diverted",), (None,)]
