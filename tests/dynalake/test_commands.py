"""The commands as a user calls them: what they do, and what they say of mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dynalake
from dynalake.cli.app import app
from dynalake.screen import when
from ingest.checkpoints import StreamCheckpoint
from lake import open_lake
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path, aws: None) -> Path:
    path = write_config(tmp_path)
    pipeline = open_pipeline(path)
    make_source(pipeline)
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": str(n)}} for n in range(20)))
    return path


def test_a_pipeline_from_setup_to_query(config: Path, tmp_path: Path, capsys: Capture) -> None:
    at = ("--config", config, "--json")
    code, out, _ = command(capsys, "setup", "orders", *at)
    assert code == 0
    assert {step["done"] for step in json.loads(out)["steps"]} == {"made"}
    _, out, _ = command(capsys, "setup", "orders", *at)
    assert {step["done"] for step in json.loads(out)["steps"]} == {"there"}

    _, out, _ = command(capsys, "status", *at)
    (status,) = json.loads(out)["pipelines"]
    assert status["state"] == "not started"
    assert not status["complete"]
    assert status["gaps"][0]["remedy"] == "backfill"

    _, out, _ = command(capsys, "backfill", "orders", "--dry-run", *at)
    assert "backfill" not in json.loads(out)
    _, out, _ = command(capsys, "backfill", "orders", *at)
    assert json.loads(out)["backfill"]["filled"] == 20

    code, out, _ = command(capsys, "run", "orders", "--until-caught-up", *at)
    assert code == 0
    assert json.loads(out)["caught_up"]
    assert json.loads(out)["health"]["complete"]

    code, out, _ = command(capsys, "parity", "orders", "--out", tmp_path / "p.jsonl", *at)
    assert code == 0
    assert json.loads(out)["parity"] == {"missing": 0, "extra": 0, "different": 0}

    lake = tmp_path / "lake.duckdb"
    code, out, _ = command(capsys, "snapshot", "orders", "--out", lake, *at)
    assert json.loads(out)["rows"] == 20
    for format_ in ("parquet", "csv", "arrow", "hyper"):
        target = tmp_path / f"orders.{format_}"
        code, out, _ = command(
            capsys, "export", "orders", "--format", format_, "--out", target, "--lake", lake, *at
        )
        assert (code, json.loads(out)["rows"]) == (0, 20)
        assert target.stat().st_size == json.loads(out)["bytes"]

    _, out, _ = command(capsys, "ddl", "orders", *at)
    assert "DynamoDBStorageHandler" in json.loads(out)["statements"][1]
    parquet = (
        "--engine",
        "parquet",
        "--parquet",
        tmp_path / "orders.parquet",
        "--location",
        "s3://b/orders/",
    )
    _, out, _ = command(capsys, "ddl", "orders", *parquet, *at)
    assert "'s3://b/orders/'" in json.loads(out)["statements"][1]

    (tmp_path / "mine.sql").write_text(
        "-- what: how many\n-- grain: one row\n-- param: least integer\n"
        "SELECT count(*) AS n FROM orders WHERE n >= :least"
    )
    code, out, _ = command(
        capsys, "query", tmp_path / "mine.sql", "--param", "least=15", "--lake", lake, "--json"
    )
    assert json.loads(out)["rows"] == [{"n": 5}]
    assert dynalake.run(tmp_path / "mine.sql", lake=lake, least=15)["n"].tolist() == [5]
    with dynalake.open_lake(lake) as opened:
        assert opened.tables() == ("orders",)


def test_parity_that_fails_says_so_and_repair_mends_it(config: Path, tmp_path: Path, capsys: Capture) -> None:
    at = ("--config", config, "--json")
    for words in (("setup",), ("backfill",)):
        command(capsys, *words, "orders", *at)
    pipeline = open_pipeline(config)
    lake = pipeline._lake.dynamodb()
    lake.delete_item(TableName=pipeline.config.lake_table, Key={"pk": {"S": "3"}})
    found = tmp_path / "found.jsonl"
    code, out, _ = command(capsys, "parity", "orders", "--out", found, *at)
    assert code == 1
    assert json.loads(out)["parity"]["missing"] == 1
    assert [json.loads(line)["key"] for line in found.read_text().splitlines()] == [{"pk": {"S": "3"}}]
    code, out, _ = command(capsys, "repair", "orders", "--from", found, *at)
    assert (code, json.loads(out)["repair"]["written"]) == (0, 1)
    code, _, _ = command(capsys, "parity", "orders", "--out", found, *at)
    assert code == 0
    assert found.read_text() == ""


def test_a_full_repair_closes_the_gaps_it_covers(config: Path, capsys: Capture) -> None:
    at = ("--config", config, "--json")
    command(capsys, "setup", "orders", *at)
    pipeline = open_pipeline(config)
    pipeline.health_store.open_gap("trimmed/x", "trimmed", "records were lost")
    code, out, _ = command(capsys, "repair", "orders", *at)
    assert code == 0
    assert json.loads(out)["repair"]["written"] == 20
    assert len(json.loads(out)["gaps_closed"]) == 2
    assert not pipeline.health_store.gaps()


def test_status_for_people_names_the_gap_and_its_remedy(config: Path, capsys: Capture) -> None:
    command(capsys, "setup", "orders", "--config", config)
    code, out, _ = command(capsys, "status", "orders", "--config", config)
    assert code == 0
    assert "not started" in out
    assert "dynalake backfill orders" in out


def mistake(capsys: Capture, *words: str | Path) -> str:
    code, out, err = command(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.startswith("dynalake: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_a_missing_table_is_one_line_and_nothing_is_made(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = write_config(tmp_path)
    assert "the source table 'orders' does not exist" in mistake(
        capsys, "setup", "orders", "--config", config
    )
    assert open_pipeline(config)._lake.dynamodb().list_tables()["TableNames"] == []


@pytest.mark.parametrize(
    ("stream", "said"),
    [(None, "is off: switch it on with"), ("KEYS_ONLY", "carries KEYS_ONLY, not the new images")],
)
def test_a_stream_that_will_not_do_is_one_line_and_nothing_is_made(
    tmp_path: Path, aws: None, capsys: Capture, stream: str | None, said: str
) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline, stream=stream)
    assert said in mistake(capsys, "setup", "orders", "--config", config)
    assert pipeline._lake.dynamodb().list_tables()["TableNames"] == []


def test_a_job_before_setup_says_what_to_do(config: Path, capsys: Capture) -> None:
    for words in (
        ("backfill",),
        ("run", "--until-caught-up"),
        ("status",),
        ("snapshot",),
        ("ddl",),
        ("parity",),
    ):
        assert "dynalake setup" in mistake(capsys, words[0], "orders", *words[1:], "--config", config), words


def test_credentials_of_another_account_are_refused(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = write_config(tmp_path)
    config.write_text(
        config.read_text().replace('lake = { account = "999999999999"', 'lake = { account = "888888888888"')
    )
    assert "credentials are of account 999999999999, but the configuration says 888888888888" in mistake(
        capsys, "setup", "orders", "--config", config
    )


def test_an_unknown_profile_is_one_line(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("role_arn =", 'profile = "nobody", role_arn =', 1))
    assert "'nobody' is unknown" in mistake(capsys, "setup", "orders", "--config", config)


def test_no_credentials_at_all_is_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    text = config.read_text()
    for account in ("111111111111", "999999999999"):
        text = text.replace(f', role_arn = "arn:aws:iam::{account}:role/dynalake"', "")
    config.write_text(text.replace(', external_id = "secret"', ""))
    done = subprocess.run(
        [sys.executable, "-m", "dynalake", "setup", "orders", "--config", config],
        env={
            "PATH": "",
            "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/none",
        },
        cwd=Path(dynalake.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "dynalake: the source side has no usable credentials (there are no AWS credentials): log in (`aws sso login` "
        "or `aws configure`), or set source.profile to a profile that has credentials"
    ]


def test_a_bad_configuration_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    config = write_config(tmp_path, max_wcu=-1)
    assert "max_wcu must be greater than 0" in mistake(capsys, "status", "--config", config)
    assert "there is no such file" in mistake(capsys, "status", "--config", tmp_path / "none.toml")


def test_an_unwritable_path_is_one_line_before_a_row_is_read(
    config: Path, tmp_path: Path, capsys: Capture
) -> None:
    command(capsys, "setup", "orders", "--config", config)
    target = tmp_path / "no" / "such" / "folder" / "lake.duckdb"
    mistake(capsys, "snapshot", "orders", "--out", target, "--config", config)
    mistake(capsys, "snapshot", "orders", "--out", tmp_path, "--config", config)
    code, out, _ = command(
        capsys, "parity", "orders", "--json", "--out", tmp_path / "no" / "p.jsonl", "--config", config
    )
    document = json.loads(out)
    assert (code, document["exit_code"]) == (2, 2)
    assert "cannot be written" in document["error"]
    assert document["remedy"] == "create the folder, or give another path"
    (tmp_path / "file").write_text("in the way")
    assert "cannot write to" in mistake(capsys, "demo", "--out", tmp_path / "file")


def test_wrong_answers_to_query_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert "there is no snapshot" in mistake(
        capsys, "query", "late_flights", "--lake", tmp_path / "none.duckdb"
    )
    assert "NAME=VALUE" in mistake(capsys, "query", "late_flights", "--param", "minutes", "--lake", __file__)


def test_a_snapshot_with_a_gap_says_so(config: Path, tmp_path: Path, capsys: Capture) -> None:
    command(capsys, "setup", "orders", "--config", config)
    lake = tmp_path / "lake.duckdb"
    code, out, _ = command(capsys, "snapshot", "orders", "--out", lake, "--config", config)
    assert code == 0
    assert "INCOMPLETE" in out
    with open_lake(lake) as opened:
        assert not opened.freshness("orders").complete
        assert "INCOMPLETE" in repr(opened)


def test_a_stream_that_nobody_read_for_a_day_names_the_moments_and_the_remedy(
    config: Path, capsys: Capture
) -> None:
    command(capsys, "setup", "orders", "--config", config)
    checkpoints = open_pipeline(config).checkpoints()
    noted = checkpoints.stream()
    assert noted is not None
    long_ago = noted.noted_at - 30 * 3600 * 1000
    checkpoints.note_stream(StreamCheckpoint(noted.arn, long_ago))
    code, out, _ = command(capsys, "run", "orders", "--until-caught-up", "--config", config)
    assert code == 0
    since = when(long_ago)[:16]
    said = rf"changes between {since}.* and .* may be lost .*: run `dynalake repair orders`"
    assert re.search(said, " ".join(out.split())), out


def test_init_writes_a_configuration_that_setup_reads(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = tmp_path / "dynalake.toml"
    accounts = ("--source-account", "111111111111", "--lake-account", "999999999999", "--region", "us-east-1")
    role = ("--lake-role-arn", "arn:aws:iam::999999999999:role/lake")
    code, out, _ = command(
        capsys, "init", "orders", "--source-table", "orders", *accounts, *role, "--config", config, "--json"
    )
    assert code == 0
    assert json.loads(out)["lake_table"] == "dynalake.111111111111.orders"
    assert len(config.read_text().split("external_id = ")[1]) > 24
    assert "is there already" in mistake(
        capsys, "init", "orders", "--source-table", "orders", *accounts, *role, "--config", config
    )


@pytest.mark.parametrize(
    "name", [command.callback.__name__ for command in app.registered_commands if command.callback]
)
def test_every_command_teaches_by_example(name: str, capsys: Capture) -> None:
    code, out, _ = command(capsys, name, "--help")
    assert code == 0
    assert "Example" in out
    assert f"dynalake {name}" in " ".join(out.replace("│", " ").split())
    assert "--json" in out


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['dynalake', '--help']\n"
        "from dynalake.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'boto3', 'botocore', 'duckdb', 'pyarrow', 'pandas', 'sqlglot', 'moto', 'pydantic'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
