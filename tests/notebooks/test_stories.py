"""Each notebook runs from top to bottom in a kernel and an empty folder of its own, and what its story says is so."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dynalake.demo.flights import story
from dynalake.demo.live import NEW_FLIGHTS
from scripts.notebooks import ROOT, all_notebooks, execute, tableau_environment
from tests.expectations.test_report import chromium
from tests.queries.thrift import ThriftServer, thrift_server
from tests.stubs.tableau import TableauStub


class Story:
    """A notebook that has run."""

    def __init__(self, notebook: Any, updates: int) -> None:
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.updates = updates

    def said(self, code: str) -> str:
        """What the cell said in plain text whose code holds this."""
        (cell,) = (cell for cell in self.cells if code in cell.source)
        return "\n".join(
            output.text if output.output_type == "stream" else output.data.get("text/plain", "")
            for output in cell.outputs
        )

    def pictures(self) -> list[bytes]:
        return [
            base64.b64decode(output.data["image/png"])
            for cell in self.cells
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]

    def complaints(self) -> list[str]:
        return [
            output.text for cell in self.cells for output in cell.outputs if output.get("name") == "stderr"
        ]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where executed notebooks are kept; the test of their pages reads them there."""
    return tmp_path_factory.mktemp("executed")


def run(name: str, folder: Path, executed: Path, environment: Mapping[str, str] | None = None) -> Story:
    (path,) = (path for path in all_notebooks() if path.name.startswith(name))
    updates = 0

    def count(message: Mapping[str, Any]) -> None:
        nonlocal updates
        updates += message["msg_type"] == "update_display_data" and "image/png" in message["content"]["data"]

    notebook = execute(path, folder, environment or {}, on_message=count)
    (folder / path.name).replace(executed / path.name)
    told = Story(notebook, updates)
    assert told.complaints() == []
    assert told.pictures(), "each has a picture"
    return told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThriftServer]:
    with thrift_server(tmp_path_factory.mktemp("thrift")) as running:
        yield running


def test_first_look(tmp_path: Path, executed: Path) -> None:
    told = run("01", tmp_path, executed)

    board = story(1, NEW_FLIGHTS).from_moment(datetime(2013, 1, 1, 22, 0)).before
    assert f"flights: {len(board):,} rows" in told.said("lake = dynalake.open_lake(path)")
    assert "complete: True, gaps: ()" in told.said("lake.freshness")
    counted = dict(re.findall(r"\d +(\w+) +(\d+)", told.said("GROUP BY status")))
    statuses = [item["status"]["S"] for item in board]
    assert counted == {status: str(statuses.count(status)) for status in set(statuses)}
    assert "EV4417" in told.said("%sql SELECT carrier_flight")
    assert "EV4417" in told.said('dynalake.run("late_flights"')


def test_changes_as_they_happen(tmp_path: Path, executed: Path) -> None:
    told = run("02", tmp_path, executed)

    assert "a newer version was published: .reload()" in told.said("done = dynalake.refresh")
    (versions,) = re.findall(r"(\d+) versions were published", told.said("dynalake.follow"))
    assert told.updates == int(versions) >= 1, (
        "the picture moved with each version; a busy machine publishes fewer"
    )
    due = [write for write in story(1, NEW_FLIGHTS).live if datetime(2013, 1, 1, 6, 30) <= write.at]
    due = [write for write in due if write.at < datetime(2013, 1, 1, 9, 30)]
    assert f"{len(due):,} reached the lake" in told.said("day.result")
    assert "missing=0, extra=0, different=0" in told.said("dynalake.parity")


def test_schema_drift(tmp_path: Path, executed: Path) -> None:
    told = run("03", tmp_path, executed)

    assert "(['N.int64'], False)" in told.said('"speed_mph" in before')
    assert "'pass'" in told.said('"drift", config=world.config).verdict')
    assert "'sched_arr': ['N.int64', 'S']" in told.said("after = kinds()")
    assert "speed_mph" in told.said("found = dynalake.check")
    assert "sched_arr: N then S" in told.said("found = dynalake.check")
    assert "new columns: ('sched_arr__other', 'speed_mph')" in told.said("done.added")
    assert re.search(r"<NA> +\{\"S\":\"(\d\d:\d\d)\"\} +\1", told.said("coalesce"))


