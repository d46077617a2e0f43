"""The demo's command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynalake.cli.options import Json
from dynalake.screen import Screen


def demo(
    out: Annotated[Path, typer.Option(help="The folder for what the demo leaves.", metavar="FOLDER")] = Path(
        "dynalake-demo"
    ),
    as_json: Json = False,
) -> None:
    """Run the main job on real data, from end to end, on an embedded AWS with two accounts. Needs no account.

    Exit code 1 if anything that it claims is false.

    Examples: `dynalake demo`, `dynalake demo --json`
    """
    from dynalake.demo.tour import run_demo

    screen = Screen(as_json=as_json)
    summary = run_demo(out, screen)
    screen.answer(summary.facts)
    if summary.false_claims:
        raise typer.Exit(1)
