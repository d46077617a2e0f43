"""Two writers of each kind of file at once: every result is one writer's, whole, and nothing is left behind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

import lake.export.export
from dynalake.cli import ask, check, hive
from dynalake.config import load_config
from dynalake.configfile import add_pipeline
from dynalake.errors import ConfigError
from dynalake.notebooks import copy_notebooks, notebooks
from expectations.recheck import Difference
from ingest.quarantine import DirectoryPlace
from lake.errors import SnapshotBusyError
from lake.export import export_table
from tests.lake.building import build, version

ROWS = 200


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two snapshots of a table whose rows say which one they are of."""
    folder = tmp_path_factory.mktemp("snapshots")
    for name in ("a", "b"):
        rows = [
            {"pk": {"S": str(number)}, "of": {"S": name}, "_lake_version": {"S": version(number)}}
            for number in range(ROWS)
        ]
        build(folder / f"{name}.duckdb", rows, table="things", key=["pk"])
    return [folder / "a.duckdb", folder / "b.duckdb"]


def at_once(jobs: list[Callable[[], object]]) -> list[BaseException | None]:
    """Run each in a thread of its own; gives what each raised."""
    raised: list[BaseException | None] = [None] * len(jobs)

    def run(number: int) -> None:
        try:
            jobs[number]()
        except BaseException as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return raised


def rows_of(out: Path) -> list[str]:
    if out.suffix == ".csv":
        return [of for (of,) in duckdb.execute(f"SELECT of FROM read_csv('{out}')").fetchall()]
    if out.suffix == ".arrow":
        with pa.OSFile(str(out)) as file:
            return pyarrow.ipc.open_file(file).read_all()["of"].to_pylist()  # type: ignore[no-any-return]
    return pq.read_table(out)["of"].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("format_", "name"),
    [("parquet", "things.parquet"), ("parquet", "things"), ("csv", "things.csv"), ("arrow", "things.arrow")],
)
def test_two_exports_to_one_path(
    snapshots: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_: lake.export.export.Format,
    name: str,
) -> None:
    """Both have written before either is put in place, which used to remove or publish the other's half."""
    both = threading.Barrier(2)
    write = lake.export.export._write

    def write_together(*args: object) -> None:
        both.wait(120)
        write(*args)  # type: ignore[arg-type]
        both.wait(120)

    monkeypatch.setattr(lake.export.export, "_write", write_together)
    out = tmp_path / name
    for _ in range(3):
        raised = at_once([lambda each=each: export_table(each, "things", format_, out) for each in snapshots])  # type: ignore[misc]
        assert raised == [None, None]
        found = rows_of(out)
        assert len(found) == ROWS
        assert len(set(found)) == 1
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_builds_of_one_snapshot_are_one_and_a_busy_error(tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    first_is_building, second_was_refused = threading.Event(), threading.Event()

    def rows() -> Iterator[dict[str, dict[str, str]]]:
        first_is_building.set()
        assert second_was_refused.wait(120)
        yield {"pk": {"S": "a"}, "_lake_version": {"S": version(1)}}

    def second() -> None:
        assert first_is_building.wait(120)
        try:
            build(out, [], table="things", key=["pk"])
        finally:
            second_was_refused.set()

    first, refused = at_once([lambda: build(out, rows(), table="things", key=["pk"]), second])
    assert first is None
    assert isinstance(refused, SnapshotBusyError)
    assert [path.name for path in tmp_path.iterdir()] == ["lake.duckdb"]


def test_two_writers_of_the_other_files(tmp_path: Path) -> None:
    texts = ["a" * 50_000, "b" * 50_000]
    schema = pa.schema([("of", pa.string())])

    def answer(text: str) -> None:
        batches = [pa.record_batch([[text] * 10], schema=schema)] * 5
        ask._write(pa.RecordBatchReader.from_batches(schema, batches), tmp_path / "answer.parquet")

    def differences(text: str) -> None:
        with check.write_differences(tmp_path / "differences.jsonl") as write:
            for _ in range(20):
                write(Difference("missing", {"pk": {"S": text}}, {"pk": {"S": text}}))

    def record(text: str) -> None:
        DirectoryPlace(tmp_path / "quarantine").put("record", {"of": text})

    jobs: list[Callable[[str], object]] = [
        answer,
        differences,
        record,
        lambda text: hive._write(tmp_path / "ddl.sql", text),
        lambda _text: copy_notebooks(tmp_path / "notebooks", overwrite=True),
    ]
    for _ in range(5):
        raised = at_once([lambda job=job, text=text: job(text) for job in jobs for text in texts])  # type: ignore[misc]
        assert raised == [None] * len(raised)
        assert set(pq.read_table(tmp_path / "answer.parquet")["of"].to_pylist()) in [{text} for text in texts]
        lines = (tmp_path / "differences.jsonl").read_text().splitlines()
        assert len(lines) == 20
        assert len(set(lines)) == 1
        assert json.loads((tmp_path / "quarantine" / "record.json").read_text())["of"] in texts
        assert (tmp_path / "ddl.sql").read_text() in texts
    assert {path.name for path in (tmp_path / "notebooks").glob("*.ipynb")} == {
        path.name for path in notebooks()
    }
    assert [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".lock"))] == []


def test_two_pipelines_added_at_once_are_both_there_or_one_is_refused(tmp_path: Path) -> None:
    """The file is read and replaced: without a turn for each, the second one would drop what the first one added."""
    path = tmp_path / "dynalake.toml"
    source = {"table": "orders", "account": "111111111111", "region": "eu-west-1"}
    lake_side = {"account": "999999999999", "region": "eu-west-1"}
    added = {
        name: lambda name=name: add_pipeline(path, name, {**source, "table": name}, lake_side)
        for name in ("a", "b", "c", "d")
    }
    raised = dict(zip(added, at_once(list(added.values())), strict=True))
    assert all(error is None or isinstance(error, ConfigError) for error in raised.values())
    assert set(load_config(path).pipelines) == {name for name, error in raised.items() if error is None}
