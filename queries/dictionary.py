"""The data dictionary of a generated table: what its columns are, for data catalogues.

Two forms, one row a column:

csv      everything that is known, for people and for catalogues that read any CSV
alation  what Alation's upload of a data dictionary takes: a header with the fields `key`, `title` and `description`,
         of which only the key is required; the key of a column is `schema.table.column` (none of our names holds a
         period, which would need quotes); UTF-8, commas. An upload fills fields that are there and adds none, so all
         that is known goes into the description. Alation's documentation,
         "Requirements for CSV/TSV Source Files" and "Data Dictionary Structure":
         https://docs.alation.com/en/latest/steward/DataDictionaries/RequirementsForCSVFiles.html
         https://docs.alation.com/en/latest/steward/DataDictionaries/DataDictionaryStructure.html
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from lake.contract.catalogue import Observation
from queries.ddl import Generated
from queries.ddl.history import METADATA_COMMENTS, History, histories
from queries.errors import DdlError

Format = Literal["csv", "alation"]

CSV_FIELDS: Final = (
    "database", "view", "column", "attribute", "hive_type", "key", "dynamodb_types", "first_seen", "sensitivity",
    "description",
)  # fmt: skip
ALATION_FIELDS: Final = ("key", "title", "description")


@dataclass(frozen=True, slots=True)
class Entry:
    """One column of the analyst's view.

    Attributes:
        database: its database.
        view: the view; empty columns describe the view itself.
        column: the column; empty for the view itself.
        attribute: the source attribute's true name.
        hive_type: the type of the table's column that it reads; empty where it reads the whole item.
        key: HASH or RANGE for a key attribute, else empty.
        history: when which types were seen, and what the policy does.
        description: all of it in words.
    """

    database: str
    view: str
    column: str
    attribute: str
    hive_type: str
    key: str
    history: History
    description: str


def dictionary(
    generated: Generated,
    observations: Sequence[Observation],
    keys: Mapping[str, str],
    sensitivity: Mapping[str, str] | None = None,
) -> tuple[Entry, ...]:
    """The dictionary of the views over a table: each view, then its columns.

    Args:
        generated: the table and its views.
        observations: what the schema catalogue holds.
        keys: key attribute -> HASH or RANGE.
        sensitivity: attribute -> what the policy does to it.
    """
    table, known, told = generated.table, histories(observations, sensitivity), sensitivity or {}
    types = {column.name: column.type for column in (*table.columns, *table.partitions)}
    entries = []
    for view in generated.views:
        shown = (
            table.view_columns
            if view.name == generated.views[0].name
            else (
                *table.view_columns,
                *table.metadata,
            )
        )
        about = f"Live rows of {table.database}.{table.name}. {table.about}"
        nothing = History("")
        entries.append(Entry(table.database, view.name, "", "", "", "", nothing, about))
        for column in shown:
            own = column.name in METADATA_COMMENTS
            history = (
                nothing
                if own
                else known.get(column.attribute)
                or History(column.attribute, sensitivity=told.get(column.attribute))
            )
            entries.append(
                Entry(
                    table.database,
                    view.name,
                    column.name,
                    column.attribute,
                    types.get(column.expression.strip("`").replace("``", "`"), ""),
                    keys.get(column.attribute, ""),
                    history,
                    column.comment,
                )
            )
    return tuple(entries)


def written(entries: Sequence[Entry], form: Format) -> str:
    """The dictionary as text.

    Raises:
        DdlError: there is no such form.
    """
    if form not in get_args(Format):
        raise DdlError(f"the form {form!r} is not one of {', '.join(get_args(Format))}")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if form == "alation":
        writer.writerow(ALATION_FIELDS)
        writer.writerows((_key(each), each.attribute, each.description) for each in entries)
    else:
        writer.writerow(CSV_FIELDS)
        writer.writerows(rows_of(entries))
    return out.getvalue()


def rows_of(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """All that is known, one tuple of `CSV_FIELDS` an entry."""
    return [
        (
            each.database,
            each.view,
            each.column,
            each.attribute,
            each.hive_type,
            each.key,
            each.history.types,
            each.history.first_seen or "",
            each.history.sensitivity or "",
            each.description,
        )
        for each in entries
    ]


def _key(entry: Entry) -> str:
    return ".".join(part for part in (entry.database, entry.view, entry.column) if part)
