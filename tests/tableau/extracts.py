"""Extracts as Hyper reads them, and rows of every kind to put into them."""

from __future__ import annotations

import base64
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lake.building import LABEL
from tests.stubs.hyper import opened

EVERY_TYPE: dict[str, Any] = {
    "text": {"S": "=1+1"},
    "amount": {"N": "-5"},
    "exact": {"N": "1234567890123456789012345678901234.5678"},
    "tiny": {"N": "-1E-130"},
    "raw": {"B": base64.b64encode(b"\xfb\xff").decode()},
    "flag": {"BOOL": True},
    "nothing": {"NULL": True},
    "strings": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.5"]},
    "blobs": {"BS": [base64.b64encode(b"ab").decode()]},
    "map": {"M": {"n": {"N": "1.5"}, "s": {"S": "x"}}},
    "any": {"L": [{"S": "a"}, {"NULL": True}]},
    "Name": {"S": "upper"},
    "name": {"S": "lower"},
    "🛫": {"S": "emoji"},
    'a "quoted" [name]': {"N": "7"},
    "ctrl\x01": {"S": "a control character"},
}


def row(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A lake row, written as the `number`-th write of all."""
    return {
        **item,
        "_lake_version": {"S": f"{LABEL}/{number:040d}"},
        "_lake_at": {"N": str(1_767_225_600_000 + number)},
    }


Content = tuple[list[tuple[str, str]], list[tuple[Any, ...]]]


def content(extract: Path, table: str = "things", schema: str = "public") -> Content:
    """Names and types of an extract's columns, and its rows in an order of their own."""
    with tempfile.TemporaryDirectory() as folder:
        file = extract
        if extract.suffix == ".tdsx":
            with zipfile.ZipFile(extract) as package:
                (inner,) = [name for name in package.namelist() if name.endswith(".hyper")]
                file = Path(package.extract(inner, folder))
        with opened(file) as hyper:
            from tableauhyperapi import SchemaName, TableName

            name = TableName("extract", schema, table)
            assert hyper.catalog.get_table_names(SchemaName("extract", schema)) == [name], (
                "one table, or Tableau Server would not know which"
            )
            columns = [
                (each.name.unescaped, str(each.type))
                for each in hyper.catalog.get_table_definition(name).columns
            ]
            rows = hyper.execute_list_query(f"SELECT * FROM {name}")
    return columns, sorted((tuple(each) for each in rows), key=repr)
