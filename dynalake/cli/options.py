"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.errors import UserError

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline

Name = Annotated[str, typer.Argument(help="The pipeline's name in the configuration.", metavar="NAME")]
ConfigPath = Annotated[
    Path, typer.Option("--config", help="The configuration file.", metavar="FILE", envvar="DYNALAKE_CONFIG")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be read and written, and what it costs; do nothing.")
]
AcceptRecreated = Annotated[
    bool,
    typer.Option(
        "--accept-recreated-table",
        help="Replicate a source table that was recreated with the same key, or restored from a backup, in place of "
        "the earlier one; a gap is open until `dynalake repair`.",
    ),
]
LeaveOutExpired = Annotated[
    bool,
    typer.Option(
        "--leave-out-expired",
        help="Leave out rows whose time-to-live has passed and which DynamoDB has not deleted yet. "
        "`leave_out_expired = true` in the configuration does it in every command.",
    ),
]
DEFAULT_CONFIG = Path("dynalake.toml")


def open_pipeline(name: str, config: Path) -> Pipeline:
    """The pipeline of this name. Each account is opened when it is first needed.

    Raises:
        UserError: the configuration is not as it must be.
    """
    from dynalake.config import load_config, pipeline_of
    from dynalake.pipeline import Pipeline

    return Pipeline.open(name, pipeline_of(load_config(config), name))


def open_set_up(
    name: str, config: Path, *, reads_source: bool = False, leave_out_expired: bool = False
) -> Pipeline:
    """The pipeline of this name, once `dynalake setup` has been run for it.

    Args:
        name: the pipeline's name.
        config: the configuration file.
        reads_source: whether the source account is needed, too: then it is opened now.
        leave_out_expired: leave out expired rows, whatever the configuration says.

    Raises:
        UserError: as for `open_pipeline`, or an account's credentials are not as they must be, or the pipeline is not
            set up.
    """
    pipeline = open_pipeline(name, config)
    pipeline.leave_out_expired |= leave_out_expired
    if reads_source:
        pipeline.open_accounts()
    if not pipeline.is_set_up():
        raise UserError(f"the pipeline {name!r} is not set up", remedy=f"run `dynalake setup {name}` first")
    return pipeline
