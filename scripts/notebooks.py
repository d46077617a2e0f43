"""For whoever works on the notebooks: `scripts/notebooks strip | check | run [--out FOLDER] [NAME …]`.

strip    takes outputs and counts out of notebooks/*.ipynb, as they must be in git
check    says which of them are not so; exit code 1 if any
run      runs them from top to bottom, each in a kernel and a folder of its own, with a Thrift server for the one that
         asks Hive and a stub of Tableau's server for the one that publishes, and leaves them with their outputs
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nbformat

if TYPE_CHECKING:
    from tests.stubs.tableau import TableauStub

ROOT: Final = Path(__file__).parent.parent
NOTEBOOKS: Final = ROOT / "notebooks"
WITHOUT_SPARK: Final = ROOT / "tests" / "notebooks" / "without_spark"
CELL_TIMEOUT_S: Final = 300


def all_notebooks() -> list[Path]:
    """The notebooks, in their order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def stripped(text: str) -> str:
    """A notebook's text as it must be in git: no outputs, no counts, nothing of the machine that ran it."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return str(nbformat.writes(notebook, indent=1)).rstrip("\n") + "\n"


def kernel_environment() -> dict[str, str]:
    """This process's environment, as an analyst's: without pyspark, which the tests' has and JupySQL stumbles over."""
    search = os.pathsep.join(filter(None, (str(WITHOUT_SPARK), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": search}


def execute(
    path: Path,
    folder: Path,
    environment: Mapping[str, str],
    on_message: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Any:
    """Run a notebook from top to bottom in a kernel of its own, and write it with its outputs to the folder.

    Args:
        path: the notebook.
        folder: where its kernel works.
        environment: what its kernel's environment has beside this process's own.
        on_message: called with each message that shows something.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)

    class Client(NotebookClient):
        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            on_message(msg)
            return super().process_message(msg, cell, cell_index)

    client = Client(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute(env={**kernel_environment(), **environment})
    finally:
        nbformat.write(notebook, folder / path.name)
    return notebook


@contextmanager
def servers(folder: Path, names: list[str]) -> Iterator[dict[str, str]]:
    """The environment of notebooks that ask a server, where one of them does: Hive's, or Tableau's."""
    environment = {}
    with ExitStack() as stack:
        if any(name.startswith("05") for name in names):
            from tests.queries.thrift import thrift_server

            environment["HIVE_HOST"] = f"127.0.0.1:{stack.enter_context(thrift_server(folder)).port}"
        if any(name.startswith("06") for name in names):
            from tests.stubs.tableau import TableauStub

            environment |= tableau_environment(stack.enter_context(TableauStub()))
        yield environment


def tableau_environment(tableau: TableauStub) -> dict[str, str]:
    """Where the notebook that publishes finds the server, and its token."""
    name, value = tableau.token
    return {
        "TABLEAU_SERVER": tableau.url,
        "TABLEAU_SITE": tableau.site,
        "TABLEAU_PROJECT": "Finance",
        "TABLEAU_TOKEN_NAME": name,
        "TABLEAU_TOKEN_VALUE": value,
    }


def run(out: Path, names: list[str]) -> None:
    """Run notebooks and leave them, with their outputs, in the folder."""
    chosen = [
        path for path in all_notebooks() if not names or any(path.name.startswith(name) for name in names)
    ]
    work = out / "work"
    for path in chosen:
        (work / path.stem).mkdir(parents=True, exist_ok=True)
    with servers(work, [path.name for path in chosen]) as environment:
        for path in chosen:
            began = time.monotonic()
            execute(path, work / path.stem, environment)
            (work / path.stem / path.name).replace(out / path.name)
            sys.stdout.write(f"{path.name}: {time.monotonic() - began:.1f} s\n")


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["strip", "check", "run"])
    parser.add_argument("names", nargs="*", help="for run: which, by how their names begin")
    parser.add_argument("--out", type=Path, default=ROOT / "site-notebooks", help="for run: where they go")
    asked = parser.parse_args()
    if asked.what == "run":
        run(asked.out.absolute(), asked.names)
        return 0
    unclean = []
    for path in all_notebooks():
        text = path.read_text(encoding="utf-8")
        if stripped(text) != text:
            unclean.append(path)
            if asked.what == "strip":
                path.write_text(stripped(text), encoding="utf-8")
    verb = "stripped" if asked.what == "strip" else "has outputs; `scripts/notebooks strip` takes them out"
    sys.stdout.writelines(f"{path.relative_to(ROOT)}: {verb}\n" for path in unclean)
    return 1 if unclean and asked.what == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
