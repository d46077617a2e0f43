"""The runbooks of parity and checks-failed, followed: a check raises the alarm, and what the page says resets it."""

from __future__ import annotations

import re
import shlex
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dynalake.pipeline import Pipeline
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.environments import ROOT
from tests.operate.alarms import Metrics, alarms, state

Capture = pytest.CaptureFixture[str]
RUNBOOKS = ROOT / "docs" / "runbooks"
NEVER_SLOW = "{ lag_p99_warn_s = 3600.0, lag_p99_fail_s = 7200.0 }"


@pytest.fixture
def config(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    import threading

    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, checks=NEVER_SLOW)
    pipeline = open_pipeline(path)
    make_source(pipeline)
    put(pipeline, *({"pk": {"S": f"k{number}"}} for number in range(30)))
    pipeline.setup()
    pipeline.backfill()
    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish)
    return path


def published(pipeline: Pipeline, metric: str) -> list[float]:
    """The worst value of each minute that has one, oldest first, as CloudWatch has it."""
    now = datetime.fromtimestamp(time.time(), UTC)
    found = pipeline._source.cloudwatch().get_metric_statistics(
        Namespace="dynalake",
        MetricName=metric,
        Dimensions=[{"Name": "pipeline", "Value": "orders"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=["Maximum"],
    )
    return [point["Maximum"] for point in sorted(found["Datapoints"], key=lambda each: each["Timestamp"])]


def state_after(pipeline: Pipeline, name: str) -> str:
    """The alarm's state once the minutes of every check so far have passed."""
    alarm, current = alarms()[name], "INSUFFICIENT_DATA"
    for value in published(pipeline, alarm["MetricName"]):
        minute = Metrics([(alarm["MetricName"], 0.0, value)])
        current = state(alarm, minute, 1, current)
        current = state(alarm, Metrics(), 1, current)
    return current


def spoil(pipeline: Pipeline) -> None:
    """Change a row of the lake by hand."""
    pipeline.lake_dynamodb().update_item(
        TableName=pipeline.config.lake_table,
        Key={"pk": {"S": "k3"}},
        UpdateExpression="SET odd = :odd",
        ExpressionAttributeValues={":odd": {"S": "?"}},
    )


def steps(runbook: str) -> list[list[str]]:
    """The commands under "How to reset the alarm"."""
    text = (RUNBOOKS / f"{runbook}.md").read_text(encoding="utf-8").partition("## How to reset the alarm")[2]
    lines = re.findall(r"^\$ dynalake (.*)$", text, re.MULTILINE)
    assert lines
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("runbook", ["parity", "checks-failed"])
def test_following_the_runbook_resets_the_alarm(config: Path, capsys: Capture, runbook: str) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline)
    code, _, _ = command(capsys, "check", "orders", "--config", config)
    assert code == 2
    assert state_after(pipeline, runbook) == "ALARM"
    code, _, _ = command(capsys, "parity", "orders", "--config", config)
    assert (code, state_after(pipeline, runbook)) == (1, "ALARM"), "parity publishes nothing"
    for words in steps(runbook):
        code, out, err = command(capsys, *words, "--config", config)
        assert code == 0, (words, out, err)
    assert state_after(pipeline, runbook) == "OK", "though all of it took place within a minute or two"


def test_a_check_of_one_suite_does_not_reset_failed_checks(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline)
    assert command(capsys, "check", "orders", "--config", config)[0] == 2
    assert command(capsys, "check", "orders", "--suite", "drift", "--config", config)[0] == 0
    assert state_after(pipeline, "checks-failed") == "ALARM"
    assert published(pipeline, "checks_run") == [1.0, 1.0]
