"""Running generated DDL on a server, statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from queries.errors import EngineError
from queries.hive.session import HiveSession


def apply(
    session: HiveSession,
    statements: Sequence[str],
    on_statement: Callable[[int, str], None] = lambda _done, _text: None,
) -> int:
    """Run the statements in their order; the first that fails ends it.

    Args:
        session: where.
        statements: each without a closing semicolon.
        on_statement: called before each with the number of those done and its first line.

    Returns:
        How many have run.

    Raises:
        EngineError: the server cannot do it, said before anything has run; or a statement failed, said with the
            server's message and what has been done.
    """
    if session.is_spark and any("\nSTORED BY " in statement for statement in statements):
        raise EngineError(
            f"{session.settings.address} is Spark's Thrift server, which has no STORED BY: a table over DynamoDB "
            "needs EMR's Hive",
            remedy="use --engine spark or parquet",
        )
    for done, statement in enumerate(statements):
        head = headline(statement)
        on_statement(done, head)
        try:
            session.execute(statement)
        except EngineError as error:
            raise EngineError(
                f"statement {done + 1} of {len(statements)}, {head}, failed "
                + (f"(the {done} before it have run)" if done else "(none has run)")
                + f": {error.message}",
                remedy=error.remedy,
            ) from error
    return len(statements)


def headline(statement: str) -> str:
    """A statement's first line, as a name for it."""
    return statement.split("\n", 1)[0].rstrip(" (")
