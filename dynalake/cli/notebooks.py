"""`dynalake notebooks`: what analysts open first."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from dynalake.cli.options import Json
from dynalake.screen import Screen


def notebooks(
    out: Annotated[Path, typer.Option("--out", help="The folder to copy them to.", metavar="FOLDER")] = Path(
        "dynalake-notebooks"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace notebooks that you have edited or run, too.")
    ] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Copy only; do not open Jupyter.")] = False,
    as_json: Json = False,
) -> None:
    """Copy the notebooks to a folder of yours and open them in Jupyter, where it is installed.

    Six stories on the flights of New York: first look, changes as they happen, schema drift, parity and freshness,
    Hive and EMR, Tableau. They need no AWS account. A notebook that you have edited or run is never replaced unless
    you say so.

    Examples: `dynalake notebooks`, `dynalake notebooks --out stories --no-open`
    """
    from dynalake.notebooks import copy_notebooks, jupyter_command

    screen = Screen(as_json=as_json)
    copied = copy_notebooks(out, overwrite=overwrite)
    command = jupyter_command(out)
    screen.answer({"folder": str(out), "notebooks": [dataclasses.asdict(each) for each in copied]})
    for each in copied:
        screen.say(f"   {each.done:<9} {each.name}")
    if any(each.done == "kept" for each in copied):
        screen.say("kept: you have edited or run these; --overwrite replaces them")
    if command is None:
        screen.say(
            f"they are in {out}. Jupyter is not installed here: `pip install 'dynalake[notebooks]'` brings it"
        )
    elif no_open or as_json:
        screen.say(f"they are in {out}. To open them: jupyter lab {out}")
    else:
        screen.say(f"they are in {out}; opening JupyterLab (Ctrl-C ends it)")
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 -- our own Python, our own file
