"""What a notebook sees of a snapshot."""

from __future__ import annotations

from decimal import Decimal
from importlib.util import find_spec
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


def test_polars_where_it_is_installed(out: Path) -> None:
    with open_lake(out) as lk:
        if find_spec("polars") is None:
            with pytest.raises(SnapshotError, match="pip install polars"):
                lk.pl("things")
        else:
            assert lk.pl("things").shape == (2, 5)
        with pytest.raises(SnapshotError, match="no table 'other'"):
            lk.pl("other")


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
