"""Files that are replaced in one step: by two writers at once, by one that is killed, on a full disk."""

from __future__ import annotations

import ast
import errno
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lake.contract import files
from lake.contract.files import (
    Replacement,
    make_folder,
    replacing,
    shared_mode,
    sweep,
    write_bytes,
    write_text,
)
from lake.errors import ExportError, SnapshotBusyError

ROOT = Path(__file__).parents[2]


@contextmanager
def writer(out: Path, text: str, *, directory: bool = False) -> Iterator[Replacement]:
    """A writer that has written everything and has not finished."""
    with replacing(out, error=ExportError, directory=directory) as place:
        target = place.file / text if directory else place.file
        target.write_text(text)
        yield place


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def shown(out: Path) -> str:
    return ",".join(names(out)) if out.is_dir() else out.read_text()


BOTH = pytest.mark.parametrize("directory", [False, True], ids=["file", "folder"])


@BOTH
def test_two_threads_write_the_same_path_and_the_last_complete_one_wins(
    tmp_path: Path, directory: bool
) -> None:
    out = tmp_path / "out"
    both = threading.Barrier(2)
    first_is_done = threading.Event()

    def write(text: str, *, is_first: bool) -> None:
        with writer(out, text, directory=directory):
            both.wait(60)  # both are at work at the same time
            if not is_first:
                first_is_done.wait(60)
                assert shown(out) == "first", "the other one was published, whole"
        if is_first:
            first_is_done.set()

    run_all([lambda: write("first", is_first=True), lambda: write("second", is_first=False)])
    assert shown(out) == "second"
    assert names(tmp_path) == ["out"]


def run_all(jobs: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if failures:
        raise failures[0]


def write_often(out: Path, text: str, directory: bool, times: int) -> None:
    for _ in range(times):
        with writer(out, text, directory=directory):
            pass


@BOTH
def test_threads_and_processes_that_write_one_path_leave_one_whole_version(
    tmp_path: Path, directory: bool
) -> None:
    out = tmp_path / "out"
    spawn = multiprocessing.get_context("spawn")
    texts = [f"writer-{number}" * 100 if not directory else f"writer-{number}" for number in range(6)]
    processes = [spawn.Process(target=write_often, args=(out, text, directory, 20)) for text in texts[:2]]
    for process in processes:
        process.start()
    run_all([lambda text=text: write_often(out, text, directory, 20) for text in texts[2:]])  # type: ignore[misc]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert shown(out) in texts
    assert names(tmp_path) == ["out"]


def test_a_target_that_is_expensive_to_build_has_one_writer(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def build() -> Any:
        return replacing(out, error=ExportError, exclusive=SnapshotBusyError)

    with build() as place:
        place.file.write_text("first")
        with pytest.raises(SnapshotBusyError, match="another thread of this process"), build():
            pytest.fail("two writers")
        done = subprocess.run(
            [sys.executable, "-c", SECOND_WRITER, str(out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 75, done.stderr
        assert done.stdout.strip() == f"{out} is being written by process {os.getpid()}"
    assert out.read_text() == "first"
    with build() as place:
        place.file.write_text("second")
    assert out.read_text() == "second"
    assert names(tmp_path) == ["out"]


SECOND_WRITER = """
import sys
from pathlib import Path
from lake.contract.files import replacing
from lake.errors import ExportError, SnapshotBusyError
try:
    with replacing(Path(sys.argv[1]), error=ExportError, exclusive=SnapshotBusyError):
        sys.exit("two writers")
except SnapshotBusyError as error:
    print(error.message)
    sys.exit(75)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from lake.contract import files
from lake.errors import ExportError, SnapshotBusyError

out, directory, exclusive = Path(sys.argv[1]), sys.argv[2] == "folder", sys.argv[3] == "exclusive"
def dies(*_):
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[4] == "swapping":  # the old folder has stepped aside, the new one is not in its place
    rename = Path.rename
    Path.rename = lambda path, to: rename(path, to) if Path(to).name == "old" else dies()
with files.replacing(out, error=ExportError, directory=directory,
                     exclusive=SnapshotBusyError if exclusive else None) as place:
    (place.file / "half" if directory else place.file).write_text("half")
    if sys.argv[4] == "writing":
        dies()
"""


@pytest.mark.parametrize(
    ("kind", "exclusive", "moment"),
    [
        ("file", "", "writing"),
        ("file", "exclusive", "writing"),
        ("folder", "", "writing"),
        ("folder", "", "swapping"),
    ],
)
def test_a_killed_writer_leaves_the_old_version_and_the_next_one_cleans_up(
    tmp_path: Path, kind: str, exclusive: str, moment: str
) -> None:
    out, directory = tmp_path / "out", kind == "folder"
    with writer(out, "old", directory=directory):
        pass
    with writer(out, "living", directory=directory) as living:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(out), kind, exclusive, moment], cwd=ROOT, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        left = set(names(tmp_path)) - {"out", living.file.parent.name}
        assert left, "what it was writing"
        if moment == "writing":
            assert shown(out) == "old"
        with writer(out, "next", directory=directory):
            assert shown(out) == "old"
            assert not left & set(names(tmp_path)), "what the dead writer left is gone"
            assert (living.file / "living" if directory else living.file).read_text() == "living"
        assert shown(out) == "next"
    assert shown(out) == "living"
    if exclusive:
        with replacing(out, error=ExportError, exclusive=SnapshotBusyError) as place:
            place.file.write_text("new")
    assert names(tmp_path) == ["out"]


def test_a_process_number_that_occurs_again_is_not_taken_for_the_writer(tmp_path: Path) -> None:
    """In a container each run has the same number: what a dead one with ours left is removed all the same."""
    dead = tmp_path / f".out.{os.getpid()}.0123abcd.tmp"
    dead.mkdir()
    (dead / "file").write_text("half")
    write_text(tmp_path / "out", "whole", error=ExportError)
    assert names(tmp_path) == ["out"]


def test_a_folder_is_swept_of_every_dead_writer_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.json.1.0123abcd.tmp").mkdir()
    (tmp_path / ".a.json.tmp").mkdir()
    (tmp_path / "mine.1.0123abcd.tmp").mkdir()
    with writer(tmp_path / "b.json", "b"):
        sweep(tmp_path)
        assert len(names(tmp_path)) == 3
    assert names(tmp_path) == [".a.json.tmp", "b.json", "mine.1.0123abcd.tmp"]


def test_new_files_are_their_owners_alone_and_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0)
    try:
        out = tmp_path / "file"
        with writer(out, "x") as place:
            assert mode(place.file.parent) == 0o700, "nobody reads what is being written"
        assert mode(out) == 0o600
        out.chmod(0o640)
        write_text(out, "y", error=ExportError)
        assert mode(out) == 0o640
        write_text(tmp_path / "ddl", "y", error=ExportError, mode=shared_mode())
        assert mode(tmp_path / "ddl") == 0o666
        folder = tmp_path / "folder"
        with writer(folder, "x", directory=True):
            pass
        assert (mode(folder), mode(folder / "x")) == (0o700, 0o600)
        folder.chmod(0o750)
        with writer(folder, "y", directory=True):
            pass
        assert (mode(folder), mode(folder / "y")) == (0o750, 0o640)
        make_folder(tmp_path / "a" / "b")
        assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("number", "said", "remedy"),
    [
        (errno.ENOSPC, "No space left", "free some space"),
        (errno.EDQUOT, "quota", "free some space"),
        (errno.EROFS, "Read-only file system", "may write to"),
        (errno.EACCES, "Permission denied", "may write to"),
    ],
)
def test_a_disk_that_takes_nothing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str, remedy: str
) -> None:
    out = tmp_path / "out"
    write_text(out, "old", error=ExportError)

    def refuse(self: Path, _content: bytes) -> int:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ExportError) as raised:
        write_bytes(out, b"new", error=ExportError)
    assert str(out) in raised.value.message
    assert said.lower() in raised.value.message.lower()
    assert remedy in raised.value.remedy
    assert out.read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs a mount of its own")
