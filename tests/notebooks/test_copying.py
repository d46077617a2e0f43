"""`dynalake notebooks` copies them, never over a reader's own work, and opens Jupyter where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from dynalake.errors import UserError
from dynalake.notebooks import copy_notebooks, notebooks
from scripts.notebooks import all_notebooks, stripped

ROOT = Path(__file__).parent.parent.parent


def done(folder: Path, **more: bool) -> dict[str, str]:
    return {each.name: each.done for each in copy_notebooks(folder, **more)}


def dynalake(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    return subprocess.run(
        [sys.executable, "-m", "dynalake", "notebooks", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_are_copied_and_again_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "folder"
    first = done(out)
    assert len(first) == len(notebooks()) == 6
    assert set(first.values()) == {"copied"}
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in notebooks())
    assert set(done(out).values()) == {"unchanged"}


def test_an_edited_one_is_kept_and_an_older_one_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for path in notebooks()[:2]:
        (old / path.name).write_text("older", encoding="utf-8")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("dynalake.notebooks.notebooks", lambda: sorted(old.iterdir()))
        copy_notebooks(out)
    edited, older = notebooks()[:2]
    (out / edited.name).write_text("older, and mine", encoding="utf-8")

    found = done(out)

    assert (found[edited.name], found[older.name]) == ("kept", "renewed")
    assert (out / edited.name).read_text(encoding="utf-8") == "older, and mine"
    assert (out / older.name).read_bytes() == older.read_bytes()
    assert done(out, overwrite=True)[edited.name] == "renewed"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name another folder with --out"):
        copy_notebooks(tmp_path / "file" / "folder")


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    answer = dynalake(tmp_path, "--out", "mine", "--json")
    assert answer.returncode == 0
    document = json.loads(answer.stdout)
    assert [each["name"] for each in document["notebooks"]] == [path.name for path in notebooks()]
    edited = tmp_path / "mine" / document["notebooks"][0]["name"]
    edited.write_text(edited.read_text() + "\n")
    said = dynalake(tmp_path, "--out", "mine", "--no-open").stdout
    assert f"kept      {edited.name}" in said
    assert "--overwrite replaces them" in said


def test_jupyter_is_opened_on_the_first_where_it_is_installed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "jupyterlab").mkdir(parents=True)
    (site / "jupyterlab" / "__init__.py").write_text("")
    (site / "jupyterlab" / "__main__.py").write_text("import sys; print('OPENED', sys.argv[1:]); sys.exit(7)")
    opened = dynalake(tmp_path, path=site)
    assert opened.returncode == 7
    assert "OPENED ['dynalake-notebooks/01_first_look.ipynb']" in opened.stdout
    assert "OPENED" not in dynalake(tmp_path, "--no-open", path=site).stdout


def test_they_stand_in_git_without_outputs() -> None:
    unclean = [path.name for path in all_notebooks() if stripped(path.read_text()) != path.read_text()]
    assert unclean == [], "scripts/notebooks strip"


def test_an_output_is_noticed() -> None:
    text = all_notebooks()[0].read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.execution_count, cell.metadata = 3, {"execution": {"iopub.execute_input": "2026-11-24"}}
    cell.outputs = [nbformat.v4.new_output("stream", text="told")]
    assert nbformat.writes(notebook) != text
    assert stripped(nbformat.writes(notebook)) == text


def test_every_chart_has_a_title_and_names_its_axes() -> None:
    for path in all_notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "axes.set(" in cell.source:
                assert "title=" in cell.source, path.name
                assert "xlabel=" in cell.source, path.name
