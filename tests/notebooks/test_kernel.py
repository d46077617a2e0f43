"""What a reader meets in a real kernel: errors in one line, progress that renews itself, `%sql` on a snapshot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dynalake.errors import UserError
from expectations.errors import ExpectationsError
from ingest.errors import IngestError
from lake.errors import LakeError
from queries.errors import QueryError
from tests.lake.building import build, version
from tests.notebooks.kernels import run_cells

MISTAKES = {
    "dynalake.open_lake('nowhere.duckdb')": "SnapshotError: there is no snapshot nowhere.duckdb",
    "dynalake.run('late_flights', minutes='many', lake='lake.duckdb')": "ParameterError: ",
    "dynalake.run('no_such_query', lake='lake.duckdb')": "QueryNotFound: ",
    "dynalake.check('orders', config='nowhere.toml')": "ConfigError: ",
    "dynalake.export('orders', 'orders.xyz', format='xyz')": "ExportError: the format 'xyz' is not one of",
    "next(dynalake.follow('orders', config='nowhere.toml'))": "ConfigError: ",
    "dynalake.check('orders', 'no_such_suite')": "CheckError: there is no suite 'no_such_suite'",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernel")
    rows = [
        {"pk": {"S": str(number)}, "total": {"N": f"{number}.5"}, "_lake_version": {"S": version(number)}}
        for number in range(5)
    ]
    build(folder / "lake.duckdb", rows, table="orders", key=["pk"])
    return folder


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def shown_error(outputs: list[Any]) -> str:
    (error,) = (output for output in outputs if output.output_type == "error")
    return plain("\n".join(error.traceback))


@pytest.fixture(scope="module")
def mistakes(folder: Path) -> dict[str, str]:
    cells = run_cells(folder, "import dynalake", *MISTAKES)
    return dict(zip(MISTAKES, map(shown_error, cells[1:]), strict=True))


@pytest.mark.parametrize("code", MISTAKES)
def test_our_error_is_a_line_or_a_few(code: str, mistakes: dict[str, str]) -> None:
    said = mistakes[code]
    assert said.startswith(MISTAKES[code])
    assert len(said.splitlines()) <= 3, "it may have names to list"
    assert all(len(line) <= 110 for line in said.splitlines())
    assert "Traceback" not in said


def test_an_error_of_aws_and_a_mistake_in_sql_read_so_too(folder: Path) -> None:
    *_, aws, sql, magic, other = run_cells(
        folder,
        """
import dynalake, os
os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_EC2_METADATA_DISABLED="true")
open("dynalake.toml", "w").write('''[pipelines.orders]
source = { table = "orders", account = "111111111111", region = "us-east-1", endpoint_url = "http://127.0.0.1:9" }
lake = { account = "999999999999", region = "us-east-1", endpoint_url = "http://127.0.0.1:9" }
''')
import botocore.session
os.environ["AWS_MAX_ATTEMPTS"] = "1"
""",
        "dynalake.parity('orders')",
        "lake = dynalake.open_lake('lake.duckdb')\nlake.sql('SELECT nope FROM orders')",
        "%load_ext sql\n%sql lake --alias lake\n%sql SELECT nope FROM orders",
        "1 / 0",
    )
    assert len(shown_error(aws).splitlines()) <= 3, "two lines at most, and the remedy"
    assert "127.0.0.1:9" in shown_error(aws)
    for outputs in (sql, magic):
        assert shown_error(outputs).startswith(
            'BinderException: Binder Error: Referenced column "nope" not found'
        )
        assert len(shown_error(outputs).splitlines()) <= 5, "DuckDB's own words, with the place"
    assert "Traceback" in shown_error(other), "anybody else's error is as it was"


def test_each_family_is_shown_so() -> None:
    for family in (UserError, ExpectationsError, IngestError, LakeError, QueryError):
        (shown,) = family("what is\nwrong, and  what to do")._render_traceback_()
        assert plain(shown) == f"{family.__name__}: what is wrong, and what to do"


def test_sql_takes_the_lake_and_the_version_that_reload_took(folder: Path) -> None:
    rows = [{"pk": {"S": str(number)}, "_lake_version": {"S": version(number)}} for number in range(7)]
    build(folder / "grown.duckdb", rows, table="orders", key=["pk"])
    *_, before, _, after, metadata = run_cells(
        folder,
        "import dynalake, shutil\nshutil.copy('lake.duckdb', 'own.duckdb')\nlake = dynalake.open_lake('own.duckdb')",
        "%load_ext sql\n%config SqlMagic.autopandas = True\n%sql lake --alias lake",
        "answer = %sql SELECT count(*) AS n FROM orders\nprint(answer.n[0])",
        "import os\nos.replace('grown.duckdb', 'own.duckdb')\nlake.reload()",
        "answer = %sql SELECT count(*) AS n FROM orders\nprint(answer.n[0])",
        "answer = %sql SELECT table_name FROM _lake.tables\nprint(answer.table_name[0])",
    )
    assert [outputs[-1].text.strip() for outputs in (before, after, metadata)] == ["5", "7", "orders"]


def test_progress_renews_one_line_and_leaves_a_record(folder: Path) -> None:
    (_, whole, stopped, exported) = run_cells(
        folder,
        "import dynalake, time\nfrom dynalake.progress import progress",
        """
with progress("counting", "sheep", 3) as shown:
    for number in (1, 2, 3):
        time.sleep(0.3)
        shown.at(number)
""",
        """
with progress("counting") as shown:
    shown.at(2)
    raise dynalake.errors.UserError("no more")
""",
        "report = dynalake.export('orders', 'orders.parquet')\nprint(report.rows)",
    )
    (line,) = whole
    assert re.fullmatch(r"counting: 3 sheep, \d+\.\d s(, \d/s)?", line.data["text/plain"])
    assert "<progress" not in line.data["text/html"]
    assert "counting: stopped, 2 rows" in stopped[0].data["text/plain"]
    assert exported[-1].text == "5\n", "DuckDB's own bar, which wants ipywidgets, is in nobody's way"


def test_outside_a_notebook_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    from dynalake.progress import in_a_notebook, progress

    assert not in_a_notebook()
    with progress("counting") as shown:
        shown.at(1)
        shown.step("still")
    assert capfd.readouterr() == ("", "")
