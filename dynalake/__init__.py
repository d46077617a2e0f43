"""dynalake: every DynamoDB change in one lake account, and what analysts make of it.

    import dynalake

    lake = dynalake.open_lake("lake.duckdb")        # a snapshot: tables, schema, freshness, SQL
    late = dynalake.run("late_flights", minutes=90)  # a named query, as a pandas DataFrame
    late = dynalake.run("late_flights", minutes=90, engine="hive")  # the same one on EMR
    dynalake.refresh("orders")                      # the snapshot, with what changed since
    dynalake.check("orders").verdict                # parity, freshness and drift of a pipeline
    dynalake.repair("orders", dynalake.parity("orders"))  # what differs, mended
    dynalake.export("orders", "orders.tdsx", incremental=True)  # files that other tools read
    dynalake.publish("orders", server="https://tableau.example", project="Finance")

What a name needs is loaded when the name is first used.
"""

from __future__ import annotations

from pathlib import Path

from dynalake.shadows import refuse_shadows

refuse_shadows(Path(__file__).parent.parent)

from dynalake.face import (  # noqa: E402 -- a shadow is to be noticed before anything is imported
    check,
    ddl,
    export,
    follow,
    open_lake,
    open_pipeline,
    parity,
    publish,
    refresh,
    repair,
    run,
    snapshot,
)

__all__ = [
    "check",
    "ddl",
    "export",
    "follow",
    "open_lake",
    "open_pipeline",
    "parity",
    "publish",
    "refresh",
    "repair",
    "run",
    "snapshot",
]
