"""A named query on DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from queries.errors import EngineError
from queries.named import NamedQuery
from queries.parameters import bound

if TYPE_CHECKING:
    import duckdb


def run_on_duckdb(
    query: NamedQuery,
    connection: duckdb.DuckDBPyConnection,
    params: Mapping[str, object] | None = None,
) -> pa.Table:
    """Run the query and return its whole answer.

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
        return connection.sql(statement, params=values).to_arrow_table()
    except duckdb.Error as error:
        raise EngineError(f"DuckDB refuses the query {query.name!r}: {error}") from error
