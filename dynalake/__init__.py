"""dynalake: every DynamoDB change in one lake account, and what analysts make of it.

    import dynalake

    lake = dynalake.open_lake("lake.duckdb")        # a snapshot: tables, schema, freshness, SQL
    late = dynalake.run("late_flights", minutes=90)  # a named query, as a pandas DataFrame

What a name needs is loaded when the name is first used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynalake.shadows import refuse_shadows

if TYPE_CHECKING:
    import pandas as pd

    from lake.open import Lake

__all__ = ["open_lake", "run"]

refuse_shadows(Path(__file__).parent.parent)


def open_lake(path: str | Path = "lake.duckdb") -> Lake:
    """Open a snapshot for reading.

    Raises:
        lake.errors.SnapshotError: there is no snapshot at this path.
    """
    from lake.open import open_lake as opened

    return opened(path)


def run(query: str | Path, *, lake: str | Path = "lake.duckdb", **parameters: Any) -> pd.DataFrame:
    """Run a named query on a snapshot; columns keep the types that the answer has (pandas' ArrowDtype).

    Args:
        query: a shipped query's name (`dynalake queries` lists them), or the path of a .sql file of your own.
        lake: the snapshot.
        **parameters: the query's parameters; what is missing takes its default.

    Raises:
        queries.errors.QueryError: there is no such query, or a parameter is missing, unknown or ill-typed.
        lake.errors.SnapshotError: there is no snapshot at this path.
    """
    import pandas as pd

    from queries.named import load_query
    from queries.run import run_on_duckdb

    with open_lake(lake) as opened:
        answer = run_on_duckdb(load_query(query), opened.connection, parameters)
    # pandas' own types would turn integers with NULLs, and decimals, into something else.
    frame: pd.DataFrame = answer.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
