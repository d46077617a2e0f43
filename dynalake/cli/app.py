"""The command tree. Each command's words are its function's docstring, so help and documentation are one text."""

from __future__ import annotations

import typer

from dynalake.cli import (
    analyse,
    ask,
    check,
    checks,
    demonstrate,
    fresh,
    hive,
    notebooks,
    operate,
    publishing,
    recover,
    repair,
    replicate,
    set_up,
    stacks,
)

app = typer.Typer(
    name="dynalake",
    help=(
        "Every DynamoDB change in one lake account within a second; DuckDB, Parquet, Hive and Tableau from there; "
        "and proof that it is all there.\n\nBegin with `dynalake demo`; then `init`, `setup`, `backfill` and `run`."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    demonstrate.demo,
    set_up.init,
    set_up.setup,
    stacks.deploy,
    stacks.remove,
    operate.doctor,
    replicate.backfill,
    replicate.run,
    operate.status,
    check.parity,
    repair.repair,
    recover.redrive,
    checks.check,
    checks.report,
    analyse.snapshot,
    fresh.refresh,
    fresh.follow,
    analyse.export,
    publishing.publish,
    hive.ddl,
    hive.dictionary,
    ask.query,
    ask.queries,
    notebooks.notebooks,
):
    app.command()(command)
