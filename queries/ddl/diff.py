"""From an earlier state to the generated one, by statements that keep what is there.

What Hive allows on a table decides:

- of a storage handler's table only properties can be changed and columns be added (Hive's own test,
  hbase-handler/src/test/results/negative/hbase_ddl.q.out: "ALTER TABLE can only be used for [ADDPROPS, DROPPROPS,
  ADDCOLS, ...] to a non-native table"). The properties come first: a mapping for a column that is not there yet means
  nothing, while a column without a mapping would be read as NULL, or be taken for the whole item;
- a column that is no longer generated stays: over Parquet it reads NULL, over the lake table it keeps its mapping,
  and no view shows it;
- a column's type, what partitions a table, and reading by position cannot be changed safely in place. That is
  said, with the safe way: the definition is dropped and made again. An external table holds no data.

Views are replaced whole, and only if their text has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from queries.ddl.dynamodb import COLUMN_MAPPING, TYPE_MAPPING
from queries.ddl.generated import Generated, SavedState, TableState
from queries.ddl.identifiers import comment, quoted, string_literal
from queries.ddl.table import BY_POSITION, HiveTable, TableColumn, properties

_OURS: Final = ("dynamodb.", BY_POSITION)
"""What the properties that dynalake sets begin with; a server has others, which are not ours to touch."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """A change that no statement can make in place.

    Attributes:
        what: the change and why it cannot be made, one sentence.
        safe_way: the statements that make it all the same.
    """

    what: str
    safe_way: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """How to get from an earlier state to the generated one.

    Attributes:
        statements: in the order in which they must run; empty where nothing has changed.
        stands: what stands once they have run.
        notes: what a reader should know, one sentence each.
        impossible: what cannot be done in place; its safe way is among the statements only where asked for.
    """

    statements: tuple[str, ...]
    stands: SavedState
    notes: tuple[str, ...] = ()
    impossible: tuple[Impossible, ...] = ()


def difference(before: SavedState, after: Generated, *, recreate: bool = False) -> Diff:
    """The statements that turn what stands into what is generated.

    Args:
        before: what stands.
        after: what the catalogue generates now.
        recreate: take the safe way where a change cannot be made in place.
    """
    table = after.table
    if before.table is None:
        return Diff(after.ddl().statements, after.state, table.notes)
    reasons = _reasons(before.table, table)
    # Without the safe way the rest cannot be right either: views would read columns that are not there.
    impossible = tuple(
        Impossible(reason, (table.drop, table.create, *table.partition_statements)) for reason in reasons
    )
    if reasons and not recreate:
        return Diff((), before, (), impossible)
    notes: list[str] = []
    stands = TableState.of(table)
    if reasons:
        statements = [*impossible[0].safe_way]
    else:
        statements, notes, stands = _alter(before.table, table)
        statements += table.partition_statements
    # A view keeps the types that it saw when it was made, so a table made anew needs all of them anew.
    statements += [view.text for view in after.views if reasons or before.views.get(view.name) != view.digest]
    return Diff(tuple(statements), SavedState(stands, after.state.views), tuple(notes), impossible)


def _reasons(before: TableState, after: HiveTable) -> list[str]:
    """Why the table cannot be altered; empty where it can."""
    old = {column.name.lower(): column for column in before.columns}
    reasons = [
        f"the column {column.name} is of type {known.type} and must become {column.type}: a column's type cannot "
        f"be changed in place{' on a table of a storage handler' if after.handler else ' safely'}"
        for column in after.columns
        if (known := old.get(column.name.lower())) is not None and _plain(known.type) != _plain(column.type)
    ]
    if [_signature(each) for each in before.partitions] != [_signature(each) for each in after.partitions]:
        reasons.append("what partitions the table has changed, which no ALTER TABLE can do")
    positions = BY_POSITION in before.properties, BY_POSITION in after.properties
    if positions[0] is not positions[1]:
        reasons.append(
            "whether columns are read by name or by position has changed, and old readers must not mix"
        )
    elif all(positions):
        names = [column.name.lower() for column in after.columns]
        if names[: len(before.columns)] != [column.name.lower() for column in before.columns]:
            reasons.append("columns are read by position, and they have moved")
    return reasons


def _alter(before: TableState, after: HiveTable) -> tuple[list[str], list[str], TableState]:
    """The ALTER TABLE statements, what must be said, and the table once they have run."""
    target, notes = after.qualified_name, []
    old = {column.name.lower(): column for column in before.columns}
    new = {column.name.lower() for column in after.columns}
    added = [column for column in after.columns if column.name.lower() not in old]
    gone = [column for column in before.columns if column.name.lower() not in new]
    wanted = dict(after.properties)
    if after.handler is not None:
        _keep_mappings(before, wanted, [column.name for column in gone])
    notes += [
        f"the column {column.name} stays in the table, and no view shows it any more" for column in gone
    ]

    statements = _property_statements(before, wanted, target)
    if before.about is not None and before.about != after.about:
        statements.append(f"ALTER TABLE {target} SET TBLPROPERTIES ('comment' = {comment(after.about)})")
    if after.location is not None and _folder(before.location) != _folder(after.location):
        statements.append(f"ALTER TABLE {target} SET LOCATION {string_literal(after.location)}")
    if added:
        # Hive keeps a schema for each partition; without CASCADE the new column reads NULL in the old ones.
        cascade = " CASCADE" if after.partitions and after.flavour == "hive" else ""
        columns = ",\n".join(f"  {column.declared}" for column in added)
        statements.append(f"ALTER TABLE {target} ADD COLUMNS (\n{columns}\n){cascade}")
    reworded = [
        column
        for column in after.columns
        if (known := old.get(column.name.lower())) is not None and known.comment != column.comment
    ]
    if reworded and (after.handler is not None or after.flavour == "athena"):
        notes.append(
            f"the comments of {len(reworded)} columns have changed: this table's cannot be altered in place, "
            + ("and Athena's views have none" if after.flavour == "athena" else "the views' are up to date")
        )
    else:
        statements += [_reword(target, column) for column in reworded]
    stands = replace(TableState.of(after), columns=(*after.columns, *gone), properties=wanted)
    return statements, notes, stands


def _keep_mappings(before: TableState, wanted: dict[str, str], gone: Sequence[str]) -> None:
    """Adds to the wanted mappings those of columns that stay behind: none may be without one."""
    for name in (COLUMN_MAPPING, TYPE_MAPPING):
        pairs = (entry.split(":", 1) for entry in before.properties.get(name, "").split(",") if entry)
        kept = [f"{pair[0]}:{pair[1]}" for pair in pairs if len(pair) == 2 and pair[0] in gone]
        if kept:
            wanted[name] = ",".join([*filter(None, [wanted.get(name)]), *kept])


def _property_statements(before: TableState, wanted: dict[str, str], target: str) -> list[str]:
    statements = []
    changed = {name: text for name, text in wanted.items() if before.properties.get(name) != text}
    if changed:
        statements.append(f"ALTER TABLE {target} SET TBLPROPERTIES (\n{properties(changed)}\n)")
    stale = sorted(name for name in before.properties if name.startswith(_OURS) and name not in wanted)
    if stale:
        names = ", ".join(string_literal(name) for name in stale)
        statements.append(f"ALTER TABLE {target} UNSET TBLPROPERTIES IF EXISTS ({names})")
    return statements


def _reword(target: str, column: TableColumn) -> str:
    name = quoted(column.name)
    return f"ALTER TABLE {target} CHANGE COLUMN {name} {name} {column.type} COMMENT {comment(column.comment)}"


def _signature(column: TableColumn) -> tuple[str, str]:
    return column.name.lower(), _plain(column.type)


def _plain(kind: str) -> str:
    """A type as servers show it: without the backticks of a struct's fields."""
    return kind.replace("`", "").replace(" ", "").lower()


def _folder(location: str | None) -> str:
    """A location in the one form that equal ones share: `file:///x/` is Hadoop's `file:/x`."""
    return (location or "").rstrip("/").replace("file:///", "file:/")
