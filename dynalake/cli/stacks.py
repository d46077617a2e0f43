"""Commands that make and take away the two sides of a pipeline."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dynalake.cli.options import DEFAULT_CONFIG, AcceptRecreated, ConfigPath, Json, Name
from dynalake.errors import AccountError, DeployError
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.aws import Account
    from dynalake.config import DeployConfig, PipelineConfig
    from dynalake.deploy import ChangeSet, Event, Finding
    from dynalake.deploy.deployer import Deployer
    from dynalake.deploy.stacks import Stacks
    from lake.tables import Step, TableKey

SideOption = Annotated[
    Literal["lake", "source"] | None,
    typer.Option("--side", help="Which side; both if not given.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def deploy(
    name: Name,
    side: SideOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, then throw the change set away.")
    ] = False,
    yes: Yes = False,
    key: Annotated[
        str | None,
        typer.Option(
            help="The source table's key, for the lake side where the source cannot be asked: `pk:S,sk:N`.",
            metavar="NAME:TYPE[,NAME:TYPE]",
        ),
    ] = None,
    code: Annotated[
        Path | None,
        typer.Option(
            help="The function's zip; built if not given.", metavar="FILE", exists=True, dir_okay=False
        ),
    ] = None,
    accept_recreated_table: AcceptRecreated = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Make or update a pipeline's sides by CloudFormation: lake table and role, function and alarms.

    What is in the way is said before anything is made; what would change is shown before it is changed; what
    fails is undone, and its first cause said. Each side needs its own account's credentials only.

    Examples: `dynalake deploy orders --dry-run`, `dynalake deploy orders --side source --yes`
    """
    from dynalake.config import load_config, pipeline_of
    from dynalake.deploy.deployer import SIDES, Deployer

    screen = Screen(as_json=as_json)
    pipeline = pipeline_of(load_config(config), name)
    sides = [side] if side else list(SIDES)
    source = _open("source", name, pipeline, needed="source" in sides or key is None)
    lake = _open("lake", name, pipeline, needed="lake" in sides)
    deployer = Deployer(
        name,
        pipeline,
        source,
        lake,
        key=_key(key) if key else None,
        accepts_recreated=accept_recreated_table,
    )
    documents = [_deploy_side(screen, deployer, each, dry_run=dry_run, yes=yes, code=code) for each in sides]
    noted = None if dry_run else _note(screen, deployer)
    screen.answer(
        {
            "pipeline": name,
            "sides": documents,
            "noted": noted,
            "heartbeat": pipeline.deploy.heartbeat,
            "checks": deployer.deployment.checks_are,
        }
    )
    _tell_what_watches(screen, name, pipeline.deploy)
    if not dry_run:
        screen.say(f"next: dynalake doctor {name}, then dynalake backfill {name}")


