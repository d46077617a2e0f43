"""The texts that the demo leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT

CONFIG_TEXT: Final = """\
# What the demo's pipeline would look like for two accounts of your own.
# The demo's accounts lived inside its process and are gone; fill in yours, then: dynalake setup flights
[pipelines.flights]
source = { table = "flights", account = "111111111111", region = "us-east-1", profile = "src" }
lake.account = "999999999999"
lake.region = "us-east-1"
lake.role_arn = "arn:aws:iam::999999999999:role/dynalake-flights"
lake.external_id = "choose-one"
"""

_WORLD_CONFIG: Final = """\
# The pipeline of the notebooks. Its two accounts live in a notebook's kernel, while a world is open there.
[pipelines.flights]
source = {{ table = "flights", account = "{source}", region = "{region}", role_arn = "{role_of_source}" }}
lake.account = "{lake}"
lake.region = "{region}"
lake.role_arn = "{role_of_lake}"
lake.external_id = "demo"
quarantine = "{quarantine}"
checks.fresh_warn_s = 1 # a day passes quickly here: a change that waits longer than this is worth a warning
"""


def world_config(quarantine: str) -> str:
    """The configuration of a notebook's world; what it puts away goes to this folder."""
    role = "arn:aws:iam::{}:role/dynalake-demo"
    return _WORLD_CONFIG.format(
        source=SOURCE_ACCOUNT,
        lake=LAKE_ACCOUNT,
        region=REGION,
        role_of_source=role.format(SOURCE_ACCOUNT),
        role_of_lake=role.format(LAKE_ACCOUNT),
        quarantine=quarantine,
    )


def next_steps(facts: Mapping[str, Any]) -> str:
    """The note on what to open next."""
    hyper = (
        "- `flights.hyper`: open it in Tableau.\n"
        if facts.get("hyper")
        else "- For a Tableau extract too: `pip install 'dynalake[tableau]'`, then run the demo again.\n"
    )
    return f"""\
# What the demo left here

{facts["source_rows"]:,} flights of New York, January 2013, replicated from one account to another; source and lake
were compared row by row: {facts["parity"]["missing"]} missing, {facts["parity"]["extra"]} extra, \
{facts["parity"]["different"]} different.

- `lake.duckdb`: open it with any DuckDB client, for example

      python -c "import dynalake; print(dynalake.open_lake('lake.duckdb'))"
      duckdb lake.duckdb "SELECT status, count(*) FROM flights GROUP BY ALL"

  The schema `_lake` in it tells how fresh and how complete it is, and how each column came to be.
- `flights.parquet`: the same rows for Spark, Hive, Athena, pandas or Polars.
{hyper}- `flights.hive.sql`: Hive DDL over the lake table itself, and the view that analysts use.
- `dynalake.toml`: the pipeline's configuration, to be filled in with accounts of your own.
- `summary.json`: what the demo found, for scripts.

Try a query, or one of your own: `dynalake query daily_delays --lake lake.duckdb`, `dynalake queries`.
"""
