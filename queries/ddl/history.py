"""What is said of an attribute where data catalogues look: in the comments of tables, views and columns.

The types that it was seen with and since when, and what the pipeline's policy does to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lake.contract import rows
from lake.contract.catalogue import Observation
from queries.ddl.identifiers import MAX_COMMENT, true_name

METADATA_COMMENTS: Final[Mapping[str, str]] = {
    rows.VERSION: "metadata of dynalake: the version of the change that the row shows",
    rows.WRITTEN_AT: "metadata of dynalake: when the lake row was written, epoch milliseconds",
    rows.SOURCE_AT: "metadata of dynalake: when the source changed, epoch milliseconds of a whole second",
    rows.DELETED: "metadata of dynalake: who deleted the item; tombstones only",
    rows.EXPIRES: "metadata of dynalake: when the tombstone goes, epoch seconds",
}
SHOWN_METADATA: Final = (rows.VERSION, rows.WRITTEN_AT, rows.SOURCE_AT)
"""What the view with metadata shows; the rest belongs to tombstones, which no view shows."""

_NAME_AT_LEAST: Final = 40
"""Characters of the name that a comment keeps room for before the types' dates give way."""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one attribute.

    Attributes:
        attribute: its true name.
        seen: (kind, first seen in epoch milliseconds), oldest first.
        sensitivity: what the policy does to it, such as "hashed by policy"; None where nothing.
    """

    attribute: str
    seen: tuple[tuple[str, int], ...] = ()
    sensitivity: str | None = None

    @property
    def first_seen(self) -> str | None:
        """The day on which it was first seen, UTC; None where it never was."""
        return _day(self.seen[0][1]) if self.seen else None

    @property
    def types(self) -> str:
        """The kinds with the day of each, oldest first."""
        return ", ".join(f"{kind} since {_day(at)}" for kind, at in self.seen)

    def text(self, remark: str = "") -> str:
        """One line that every metastore keeps whole; what is cut, where it must be, is the name."""
        name = true_name(self.attribute)
        rest = "".join(f" | {part}" for part in (self.sensitivity, remark) if part)
        said = f" | {self.types}" if self.seen else ""
        room = MAX_COMMENT - len("attribute ") - len(rest)
        if self.seen and len(said) + min(len(name), _NAME_AT_LEAST) > room:
            said = f" | {', '.join(kind for kind, _ in self.seen)}, first seen {self.first_seen}"
        room -= len(said)
        return f"attribute {name if len(name) <= room else name[: max(room - 3, 0)] + '...'}{said}{rest}"


def histories(
    observations: Sequence[Observation], sensitivity: Mapping[str, str] | None = None
) -> dict[str, History]:
    """Each attribute's history, in the order in which the attributes were first seen.

    Args:
        observations: what the schema catalogue holds, in any order.
        sensitivity: attribute -> what the policy does to it.
    """
    seen: dict[str, list[tuple[str, int]]] = {}
    for each in sorted(observations, key=lambda o: (o.first_seen, o.attribute, o.kind)):
        kinds = seen.setdefault(each.attribute, [])
        if each.kind not in {kind for kind, _ in kinds}:
            kinds.append((each.kind, each.first_seen))
    told = sensitivity or {}
    return {name: History(name, tuple(kinds), told.get(name)) for name, kinds in seen.items()}


def _day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d}"
