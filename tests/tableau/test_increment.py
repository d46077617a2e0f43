"""An extract that is brought up to date is the extract that a full export writes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lake.errors import ExportError
from lake.export import ExportReport, Layout, export_table
from lake.export.trail import digest, read_trail, trail_of, write_trail
from lake.open import open_lake
from tests.environments import ROOT
from tests.lake.building import ABOUT, build
from tests.stubs.hyper import opened
from tests.tableau.extracts import EVERY_TYPE, content, row

FORMATS = pytest.mark.parametrize("format_", ["hyper", "tdsx"])


def update(snapshot: Path, out: Path, format_: Any = "hyper", **layout: Any) -> ExportReport:
    return export_table(snapshot, "things", format_, out, layout=Layout(**layout), incremental=True)


def full(snapshot: Path, folder: Path, format_: Any = "hyper", **layout: Any) -> Path:
    out = folder / f"full.{format_}"
    export_table(snapshot, "things", format_, out, layout=Layout(**layout))
    return out


def did(report: ExportReport) -> tuple[int, int]:
    assert report.increment is not None
    assert report.increment.full is None
    return report.increment.deleted, report.increment.inserted


def why(report: ExportReport) -> str:
    assert report.increment is not None
    assert report.increment.full is not None
    return report.increment.full


NUMBERS: list[Any] = [{"N": text} for text in ("0", "-7", "1.50", "12345678901234567890.5")]
TEXTS: list[Any] = [{"S": text} for text in ("", "a", "A", "a ", "0", "é", "🛫", "\x00", "2013-01-01")]
OTHERS: list[Any] = [
    {"N": "1E-120"}, {"BOOL": True}, {"NULL": True}, {"B": "+/8="}, {"L": [{"S": "x"}]}, {"M": {"f": {"N": "1"}}}, None,
]  # fmt: skip
HELD = st.tuples(st.sampled_from([*NUMBERS, None]), st.sampled_from(TEXTS + OTHERS))
KEYS: dict[str, Any] = {
    "S": st.sampled_from(["", "a", "A", "a ", "ä", "🛫", "x'y", "b\x00", "c", "d", "e", "f"]),
    "N": st.sampled_from(["0", "-1", "1", "2", "3", "4", "1.5", "99999999999999999999", "1E+100"]),
    "B": st.sampled_from(["", "AA==", "AAA=", "+/8=", "YQ==", "Yg=="]),
}


FILLERS = {
    "S": [f"filler {number}" for number in range(18)],
    "N": [str(1000 + number) for number in range(18)],
    "B": [base64.b64encode(b"filler %d" % number).decode() for number in range(18)],
}
HELD_BY_FILLERS = list(zip([*NUMBERS, *NUMBERS, *NUMBERS, *NUMBERS], TEXTS + OTHERS, strict=True))
"""Rows that never change, so that what changes is less than half; each kind of value is there from the beginning, so
that few changes change the columns."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], list[dict[Any, Any]]]:
    """The key's types, and some states of a table one after the other: key -> write, and what the row holds."""
    types = draw(st.lists(st.sampled_from("SNB"), min_size=1, max_size=2))
    keys = st.tuples(*(KEYS[each] for each in types))
    fillers = zip(*(FILLERS[each] for each in types), strict=True)
    state: dict[Any, Any] = {key: (0, held) for key, held in zip(fillers, HELD_BY_FILLERS, strict=False)}
    states = []
    number = 0
    for _ in range(draw(st.integers(3, 4))):
        changes = st.dictionaries(keys, st.one_of(HELD, HELD, st.none()), min_size=1, max_size=4)
        for key, held in draw(changes).items():
            number += 1
            if held is None:
                state.pop(key, None)
            else:
                state[key] = (number, held)
        states.append(dict(state))
    return list(types), states


