"""What a job will read and write, and what that costs, before it begins; and what a pipeline costs a month."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final

READ_UNIT_BYTES: Final = 4096
WRITE_UNIT_BYTES: Final = 1024
"""A read unit covers 4 KB, half as much when eventually consistent costs half; a write unit 1 KB
(DynamoDB developer guide, "Read/write capacity mode")."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Attributes:
        rows: rows.
        read_units: read request units.
        write_units: write request units.
        usd: US dollars at the price list's on-demand prices.
        priced: the date of the price list.
        counted: who counted the rows, for people.
    """

    rows: int
    read_units: int
    write_units: int
    usd: float
    priced: str
    counted: str = "DynamoDB's own count, up to six hours old"

    def sentence(self) -> str:
        """The estimate in words."""
        return (
            f"about {self.rows:,} rows ({self.counted}): reads {self.read_units:,} "
            f"and writes at most {self.write_units:,} capacity units, about ${self.usd:,.2f} on demand "
            f"(us-east-1 prices of {self.priced}; an estimate)"
        )


def estimate(rows: int, table_bytes: int, *, scans: int, writes: bool) -> Estimate:
    """What scanning a table so many times takes, and writing each of its rows once.

    Args:
        rows: the table's rows.
        table_bytes: the table's size.
        scans: how many times a table of this size is scanned.
        writes: whether each row is written.
    """
    row_bytes = table_bytes / rows if rows else 0
    read_units = scans * math.ceil(table_bytes / READ_UNIT_BYTES / 2)
    write_units = rows * max(1, math.ceil(row_bytes / WRITE_UNIT_BYTES)) if writes else 0
    return _priced(rows, read_units, write_units)


def estimate_mending(rows: int, row_bytes: float, counted: str) -> Estimate:
    """What mending single rows takes: each is read consistently on both sides and written once.

    Args:
        rows: the rows to mend.
        row_bytes: the mean size of the table's rows.
        counted: who counted the rows, for people.
    """
    read_units = rows * 2 * max(1, math.ceil(row_bytes / READ_UNIT_BYTES))
    write_units = rows * max(1, math.ceil(row_bytes / WRITE_UNIT_BYTES))
    return replace(_priced(rows, read_units, write_units), counted=counted)


def estimate_filling(rows: int, total_bytes: int, counted: str) -> Estimate:
    """What writing rows takes that were not read from a table: no read units.

    Args:
        rows: the rows.
        total_bytes: their size.
        counted: who counted the rows, for people.
    """
    write_units = rows * max(1, math.ceil(total_bytes / rows / WRITE_UNIT_BYTES)) if rows else 0
    return replace(_priced(rows, 0, write_units), counted=counted)


def _priced(rows: int, read_units: int, write_units: int) -> Estimate:
    prices = _prices()
    usd = (
        read_units * prices["read_usd_per_million"] + write_units * prices["write_usd_per_million"]
    ) / 1_000_000
    return Estimate(rows, read_units, write_units, usd, str(prices["date"]))


DAYS_PER_MONTH: Final = 365.25 / 12
HOURS_PER_MONTH: Final = 24 * DAYS_PER_MONTH
BYTES_PER_GB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Usage:
    """What a pipeline used in one day.

    Attributes:
        table_bytes: the lake table's size.
        write_units: write units of the lake table.
        read_units: read units of the lake table.
        provisioned: (read, write) units a second that are provisioned; None on demand.
        invocations: invocations of the function.
        gb_seconds: their memory times their duration.
        log_bytes: what the function logged.
        alarms: alarms of the pipeline.
        metrics: custom metrics of the pipeline.
        dashboards: its dashboards.
    """

    table_bytes: int = 0
    write_units: float = 0.0
    read_units: float = 0.0
    provisioned: tuple[int, int] | None = None
    invocations: float = 0.0
    gb_seconds: float = 0.0
    log_bytes: float = 0.0
    alarms: int = 0
    metrics: int = 0
    dashboards: int = 0


@dataclass(frozen=True, slots=True)
class Monthly:
    """What a pipeline costs a month if all days are like the last; an estimate.

    Attributes:
        parts: US dollars by part.
        priced: the date of the price list.
    """

    parts: dict[str, float]
    priced: str

    @property
    def usd(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def monthly(usage: Usage) -> Monthly:
    """What a day's usage makes a month, at the price list's prices, without free tiers.

    The source table and its stream are the team's own: reading a stream by Lambda is free of charge (Amazon
    DynamoDB pricing), and the source pays nothing for being replicated.
    """
    prices = _prices()
    gigabytes = usage.table_bytes / BYTES_PER_GB
    if usage.provisioned:
        read, write = usage.provisioned
        capacity = HOURS_PER_MONTH * (
            read * prices["read_usd_per_unit_hour"] + write * prices["write_usd_per_unit_hour"]
        )
    else:
        capacity = (
            DAYS_PER_MONTH
            * (
                usage.read_units * prices["read_usd_per_million"]
                + usage.write_units * prices["write_usd_per_million"]
            )
            / 1_000_000
        )
    function = DAYS_PER_MONTH * (
        usage.invocations * prices["invocation_usd_per_million"] / 1_000_000
        + usage.gb_seconds * prices["invocation_usd_per_gb_second"]
    )
    watching = (
        usage.alarms * prices["alarm_usd_per_month"]
        + usage.metrics * prices["metric_usd_per_month"]
        + usage.dashboards * prices["dashboard_usd_per_month"]
        + DAYS_PER_MONTH * usage.log_bytes / BYTES_PER_GB * prices["log_usd_per_gb"]
    )
    return Monthly(
        {
            "capacity": capacity,
            "storage": gigabytes * (prices["storage_usd_per_gb_month"] + prices["recovery_usd_per_gb_month"]),
            "function": function,
            "alarms, metrics and logs": watching,
        },
        str(prices["date"]),
    )


FUNCTION_METRICS: Final = (
    "applied",
    "stale",
    "deleted",
    "quarantined",
    "policy_mismatches",
    "throttled",
    "failed",
    "batch_size",
    "lag",
    "behind",
    "Heartbeat",
)
"""The custom metrics of a pipeline's function."""

