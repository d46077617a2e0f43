"""Commands that bring a pipeline into being."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dynalake.cli.options import DEFAULT_CONFIG, AcceptRecreated, ConfigPath, Json, Name, open_pipeline
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.proposal import Proposal


def init(
    name: Name,
    source_table: Annotated[str, typer.Option(prompt="Source table", help="The table to replicate.")],
    source_account: Annotated[str, typer.Option(prompt="Source account (12 digits)", help="Its account.")],
    lake_account: Annotated[str, typer.Option(prompt="Lake account (12 digits)", help="The lake's account.")],
    region: Annotated[str, typer.Option(prompt="Region", help="The region of both sides.")] = "us-east-1",
    source_profile: Annotated[str | None, typer.Option(help="AWS profile of the source account.")] = None,
    lake_profile: Annotated[str | None, typer.Option(help="AWS profile of the lake account.")] = None,
    lake_role_arn: Annotated[str | None, typer.Option(help="Role to assume in the lake account.")] = None,
    source_alias: Annotated[
        str | None, typer.Option(help="What the source account is called in the lake table's name.")
    ] = None,
    alarm_email: Annotated[str | None, typer.Option(help="Where alarms are mailed to.")] = None,
    runs_in: Annotated[
        Literal["function", "worker"],
        typer.Option(help="What will replicate: a Lambda function (`deploy`), or a host of yours (`run`)."),
    ] = "function",
    quarantine: Annotated[
        str | None,
        typer.Option(
            help="The bucket for records that cannot be applied, in the source account: s3://bucket/prefix; one named "
            "after the pipeline if not given.",
            metavar="s3://…",
            show_default=False,
        ),
    ] = None,
    code_bucket: Annotated[
        str | None,
        typer.Option(
            help="The bucket for the function's code, in the source account; one for all pipelines if not given.",
            show_default=False,
        ),
    ] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="An endpoint other than AWS's own.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write a pipeline's part of `dynalake.toml`, asking for what was not given.

    The source table is looked at, where its credentials are at hand: its key, stream, size, capacity and
    encryption decide what is proposed, and a name that clashes or a quota that is near is said now. Nothing is
    made but the file.

    Example: `dynalake init orders --source-table orders --source-account 111111111111 --source-profile shop
    --lake-account 999999999999 --lake-profile lake`
    """
    from dynalake.config import parse_config
    from dynalake.configfile import add_pipeline, check_is_new, side
    from dynalake.deploy.names import check_pipeline_name, quarantine_bucket
    from dynalake.deploy.preflight import refuse
    from dynalake.proposal import propose, watching_in_words, watching_of

    screen = Screen(as_json=as_json)
    check_is_new(config, name)
    source = side(
        table=source_table,
        account=source_account,
        region=region,
        profile=source_profile,
        alias=source_alias,
        endpoint_url=endpoint_url,
    )
    lake = side(
        account=lake_account,
        region=region,
        profile=lake_profile,
        role_arn=lake_role_arn,
        external_id=secrets.token_urlsafe(24) if lake_role_arn else None,
        endpoint_url=endpoint_url,
    )
    deploy: dict[str, Any] = {"external_id": secrets.token_urlsafe(24)}
    if alarm_email:
        deploy["alarm_email"] = alarm_email
    if code_bucket:
        deploy["code_bucket"] = code_bucket
    more: dict[str, Any] = {"quarantine": quarantine} if quarantine else {}
    deployed = runs_in == "function"
    if deployed:
        check_pipeline_name(name)
        more.setdefault("quarantine", f"s3://{quarantine_bucket(name, source_account, region)}")
    draft = {"source": source, "lake": lake, "deploy": deploy, **more}
    pipeline = parse_config({"pipelines": {name: draft}}, "the answers").pipelines[name]
    with screen.waiting(f"looking at {source_table}"):
        proposal = propose(name, pipeline)
    refuse(proposal.findings)
    if proposal.max_wcu:
        more["max_wcu"] = proposal.max_wcu
    if deployed:
        more["deploy"] = {**deploy, **{key: value for key, value in _parameters(proposal) if value}}
    add_pipeline(config, name, source, lake, more)
    screen.answer(
        {
            "config": str(config),
            "pipeline": name,
            "lake_table": pipeline.lake_table,
            "source": dataclasses.asdict(proposal.facts) if proposal.facts else None,
            "findings": [str(finding) for finding in proposal.findings],
            **({"watching_usd_per_month": watching_of(pipeline, proposal.facts).parts} if deployed else {}),
        }
    )
    for text in proposal.facts.sentences(source_table) if proposal.facts else ():
        screen.say(text)
    if deployed:
        screen.say(watching_in_words(pipeline, watching_of(pipeline, proposal.facts)))
    for finding in proposal.findings:
        screen.say(f"warning: {finding}")
    screen.say(f"wrote [pipelines.{name}] to {config}; the lake table will be {pipeline.lake_table}")
    screen.say(f"next: dynalake {'deploy' if deployed else 'setup'} {name}")


def _parameters(proposal: Proposal) -> tuple[tuple[str, dict[str, str | int]], ...]:
    return (("source", proposal.source), ("lake", proposal.lake))


def setup(
    name: Name,
    accept_recreated_table: AcceptRecreated = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Make what the lake side needs: lake table, schema catalogue, checkpoints, the facts of the source. Idempotent.

    The source table is looked at first; if it cannot be replicated, or is not the one that the pipeline was set up
    for, nothing is made.

    Examples: `dynalake setup orders`, `dynalake setup orders --accept-recreated-table`
    """
    screen = Screen(as_json=as_json)
    pipeline = open_pipeline(name, config)
    with screen.waiting(f"setting up {name}"):
        steps, warning = pipeline.setup(accepts_recreated=accept_recreated_table)
    screen.answer(
        {
            "pipeline": name,
            "lake_table": pipeline.config.lake_table,
            "steps": [{"what": step.what, "done": step.done} for step in steps],
            "warning": warning,
        }
    )
    screen.table(["", "what"], [[step.done, step.what] for step in steps])
    if warning:
        screen.say(f"warning: {warning}")
    screen.say(f"next: dynalake backfill {name}, and dynalake run {name} beside it")
