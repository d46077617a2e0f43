"""What CloudWatch knows of a pipeline: read in one call an account; and told, where no function does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient

log = logging.getLogger(__name__)

NAMESPACE: Final = "dynalake"
"""The namespace of the pipelines' own metrics, as in `ingest.lambda_function`."""

_QUERIES_AT_ONCE: Final = 500
"""GetMetricData takes no more (Amazon CloudWatch API reference)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric, over a stretch of time.

    Attributes:
        namespace: such as "AWS/Lambda".
        name: the metric's name.
        dimensions: name -> value.
        statistic: Sum, Maximum, p50 and so on.
        back_s: how far back, seconds.
        period_s: seconds to a value.
    """

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str
    back_s: int
    period_s: int


@dataclass(frozen=True, slots=True)
class Point:
    """One value.

    Attributes:
        at_ms: the beginning of its period, epoch milliseconds.
        value: in the metric's own unit.
    """

    at_ms: int
    value: float


def points_of(
    cloudwatch: CloudWatchClient, wanted: Mapping[str, Wanted], now_ms: int
) -> dict[str, list[Point]]:
    """The values of metrics, newest first; an empty list where there are none.

    Args:
        cloudwatch: the account's client.
        wanted: what is wanted, by a name of the caller's.
        now_ms: epoch milliseconds.

    Raises:
        botocore.exceptions.ClientError: these credentials may not look.
    """
    found: dict[str, list[Point]] = {name: [] for name in wanted}
    for back_s, names in _by_stretch(wanted):
        end = datetime.fromtimestamp(now_ms / 1000, UTC)
        queries: list[Any] = [
            {"Id": f"m{number}", "MetricStat": _stat(wanted[name]), "ReturnData": True}
            for number, name in enumerate(names)
        ]
        for begin in range(0, len(queries), _QUERIES_AT_ONCE):
            pages = cloudwatch.get_paginator("get_metric_data").paginate(
                MetricDataQueries=queries[begin : begin + _QUERIES_AT_ONCE],
                StartTime=end - timedelta(seconds=back_s),
                EndTime=end,
                ScanBy="TimestampDescending",
            )
            for page in pages:
                for result in page["MetricDataResults"]:
                    name = names[int(result["Id"][1:])]
                    found[name] += [
                        Point(round(at.timestamp() * 1000), float(value))
                        for at, value in zip(result["Timestamps"], result["Values"], strict=True)
                    ]
    return {name: sorted(points, key=lambda point: -point.at_ms) for name, points in found.items()}


def put_count(
    cloudwatch: Callable[[], CloudWatchClient], name: str, dimensions: Mapping[str, str], count: int
) -> None:
    """Add to a count in the pipelines' own namespace; where CloudWatch does not take it, the work goes on.

    Args:
        cloudwatch: makes the account's client.
        name: the metric's name.
        dimensions: name -> value.
        count: how many.
    """
    data: Any = {
        "MetricName": name,
        "Dimensions": [{"Name": each, "Value": value} for each, value in dimensions.items()],
        "Value": float(count),
        "Unit": "Count",
    }
    try:
        cloudwatch().put_metric_data(Namespace=NAMESPACE, MetricData=[data])
    except (ClientError, BotoCoreError) as error:
        log.warning("CloudWatch did not take the metric %s: %s", name, type(error).__name__)


def _by_stretch(wanted: Mapping[str, Wanted]) -> Iterator[tuple[int, Sequence[str]]]:
    """The names, together by how far back they go: a call has one stretch of time for all of its metrics."""
    for back_s in sorted({each.back_s for each in wanted.values()}):
        yield back_s, [name for name, each in wanted.items() if each.back_s == back_s]


def _stat(wanted: Wanted) -> dict[str, Any]:
    return {
        "Metric": {
            "Namespace": wanted.namespace,
            "MetricName": wanted.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in wanted.dimensions.items()],
        },
        "Period": wanted.period_s,
        "Stat": wanted.statistic,
    }
