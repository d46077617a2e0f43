"""The site is built strictly, names only commands that there are, and its onboarding page works to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynalake.cli.app import app
from tests.environments import ROOT
from tests.operate.land import Land
from tests.operate.stopwatch import LAKE_TABLE, begin, follow

PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS = {command.callback.__name__ for command in app.registered_commands if command.callback}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_there_and_none_has_a_dead_link(site: Path) -> None:
    for page in PAGES:
        built = site / page.relative_to(ROOT / "docs").with_suffix(".html")
        assert built.is_file(), page


def test_a_dead_link_is_an_error(tmp_path: Path) -> None:
    """The strictness of the build, tried."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A\n\n[gone](gone.md), [nowhere](index.md#nowhere)\n", encoding="utf-8")
    text = re.sub(r"hooks:.*\n", "", text).replace("docs_dir: docs", f"docs_dir: {docs}")
    (tmp_path / "mkdocs.yml").write_text(text, encoding="utf-8")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [
            mkdocs,
            "build",
            "--strict",
            "--site-dir",
            tmp_path / "site",
            "--config-file",
            tmp_path / "mkdocs.yml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "gone.md" in done.stdout + done.stderr
    assert "#nowhere" in done.stdout + done.stderr


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?:)?//[^\"]*", text)
        assert not loaded, page


def test_the_command_line_s_reference_has_every_command_and_option(site: Path) -> None:
    text = (site / "cli.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f'id="{command}"' in text
    for option in ("--dry-run", "--canary", "--watch", "--until-caught-up", "--delete-data"):
        assert option in text


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_only_commands_that_there_are_are_named(page: Path) -> None:
    named = set(re.findall(r"[`$] ?dynalake ([a-z][a-z-]*)", page.read_text(encoding="utf-8")))
    assert named <= COMMANDS


def test_the_onboarding_page_works_to_the_letter(land: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(land.folder)
    begin(land)

    def run(words: list[str]) -> None:
        more = ["--code", str(land.zip)] if words[0] == "deploy" else []
        answer = land.run(*words, *more)
        assert answer.code == 0, (words, answer.out, answer.err)

    steps = [step for step, _ in follow(land, run)]
    assert len(steps) >= 8
    assert len(land.rows(LAKE_TABLE)) == 101
    entries = [row for row in land.rows("dynalake.checkpoints") if row["pipeline"]["S"] == LAKE_TABLE]
    gaps = [row for row in entries if row["entry"]["S"].startswith("gap/")]
    assert gaps
    assert all("closed_at" in gap for gap in gaps), "what the page promises at its end"
