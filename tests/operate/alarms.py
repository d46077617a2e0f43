"""The alarms of `source.yaml` as CloudFormation makes them, and CloudWatch's evaluation of them.

By AWS's documentation (CloudWatch user guide, "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing
data"): the values of the last N periods are compared with the threshold; M that breach it raise the alarm. A period
without a value counts by TreatMissingData. No emulator does this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cfnlint.decode.cfn_yaml import loads

from ingest import lambda_function

TEMPLATE: Final = Path(lambda_function.__file__).with_name("templates") / "source.yaml"
_STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "Sum": sum,
    "Minimum": min,
    "Maximum": max,
}


@dataclass
class Metrics:
    """What was published: (metric, minutes since the beginning, value)."""

    points: list[tuple[str, float, float]] = field(default_factory=list)

    def put(self, at_min: float, values: Mapping[str, float]) -> None:
        self.points += [(name, at_min, value) for name, value in values.items()]

    def values(self, name: str, begin_min: float, end_min: float) -> list[float]:
        return [value for metric, at, value in self.points if metric == name and begin_min <= at < end_min]


def alarms(**parameters: str) -> dict[str, Mapping[str, Any]]:
    """The template's alarms, by what they are called behind the pipeline's name; conditions decide which there are."""
    template = loads(TEMPLATE.read_text(encoding="utf-8"))
    given = {name: each.get("Default", "") for name, each in template["Parameters"].items()}
    resolver = _Resolver(template["Conditions"], {**given, "PipelineName": "orders", **parameters})
    found = [
        resolver.value(resource["Properties"])
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        and ("Condition" not in resource or resolver.holds(resource["Condition"]))
    ]
    return {alarm["AlarmName"].removeprefix("dynalake-orders-"): alarm for alarm in found}


@dataclass(frozen=True)
class _Resolver:
    """CloudFormation's functions, as far as the alarms need them; a resource's name stays as it is."""

    conditions: Mapping[str, Any]
    given: Mapping[str, Any]

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if not isinstance(value, dict):
            return value
        match next(iter(value.items())):
            case "Ref", name:
                return self.given.get(name, name)
            case "Fn::Sub", str(text):
                return re.sub(r"\$\{(\w+)\}", lambda name: str(self.given[name[1]]), text)
            case "Fn::If", [condition, yes, no]:
                return self.value(yes if self.holds(condition) else no)
        return {key: self.value(each) for key, each in value.items()}

    def holds(self, condition: str) -> bool:
        return self._true(self.conditions[condition])

    def _true(self, condition: Mapping[str, Any]) -> bool:
        kind, arguments = next(iter(condition.items()))
        if kind == "Fn::Not":
            return not self._true(arguments[0])
        assert kind == "Fn::Equals", kind
        return bool(self.value(arguments[0]) == self.value(arguments[1]))


def state(alarm: Mapping[str, Any], metrics: Metrics, now_min: int, before: str = "INSUFFICIENT_DATA") -> str:
    """The alarm's state after the period that ends at this minute, if it was in another one before."""
    minutes, periods = int(alarm["Period"]) // 60, int(alarm["EvaluationPeriods"])
    verdicts: list[bool | None] = []
    for number in range(periods):
        end = now_min - number * minutes
        values = metrics.values(alarm["MetricName"], end - minutes, end)
        verdicts.append(_breaches(alarm, values) if values else None)
    known = [verdict for verdict in verdicts if verdict is not None]
    treat = alarm["TreatMissingData"]
    if not known and treat in ("ignore", "missing"):
        return before if treat == "ignore" else "INSUFFICIENT_DATA"
    missing = len(verdicts) - len(known) if treat == "breaching" else 0
    breaching = sum(known) + missing
    return "ALARM" if breaching >= int(alarm["DatapointsToAlarm"]) else "OK"


def history(alarm: Mapping[str, Any], metrics: Metrics, until_min: int, begin: str = "OK") -> list[str]:
    """The state after each minute; a period is aligned to its own length."""
    step = int(alarm["Period"]) // 60
    states, current = [], begin
    for minute in range(1, until_min + 1):
        if minute % step == 0:
            current = state(alarm, metrics, minute, current)
        states.append(current)
    return states


def _breaches(alarm: Mapping[str, Any], values: Sequence[float]) -> bool:
    if "Statistic" in alarm:
        value = _STATISTICS[alarm["Statistic"]](values)
    else:
        value = sorted(values)[round(0.99 * (len(values) - 1))]
    threshold = float(alarm["Threshold"])
    return value < threshold if alarm["ComparisonOperator"] == "LessThanThreshold" else value > threshold
