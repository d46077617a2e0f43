"""`dynalake check` and `report` as a user calls them, on an embedded AWS."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dynalake
from dynalake.pipeline import Pipeline
from expectations.history import Check
from ingest.wire import to_boto3
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]
LATER_S = 2.1
PATIENT = "lag_p99_warn_s = 3600.0, lag_p99_fail_s = 7200.0"
"""How long a busy machine takes is not what is tested here."""


@pytest.fixture
def config(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, checks=f"{{ {PATIENT} }}")
    pipeline = open_pipeline(path)
    make_source(pipeline)
    put(pipeline, *(row(n) for n in range(40)))
    pipeline.setup()
    pipeline.backfill()
    caught_up(pipeline)
    return path


def limit(config: Path, more: str) -> None:
    config.write_text(config.read_text().replace(PATIENT, f"{PATIENT}, {more}"))


def row(number: int, /, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": f"k{number}"}, "n": {"N": str(number)}, "tags": {"SS": ["a", "b"]}, **more}


def caught_up(pipeline: Pipeline) -> None:
    import threading

    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish)


def checked(pipeline: Pipeline, *suites: Any) -> Check:
    return pipeline.check_job(looks=2, pause_s=0.0).run(suites or ("parity", "freshness", "drift"))


def statuses(found: Check) -> dict[str, str]:
    return {each.says: each.status for each in found.outcomes if each.status != "pass"}


def lake_put(pipeline: Pipeline, item: Any) -> None:
    pipeline._lake.dynamodb().put_item(TableName=pipeline.config.lake_table, Item=to_boto3(item))


def metrics(pipeline: Pipeline) -> dict[str, Any]:
    cloudwatch = pipeline._source.cloudwatch()
    found = cloudwatch.list_metrics(Namespace="dynalake")["Metrics"]
    return {each["MetricName"]: each["Dimensions"] for each in found}


def test_a_healthy_pipeline_passes_and_tells_cloudwatch(
    config: Path, tmp_path: Path, capsys: Capture
) -> None:
    docs = tmp_path / "docs"
    code, out, _ = command(capsys, "check", "orders", "--config", config, "--docs", docs, "--json")
    document = json.loads(out)
    assert (code, document["verdict"]) == (0, "pass"), document["outcomes"]
    assert {each["suite"] for each in document["outcomes"]} == {"parity", "freshness", "drift"}
    assert document["parity"]["ratio"] == 0.0
    assert document["freshness"]["behind_s"] == 0.0
    dimension = [{"Name": "pipeline", "Value": "orders"}]
    assert metrics(open_pipeline(config)) == {
        "parity_ratio": dimension,
        "freshness_s": dimension,
        "checks_failed": dimension,
        "checks_run": dimension,
    }
    (kept,) = open_pipeline(config).check_job().history()
    assert json.loads(json.dumps(kept.document())) == document
    pages = list(docs.rglob("*.html"))
    assert len(pages) > 4
    for page in pages:
        text = page.read_text()
        assert "<script" not in text
        assert "http" not in text.replace("http-equiv", "")
        assert 'src="' not in text


def test_parity_warns_then_fails_then_is_repaired(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    lake_put(pipeline, {**row(3), "n": {"N": "999"}, "_lake_version": {"S": "2020-01-01T00:00:00.000/1"}})
    found = checked(pipeline, "parity")
    assert found.verdict == "fail", "1 of 40 rows is beyond 1 %"
    assert "No more than 0.0001 % of the rows differ in content" in statuses(found)
    assert found.mend == ("dynalake repair orders --from orders.parity.jsonl",)
    limit(config, "parity_fail_percent = 5.0")
    assert checked(open_pipeline(config), "parity").verdict == "warn"

    words = ("check", "orders", "--suite", "parity", "--repair", "--config", config, "--json")
    code, out, _ = command(capsys, *words)
    document = json.loads(out)
    assert (code, document["verdict"], document["before"]["verdict"]) == (0, "pass", "warn")
    assert document["before"]["parity"]["different"] == 1
    assert document["parity"]["different"] == 0


def test_a_quiet_source_is_not_stale_and_a_stalled_pipeline_is(config: Path) -> None:
    limit(config, "fresh_warn_s = 1.0, fresh_fail_s = 2.0")
    pipeline = open_pipeline(config)
    time.sleep(LATER_S)
    quiet = checked(pipeline, "freshness")
    assert quiet.freshness is not None
    assert (quiet.freshness["verdict"], quiet.verdict) == ("quiet", "pass"), statuses(quiet)

    put(pipeline, row(1, n={"N": "2"}), row(100))  # nobody replicates these
    time.sleep(LATER_S)
    stalled = checked(pipeline, "freshness")
    assert stalled.freshness is not None
    assert (stalled.freshness["verdict"], stalled.verdict) == ("stalled", "fail")
    assert stalled.freshness["waiting"] == 2
    assert stalled.freshness["behind_s"] > 2.0
    assert "dynalake status orders" in stalled.mend

    caught_up(pipeline)
    assert checked(pipeline, "freshness").freshness["waiting"] == 0  # type: ignore[index]


def test_without_a_worker_s_checkpoints_the_lake_s_versions_tell(config: Path) -> None:
    """As where Lambda replicates."""
    pipeline = open_pipeline(config)
    checkpoints = pipeline.checkpoints()
    for entry in [entry for entry, _ in checkpoints.entries("shard/")]:
        checkpoints.delete(entry)
    assert checked(pipeline, "freshness").freshness["waiting"] == 0  # type: ignore[index]
    put(pipeline, row(2, n={"N": "7"}))
    assert checked(pipeline, "freshness").freshness["waiting"] == 1  # type: ignore[index]


def test_a_gap_fails_and_its_remedy_is_named(config: Path) -> None:
    pipeline = open_pipeline(config)
    pipeline.health_store.open_gap("x", "trimmed", "changes were lost")
    found = checked(pipeline, "freshness")
    assert statuses(found) == {"No change is known to be missing": "fail"}
    assert found.mend == ("dynalake repair orders",)


def test_drift_is_what_came_after_the_schema_was_accepted(config: Path) -> None:
    pipeline = open_pipeline(config)
    assert checked(pipeline, "drift").verdict == "pass"
    time.sleep(0.01)
    put(pipeline, row(5, coupon={"S": "new"}), row(6, n={"S": "6"}))
    caught_up(pipeline)
    found = checked(pipeline, "drift")
    assert {each.says: each.observed for each in found.outcomes if each.status == "warn"} == {
        "No attribute is unexpected": "coupon",
        "No attribute has come to hold another type": "n: N then S",
    }
    pipeline.check_job().accept_schema()
    assert checked(pipeline, "drift").verdict == "pass"


def test_a_team_s_own_expectations_are_judged(config: Path) -> None:
    own = config.parent / "expectations" / "custom" / "orders.py"
    own.parent.mkdir(parents=True)
    own.write_text(
        "import great_expectations.expectations as gxe\n"
        "def expectations(pipeline):\n"
        "    yield gxe.ExpectColumnValuesToBeBetween(column='n', min_value=0, max_value=10,\n"
        "        severity='warning', description=f'{pipeline}: n is at most 10')\n"
        "    yield gxe.ExpectColumnValuesToNotBeNull(column='nope', description='nope is there')\n"
    )
    found = dynalake.check("orders", "drift", config=config)
    assert statuses(found) == {"orders: n is at most 10": "warn", "nope is there": "error"}
    assert found.verdict == "could not check"


def test_what_could_not_be_checked_is_3(config: Path, tmp_path: Path, capsys: Capture) -> None:
    for words in (
        ("--suite", "nonsense"),
        ("--config", tmp_path / "missing.toml"),
    ):
        at = () if "--config" in words else ("--config", config)
        code, out, err = command(capsys, "check", "orders", *words, *at, "--json")
        assert code == 3
        assert json.loads(out)["verdict"] == "could not check"
        assert err.count("\n") == 1
    open_pipeline(config)._source.dynamodb().delete_table(TableName="orders")
    code, out, err = command(capsys, "check", "orders", "--config", config)
    assert (code, out) == (3, "")
    assert "does not exist" in err


def test_the_report_is_written_from_the_history(config: Path, tmp_path: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    checked(pipeline)
    lake_put(pipeline, {**row(3), "n": {"N": "999"}, "_lake_version": {"S": "2020-01-01T00:00:00.000/1"}})
    checked(pipeline)
    page = tmp_path / "report.html"
    code, out, _ = command(capsys, "report", "--config", config, "--out", page, "--json")
    assert code == 0
    assert json.loads(out)["verdicts"] == {"orders": "fail"}
    text = page.read_text()
    assert "dynalake repair orders --from orders.parity.jsonl" in text
    assert text.count("<svg") == 3 + text.count("Lag of the last day")


def test_help_is_quick_and_great_expectations_comes_late() -> None:
    late = ("great_expectations", "pandas", "duckdb", "matplotlib")
    code = f"import sys, dynalake.cli.app; print([each for each in {late} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = ("boto3", "botocore", "duckdb", "great_expectations", "moto", "numpy", "pandas", "pyarrow", "sqlglot")


def test_help_loads_nothing_that_takes_long() -> None:
    """Help comes within 300 ms because of what it does not load: the libraries of the work itself."""
    code = (
        "import sys\nfrom dynalake.cli import main\nsys.argv = ['dynalake', '--help']\n"
        "try:\n    main()\n"
        "finally:\n    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: dynalake" in done.stdout
    loaded = done.stderr.split()
    assert "typer" in loaded
    assert not set(HEAVY) & set(loaded)
