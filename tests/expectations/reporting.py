"""What a report may have to show: pipelines in every state, with hostile names."""

from __future__ import annotations

import random
from typing import Any, Final

from expectations.frames import LAG_STEPS_MS
from expectations.history import Check
from expectations.report.page import Subject
from expectations.suites import Outcome
from lake.contract.catalogue import Observation
from lake.contract.health import Gap, Health
from lake.contract.versions import Version

NEVER: Final = Health("not started", None, None, ())
NOW: Final = 1_795_500_000_000
HOUR: Final = 3_600_000
HOSTILE: Final = '<script src="https://example.com/x.js"></script><img src="https://example.com/p.png">'


def subjects() -> list[Subject]:
    """A pipeline that is well, one that warns, one that fails with gaps and hostile names, one never checked."""
    rng = random.Random(8)
    return [
        _subject("orders", rng, 0.0, "pass"),
        _subject("customers-of-a-very-long-pipeline-name-that-goes-on", rng, 3e-6, "warn"),
        _subject(
            "payments",
            rng,
            0.021,
            "fail",
            schema=[
                Observation(HOSTILE, "S", NOW - 50 * HOUR, Version("v")),
                Observation("amount", "N.int64", NOW - 90 * HOUR, Version("v")),
                Observation("amount", "S", NOW - 10 * HOUR, Version("v")),
            ],
            gaps=[Gap("x", "trimmed", f"changes may be lost: {HOSTILE}", NOW - 5 * HOUR, NOW - HOUR)],
        ),
        Subject("returns", "returns", "dynalake.shop.returns", [], [], NEVER, [], []),
    ]


def _subject(
    name: str,
    rng: random.Random,
    ratio: float,
    status: str,
    schema: list[Observation] | None = None,
    gaps: list[Gap] | None = None,
) -> Subject:
    checks = []
    small: Any = "pass" if status == "pass" else "warn"
    large: Any = "fail" if status == "fail" else "pass"
    says = "every change of the source is in the lake"
    for hours in range(96, -1, -4):
        now = ratio if hours < 12 else rng.choice([0.0, 0.0, ratio / 4])
        rows = 1_204_331
        behind = rng.choice([0.0, 0.0, 2.0, 14.0]) if status != "fail" or hours > 12 else 60.0 * (60 - hours)
        checks.append(
            Check(
                pipeline=name,
                at=NOW - hours * HOUR,
                outcomes=(
                    Outcome("parity", "No more than 0.0001 % of the rows disagree", small, f"{now}"),
                    Outcome("parity", "No more than 1 % of the rows are missing from the lake", large, f"{now}"),
                    Outcome("drift", "No attribute is unexpected", "pass", ""),
                ),
                parity={
                    "source_rows": rows, "lake_rows": rows, "tombstones": 11, "missing": int(rows * now), "extra": 0,
                    "different": 0, "in_flight": 3, "ratio": now,
                },
                freshness={
                    "verdict": "stalled" if behind > 300 else "fresh", "sentence": says,
                    "behind_s": behind, "newest_change_age_s": 42.0, "source_newest_at": NOW, "waiting": 0,
                },
                lag={
                    "rows": 4_800, "p50_ms": 640.0, "p99_ms": 1_870.0,
                    "counts": [rng.randrange(900) for _ in range(len(LAG_STEPS_MS) + 1)],
                },
                mend=() if status == "pass" else (f"dynalake repair {name} --from {name}.parity.jsonl",),
            )
        )  # fmt: skip
    usual = [
        Observation(
            f"attribute_{number}", rng.choice(["S", "N", "M", "L"]), NOW - rng.randrange(96) * HOUR, Version("v")
        )
        for number in range(14)
    ]  # fmt: skip
    return Subject(
        name=name,
        source_table=name,
        lake_table=f"dynalake.shop.{name}",
        checks=checks,
        schema=schema or usual,
        health=Health("gap" if gaps else "caught up", NOW, NOW, tuple(gaps or ())),
        parity_limits=[(1e-6, "warn"), (0.01, "fail")],
        fresh_limits=[(300.0, "warn"), (3600.0, "fail")],
    )
