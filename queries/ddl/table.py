"""What a generated Hive table is: its statement, and what a view over it selects."""

from __future__ import annotations

from dataclasses import dataclass

from queries.ddl.identifiers import object_name, quoted, string_literal


@dataclass(frozen=True, slots=True)
class Ddl:
    """Statements in the order in which they must run.

    Attributes:
        statements: each without a closing semicolon, as PyHive and JDBC want them.
        notes: what a reader should know and no statement can say, such as an attribute that has no typed
            column; one sentence each.
    """

    statements: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All statements as one script."""
        return ";\n".join(self.statements)


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column that the analyst sees.

    Attributes:
        name: its name, tame.
        expression: what it selects from the table, as Hive SQL.
        comment: what is said about it.
        attribute: the source attribute's true name.
        exact_number: for a number whose typed column loses digits, the expression that gives all of them as
            text; else None.
    """

    name: str
    expression: str
    comment: str
    attribute: str
    exact_number: str | None = None


@dataclass(frozen=True, slots=True)
class HiveTable:
    """A generated external table.

    Attributes:
        database: the Hive database, checked.
        name: the table, checked.
        create: the CREATE EXTERNAL TABLE statement.
        view_columns: what a view over it selects, in order.
        live_rows: the condition that leaves the tombstones out; None where there are none.
        notes: see `Ddl.notes`.
    """

    database: str
    name: str
    create: str
    view_columns: tuple[ViewColumn, ...]
    live_rows: str | None
    notes: tuple[str, ...]

    @property
    def qualified_name(self) -> str:
        """The table's name with its database, quoted."""
        return qualified(self.database, self.name)

    def ddl(self, *, replace: bool = False) -> Ddl:
        """The statements that make the table.

        Args:
            replace: drop a table of this name first. An external table holds no data, so that is how a
                changed catalogue is applied; it is no default because a table of this name that is *not*
                ours might be a managed one, whose data would go with it. Without it, CREATE fails where the
                table exists, and says so; it does not keep an old schema in silence.
        """
        drop = (f"DROP TABLE IF EXISTS {self.qualified_name}",) if replace else ()
        create_database = f"CREATE DATABASE IF NOT EXISTS {quoted(self.database.lower())}"
        return Ddl((create_database, *drop, self.create), self.notes)


def qualified(database: str, name: str, what: str = "table") -> str:
    """A table's or view's name with its database, checked and quoted.

    Raises:
        DdlError: Hive would not take one of the names.
    """
    return f"{object_name(database, 'database')}.{object_name(name, what)}"


def properties(pairs: dict[str, str]) -> str:
    """The pairs as Hive's TBLPROPERTIES take them, one a line."""
    return ",\n".join(f"  {string_literal(key)} = {string_literal(value)}" for key, value in pairs.items())
