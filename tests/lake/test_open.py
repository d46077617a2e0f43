"""What a notebook sees of a snapshot."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from lake import open_lake
from lake.errors import SnapshotError
from tests.lake.building import build, lake_row
from tests.lake.test_refresh import refresh, row


@pytest.fixture
def out(tmp_path: Path) -> Path:
    items = [
        {"pk": {"S": "a"}, "n": {"N": "9007199254740993"}, "d": {"N": "0.1"}, "<b>&": {"S": "x"}},
        {"pk": {"S": "b"}, "<b>&": {"N": "1"}},
    ]
    build(tmp_path / "l.duckdb", map(lake_row, items))
    return tmp_path / "l.duckdb"


def test_pandas_keeps_integers_and_decimals(out: Path) -> None:
    with open_lake(out) as lk:
        frame = lk.df("things")
        assert frame["n"].tolist() == [9007199254740993, pd.NA]
        assert frame["d"].tolist() == [Decimal("0.1"), pd.NA]
        assert lk.sql("SELECT count(*) AS n FROM things").df()["n"].tolist() == [2]
        assert lk.table("things").column("n").to_pylist() == [9007199254740993, None]


def test_polars_keeps_integers_decimals_and_companions(out: Path) -> None:
    import polars as pl

    with open_lake(out) as lk:
        frame = lk.pl("things").sort("pk")
        assert frame.columns == ["pk", "<b>&", "<b>&__other", "d", "n"]
        assert frame["n"].dtype == pl.Int64
        assert frame["n"].to_list() == [9007199254740993, None]
        assert frame["d"].to_list() == [Decimal("0.1"), None]
        assert frame["<b>&"].to_list() == ["x", None]
        assert frame["<b>&__other"].to_list() == [None, '{"N":"1"}']
        assert lk.sql("SELECT n FROM things ORDER BY pk").pl()["n"].to_list() == [9007199254740993, None]
        with pytest.raises(SnapshotError, match="no table 'other'"):
            lk.pl("other")


def test_every_type_reaches_polars_and_pandas(tmp_path: Path) -> None:
    item = {
        "pk": {"S": "a"},
        "big": {"N": "99999999999999999999999999999999999999"},
        "tiny": {"N": "1E-130"},
        "raw": {"B": "AAE="},
        "flag": {"BOOL": True},
        "none": {"NULL": True},
        "words": {"SS": ["b", "a"]},
        "numbers": {"NS": ["1", "2"]},
        "list": {"L": [{"S": "x"}]},
        "map": {"M": {"a": {"N": "1"}, "b": {"L": [{"N": "0.5"}]}}},
    }
    build(tmp_path / "l.duckdb", [lake_row(item)])
    with open_lake(tmp_path / "l.duckdb") as lk:
        (told,) = lk.table("things").to_pylist()
        assert lk.pl("things").to_dicts() == [told]
        assert lk.pl("things").shape == lk.df("things").shape
        assert told["big"] == Decimal(99999999999999999999999999999999999999)
        assert told["map"] == {"a": 1, "b": [Decimal("0.5")]}


def test_without_polars_it_says_what_to_install(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with open_lake(out) as lk, pytest.raises(SnapshotError, match="pip install polars"):
        lk.pl("things")


def test_it_shows_itself(out: Path) -> None:
    with open_lake(out) as lk:
        assert "things: 2 rows as of 20" in repr(lk)
        assert '<td style="text-align:left">things</td>' in lk._repr_html_()
        schema = lk.schema("things")
        assert "DECIMAL(38,1)" in repr(schema)
        assert "key" in repr(schema).splitlines()[1]
        assert "<b>" not in schema._repr_html_()
        assert "&lt;b&gt;&amp;" in schema._repr_html_()
    assert "closed" in repr(lk)
    assert "closed" in lk._repr_html_()


def test_a_new_version_is_noticed_and_taken(out: Path) -> None:
    with open_lake(out) as lk:
        pending = lk.sql("SELECT pk FROM things")
        before = lk.stale
        refresh(out, [row("c", 1)])
        assert (before, lk.stale) == (False, True)
        assert "newer" in repr(lk)
        assert "newer" in lk._repr_html_()
        assert len(pending.fetchall()) == 2
        assert lk.reload().sql("SELECT count(*) FROM things").fetchall() == [(3,)]
        assert "newer" not in repr(lk)
        assert lk.reload().schema("things")
        refresh(out, [row("d", 1)])
        refresh(out, [row("e", 1)])
        assert lk.table("things").num_rows == 3
        assert lk.reload().table("things").num_rows == 5
