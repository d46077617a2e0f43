"""Opening a snapshot from somebody else runs none of its code, and lets none of its code read local files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake.encode import snapshot_items
from lake.errors import SnapshotError
from lake.export import Layout, export_table
from lake.lines import item_to_line
from lake.open import open_lake
from lake.publish import refresh_snapshot
from tests.lake.building import ABOUT, build, lake_row

ITEM: dict[str, Any] = {"pk": {"S": "a"}, "n": {"N": "1"}}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "credentials"
    file.write_text("the secret")
    return file


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", [lake_row(ITEM)])
    return tmp_path / "lake.duckdb"


def change(snapshot: Path, *statements: str) -> None:
    with duckdb.connect(str(snapshot)) as con:
        for statement in statements:
            con.execute(statement)


FOREIGN = {
    "a view beside ours": ("CREATE VIEW more AS FROM read_text('{secret}')",),
    "a view in place of ours": (
        "CREATE OR REPLACE VIEW things AS SELECT content AS pk FROM read_text('{secret}')",
    ),
    "a view with metadata in place of ours": (
        "CREATE OR REPLACE VIEW _lake.things AS SELECT *, content FROM _lake_rows.things, read_text('{secret}')",
    ),
    "a view that ends like ours": (
        "CREATE OR REPLACE VIEW things AS WITH x AS (FROM read_text('{secret}')) "
        'SELECT stored."a:pk" AS pk, stored."a:n" AS n FROM _lake_rows.things AS stored',
    ),
    "a view for our table": (
        "CREATE TABLE kept AS FROM _lake.shards",
        "DROP TABLE _lake.shards",
        "CREATE VIEW _lake.shards AS SELECT kept.* FROM kept, read_text('{secret}')",
    ),
    "a view for the rows": (
        "ALTER TABLE _lake_rows.things RENAME TO kept",
        "CREATE VIEW _lake_rows.things AS SELECT kept.* FROM _lake_rows.kept, read_text('{secret}')",
    ),
    "a macro": ("CREATE MACRO peek() AS TABLE FROM read_text('{secret}')",),
    "a macro for a function": ("CREATE MACRO max(x) AS (SELECT content FROM read_text('{secret}'))",),
}
CODE = [
    name for name in FOREIGN if "macro" in name or name in ("a view for our table", "a view for the rows")
]
"""What can run in statements of ours, too."""


@pytest.mark.parametrize("name", FOREIGN)
def test_what_dynalake_did_not_create_is_refused(name: str, snapshot: Path, secret: Path) -> None:
    change(snapshot, *(statement.format(secret=secret) for statement in FOREIGN[name]))
    with pytest.raises(SnapshotError, match=r"did not create .*trusted=True"):
        open_lake(snapshot)
    with open_lake(snapshot, trusted=True) as lake:
        assert lake.tables() == ("things",)


@pytest.mark.parametrize("name", CODE)
def test_statements_of_ours_run_no_foreign_code_either(
    name: str, snapshot: Path, secret: Path, tmp_path: Path
) -> None:
    change(snapshot, *(statement.format(secret=secret) for statement in FOREIGN[name]))
    before = snapshot.read_bytes()
    with pytest.raises(SnapshotError, match="did not create"):
        export_table(snapshot, "things", "csv", tmp_path / "things.csv")
    with pytest.raises(SnapshotError, match="did not create"):
        list(snapshot_items(snapshot, "things"))
    line = item_to_line({"NewImage": lake_row(ITEM, 2)})
    with pytest.raises(SnapshotError, match="did not create"):
        refresh_snapshot(snapshot, "things", [[line]], lambda: ABOUT)
    with pytest.raises(SnapshotError, match="did not create"):
        build(snapshot, [lake_row(ITEM)])
    assert snapshot.read_bytes() == before
    assert not (tmp_path / "things.csv").exists()


def test_an_export_in_an_order_does_not_use_a_foreign_view(
    snapshot: Path, secret: Path, tmp_path: Path
) -> None:
    """An expression that a user wrote is evaluated over the view."""
    (statement,) = FOREIGN["a view with metadata in place of ours"]
    change(snapshot, statement.format(secret=secret))
    with pytest.raises(SnapshotError, match="did not create"):
        export_table(snapshot, "things", "csv", tmp_path / "x.csv", layout=Layout(sort_by=("length(pk)",)))


def test_sql_reads_nothing_but_the_snapshot_and_settings_are_locked(
    snapshot: Path, secret: Path, tmp_path: Path
) -> None:
    with open_lake(snapshot) as lake:
        for sql in (
            f"FROM read_text('{secret}')",
            f"FROM read_csv('{secret}')",
            f"FROM '{secret}'",
            f"COPY things TO '{tmp_path / 'out.csv'}'",
            f"ATTACH '{tmp_path / 'other.duckdb'}' AS other",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error, match=r"disabled|does not exist"):
                lake.sql(sql)
            with pytest.raises(duckdb.Error, match=r"disabled|does not exist"):
                lake.cursor().execute(sql)
        for setting in ("enable_external_access = true", "lock_configuration = false"):
            with pytest.raises(duckdb.InvalidInputException, match=r"locked|Cannot"):
                lake.sql(f"SET {setting}")
        assert lake.sql("SELECT pk, n FROM things").fetchall() == [("a", 1)]
        assert lake.table("things").num_rows == 1
        # The version that is published meanwhile can be taken all the same.
        build(snapshot, [lake_row(ITEM), lake_row({"pk": {"S": "b"}})])
        assert lake.reload().sql("SELECT count(*) FROM things").fetchall() == [(2,)]
        other = tmp_path / "other.duckdb"
        build(other, [lake_row(ITEM)])
        change(other, FOREIGN["a view beside ours"][0].format(secret=secret))
        other.replace(snapshot)
        with pytest.raises(SnapshotError, match="did not create"):
            lake.reload()


def test_a_trusted_snapshot_may_read_files(snapshot: Path, secret: Path) -> None:
    change(snapshot, FOREIGN["a view beside ours"][0].format(secret=secret))
    with open_lake(snapshot, trusted=True) as lake:
        assert lake.sql("SELECT content FROM more").fetchall() == [("the secret",)]
        lake.sql("SET threads = 1")


def test_tables_of_the_user_s_own_stay_and_are_read(snapshot: Path) -> None:
    change(snapshot, "CREATE TABLE mine AS SELECT 7 AS x")
    refresh_snapshot(snapshot, "things", [[item_to_line({"NewImage": lake_row(ITEM, 2)})]], lambda: ABOUT)
    with open_lake(snapshot) as lake:
        assert lake.sql("FROM mine").fetchall() == [(7,)]


def test_names_of_every_kind_make_views_that_are_recognised(tmp_path: Path) -> None:
    names = [
        'we"ird AS x',
        "select",
        "ROWID",
        "a'b",
        "🛫",
        "x;--",
        " ",
        "a.b",
        "NULL",
        "1",
        "\n",
        "İ",
        "Straße",
    ]
    for table in ("things", 't"; AS x', "order", "Ünïcode table", "t.t"):
        out = tmp_path / "names.duckdb"
        build(out, [lake_row({"pk": {"S": "a"}} | {name: {"S": name} for name in names})], table=table)
        with open_lake(out) as lake:
            assert lake.tables() != ()
            assert lake.table(table).num_rows == 1


def test_a_file_of_another_database_is_not_opened_by_an_extension(tmp_path: Path) -> None:
    file = tmp_path / "lake.duckdb"
    file.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(SnapshotError, match="cannot be opened"):
        open_lake(file)
