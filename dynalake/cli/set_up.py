"""Commands that bring a pipeline into being."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name, open_pipeline
from dynalake.screen import Screen


def init(
    name: Name,
    source_table: Annotated[str, typer.Option(prompt="Source table", help="The table to replicate.")],
    source_account: Annotated[str, typer.Option(prompt="Source account (12 digits)", help="Its account.")],
    lake_account: Annotated[str, typer.Option(prompt="Lake account (12 digits)", help="The lake's account.")],
    region: Annotated[str, typer.Option(prompt="Region", help="The region of both sides.")] = "us-east-1",
    source_profile: Annotated[str | None, typer.Option(help="AWS profile of the source account.")] = None,
    lake_profile: Annotated[str | None, typer.Option(help="AWS profile of the lake account.")] = None,
    lake_role_arn: Annotated[str | None, typer.Option(help="Role to assume in the lake account.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write a pipeline's part of `dynalake.toml`, asking for what was not given.

    A role gets an ExternalId, drawn at random, which its trust policy must demand.

    Example: `dynalake init orders --source-table orders --source-account 111111111111 --lake-account
    999999999999 --lake-role-arn arn:aws:iam::999999999999:role/dynalake-orders`
    """
    from dynalake.config import parse_config
    from dynalake.configfile import add_pipeline, side

    screen = Screen(as_json=as_json)
    external_id = secrets.token_urlsafe(24) if lake_role_arn else None
    source = side(table=source_table, account=source_account, region=region, profile=source_profile)
    lake = side(
        account=lake_account,
        region=region,
        profile=lake_profile,
        role_arn=lake_role_arn,
        external_id=external_id,
    )
    checked = parse_config({"pipelines": {name: {"source": source, "lake": lake}}}, "the answers")
    add_pipeline(config, name, source, lake)
    pipeline = checked.pipelines[name]
    screen.answer({"config": str(config), "pipeline": name, "lake_table": pipeline.lake_table})
    screen.say(f"wrote [pipelines.{name}] to {config}; the lake table will be {pipeline.lake_table}")
    screen.say(f"next: dynalake setup {name}")


def setup(name: Name, config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Make what the lake side needs: lake table, schema catalogue, checkpoints. Idempotent.

    The source table is looked at first; if it cannot be replicated, nothing is made.

    Example: `dynalake setup orders`
    """
    screen = Screen(as_json=as_json)
    pipeline = open_pipeline(name, config)
    steps, warning = pipeline.setup()
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
