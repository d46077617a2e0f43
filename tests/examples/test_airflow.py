"""The DAG of docs/scheduling.md: Airflow itself parses it, and its steps' shell does with exit codes what it says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.environments import ROOT, UnavailableError, environment, unavailable
from tests.waiting import PATIENCE_S

FOLDER = ROOT / "examples" / "airflow"
PARSER = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
dags = {
    name: {
        task.task_id: {
            "command": task.bash_command,
            "downstream": sorted(task.downstream_task_ids),
            "retries": task.retries,
            "appends": task.append_env,
        }
        for task in dag.tasks
    }
    for name, dag in bag.dags.items()
}
print("PARSED" + json.dumps({"errors": bag.import_errors, "dags": dags}))
"""


@pytest.fixture(scope="module")
def tasks(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAG's tasks, as Airflow's own DagBag has them."""
    assert pytestconfig.cache is not None
    try:
        python = environment("airflow", pytestconfig.cache.mkdir("airflow"))
    except UnavailableError as error:
        unavailable(str(error))
    home = tmp_path_factory.mktemp("airflow")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    done = subprocess.run(
        [python, "-c", PARSER, FOLDER],
        env={**kept, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.rpartition("PARSED")[2])
    assert not found["errors"]
    (dag,) = found["dags"].values()
    return dict(dag)


def test_airflow_has_the_steps_in_their_order(tasks: dict[str, Any]) -> None:
    assert {name: task["downstream"] for name, task in tasks.items()} == {
        "refresh": ["check"],
        "check": ["export"],
        "export": ["publish"],
        "publish": [],
    }
    assert all(task["retries"] and task["appends"] for task in tasks.values())


@pytest.mark.parametrize(
    ("step", "code", "ends"),
    [
        ("refresh", 0, 0),
        ("refresh", 1, 1),
        ("refresh", 2, 2),
        ("check", 0, 0),
        ("check", 1, 0),
        ("check", 2, 2),
        ("check", 3, 3),
        ("publish", 143, 143),
    ],
)
def test_a_step_ends_as_its_command_does_and_gives_its_document(
    tasks: dict[str, Any], tmp_path: Path, step: str, code: int, ends: int
) -> None:
    stand_in = tmp_path / "dynalake"
    stand_in.write_text(
        f'#!/bin/sh\necho progress >&2\nprintf \'{{\\n  "words": "%s"\\n}}\\n\' "$*"\nexit {code}\n'
    )
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", tasks[step]["command"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["words"].startswith(f"{step} orders ")
    assert document["words"].endswith("--json")


def test_every_step_is_a_command_with_these_options(
    tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    import typer

    from dynalake.cli.app import app

    monkeypatch.setenv("TABLEAU_SERVER", "https://tableau.example")
    group: Any = typer.main.get_command(app)
    for name, task in tasks.items():
        words = shlex.split(task["command"].partition("|")[0])
        assert words[:2] == ["dynalake", name]
        group.commands[name].make_context(name, words[2:])
