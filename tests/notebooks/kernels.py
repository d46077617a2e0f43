"""Cells in a real kernel, and what they cost."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from scripts.notebooks import kernel_environment


def run_cells(folder: Path, *sources: str) -> list[Any]:
    """Run cells in one kernel; their outputs, also those of cells that fail."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute(env=kernel_environment())
    return [cell.outputs for cell in notebook.cells]


def children_cpu_s() -> float:
    """CPU seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