def test_it_is_a_full_export_row_for_row_after_any_changes(tmp_path_factory: pytest.TempPathFactory) -> None:
    reports: list[ExportReport] = []

    # To shrink what fails takes minutes, since each example runs Hyper: an example as it was found says enough.
    @settings(
        max_examples=int(os.environ.get("DYNALAKE_TEST_EXTRACTS", "10")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(history=histories())
    def check(history: tuple[list[str], list[dict[Any, Any]]]) -> None:
        folder = tmp_path_factory.mktemp("history")
        types, states = history
        names = ["pk", "sk"][: len(types)]
        snapshot, out = folder / "lake.duckdb", folder / "things.hyper"
        for state in states:
            build(
                snapshot,
                _rows(names, types, state),
                key=names,
                key_types=dict(zip(names, types, strict=True)),
            )
            reports.append(update(snapshot, out))
            assert content(out) == content(full(snapshot, folder)), reports[-1].increment
            assert reports[-1].rows == len(state)

    check()
    increments = [each.increment for each in reports if each.increment is not None]
    exchanged = [each for each in increments if each.full is None and each.deleted + each.inserted]
    assert len(exchanged) >= 3, "the test must test what it is about"


def _rows(names: list[str], types: list[str], state: dict[Any, Any]) -> list[dict[str, Any]]:
    rows = []
    for key, (number, held) in state.items():
        item = {name: {tag: part} for name, tag, part in zip(names, types, key, strict=True)}
        item |= {
            name: value for name, value in zip(("number", "Text"), held, strict=True) if value is not None
        }
        rows.append(row(item, number))
    return rows


def things(count: int, changed: dict[int, int] | None = None, /, **more: Any) -> list[dict[str, Any]]:
    """Rows 0 to count; `changed` says which write a row's state is from, where not the first."""
    changed = changed or {}
    return [
        row(
            {"pk": {"S": f"k{number}"}, "n": {"N": str(changed.get(number, 0))}, **more},
            changed.get(number, number),
        )
        for number in range(count)
    ]


@FORMATS
def test_only_what_changed_is_exchanged(tmp_path: Path, format_: Any) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / f"things.{format_}"
    build(snapshot, things(20, **EVERY_TYPE))
    first = update(snapshot, out, format_)
    assert out.stat().st_mode == snapshot.stat().st_mode, "whoever may read the snapshot may read the extract"
    assert why(first) == "there was no extract yet"
    # Row 3 has changed, 19 is gone, 20 is new.
    build(snapshot, [*things(19, {3: 100}, **EVERY_TYPE), row({"pk": {"S": "k20"}, **EVERY_TYPE}, 101)])
    second = update(snapshot, out, format_)
    assert did(second) == (2, 2)
    assert (second.rows, second.bytes) == (20, out.stat().st_size)
    assert content(out) == content(full(snapshot, tmp_path, format_))
    assert did(update(snapshot, out, format_)) == (0, 0)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"lake.duckdb", out.name, trail_of(out).name, f"full.{format_}"}


def test_a_row_that_was_written_anew_with_an_old_version_counts_as_changed(tmp_path: Path) -> None:
    """When its tombstone has expired, a repair may write a key with a version that it had before."""
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.hyper"
    rows = things(10)
    build(snapshot, rows)
    update(snapshot, out)
    rows[4] = {**rows[4], "n": {"N": "9"}, "_lake_at": {"N": "1767999999999"}}
    build(snapshot, rows)
    assert did(update(snapshot, out)) == (1, 1)
    assert content(out) == content(full(snapshot, tmp_path))


@FORMATS
def test_what_cannot_be_gone_on_from_is_written_in_full_and_said(tmp_path: Path, format_: Any) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / f"things.{format_}"

    def reason() -> str:
        said = why(update(snapshot, out, format_))
        assert content(out) == content(full(snapshot, tmp_path, format_))
        assert did(update(snapshot, out, format_)) == (0, 0), "and then it goes on"
        return said

    build(snapshot, things(10))
    assert reason() == "there was no extract yet"
    trail_of(out).unlink()
    assert "things" in reason()
    trail_of(out).write_bytes(b"rubbish")
    assert "cannot be read" in reason()
    out.write_bytes(b"rubbish")
    assert reason() == "the extract there is not the one that its trail belongs to"
    export_table(snapshot, "things", format_, out)
    assert "is missing" in reason(), "a plain export leaves no trail behind"
    build(snapshot, things(10, more={"S": "x"}))
    assert reason() == "the columns have changed (new: more)"
    build(snapshot, things(10, {0: 20}, more={"N": "1"}))
    assert reason() == "the columns have changed (more: text is big int)"
    build(snapshot, things(4, {0: 20}, more={"N": "1"}))
    assert reason() == "6 rows have changed, of 4"
    build(snapshot, things(4, {0: 21, 1: 22}, more={"N": "1"}))
    assert did(update(snapshot, out, format_)) == (2, 2)
    build(snapshot, things(4, {0: 23, 1: 22}, more={"N": "1"}))
    assert reason() == "3 rows have been replaced since it last was, of 4"


def test_a_file_that_has_grown_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.hyper"
    build(snapshot, things(10))
    update(snapshot, out)
    build(snapshot, things(10, {1: 20}))
    monkeypatch.setattr("lake.export.tableau.LARGEST_GROWTH", 0.5)
    assert "has grown" in why(update(snapshot, out))


def test_an_extract_whose_rows_are_not_its_trail_s_is_written_anew(tmp_path: Path) -> None:
    """Somebody has deleted a row and made the trail's digest fit: Hyper's own count tells."""
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.hyper"
    build(snapshot, things(10))
    update(snapshot, out)
    trail = read_trail(out)
    with opened(out) as hyper:
        hyper.execute_command("DELETE FROM extract.public.things WHERE pk = 'k1'")
    with open_lake(snapshot, files=True) as lake:
        write_trail(lake, "things", trail_of(out), replace(trail, digest=digest(out)))
    build(snapshot, things(10, {1: 20}))
    assert why(update(snapshot, out)) == "the extract there does not hold the rows that it should"
    assert content(out) == content(full(snapshot, tmp_path))


def test_another_table_or_key_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.hyper"
    build(snapshot, things(4))
    update(snapshot, out)
    build(snapshot, things(4), key=("pk", "n"))
    assert why(update(snapshot, out)) == "the table has another key now"
    import tests.lake.building as building

    monkeypatch.setattr(building, "ABOUT", type(ABOUT)("dynalake.b.things", *_rest()))
    build(snapshot, things(4), key=("pk", "n"))
    assert (
        why(update(snapshot, out))
        == "the extract there was made from dynalake.a.things, not from dynalake.b.things"
    )


def _rest() -> list[Any]:
    return [getattr(ABOUT, name) for name in ABOUT.__slots__][1:-1]


def test_flattened_and_dated_extracts_are_brought_up_to_date_too(tmp_path: Path) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.tdsx"
    more = {
        "m": {"M": {"pk": {"S": "in a map"}}},
        "day": {"S": "2013-02-28"},
        "at": {"S": "2013-02-28T10:00:00.5Z"},
    }
    asked: Any = {"flatten": True, "dates": True}
    build(snapshot, things(10, **more))
    update(snapshot, out, "tdsx", **asked)
    build(snapshot, things(10, {1: 20}, **more))
    assert did(update(snapshot, out, "tdsx", **asked)) == (1, 1)
    columns, rows = content(out)
    assert dict(columns) == {
        "pk": "TEXT", "n": "BIG_INT", "m.pk": "TEXT", "day": "DATE", "at": "TIMESTAMP",
    }  # fmt: skip
    assert (
        str(dict(zip([name for name, _ in columns], rows[0], strict=True))["at"])
        == "2013-02-28 10:00:00.500000"
    )
    # One value that is no date, and the column is text again, in full.
    build(
        snapshot,
        [*things(10, {1: 20}, **more), row({"pk": {"S": "z"}, **more, "day": {"S": "2013-02-30"}}, 30)],
    )
    assert why(update(snapshot, out, "tdsx", **asked)) == "the columns have changed (day: date is text)"
    assert content(out) == content(full(snapshot, tmp_path, "tdsx", **asked))


def test_an_empty_table_and_one_that_becomes_empty(tmp_path: Path) -> None:
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / "things.hyper"
    types: Any = {"pk": "S"}
    build(snapshot, [], key_types=types)
    update(snapshot, out)
    assert content(out) == ([("pk", "TEXT")], [])
    assert why(update(snapshot, out)) == "the extract there had no rows"
    build(snapshot, things(1))
    update(snapshot, out)
    assert len(content(out)[1]) == 1
    build(snapshot, [], key_types=types)
    update(snapshot, out)
    assert content(out)[1] == []


def test_what_cannot_be_incremental_is_refused(tmp_path: Path) -> None:
    snapshot = tmp_path / "lake.duckdb"
    build(snapshot, things(1))
    with pytest.raises(ExportError, match="csv can only be written in full"):
        export_table(snapshot, "things", "csv", tmp_path / "t.csv", incremental=True)
    with pytest.raises(ExportError, match="in S3"):
        export_table(snapshot, "things", "hyper", "s3://bucket/t.hyper", incremental=True)
    with pytest.raises(ExportError, match="no order"):
        update(snapshot, tmp_path / "t.hyper", sort_by=("n",))
    with pytest.raises(ExportError, match="is not a directory"):
        update(snapshot, tmp_path / "missing" / "t.hyper")
    assert list(tmp_path.iterdir()) == [snapshot]


KILLED_AT_A_CALL = """
import os, signal, sys, threading
from pathlib import Path
from lake.export import export_table

last, snapshot, format_, out = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
calls = 0

def count(*_):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

threading.setprofile(count)
sys.setprofile(count)
export_table(snapshot, "things", format_, out, incremental=True)
os._exit(0)
"""


@FORMATS
def test_a_killed_run_leaves_the_old_extract_and_the_next_one_mends(tmp_path: Path, format_: Any) -> None:
    """Killed at moments from the first to the last of a run: at its 8th call of a function, its 64th, …"""
    snapshot, out = tmp_path / "lake.duckdb", tmp_path / f"things.{format_}"
    build(snapshot, things(2_000))
    update(snapshot, out, format_)
    old = content(out)
    build(snapshot, things(2_000, dict.fromkeys(range(0, 2_000, 9), 5_000)))
    new = content(full(snapshot, tmp_path, format_))
    killed = 0
    for power in itertools.count(1):
        words = [sys.executable, "-c", KILLED_AT_A_CALL, str(8**power), str(snapshot), format_, str(out)]
        process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
        code = process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Hyper's server
        assert content(out) in (old, new)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    assert killed > 3
    assert content(out) == new
    update(snapshot, out, format_)
    assert content(out) == new
    assert {path.name for path in tmp_path.iterdir()} == {
        "lake.duckdb", out.name, trail_of(out).name, f"full.{format_}",
    }  # fmt: skip
