"""The pages' examples run: Python and SQL against a snapshot of the demo's flights, commands against the parser."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
import typer
from sqlglot import exp

from dynalake.cli.app import app
from lake.export import export_table
from tests.documents import PAGES, Block, blocks, commands
from tests.environments import ROOT
from tests.queries.lake_of_flights import make

TOOLS = [ROOT / "docs" / f"{name}.md" for name in ("duckdb", "pandas", "dbt", "athena", "scheduling")]
"""Pages whose Python and SQL is run, from the first block to the last."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    snapshot, _ = make(made)
    export_table(snapshot, "flights", "parquet", made / "flights.parquet")
    return made


@pytest.fixture
def there(folder: Path) -> Iterator[Path]:
    """In the folder that has the snapshot and its export."""
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def shown(relation: duckdb.DuckDBPyRelation | None) -> str:
    """A result as DuckDB's command line draws it."""
    return "" if relation is None else str(relation).rstrip("\n")


def asked(block: Block) -> str | None:
    """The SQL of a block, or of `duckdb -readonly lake.duckdb "SQL"` in it."""
    if block.language == "sql":
        return block.text
    if block.language == "console" and block.text.startswith("$ duckdb -readonly lake.duckdb "):
        return block.text.removeprefix("$ duckdb -readonly lake.duckdb ").strip().strip('"')
    return None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("page", TOOLS, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_comes(page: Path, there: Path) -> None:
    names: dict[str, Any] = {}
    ran = 0
    found = [*blocks(page), Block("", "", "", 0)]
    with duckdb.connect("lake.duckdb", read_only=True) as con:
        for block, following in itertools.pairwise(found):
            where = f"{page.name}, line {block.line}"
            if block.about.startswith("file="):
                assert block.text == (ROOT / block.about.removeprefix("file=")).read_text(), where
                ran += 1
                continue
            sql = asked(block)
            if "athena" in block.about:
                assert not isinstance(sqlglot.parse_one(block.text, dialect="athena"), exp.Command), where
                ran += 1
                continue
            printed = io.StringIO()
            if sql is not None and "ATTACH" in sql:  # from a database of the reader's own
                with duckdb.connect() as own:
                    printed.write(shown(own.sql(sql)))
            elif sql is not None:
                printed.write(shown(con.sql(sql)))
            elif block.language == "python":
                with contextlib.redirect_stdout(printed):
                    exec(compile(block.text, where, "exec"), names)
            else:
                continue
            ran += 1
            if following.language == "text":
                assert _lines(printed.getvalue()) == _lines(following.text), where
    assert ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLEAU_SERVER", "https://tableau.example")
    group: Any = typer.main.get_command(app)
    for line, words in commands(page):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * 9))  # a question's default will do
        words = words[: words.index("|")] if "|" in words else words
        words = words[: words.index(">")] if ">" in words else words
        name, arguments = words[1], words[2:]
        assert name in group.commands, f"{page.name}, line {line}: {name}"
        try:
            group.commands[name].make_context(name, list(arguments), resilient_parsing=False)
        except Exception as error:
            raise AssertionError(f"{page.name}, line {line}: {' '.join(words)}: {error}") from error
