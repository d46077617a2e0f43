"""Changes, and the lake rows they become.

Items, keys and images are DynamoDB JSON as the wire, Lambda events and S3 exports have it:
`{"attribute": {"S": "text"}}`, numbers as strings, binary as base64 text. The source's attributes stand in a
lake row unchanged; dynalake's own begin with `_lake_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from lake.contract.versions import ABSENT, Version

Item = Mapping[str, Mapping[str, Any]]
"""DynamoDB JSON: attribute name -> {type tag: value}."""

RESERVED_PREFIX: Final = "_lake_"
VERSION: Final = "_lake_version"
"""S: the version of the change that the row shows."""
WRITTEN_AT: Final = "_lake_at"
"""N, epoch milliseconds: when the lake row was written."""
SOURCE_AT: Final = "_lake_source_at"
"""N, epoch milliseconds: the change's ApproximateCreationDateTime (DynamoDB gives whole seconds).

Absent on a row that was read (backfill, repair, redrive): nobody knows when its last change was made."""
DELETED: Final = "_lake_deleted"
"""S, tombstones only: who deleted the item."""
EXPIRES: Final = "_lake_expires"
"""N, epoch seconds, tombstones only: the lake table's time-to-live attribute."""

METADATA: Final = (VERSION, WRITTEN_AT, SOURCE_AT, DELETED, EXPIRES)

DeletedBy = Literal["user", "ttl", "unknown"]
"""Who deleted: a user, the source's own time-to-live, or (found, not streamed) unknown."""

TOMBSTONE_LIFE_S: Final = 14 * 24 * 3600
"""How long a tombstone stays: longer than anything that could still replay an older change. The stream keeps
24 hours, an SQS failure destination up to 14 days."""

MAX_ITEM_BYTES: Final = 400 * 1024
"""DynamoDB's limit for an item: names and values together."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one item, from wherever it comes.

    Attributes:
        key: the item's key attributes.
        image: the whole item after the change, key included; None for a delete.
        version: the change's version.
        source_at: epoch milliseconds of the change in the source; None where it was read, not streamed.
        deleted_by: who deleted; only with `image` None.
        read_over: for a change that was read: the row's version seen before the source was read. It applies
            only if the row's version is still that one. None for a streamed change.
        replaces: the row's version attribute where it is forged, as DynamoDB JSON: the change applies only if it
            is still that one, whatever its type. `version` may then compare as older.
    """

    key: Item
    image: Item | None
    version: Version
    source_at: int | None = None
    deleted_by: DeletedBy = "user"
    read_over: Version | None = None
    replaces: Mapping[str, Any] | None = None


def lake_row(change: Change, now_ms: int, tombstone_life_s: int = TOMBSTONE_LIFE_S) -> dict[str, Any]:
    """The lake row that shows this change: the image with its metadata, or a tombstone.

    A tombstone has the key attributes and the metadata, and no other attribute.

    Args:
        change: the change to show.
        now_ms: the time of writing, epoch milliseconds.
        tombstone_life_s: how long a tombstone stays, seconds.
    """
    row: dict[str, Any] = dict(change.key if change.image is None else change.image)
    row[VERSION] = {"S": change.version}
    row[WRITTEN_AT] = {"N": str(now_ms)}
    if change.source_at is not None:
        row[SOURCE_AT] = {"N": str(change.source_at)}
    if change.image is None:
        row[DELETED] = {"S": change.deleted_by}
        row[EXPIRES] = {"N": str(now_ms // 1000 + tombstone_life_s)}
    return row


def is_tombstone(row: Item) -> bool:
    """Whether a lake row says that its item is deleted."""
    return DELETED in row


def source_item(row: Item) -> dict[str, Mapping[str, Any]]:
    """The source's attributes of a lake row: the row without dynalake's own."""
    return {name: value for name, value in row.items() if not name.startswith(RESERVED_PREFIX)}


def version_of(row: Item | None) -> Version:
    """The version of a lake row, `ABSENT` where there is no row or a row that dynalake did not write."""
    return Version(row[VERSION]["S"]) if row and "S" in row.get(VERSION, {}) else ABSENT


def reserved_attribute(item: Item) -> str | None:
    """The first attribute whose name is reserved for dynalake, or None."""
    return next((name for name in item if name.startswith(RESERVED_PREFIX)), None)
