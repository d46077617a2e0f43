"""A named query on DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from queries.errors import EngineError
from queries.named import NamedQuery
from queries.parameters import bound

if TYPE_CHECKING:
    import duckdb

_AGAIN_S: Final = 0.1


def run_on_duckdb(
    query: NamedQuery,
    connection: duckdb.DuckDBPyConnection,
    params: Mapping[str, object] | None = None,
) -> pa.Table:
    """Run the query and return its whole answer. A signal that raises in the main thread cancels it.

    Values are bound, never written into the text. Rows come in the query's own order.

    Args:
        query: from `load_query`.
        connection: where the tables are that the query reads.
        params: values by name; what is missing takes its default.

    Raises:
        ParameterError: a parameter is missing, unknown or ill-typed; nothing has run then.
        EngineError: the file holds something other than a SELECT, or DuckDB refuses it.
    """
    import duckdb

    values = bound(query.name, query.parameters, params)
    try:
        (statement,) = connection.extract_statements(query.sql)
        if statement.type != duckdb.StatementType.SELECT:
            raise EngineError(f"the query {query.name!r} is no SELECT")
        return _heeding_signals(connection, lambda: connection.sql(statement, params=values).to_arrow_table())
    except duckdb.Error as error:
        raise EngineError(f"DuckDB refuses the query {query.name!r}: {error}") from error


def _heeding_signals(connection: duckdb.DuckDBPyConnection, work: Callable[[], pa.Table]) -> pa.Table:
    """DuckDB looks for signals only where the calling thread takes part in the work, so another one calls it."""
    with ThreadPoolExecutor(1, thread_name_prefix="query") as thread:
        asked = thread.submit(work)
        try:
            return asked.result()
        finally:
            while not asked.done():  # an interrupt that comes before the work begins is lost
                connection.interrupt()
                wait([asked], _AGAIN_S)
