"""Commands for whoever lives with a pipeline."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name
from dynalake.errors import UserError
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.aws import Account
    from dynalake.config import SideConfig
    from dynalake.doctor import Check

_MARKS = {"pass": "ok", "fail": "FAIL", "skip": "-"}


def doctor(
    name: Name,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary",
            help="Also send an item through: written to the source table, seen in the lake, deleted again.",
        ),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Look at each prerequisite of a pipeline, from both accounts, and say what to do about those that fail.

    Nothing is changed. Exit code 0 if nothing fails, 1 if something does.

    Examples: `dynalake doctor orders`, `dynalake doctor orders --canary`
    """
    from dynalake.config import load_config, pipeline_of
    from dynalake.doctor import Patient, check_up, send_canary

    screen = Screen(as_json=as_json)
    pipeline = pipeline_of(load_config(config), name)
    patient = Patient(name, pipeline, _open("source", pipeline.source), _open("lake", pipeline.lake))
    checks = []
    for check in check_up(patient):
        checks.append(check)
        _show(screen, check)
    failed = [check for check in checks if check.verdict == "fail"]
    sent = send_canary(patient) if canary and not failed else None
    screen.answer(
        {
            "pipeline": name,
            "failed": len(failed),
            "checks": [dataclasses.asdict(check) for check in checks],
            "canary": dataclasses.asdict(sent) if sent else None,
        }
    )
    if sent:
        screen.say(
            f"canary: in the lake after {sent.written_s:.1f} s, its deletion after {sent.deleted_s:.1f} s; its "
            "tombstone goes by itself"
        )
    elif canary:
        screen.say("no canary is sent while something fails")
    if failed:
        screen.say(f"{len(failed)} of {len(checks)} prerequisites fail")
        raise typer.Exit(1)
    screen.say(f"{len(checks)} prerequisites, none fails")


def _show(screen: Screen, check: Check) -> None:
    screen.say(f"{_MARKS[check.verdict]:<5}{check.side:<7} {check.what:<20} {check.detail}")
    if check.remedy:
        screen.say(f"{'':<13}{'mend it:':<20} {check.remedy}")


def _open(side: str, config: SideConfig) -> Account | UserError:
    """A side's account, or why it cannot be opened."""
    from dynalake.aws import open_account

    try:
        return open_account(side, config)
    except UserError as error:
        return error
