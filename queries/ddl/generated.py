"""A generated table with its views, and what is saved of them so that a later run can tell what has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

from queries.ddl.table import Ddl, Flavour, HiveTable, TableColumn
from queries.ddl.view import HiveView, lake_views
from queries.errors import DdlError

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Generated:
    """An external table and the views over it.

    Attributes:
        table: the table.
        views: its views, in the order in which they are made.
    """

    table: HiveTable
    views: tuple[HiveView, ...]

    @classmethod
    def over(cls, table: HiveTable, name: str, *, like: pa.Schema | None = None) -> Generated:
        """The table with its views, the analyst's one called `name`; see `queries.ddl.view`."""
        return cls(table, lake_views(table, name, like=like))

    def ddl(self, *, replace: bool = False) -> Ddl:
        """All statements; see `HiveTable.ddl`."""
        return joined([self.table.ddl(replace=replace), *(view.ddl for view in self.views)])

    @property
    def state(self) -> SavedState:
        """What a later run compares with."""
        return SavedState(TableState.of(self.table), {view.name: view.digest for view in self.views})


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as it stands somewhere: generated, saved earlier, or on a server.

    Attributes:
        database: its database.
        name: its name.
        columns: its columns, those that partition it left out.
        partitions: the columns that partition it.
        properties: its properties; a server has more than were given.
        location: its folder; None for a table of a storage handler.
        about: its comment; None where that is not known.
        flavour: whose DDL.
    """

    database: str
    name: str
    columns: tuple[TableColumn, ...]
    partitions: tuple[TableColumn, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    location: str | None = None
    about: str | None = None
    flavour: Flavour = "hive"

    @classmethod
    def of(cls, table: HiveTable) -> TableState:
        """The state that a generated table has once it is made."""
        return cls(
            table.database,
            table.name,
            table.columns,
            table.partitions,
            table.properties,
            table.location,
            table.about,
            table.flavour,
        )


@dataclass(frozen=True, slots=True)
class SavedState:
    """A table and its views as they stood at some time.

    Attributes:
        table: the table; None where there is none yet.
        views: view -> the digest of its text; a view that dynalake did not make, or is not there, is left out.
    """

    table: TableState | None
    views: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The state as text for a file."""
        table = None if self.table is None else asdict(self.table)
        return json.dumps({"dynalake_ddl": _FORMAT, "table": table, "views": dict(self.views)}, indent=2)

    @classmethod
    def from_json(cls, text: str, origin: str) -> SavedState:
        """The state that a file holds.

        Args:
            text: the file's text.
            origin: what errors call it.

        Raises:
            DdlError: it is no such file, or of a later version.
        """
        try:
            document = json.loads(text)
            found = document["dynalake_ddl"]
            if found != _FORMAT:
                raise DdlError(
                    f"{origin} has the format {found}, and this dynalake reads {_FORMAT}",
                    remedy="update dynalake",
                )
            table = document["table"]
            return cls(None if table is None else _table_state(table), document["views"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DdlError(f"{origin} is no state that `dynalake ddl --save` wrote") from None


def joined(parts: Iterable[Ddl]) -> Ddl:
    """Several scripts as one; a note that several have is said once."""
    every = list(parts)
    return Ddl(
        tuple(statement for part in every for statement in part.statements),
        tuple(dict.fromkeys(note for part in every for note in part.notes)),
    )


def _table_state(stored: Mapping[str, Any]) -> TableState:
    columns, partitions = (
        tuple(TableColumn(**column) for column in stored[part]) for part in ("columns", "partitions")
    )
    return TableState(**{**stored, "columns": columns, "partitions": partitions})
