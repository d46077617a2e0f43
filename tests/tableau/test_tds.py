"""The description of an extract, read by Tableau's own document API, which knows nothing of us."""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lake.export import Layout, export_table
from lake.export.extract import ExtractColumn
from lake.export.tds import captions, role
from tests.lake.building import build
from tests.tableau.extracts import EVERY_TYPE, content, row

# It needs distutils, which Python has had until 3.11.
Datasource: Any = pytest.importorskip("tableaudocumentapi").Datasource


@pytest.fixture
def package(tmp_path: Path) -> Path:
    more = {
        "customer_id": {"N": "7"},
        "totalPrice": {"N": "12.5"},
        "day": {"S": "2013-01-02"},
        "seen_at": {"S": "2013-01-02T03:04:05Z"},
        "mixed": {"S": "x"},
        "Total Price": {"N": "1"},
    }
    rows = [row({"pk": {"S": "1"}, **EVERY_TYPE, **more}, 1), row({"pk": {"S": "2"}, "mixed": {"N": "1"}}, 2)]
    build(tmp_path / "lake.duckdb", rows)
    out = tmp_path / "things.tdsx"
    export_table(tmp_path / "lake.duckdb", "things", "tdsx", out, layout=Layout(flatten=True, dates=True))
    return out


def fields(package: Path) -> dict[str, Any]:
    return {
        field.id[1:-1].replace("]]", "]"): field
        for field in Datasource.from_file(str(package)).fields.values()
    }


def test_each_column_of_the_extract_is_described(package: Path) -> None:
    """Except for binary values, which Tableau has no type for, and a name that no XML can hold."""
    columns, _ = content(package)
    types = {
        "TEXT": "string",
        "BIG_INT": "integer",
        "BOOL": "boolean",
        "DATE": "date",
        "TIMESTAMP": "datetime",
    }
    expected = {
        name: types.get(kind, "real") for name, kind in columns if kind != "BYTES" and name != "ctrl\x01"
    }
    assert {name: field.datatype for name, field in fields(package).items()} == expected
    assert {"raw", "ctrl\x01"} < {name for name, _ in columns}


def test_people_see_captions_roles_and_formats(package: Path) -> None:
    seen = fields(package)
    assert {
        name: seen[name].caption for name in ("customer_id", "day", "seen_at", "mixed__other", "map.n")
    } == {
        "customer_id": "Customer ID",
        "day": "Day",
        "seen_at": "Seen At (UTC)",
        "mixed__other": "Mixed (Other Types)",
        "map.n": "Map N",
    }
    assert (seen["Name"].caption, seen["name_2"].caption) == (None, "Name 2")
    assert {
        name: seen[name].role for name in ("pk", "customer_id", "totalPrice", "amount", "flag", "day")
    } == {
        "pk": "dimension",
        "customer_id": "dimension",
        "totalPrice": "measure",
        "amount": "measure",
        "flag": "dimension",
        "day": "dimension",
    }
    assert seen["customer_id"].default_aggregation == "Sum"
    assert "DynamoDB attribute day: S in 1 row" in (seen["day"].description or "")
    with zipfile.ZipFile(package) as opened:
        root = ET.fromstring(opened.read("things.tds"))
    formats = {each.get("name"): each.get("default-format") for each in root.findall("column")}
    assert formats["[totalPrice]"] == "*#,##0.0"
    assert formats["[customer_id]"] == "*0"
    assert formats["[exact]"] == "*#,##0.0000"
    assert formats["[text]"] is None


def test_the_connection_leads_to_the_extract_in_the_package(package: Path) -> None:
    with zipfile.ZipFile(package) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["things.tds", "Data/Extracts/things.hyper"]
        root = ET.fromstring(opened.read("things.tds"))
    (connection,) = Datasource.from_file(str(package)).connections
    assert (connection.dbclass, connection.dbname) == ("hyper", "Data/Extracts/things.hyper")
    relation = root.find("connection/relation")
    assert relation is not None
    assert relation.get("table") == "[public].[things]"


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("order_id", "Order ID"),
        ("orderId", "Order ID"),
        ("HTTPStatus", "HTTP Status"),
        ("dep.delay-min", "Dep Delay Min"),
        ("s3_key", "S3 Key"),
        ("größe", "Größe"),
        ("🛫 gate", "🛫 Gate"),
        ("__", "__"),
        ("already Fine", "Already Fine"),
        ("日付", "日付"),
    ],
)
def test_captions(name: str, caption: str) -> None:
    assert captions([ExtractColumn(name, "text", 0, "", name)]) == {name: caption}


def test_columns_that_would_look_alike_keep_their_names() -> None:
    columns = [
        ExtractColumn(name, "text", 0, "", name) for name in ("order_id", "orderId", "Order ID", "other")
    ]
    assert captions(columns) == {
        "order_id": "order_id", "orderId": "orderId", "Order ID": "Order ID", "other": "Other",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "of_role"),
    [
        ("flight_no", "dimension"),
        ("year", "dimension"),
        ("years", "measure"),
        ("paid", "measure"),
        ("shopId", "dimension"),
    ],
)
def test_roles_of_numbers(name: str, of_role: str) -> None:
    assert role(ExtractColumn(name, "big int", 0, "", name)) == of_role
    assert role(ExtractColumn(name, "text", 0, "", name)) == "dimension"
    assert role(ExtractColumn(name, "big int", 0, "", name, is_key=True)) == "dimension"