def remove(
    name: Name,
    side: SideOption = None,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Delete the lake table and the quarantine, too. For good.")
    ] = False,
    yes: Yes = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Take away what `deploy` made. The data are kept unless told otherwise; the source table is never touched.

    Examples: `dynalake remove orders`, `dynalake remove orders --delete-data`
    """
    from dynalake.config import load_config, pipeline_of
    from dynalake.deploy.remove import remove_lake, remove_source

    screen = Screen(as_json=as_json)
    pipeline = pipeline_of(load_config(config), name)
    sides = [side] if side else ["source", "lake"]
    source = _open("source", name, pipeline, needed="source" in sides)
    lake = _open("lake", name, pipeline, needed="lake" in sides)
    screen.say(
        f"taking away {' and '.join(sides)} side of {name}; the data are "
        + (f"DELETED: {pipeline.lake_table} and its quarantine" if delete_data else "kept")
    )
    _confirm("take it away?", yes=yes, as_json=as_json)
    steps: list[Step] = []
    with screen.progress("deleting") as bar:
        count = 0

        def show(_event: Event) -> None:
            nonlocal count
            count += 1
            bar.at(count)

        if "source" in sides and source:
            steps += remove_source(
                name,
                pipeline,
                source,
                lake,
                deletes_data=delete_data,
                now_ms=lambda: time.time_ns() // 1_000_000,
                on_event=show,
            )
        if "lake" in sides and lake:
            steps += remove_lake(name, pipeline, lake, deletes_data=delete_data, on_event=show)
    screen.answer({"pipeline": name, "steps": [dataclasses.asdict(step) for step in steps]})
    screen.table(["", "what"], [[step.done, step.what] for step in steps])
    if not delete_data:
        screen.say(f"`dynalake deploy {name}` brings it back; then `dynalake repair {name}` closes the gap")


def _deploy_side(
    screen: Screen,
    deployer: Deployer,
    side: Literal["lake", "source"],
    *,
    dry_run: bool,
    yes: bool,
    code: Path | None,
) -> dict[str, Any]:
    from dynalake.deploy.code import built_zip
    from dynalake.deploy.preflight import preflight

    screen.heading(f"{side} side")
    with screen.waiting("looking at what is there"):
        findings = preflight(deployer.findings(side))
    _tell(screen, findings)
    content = b""
    if side == "source":
        with screen.waiting("building the function's code"):
            content = code.read_bytes() if code else built_zip()
    stacks = deployer.stacks(side)
    documents = []
    for plan in deployer.plans(side, content):
        with screen.waiting(f"asking what would change in {plan.stack}"):
            change_set = stacks.propose(plan)
        if change_set is None:
            screen.say(f"{plan.stack}: nothing to change ({plan.what})")
            documents.append({"stack": plan.stack, "changes": [], "outputs": stacks.outputs(plan.stack)})
            continue
        _show(screen, change_set)
        document: dict[str, Any] = {
            "stack": plan.stack,
            "changes": [dataclasses.asdict(change) for change in change_set.changes],
        }
        documents.append(document)
        try:
            _refuse_replacements(change_set)
            if dry_run:
                stacks.discard(change_set)
                continue
            _confirm(
                f"{'make' if change_set.is_new else 'update'} {plan.stack}?", yes=yes, as_json=screen.as_json
            )
            carried_out = _with_code(screen, deployer, stacks, change_set, content)
        except (DeployError, typer.Abort, KeyboardInterrupt):
            stacks.discard(change_set)
            raise
        if carried_out is None:
            document["changes"], document["outputs"] = [], stacks.outputs(plan.stack)
            continue
        document["outputs"] = _carry_out(screen, stacks, carried_out)
    leftover = deployer.leftover(side)
    if leftover is not None:
        screen.say(f"{leftover}: the configuration no longer schedules checks on this side")
        document = {"stack": leftover, "removed": not dry_run}
        documents.append(document)
        if not dry_run:
            _confirm(f"remove {leftover}?", yes=yes, as_json=screen.as_json)
            stacks.delete(leftover)
    return {"side": side, "stacks": documents}


def _with_code(
    screen: Screen, deployer: Deployer, stacks: Stacks, change_set: ChangeSet, code: bytes
) -> ChangeSet | None:
    """Upload the function's code where a change set needs it, and pin the version that was stored.

    Returns:
        The change set to carry out: another one than was shown if only now the version is known, and None if with
        this version there is nothing to change.
    """
    from dynalake.deploy.plans import CODE_VERSION

    plan = change_set.plan
    if CODE_VERSION not in plan.parameters:
        return change_set
    with screen.waiting("uploading the function's code"):
        version = deployer.bring(code)
    if version == plan.parameters[CODE_VERSION]:
        return change_set
    with screen.waiting("pinning the version of the function's code"):
        return stacks.propose_instead(
            change_set, dataclasses.replace(plan, parameters={**plan.parameters, CODE_VERSION: version})
        )


def _tell_what_watches(screen: Screen, name: str, deploy: DeployConfig) -> None:
    """Say what is missing of heartbeat and checks."""
    if not deploy.heartbeat:
        screen.say(
            "the heartbeat is switched off (deploy.heartbeat): no alarm tells that the stream has died"
        )
    if not deploy.checks.enabled:
        screen.say("the checks are switched off (deploy.checks.enabled): no alarm tells that none has run")
    elif deploy.checks.target is None:
        screen.say(
            f"NO CHECK IS SCHEDULED: deploy.checks.target names nothing that runs `dynalake check {name}`. Until one "
            f"runs at least every {deploy.checks.hours_until_silent} hours, the alarm checks-silent is raised"
        )


def _carry_out(screen: Screen, stacks: Any, change_set: ChangeSet) -> dict[str, str]:
    began = time.monotonic()
    done = 0
    with screen.progress(change_set.plan.stack, len(change_set.changes)) as bar:

        def show(event: Event) -> None:
            nonlocal done
            if event.status.endswith(("_COMPLETE", "_FAILED")) and event.logical_id != change_set.plan.stack:
                done += 1
                bar.at(done)
                screen.say(f"  {event.status.lower().replace('_', ' '):<18} {event.logical_id}")

        outputs: dict[str, str] = stacks.carry_out(change_set, show)
    screen.say(f"{change_set.plan.stack}: done in {time.monotonic() - began:.0f} s")
    return outputs


def _show(screen: Screen, change_set: ChangeSet) -> None:
    screen.say(
        f"{change_set.plan.stack}, {'new' if change_set.is_new else 'to be updated'}: {change_set.plan.what}"
    )
    screen.table(
        ["change", "resource", "type", "made anew"],
        [
            [change.action, change.logical_id, change.kind.removeprefix("AWS::"), change.replacement or ""]
            for change in change_set.changes
        ],
    )


def _refuse_replacements(change_set: ChangeSet) -> None:
    lost = [
        change.logical_id
        for change in change_set.changes
        if change.replacement == "True" and change.logical_id in change_set.plan.keeps
    ]
    if lost:
        raise DeployError(
            f"the stack {change_set.plan.stack} would begin anew with an empty {lost[0]}: its name or its key would "
            "change",
            remedy="create a new pipeline beside this one, and remove this one once the new one has caught up",
        )


def _tell(screen: Screen, findings: Sequence[Finding]) -> None:
    """Print the warnings.

    Raises:
        DeployError: something must be corrected first.
    """
    from dynalake.deploy.preflight import refuse

    for finding in findings:
        if not finding.stops:
            screen.say(f"warning: {finding}")
    refuse(findings)


def _note(screen: Screen, deployer: Deployer) -> list[dict[str, str]] | None:
    steps = deployer.note()
    if steps is None:
        screen.say(
            f"with credentials of both accounts, run: dynalake setup {deployer.deployment.pipeline} "
            "(it notes in the lake that the pipeline exists)"
        )
        return None
    return [dataclasses.asdict(step) for step in steps]


def _confirm(question: str, *, yes: bool, as_json: bool) -> None:
    """Ask, unless told not to.

    Raises:
        DeployError: there is nobody to ask.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise DeployError(
            "this needs a confirmation, and there is no terminal to ask at",
            remedy="add --yes, or look first with --dry-run",
        )
    typer.confirm(question, abort=True)


def _open(
    side: Literal["source", "lake"], name: str, pipeline: PipelineConfig, *, needed: bool
) -> Account | None:
    """A side's account; None where its credentials are not at hand and it can be done without.

    Raises:
        AccountError: they are needed.
    """
    from dynalake.aws import open_account

    try:
        return open_account(side, pipeline.source if side == "source" else pipeline.lake, name)
    except AccountError:
        if needed:
            raise
        return None


def _key(text: str) -> TableKey:
    """The key that `NAME:TYPE[,NAME:TYPE]` says.

    Raises:
        DeployError: it says none.
    """
    from lake.tables import TableKey

    attributes: list[tuple[str, Any]] = []
    for part in _parts(text):
        name, _, type_ = part.rpartition(":")
        if not name or type_ not in ("S", "N", "B"):
            raise DeployError(
                f"--key {text!r} is not a key",
                remedy="write NAME:TYPE or NAME:TYPE,NAME:TYPE with types S, N or B",
            )
        attributes.append((name, type_))
    return TableKey(tuple(attributes))


def _parts(text: str) -> Iterable[str]:
    parts = text.split(",")
    if len(parts) > 2:
        raise DeployError(f"--key is {text!r}: a table's key has two attributes at most")
    return parts
