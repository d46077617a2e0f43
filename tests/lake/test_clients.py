"""Older clients of DuckDB read a snapshot, whole: analysts' tools bring their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import duckdb
import pytest

from benchmarks.items import KEY, lines
from lake.snapshot import build_snapshot
from tests.environments import UnavailableError, environment, unavailable
from tests.lake.building import ABOUT
from tests.lake.test_refresh import refresh

ROWS = 10_000
"""Enough for DuckDB to compress its columns in all its ways."""

COPY = """
import duckdb, sys
file, out = sys.argv[1:]
con = duckdb.connect(file, read_only=True)
con.execute(f"COPY (FROM orders) TO '{out}' (FORMAT parquet)")
print(duckdb.__version__, con.execute("SELECT row_count FROM _lake.tables").fetchone()[0])
"""


@pytest.fixture(scope="module")
def clients(pytestconfig: pytest.Config) -> Path:
    """The folder of an older DuckDB's Python and of the command line."""
    assert pytestconfig.cache is not None
    try:
        return environment("clients", pytestconfig.cache.mkdir("clients")).parent
    except UnavailableError as error:
        unavailable(str(error))


def test_the_oldest_duckdb_and_the_command_line_read_what_the_newest_wrote(
    tmp_path: Path, clients: Path
) -> None:
    out = tmp_path / "lake.duckdb"
    build_snapshot(out, "orders", KEY, [list(lines(ROWS))], list, lambda: ABOUT)
    changed = [json.loads(line) for line in lines(20, ROWS - 10)]
    for row in changed:
        row["_lake_version"]["S"] = "2027" + row["_lake_version"]["S"][4:]
    refresh(out, [{"NewImage": row} for row in changed], table="orders")
    copy = tmp_path / "copy.parquet"
    command = [str(clients / "python"), "-c", COPY, str(out), str(copy)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert said[0].startswith("1.4."), "the oldest that docs/duckdb.md names"
    assert said[1] == str(ROWS + 10)
    with duckdb.connect(str(out), read_only=True) as con:
        for one, other in (("orders", f"'{copy}'"), (f"'{copy}'", "orders")):
            assert con.sql(f"SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})").fetchall() == [(0,)]
        total = con.sql("SELECT sum(total)::VARCHAR FROM orders").fetchall()[0][0]
    shown = subprocess.run(
        [
            str(clients / "duckdb"),
            "-readonly",
            "-json",
            str(out),
            "SELECT sum(total)::VARCHAR AS total FROM orders",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(shown.stdout) == [{"total": total}]
