"""Publishing to a server that checks what Tableau Server checks, and that fails as networks and servers do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dynalake.jobs.publishing import Destination, PublishReport, publish_table
from dynalake.tableau.server import signed_in
from dynalake.tableau.token import Token
from tests.lake.building import build
from tests.stubs.tableau import TableauStub
from tests.tableau.extracts import EVERY_TYPE, content
from tests.tableau.test_increment import full, things

PART = 64 << 10
"""Small parts, so that a small extract has several."""


@pytest.fixture
def tableau() -> Iterator[TableauStub]:
    with TableauStub() as stub:
        yield stub


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", things(40, **EVERY_TYPE))
    return tmp_path / "lake.duckdb"


def publish(tableau: TableauStub, snapshot: Path, project: str = "Finance", **more: Any) -> PublishReport:
    return publish_table(
        snapshot,
        "things",
        Destination(tableau.url, project, tableau.site),
        Token(*tableau.token),
        sign_in=partial(signed_in, pause_s=0.01, chunk_bytes=PART),
        **more,
    )


@pytest.mark.parametrize("format_", ["hyper", "tdsx"])
def test_what_arrives_is_the_snapshot_row_for_row(
    tableau: TableauStub, snapshot: Path, tmp_path: Path, format_: Any
) -> None:
    report = publish(tableau, snapshot, format=format_)
    assert content(tableau.extract("things")) == content(full(snapshot, tmp_path, format_))
    assert (report.rows, report.project, report.id) == (40, "Finance", tableau.source("things").id)
    assert report.bytes == len(tableau.source("things").content) == sum(tableau.parts)
    assert all(size == PART for size in tableau.parts[:-1])
    assert "40 rows" in tableau.source("things").description
    assert not tableau.sessions, "signed out"
