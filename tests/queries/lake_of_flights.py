"""The demo's flights as they stand in the end, in a snapshot and in its Parquet export."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

from dynalake.demo.flights import KEY, TABLE, story
from lake.contract.catalogue import Observation, kind_of
from lake.contract.versions import Version
from lake.export import export_table
from tests.lake.building import build, version

LATE_EVERY = 97
"""Each so-manieth change reaches the lake late: by some minutes, and never twice by the same time."""


def rows() -> Iterator[dict[str, Any]]:
    """Each lake row with its metadata. Those that nothing happened to were backfilled: no time of a change."""
    played = story()
    items: dict[tuple[str, str], dict[str, Any]] = {_key(item): dict(item) for item in played.before}
    times: dict[tuple[str, str], int] = {}
    for write in played.live:
        key = _key(write.key)
        times[key] = int(write.at.replace(tzinfo=UTC).timestamp()) * 1000
        if write.kind == "delete":
            items.pop(key, None)
            continue
        item = items.setdefault(key, {})
        item |= write.values
        if write.history is not None:
            item["history"] = {"L": [*item["history"]["L"], write.history]}
    for number, (key, item) in enumerate(items.items()):
        row = {**item, "_lake_version": {"S": version(number)}}
        changed = times.get(key)
        lag = 350 if number % LATE_EVERY else 61_000 + number
        row["_lake_at"] = {"N": str((changed or 1_357_000_000_000) + lag)}
        if changed is not None:
            row["_lake_source_at"] = {"N": str(changed)}
        yield row


def observations() -> list[Observation]:
    """What the catalogue would hold."""
    seen: dict[tuple[str, str], Observation] = {}
    for at, row in enumerate(rows()):
        for name, value in row.items():
            if not name.startswith("_lake_"):
                observed = Observation(name, kind_of(value), at, Version(version(at)))
                seen.setdefault((name, observed.kind), observed)
    return list(seen.values())


def make(folder: Path) -> tuple[Path, Path]:
    """The snapshot, and the folder of its Parquet export."""
    snapshot, parquet = folder / "lake.duckdb", folder / TABLE
    build(snapshot, rows(), table=TABLE, key=[name for name, _ in KEY])
    export_table(snapshot, TABLE, "parquet", parquet)
    return snapshot, parquet


def _key(item: Any) -> tuple[str, str]:
    return item[KEY[0][0]]["S"], item[KEY[1][0]]["S"]
