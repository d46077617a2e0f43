"""The errors of the queries package; `lake.errors` has their base class and draws the whole hierarchy."""

from lake.errors import ExplainedError


class QueryError(ExplainedError):
    """Base of all errors of the queries package."""


class QueryNotFound(QueryError):  # noqa: N818 -- reads as what happened, like FileNotFoundError's stem
    """No shipped query and no file has this name, or the file is no query file."""


class ParameterError(QueryError):
    """A parameter is missing, unknown or ill-typed, or its declaration cannot be read."""


class DdlError(QueryError):
    """A Hive table or view cannot be made from what was given."""


class EngineError(QueryError):
    """An engine refuses the query, or its dialect cannot say it."""
