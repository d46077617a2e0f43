"""The lake's table `orders`, every hour: refresh the snapshot, check, export to S3, publish to Tableau.

Each step may be run again: it goes on from where it stood, and what it replaces is replaced when the new is whole. So
Airflow may retry it, or end it by SIGTERM (exit code 143), without a step to undo.

What the workers need: dynalake with the extras `checks` and `tableau`, `dynalake.toml`, credentials, and one place for
the snapshot that every step sees: a disk of one worker, for whose queue the steps wait. It must not be a network file
system.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PIPELINE = "orders"
SNAPSHOT = f"/var/lib/dynalake/{PIPELINE}.duckdb"
BUCKET = "s3://our-lake"


def step(name: str, words: str, *, warnings_pass: bool = False) -> BashOperator:
    """`dynalake <name> <words> --json`: its document is the task's result, its exit code the task's.

    Of `check`, exit code 1 is a warning, with which the rest may go on; 2 and 3 end the run.
    """
    passes = 1 if warnings_pass else 0
    return BashOperator(
        task_id=name,
        # One line, since Airflow takes the last one for the result.
        bash_command=f"dynalake {name} {words} --json | python3 -m json.tool --compact\n"
        f'code=${{PIPESTATUS[0]}}; [ "$code" -le {passes} ] || exit "$code"\n',
        output_processor=json.loads,
    )


with DAG(
    dag_id=f"dynalake_{PIPELINE}",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a refresh brings all that was missed
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(minutes=50),
        "append_env": True,
        "env": {"DYNALAKE_CONFIG": "/etc/dynalake.toml"},
        "queue": "dynalake",
    },
) as dag:
    refresh = step("refresh", f"{PIPELINE} --out {SNAPSHOT}")
    check = step("check", PIPELINE, warnings_pass=True)
    export = step("export", f"{PIPELINE} --from {SNAPSHOT} --out {BUCKET}/{PIPELINE}/")
    publish = step("publish", f"{PIPELINE} --from {SNAPSHOT} --project Finance --incremental")

    refresh >> check >> export >> publish