def test_a_full_and_a_read_only_disk(tmp_path: Path) -> None:
    script = f"""
mount -t tmpfs -o size=64k none {tmp_path} || exit 77
{sys.executable} - <<'END'
from pathlib import Path
from lake.contract.files import write_bytes
from lake.errors import ExportError
out = Path({str(tmp_path / "out")!r})
write_bytes(out, b"old", error=ExportError)
try:
    write_bytes(out, b"x" * 100_000, error=ExportError)
except ExportError as error:
    assert "No space left" in error.message and error.remedy, error
else:
    raise SystemExit("a full disk")
assert out.read_bytes() == b"old" and [each.name for each in out.parent.iterdir()] == ["out"]
END
[ $? = 0 ] || exit 1
mount -o remount,ro {tmp_path} || exit 77
{sys.executable} - <<'END'
from pathlib import Path
from lake.contract.files import write_bytes
from lake.errors import ExportError
try:
    write_bytes(Path({str(tmp_path / "out")!r}), b"new", error=ExportError)
except ExportError as error:
    assert "Read-only file system" in error.message and "may write to" in error.remedy, error
else:
    raise SystemExit("a read-only disk")
END
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    assert done.returncode == 0, done.stderr


def test_a_folder_in_place_of_a_file_and_a_missing_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="Is a directory") as raised:
        write_text(tmp_path / "folder", "x", error=ExportError)
    assert raised.value.remedy == "give the path of a file"
    with pytest.raises(ExportError, match="is not a directory") as raised:
        write_text(tmp_path / "missing" / "out", "x", error=ExportError)
    assert raised.value.remedy == "create the folder, or give another path"
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="Not a directory"), writer(tmp_path / "file", "x", directory=True):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_an_error_that_is_not_about_the_file_is_raised_as_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        replacing(tmp_path / "out", error=ExportError),
    ):
        (tmp_path / "another").read_bytes()
    assert names(tmp_path) == []


def test_no_other_module_replaces_a_file_in_one_step() -> None:
    """Renaming over a file, and temporary names, are found in `lake.contract.files` alone.

    `lake.publish` renames within its writer's own folder, and `ingest.shelves` moves a document to `done/`.
    """
    may = {"lake/contract/files.py", "lake/publish.py", "ingest/shelves.py"}
    found = set()
    for package in ("ingest", "lake", "queries", "expectations", "dynalake"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("fsync", "rename", "renames"):
                    found.add(path.relative_to(ROOT).as_posix())
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "replace"
                    and len(node.args) == 1
                    and not node.keywords
                    and "partial" in ast.unparse(node.func.value)
                ):
                    found.add(path.relative_to(ROOT).as_posix())
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "os.getpid"
                    and "cli" in path.parts
                ):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found - may == set()
    assert files.__doc__ is not None