def test_parity_and_freshness(tmp_path: Path, executed: Path) -> None:
    told = run("04", tmp_path, executed)

    assert "stalled: 114 changes wait" in told.said("time.sleep")
    assert "114 changes applied" in told.said("world.replicate()")
    assert "0 changes wait now" in told.said("world.replicate()")
    assert "missing=3, extra=1, different=2" in told.said("found = dynalake.parity")
    assert "asked=6, written=5, deleted=1" in told.said("dynalake.repair")
    assert "missing=0, extra=0, different=0" in told.said("healed = dynalake.parity")


def test_hive_and_emr(tmp_path: Path, executed: Path, server: ThriftServer) -> None:
    told = run("05", tmp_path, executed, {"HIVE_HOST": f"127.0.0.1:{server.port}"})

    assert "STORED BY 'org.apache.hadoop.hive.dynamodb.DynamoDBStorageHandler'" in told.said("live.text")
    assert "USING PARQUET" in told.said("heavy.text").upper()
    assert "4 statements have run" in told.said("made = dynalake.ddl")
    assert "the same, row by row and type by type: True" in told.said("there.equals(here)")


def test_to_tableau(tmp_path: Path, executed: Path) -> None:
    with TableauStub() as tableau:
        told = run("06", tmp_path, executed, tableau_environment(tableau))
        tableau.extract("flights")
        assert not tableau.sessions, "signed out"

    rows = len(story(1, NEW_FLIGHTS).from_moment(datetime(2013, 1, 1, 20, 0)).before)
    assert f"{rows:,} rows" in told.said("first = dynalake.export")
    assert "speed_mph" in told.said("pantab.frames_from_hyper")
    changed = {
        tuple(map(str, write.key.values()))
        for write in story(1, NEW_FLIGHTS).live
        if datetime(2013, 1, 1, 20, 0) <= write.at < datetime(2013, 1, 1, 20, 30)
    }
    assert f"Increment(full=None, deleted={len(changed) - 3}, inserted={len(changed)})" in told.said(
        "second = dynalake.export"
    )
    assert "in Finance" in told.said("destination = {")
    assert "full=None" in told.said('world.play("21:00")'), "the second time only what changed"


def test_without_a_server_a_reader_is_told_what_to_do(tmp_path: Path) -> None:
    """The first cell of each notebook that asks a server, in this process: it only looks at the environment."""
    hive, tableau = (path for path in all_notebooks() if path.name.startswith(("05", "06")))
    assert "No HIVE_HOST in the environment: cells that ask a server are skipped" in first_cell(hive)
    assert "HIVE_HOST=emr-master:10000 jupyter lab" in first_cell(hive)
    assert "No TABLEAU_SERVER in the environment: cells that publish are skipped" in first_cell(tableau)
    assert "set TABLEAU_SERVER, TABLEAU_SITE" in first_cell(tableau)


def first_cell(path: Path) -> str:
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.delenv("HIVE_HOST", raising=False)
        patch.delenv("TABLEAU_SERVER", raising=False)
        exec(cell.source, {})
    return out.getvalue()


def test_their_pages_show_them_and_ask_for_nothing(executed: Path, tmp_path: Path) -> None:
    """The site, with the notebooks that have run here: their pictures and tables are in it, and are all it loads."""
    names = sorted(path.stem for path in executed.glob("*.ipynb"))
    if not names:
        pytest.skip("no notebook was run here")
    built = subprocess.run(
        [
            Path(sys.executable).with_name("mkdocs"),
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            tmp_path / "site",
        ],
        cwd=ROOT,
        env={**os.environ, "DYNALAKE_EXECUTED_NOTEBOOKS": str(executed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    for name in names:
        page = tmp_path / "site" / "notebooks" / f"{name}.html"
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r'<img alt="([^"]*)" src="([^"]+)"', text)
        assert pictures
        for title, source in pictures:
            assert len(title) > 10, "those who cannot see it are told what it shows"
            assert (page.parent / source).read_bytes().startswith(b"\x89PNG")
        assert "<table>" in text
        assert "\x1b[" not in text
        assert 'href="../jupyter.html"' in text
    asked, _ = chromium(tmp_path / "site" / "notebooks" / f"{names[0]}.html", tmp_path, 1280, "light")
    assert asked == []
