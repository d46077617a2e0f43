"""What can go wrong in the queries package, as one family.

QueryError
├── QueryNotFound          no shipped query and no file has this name, or the file is no query file
├── ParameterError         a parameter is missing, unknown or ill-typed, or its declaration cannot be read
├── DdlError               a Hive table or view cannot be made from what was given
└── EngineError            an engine refuses the query, or its dialect cannot say it
"""

from lake.errors import ExplainedError


class QueryError(ExplainedError):
    """Base of all errors of the queries package; its text says what is wrong and what to do."""


class QueryNotFound(QueryError):  # noqa: N818 -- reads as what happened, like FileNotFoundError's stem
    """No shipped query and no file has this name, or the file is no query file."""


class ParameterError(QueryError):
    """A parameter is missing, unknown or ill-typed, or its declaration cannot be read."""


class DdlError(QueryError):
    """A Hive table or view cannot be made from what was given."""


class EngineError(QueryError):
    """An engine refuses the query, or its dialect cannot say it."""
