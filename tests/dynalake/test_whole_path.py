"""All ten DynamoDB types, from the source item to the snapshot, Parquet and back, without loss."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from expectations.canonical import canonical_text
from ingest.walk import Pacing
from lake import open_lake
from lake.encode import arrow_items, snapshot_items
from lake.export import export_table
from tests.dynalake.accounts import make_source, open_pipeline, put, write_config

QUICK = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)
BINARY = base64.b64encode(bytes(range(256))).decode()

ITEMS: list[dict[str, Any]] = [
    {
        "pk": {"S": "everything"},
        "s": {"S": "text with ünïcode, 'quotes', \"more\", commas, and a \n newline"},
        "empty": {"S": ""},
        "n": {"N": "12345678901234567890123456789012345678"},
        "fraction": {"N": "0.12345678901234567890123456789012345678"},
        "tiny": {"N": "1E-130"},
        "huge": {"N": "-9.9999999999999999999999999999999999999E+125"},
        "int": {"N": "-9223372036854775808"},
        "b": {"B": BINARY},
        "no_bytes": {"B": ""},
        "yes": {"BOOL": True},
        "no": {"BOOL": False},
        "nothing": {"NULL": True},
        "ss": {"SS": ["b", "a", ""]},
        "ns": {"NS": ["1", "-2.5", "99999999999999999999999999999999999999"]},
        "bs": {"BS": [BINARY, "AA=="]},
        "list": {"L": [{"S": "x"}, {"N": "1"}, {"NULL": True}, {"L": []}, {"M": {}}]},
        "map": {"M": {"a": {"N": "1.5"}, "b": {"M": {"c": {"SS": ["q"]}}}, "d": {"B": "AQ=="}}},
        "empty_list": {"L": []},
        "empty_map": {"M": {}},
        'nasty "name". with; dots': {"S": "kept"},
    },
    {"pk": {"S": "mixed types"}, "s": {"N": "7"}, "n": {"S": "seven"}, "map": {"L": [{"S": "now a list"}]}},
    {"pk": {"S": "clashing case"}, "S": {"S": "upper"}, "s": {"S": "lower"}},
    {"pk": {"S": "almost nothing"}},
]


def by_key(items: Any) -> dict[str, str]:
    return {item["pk"]["S"]: canonical_text(item) for item in items}


@pytest.mark.parametrize("way", ["backfill", "stream"])
@pytest.mark.usefixtures("aws")
def test_all_types_survive_the_whole_path(tmp_path: Path, way: str) -> None:
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, *ITEMS)
    if way == "backfill":
        pipeline.backfill()
    else:
        finish = threading.Event()
        finish.set()
        report = pipeline.run_worker(threading.Event(), finish, pacing=QUICK)
        assert report.outcomes["applied"] == len(ITEMS)
    expected = by_key(ITEMS)
    assert pipeline.parity(pause_s=0.0).exact

    out = tmp_path / "lake.duckdb"
    pipeline.snapshot(out, pacing=QUICK)
    assert by_key(snapshot_items(out, "orders")) == expected

    export_table(out, "orders", "parquet", tmp_path / "orders.parquet")
    assert by_key(arrow_items(pq.read_table(tmp_path / "orders.parquet"))) == expected
    with open_lake(out) as lake:
        assert not lake.freshness("orders").complete, (
            "a backfill needs a reader of the stream, and a reader a backfill"
        )


@pytest.mark.usefixtures("aws")
def test_a_snapshot_rolls_forward_what_changes_during_its_scan(tmp_path: Path) -> None:
    """Rows that change after they were scanned must show as they are at the watermark, deletes included."""
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": "0"}} for n in range(50)))
    pipeline.backfill()
    changed = False

    def change_the_lake_while_it_is_scanned(_rows: int) -> None:
        nonlocal changed
        if not changed:
            changed = True
            put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": "1"}} for n in range(60)))
            for n in range(10):
                pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": str(n)}})
            finish = threading.Event()
            finish.set()
            pipeline.run_worker(threading.Event(), finish, pacing=QUICK)

    out = tmp_path / "lake.duckdb"
    slow = Pacing(least_s=0.0, most_s=0.05, quiet_answers=3, quiet_s=0.2)
    report = pipeline.snapshot(out, pacing=slow, on_progress=change_the_lake_while_it_is_scanned)
    assert changed
    expected = by_key({"pk": {"S": str(n)}, "n": {"N": "1"}} for n in range(10, 60))
    assert by_key(snapshot_items(out, "orders")) == expected
    assert report.rows == 50
    with open_lake(out) as lake:
        assert "shard" in lake.freshness("orders").watermark


@pytest.mark.usefixtures("aws")
def test_policy_keeps_values_from_the_lake_and_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "9d41c07be2a85f3366b1d0e94c72fa18")
    config = write_config(tmp_path, policy='{ ssn = "drop", pk = "hash", phone = "mask", email = "hash" }')
    pipeline = open_pipeline(config)
    make_source(pipeline, {"pk": "N"})
    pipeline.setup()
    secret: Mapping[str, Any] = {"ssn": {"S": "1-2-3"}, "phone": {"N": "555"}, "email": {"S": "a@b.c"}}
    put(pipeline, *({"pk": {"N": str(n)}, **secret} for n in range(3)))
    pipeline.backfill()
    assert pipeline.parity(pause_s=0.0).exact
    out = tmp_path / "lake.duckdb"
    pipeline.snapshot(out, pacing=QUICK)
    rows = list(snapshot_items(out, "orders"))
    assert len(rows) == 3
    assert all(set(row) == {"pk", "phone", "email"} for row in rows)
    assert {row["phone"]["S"] for row in rows} == {"***"}
    assert len({row["email"]["S"] for row in rows}) == 1
    assert len({row["pk"]["S"] for row in rows}) == 3
    assert {(seen.attribute, seen.kind) for seen in pipeline.schema_history()} == {
        ("pk", "S"),
        ("phone", "S"),
        ("email", "S"),
    }
