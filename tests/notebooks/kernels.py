"""Cells in a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from scripts.notebooks import kernel_environment
from tests.waiting import PATIENCE_S


def run_cells(folder: Path, *sources: str) -> list[Any]:
    """Run cells in one kernel; their outputs, also those of cells that fail."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(
        notebook, timeout=PATIENCE_S, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute(env=kernel_environment())
    return [cell.outputs for cell in notebook.cells]
