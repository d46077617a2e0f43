"""What raises each alarm of the source side's stack, above all silence, and what resets it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dynalake.config import ScheduledChecksConfig
from dynalake.costs import CHECK_METRICS, FUNCTION_METRICS, watching
from dynalake.doctor.functions import ALARMS
from ingest.mapping import Effect, MappingFault
from ingest.measures import heartbeat_values
from tests.environments import ROOT
from tests.operate.alarms import Metrics, alarms, history, state

HOUR = 60
DAY = 24 * HOUR
PAGE = ROOT / "docs" / "deployment.md"


def beats(minutes: range, *effects: Effect, phase: int = 2) -> Metrics:
    """Heartbeats every five minutes, a little early or late, of a mapping with these faults.

    EventBridge Scheduler starts a target within the minute, so that a period of five minutes may have two, or none.
    """
    metrics = Metrics()
    faults = [MappingFault(effect, "", "") for effect in effects]
    for number, minute in enumerate(minutes[phase::5]):
        metrics.put(minute + (0.4 if number % 2 else -0.4), heartbeat_values(faults))
    return metrics


PHASES = pytest.mark.parametrize("phase", range(5))
WARM = -30
"""Minutes before what is looked at begins."""


def raised(metrics: Metrics, minutes: int, **parameters: str) -> set[str]:
    """The alarms that are raised at the end."""
    return {
        name
        for name, alarm in alarms(**parameters).items()
        if history(alarm, metrics, minutes)[-1] == "ALARM" and name != "checks-silent"
    }


@PHASES
def test_a_quiet_table_of_a_sound_pipeline_raises_nothing(phase: int) -> None:
    metrics = beats(range(WARM, 2 * HOUR), phase=phase)
    for name, alarm in alarms().items():
        if name != "checks-silent":
            assert "ALARM" not in history(alarm, metrics, 2 * HOUR), name


@PHASES
@pytest.mark.parametrize("effect", ["stops reading", "may skip records"])
def test_a_stream_that_is_not_read_raises_alarms_though_no_record_comes(effect: Effect, phase: int) -> None:
    """The stream is off, or the mapping is disabled or on another stream: nothing but the heartbeat says so."""
    metrics = beats(range(WARM, HOUR), phase=phase)
    metrics.points += beats(range(HOUR, HOUR + 25), effect, phase=phase).points
    found = raised(metrics, HOUR + 25)
    assert found == ({"heartbeat", "iterator-age"} if effect == "stops reading" else {"heartbeat"})


def test_a_function_that_is_silent_raises_alarms() -> None:
    """Deleted, out of concurrency, failing at its start, or its schedule is gone: there is no metric at all."""
    assert raised(beats(range(WARM, HOUR)), HOUR + 20) == {"heartbeat", "iterator-age"}


def test_a_batch_that_is_retried_again_and_again_raises_the_iterator_age() -> None:
    metrics = beats(range(WARM, 30))
    for minute in range(10, 30):
        metrics.put(minute, {"behind": (minute - 10) * 60_000 + 300_000})
    assert raised(metrics, 30) == {"iterator-age"}


@PHASES
def test_a_heartbeat_that_is_missed_once_raises_nothing(phase: int) -> None:
    metrics = beats(range(WARM, HOUR), phase=phase)
    metrics.points += beats(range(HOUR + 5, 2 * HOUR), phase=phase).points
    assert "ALARM" not in history(alarms()["heartbeat"], metrics, 2 * HOUR)


def test_without_the_heartbeat_a_quiet_table_raises_nothing() -> None:
    assert "heartbeat" not in alarms(Heartbeat="false")
    assert raised(Metrics(), HOUR, Heartbeat="false") == set()


@pytest.mark.parametrize(
    ("schedule", "every", "hours"),
    [
        ("rate(1 hour)", HOUR, 3),
        ("rate(1 day)", DAY, 37),
        ("rate(30 minutes)", 30, 2),
        ("cron(0 6 * * ? *)", DAY, 37),
    ],
)
def test_checks_that_stop_raise_the_alarm_and_those_that_run_do_not(
    schedule: str, every: int, hours: int
) -> None:
    assert ScheduledChecksConfig(schedule=schedule).hours_until_silent == hours
    alarm = alarms(ChecksSilentHours=str(hours))["checks-silent"]
    metrics = Metrics()
    for number in range(6):
        metrics.put(number * every + (7 if number % 2 else 1), {"checks_run": 1.0})
    last = 5 * every + 7
    assert "ALARM" not in history(alarm, metrics, last)
    states = history(alarm, metrics, last + hours * HOUR + 2 * HOUR)
    assert states[-1] == "ALARM"
    assert int(alarm["EvaluationPeriods"]) * int(alarm["Period"]) <= 7 * 24 * 3600, "what CloudWatch takes"


def test_where_nothing_schedules_checks_the_alarm_says_so() -> None:
    silent = alarms()["checks-silent"]
    assert "NOTHING SCHEDULES ONE" in silent["AlarmDescription"]
    assert state(silent, Metrics(), 48 * HOUR) == "ALARM"
    assert "NOTHING" not in alarms(Checks="scheduled")["checks-silent"]["AlarmDescription"]
    assert "checks-silent" not in alarms(Checks="off")


@pytest.mark.parametrize(
    ("name", "metric"),
    [("parity", "parity_ratio"), ("freshness", "freshness_s"), ("checks-failed", "checks_failed")],
)
def test_what_a_check_found_stays_until_another_check_finds_otherwise(name: str, metric: str) -> None:
    """Time alone resets nothing: the rows still differ."""
    alarm, metrics = alarms()[name], Metrics()
    metrics.put(1, {metric: 10_000.0})
    assert set(history(alarm, metrics, 3 * DAY)[2:]) == {"ALARM"}
    metrics.put(5 * HOUR, {metric: 0.0})
    states = history(alarm, metrics, 6 * HOUR)
    assert states[5 * HOUR - 1] == "ALARM"
    assert set(states[5 * HOUR + 1 :]) == {"OK"}


# What is written of them


def test_the_doctor_the_template_and_the_price_have_the_same_alarms_and_metrics() -> None:
    assert set(alarms()) == set(ALARMS)
    watched = {alarm["MetricName"] for alarm in alarms().values() if alarm["Namespace"] == "dynalake"}
    assert watched <= {*FUNCTION_METRICS, *CHECK_METRICS}


def test_every_alarm_s_treatment_of_missing_data_is_in_the_table_with_its_reason() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `?(\w+)`?[^|]*\| ([^|]+) \| ([^|]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    table = {name: (treated, reason, reset) for name, treated, reason, reset in rows}
    assert set(table) == set(alarms())
    for name, alarm in alarms().items():
        treated, reason, reset = table[name]
        assert treated == alarm["TreatMissingData"], name
        assert len(reason) > 20, name
        assert len(reset) > 10, name


def test_the_price_of_watching_follows_what_is_switched_on() -> None:
    whole = watching(alarms=len(ALARMS), heartbeat=True, checks_per_month=30, table_bytes=20 << 30)
    assert whole.parts["alarms, metrics and a dashboard"] == pytest.approx(
        0.1 * len(ALARMS) + 0.3 * (len(FUNCTION_METRICS) + len(CHECK_METRICS)) + 3
    )
    assert 0 < whole.parts["heartbeat"] < 0.1
    assert whole.parts["checks"] == pytest.approx(30 * 2 * (20 << 30) / 8192 * 0.125 / 1e6, rel=0.01)
    none = watching(alarms=12, heartbeat=False, checks_per_month=0, table_bytes=20 << 30)
    assert none.parts["heartbeat"] == none.parts["checks"] == 0


def section(page: Path, title: str) -> str:
    found: Any = re.search(
        rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(found[1])


@pytest.mark.parametrize("name", ALARMS)
def test_every_runbook_says_what_resets_its_alarm(name: str) -> None:
    assert "reset" in section(ROOT / "docs" / "runbooks" / f"{name}.md", "How to reset the alarm")
