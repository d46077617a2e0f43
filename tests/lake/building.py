"""Snapshots for tests, and items that compare equal where DynamoDB's would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lake.contract.numbers import canonical_number
from lake.lines import item_to_line
from lake.snapshot import SnapshotAbout, SnapshotReport, build_snapshot

LABEL = "2026-01-01T00:00:00.000"
ABOUT = SnapshotAbout("dynalake.a.things", "things", "shard-1:100", True, (), "a test", 1_767_225_600_000)


def version(number: int) -> str:
    return f"{LABEL}/{number:040d}"


def lake_row(item: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    return {**item, "_lake_version": {"S": version(number)}, "_lake_at": {"N": "1767225600123"}}


def build(
    out: Path,
    rows: Iterable[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]] = (),
    table: str = "things",
    key: Sequence[str] = ("pk",),
    **more: Any,
) -> SnapshotReport:
    pages = ([item_to_line(row)] for row in rows)
    return build_snapshot(
        out, table, key, pages, lambda: [[item_to_line(c) for c in changes]], lambda: ABOUT, **more
    )


def normal(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _normal(value) for name, value in item.items()}


def by_key(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(normal(item)["pk"]): normal(item) for item in items}


def _normal(value: Mapping[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    match tag:
        case "N":
            content = canonical_number(content)
        case "NS":
            content = sorted(map(canonical_number, content))
        case "SS" | "BS":
            content = sorted(content)
        case "L":
            content = [_normal(element) for element in content]
        case "M":
            content = normal(content)
    return {tag: content}
