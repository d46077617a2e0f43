"""Readers in another process while a snapshot is refreshed, and writers that are killed at any moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from lake.open import open_lake
from tests.lake.building import build
from tests.lake.test_refresh import refresh, row
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ROWS = 20
KILLS = int(os.environ.get("DYNALAKE_TEST_KILLS", "4"))
"""Set it higher for a long run."""

# Each refresh gives every row the next generation; a row more comes with each. So a reader can tell half of one.
WRITER = f"""
import sys
from pathlib import Path
from lake.open import open_lake
from tests.lake.test_refresh import refresh, row
out = Path(sys.argv[1])
while True:
    with open_lake(out) as lake:
        ((generation,),) = lake.sql("SELECT max(g) FROM things").fetchall()
    g = generation + 1
    refresh(out, [row(str(n), g + 1, g={{"N": str(g)}}) for n in range({ROWS} + g)])
"""

READER = f"""
import json, sys, time
from pathlib import Path
import duckdb
out, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen, reads, held, last = [], 0, [], False
while not last:
    last = stop.exists()  # looked at before the read: the last version is always read
    con = duckdb.connect()
    con.execute(f"ATTACH '{{out}}' AS lake (READ_ONLY)")
    first = con.execute("SELECT min(g), max(g), count(*) FROM lake.things").fetchone()
    told = con.execute("SELECT row_count FROM lake._lake.tables").fetchone()[0]
    assert first[0] == first[1], first
    assert first[2] == {ROWS} + first[0] == told, (first, told)
    # Some readers keep a version open for long.
    held.append((con, first))
    if reads % 7:
        held.pop()[0].close()
    reads += 1
    for old, before in held[-3:]:
        assert old.execute("SELECT min(g), max(g), count(*) FROM lake.things").fetchone() == before
    for old, _ in held[:-3]:
        old.close()
    del held[:-3]
    if not seen or seen[-1] != first[0]:
        assert not seen or seen[-1] < first[0]
        seen.append(first[0])
    if reads == 1:
        print("reading", flush=True)
print(json.dumps({{"reads": reads, "versions": len(seen), "last": seen[-1]}}))
"""


def start(script: str, *words: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_readers_see_whole_versions_while_writers_are_killed(tmp_path: Path) -> None:
    out, stop = tmp_path / "l.duckdb", tmp_path / "stop"
    build(out, [row(str(n), 1, g={"N": "0"})["NewImage"] for n in range(ROWS)])
    reader = start(READER, out, stop)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    chance = random.Random(20)
    try:
        for _ in range(KILLS):
            published = out.stat().st_ino
            writer = start(WRITER, out)

            def has_published(before: int = published, writer: subprocess.Popen[str] = writer) -> bool:
                assert writer.poll() is None, writer.communicate()
                return out.stat().st_ino != before

            until(has_published)
            time.sleep(chance.random())
            assert writer.poll() is None, writer.communicate()
            writer.kill()
            writer.communicate()
    finally:
        stop.touch()
        answer, trouble = reader.communicate()
    assert reader.returncode == 0, trouble
    report = json.loads(answer)
    assert report["versions"] > 1
    assert report["last"] >= KILLS
    # The next run mends what the last one left.
    g = report["last"] + 1
    refresh(out, [row(str(n), g + 1, g={"N": str(g)}) for n in range(ROWS + g)])
    with open_lake(out) as lake:
        assert lake.sql("SELECT count(*), max(g) FROM things").fetchall()[0][0] >= ROWS + g
    left = {path.name for path in tmp_path.iterdir()} - {"stop"}
    assert left == {"l.duckdb", ".l.duckdb.spare"}


def test_a_version_that_somebody_has_opened_and_not_locked_is_not_written(tmp_path: Path) -> None:
    """DuckDB opens a file before it locks it: in between, only the open file tells."""
    out = tmp_path / "l.duckdb"
    build(out, [row("a", 1)["NewImage"]])
    script = "import sys; file = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        assert refresh(out, [row("b", 2)]).copied
        assert refresh(out, [row("c", 3)]).copied
        reader.communicate("\n")
    assert not refresh(out, [row("d", 4)]).copied


@pytest.mark.parametrize("who", ["this process", "another process", "nobody"])
def test_a_version_that_is_read_is_not_written(tmp_path: Path, who: str) -> None:
    out = tmp_path / "l.duckdb"
    build(out, [row("a", 1)["NewImage"]])
    script = f"""
import duckdb, sys
con = duckdb.connect()
con.execute("ATTACH '{out}' AS lake (READ_ONLY)")
print("open", flush=True)
sys.stdin.readline()
print(con.execute("SELECT count(*) FROM lake.things").fetchone()[0], flush=True)
"""
    con = duckdb.connect()
    other = None
    if who == "this process":
        con.execute(f"ATTACH '{out}' AS lake (READ_ONLY)")
    elif who == "another process":
        other = subprocess.Popen(
            [sys.executable, "-c", script], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
    assert refresh(out, [row("b", 1)]).copied
    # The version that is read is the spare now.
    assert refresh(out, [row("c", 1)]).copied == (who != "nobody")
    assert not refresh(out, [row("d", 1)]).copied
    if who == "this process":
        assert con.execute("SELECT count(*) FROM lake.things").fetchall() == [(1,)]
    if other is not None:
        assert other.communicate("go\n")[0] == "1\n"
    with open_lake(out) as lake:
        assert lake.table("things").num_rows == 4


def test_a_spare_that_somebody_wrote_is_not_used(tmp_path: Path) -> None:
    out = tmp_path / "l.duckdb"
    build(out, [row("a", 1)["NewImage"]])
    refresh(out, [row("b", 1)])
    spare = tmp_path / ".l.duckdb.spare"
    duckdb.connect(str(spare / "snapshot.duckdb")).execute("DELETE FROM _lake_rows.things").close()
    assert refresh(out, [row("c", 1)]).copied
    (spare / "entry").write_text("{")
    assert refresh(out, [row("d", 1)]).copied
    (spare / "changes").unlink()
    assert refresh(out, [row("e", 1)]).copied
    build(out, [row("a", 1)["NewImage"]])
    assert not spare.exists()


def test_many_changes_leave_no_spare(tmp_path: Path) -> None:
    out = tmp_path / "l.duckdb"
    build(out, [row("a", 1)["NewImage"]])
    refresh(out, [row(str(n), 1, text={"S": "x" * 1000}) for n in range(3000)])
    assert not (tmp_path / ".l.duckdb.spare").exists()
    assert refresh(out, [row("b", 2)]).copied
