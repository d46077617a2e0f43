"""Commands for whoever lives with a pipeline."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name
from dynalake.cli.showing import show_status, status_document
from dynalake.errors import UserError
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.aws import Account
    from dynalake.config import SideConfig
    from dynalake.doctor import Check
    from dynalake.status import Watch

_MARKS = {"pass": "ok", "warn": "warn", "fail": "FAIL", "skip": "-"}


def doctor(
    name: Name,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary",
            help="Also send an item through: written to the source table, seen in the lake, deleted again.",
        ),
    ] = False,
    code: Annotated[
        Path | None,
        typer.Option(
            help="The function's zip to compare the deployed one with; built if not given.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
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
    patient = Patient(
        name, pipeline, _open("source", pipeline.source, name), _open("lake", pipeline.lake, name)
    )
    if code is not None:
        patient.code = code.read_bytes
    checks = []
    for check in check_up(patient):
        checks.append(check)
        _show(screen, check)
    failed = [check for check in checks if check.verdict == "fail"]
    sent = None
    if canary and not failed:
        with screen.waiting("sending a canary through"):
            sent = send_canary(patient)
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


def status(
    name: Annotated[
        str | None, typer.Argument(help="The pipeline; all if not given.", metavar="[NAME]")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between two looks.", min=1)] = 10,
    tombstones: Annotated[
        bool, typer.Option("--tombstones", help="Count the tombstones, which reads the whole lake table.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Tell how a pipeline is: caught up or not, its lag, what may be missing, alarms, capacity, and what it costs.

    What these credentials may not see is left out and named. With --watch and --json, one document a line.

    Examples: `dynalake status`, `dynalake status orders --watch`, `dynalake status orders --json`
    """
    from dynalake.config import load_config

    screen = Screen(as_json=as_json)
    names = [name] if name else sorted(load_config(config).pipelines)
    looks = [_watch(each, config) for each in names]
    if not watch:
        with screen.waiting("looking"):
            found = [look.look(counts_tombstones=tombstones) for look in looks]
        for each in found:
            show_status(screen, each)
        screen.answer({"pipelines": [status_document(each) for each in found]})
        return
    _again_and_again(screen, looks, every, tombstones=tombstones)


def _watch(name: str, config: Path) -> Watch:
    from dynalake.aws import Account
    from dynalake.config import load_config, pipeline_of
    from dynalake.pipeline import Pipeline
    from dynalake.status import Watch

    settings = pipeline_of(load_config(config), name)
    source, lake = Account("source", settings.source, name), Account("lake", settings.lake, name)
    pipeline = Pipeline(name, settings, source, lake, environment=os.environ)
    if not pipeline.is_set_up():
        raise UserError(f"the pipeline {name!r} is not set up", remedy=f"run `dynalake setup {name}` first")
    return Watch(name, settings, source, lake, pipeline)


def _again_and_again(screen: Screen, looks: Sequence[Watch], every_s: float, *, tombstones: bool) -> None:
    while True:
        found = [look.look(counts_tombstones=tombstones) for look in looks]
        if screen.as_json:
            document = {"at": int(time.time() * 1000), "pipelines": [status_document(each) for each in found]}
            sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
            sys.stdout.flush()
        else:
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            for each in found:
                show_status(screen, each)
            screen.say(f"\nevery {every_s:g} s; Ctrl-C ends it")
        time.sleep(every_s)


def _show(screen: Screen, check: Check) -> None:
    screen.say(f"{_MARKS[check.verdict]:<5}{check.side:<7} {check.what:<20} {check.detail}")
    if check.remedy:
        screen.say(f"{'':<13}{'mend it:':<20} {check.remedy}")


def _open(side: str, config: SideConfig, pipeline: str) -> Account | UserError:
    """A side's account, or why it cannot be opened."""
    from dynalake.aws import open_account

    try:
        return open_account(side, config, pipeline)
    except UserError as error:
        return error