CHECK_METRICS: Final = ("parity_ratio", "freshness_s", "checks_failed", "checks_run")
"""Those of its checks."""

HEARTBEATS_PER_MONTH: Final = DAYS_PER_MONTH * 24 * 12
HEARTBEAT_GB_SECONDS: Final = 0.25
"""Half a second at the template's 512 MB; an assumption on the safe side."""
HEARTBEAT_LOG_BYTES: Final = 1500


def watching(*, alarms: int, heartbeat: bool, checks_per_month: float, table_bytes: int) -> Monthly:
    """What it costs a month to be told when something is wrong, whatever the traffic.

    What runs the checks (a task of a minute or so) is not in it: its price is that of the cluster.

    Args:
        alarms: alarms of the pipeline.
        heartbeat: whether the function is invoked every five minutes.
        checks_per_month: checks that are run, each of which reads both tables whole for parity.
        table_bytes: the source table's size; the lake table's is about the same.
    """
    prices = _prices()
    metrics = len(FUNCTION_METRICS) + (len(CHECK_METRICS) if checks_per_month else 0)
    parts = {
        "alarms, metrics and a dashboard": alarms * prices["alarm_usd_per_month"]
        + metrics * prices["metric_usd_per_month"]
        + prices["dashboard_usd_per_month"],
        "heartbeat": HEARTBEATS_PER_MONTH
        * (
            (prices["schedule_usd_per_million"] + prices["invocation_usd_per_million"]) / 1_000_000
            + HEARTBEAT_GB_SECONDS * prices["invocation_usd_per_gb_second"]
            + HEARTBEAT_LOG_BYTES / BYTES_PER_GB * prices["log_usd_per_gb"]
        )
        if heartbeat
        else 0.0,
        "checks": checks_per_month
        * (
            prices["schedule_usd_per_million"] / 1_000_000
            + estimate(0, table_bytes, scans=2, writes=False).usd
        ),
    }
    return Monthly(parts, str(prices["date"]))


def _prices() -> dict[str, Any]:
    text = resources.files("dynalake").joinpath("prices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
