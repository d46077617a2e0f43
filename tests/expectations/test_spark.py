"""The comparison on Spark finds what the one on a single machine finds, in the same exports."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from expectations.errors import ParityError
from expectations.parity import Looks, Side, compare
from expectations.spark import parity_sql
from tests.expectations.items import respelt, rich_item
from tests.queries.jvm import SPARK_JVM, SPARK_OPTIONS, java

Item = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    with java(*SPARK_JVM, *(f"-D{key}={value}" for key, value in SPARK_OPTIONS.items())) as jvm:
        session = jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate()
        yield session
        session.stop()


def export(folder: Path, items: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for part in range(2):
        with gzip.open(folder / f"part{part}.json.gz", "wt", encoding="utf-8") as file:
            for each in items[part::2]:
                file.write(json.dumps({"Item": each}, ensure_ascii=part == 0) + "\n")
    return folder


def test_spark_finds_the_same_rows_as_one_machine(tmp_path: Path, spark: Any) -> None:
    rng = random.Random(5)
    source = [rich_item(rng, number) for number in range(120)]
    lake: list[dict[str, Any]] = [
        {
            **respelt(rng, each),
            "_lake_version": {"S": f"2026-01-01T00:00:00.000/{n:040}"},
            "_lake_at": {"N": "1"},
        }
        for n, each in enumerate(source)
    ]
    del lake[7]
    lake[20]["n"] = {"N": "0.1234567890123456789012345678901"}
    lake[30]["tags"] = {"SS": sorted(source[31]["tags"]["SS"])[:-1]}
    lake[40]["map"]["M"]["inner"]["M"]["deep"] = {"S": "changed"}
    lake[50]["code"] = {"S": lake[50]["code"]["N"]}
    lake[60] = {**{k: lake[60][k] for k in ("pk", "sk")}, "_lake_deleted": {"S": "user"}}
    lake.append({"pk": {"S": "only in the lake"}, "sk": {"N": "1"}})

    statements = parity_sql(
        str(export(tmp_path / "source", source)), str(export(tmp_path / "lake", lake)), ["pk", "sk"]
    )
    for statement in statements[:-1]:
        spark.sql(statement)
    found = [json.loads(row.get(0)) for row in spark.sql(statements[-1]).collectAsList()]

    by_key = {name: {_name(each): each for each in rows} for name, rows in (("s", source), ("l", lake))}
    here = compare(
        Side([[json.dumps(each).encode() for each in source]], lambda keys: [by_key["s"].get(_name(k)) for k in keys]),
        Side([[json.dumps(each).encode() for each in lake]], lambda keys: [by_key["l"].get(_name(k)) for k in keys]),
        ["pk", "sk"],
        None,
        sleep=lambda _s: None,
        looks=Looks(1),
    )  # fmt: skip
    assert (here.missing, here.different, here.extra) == (2, 4, 1)
    assert sorted((each["reason"], _name(each["key"])) for each in found) == sorted(
        (each.reason, _name(each.key)) for each in here.differences
    )
    assert all(each["source_key"] == each["key"] for each in found)


def _name(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["N"]


def test_spark_finds_a_key_that_is_there_twice(tmp_path: Path, spark: Any) -> None:
    rng = random.Random(6)
    source = [rich_item(rng, number) for number in range(10)]
    lake = [{**each, "_lake_version": {"S": "x"}} for each in (*source, source[3])]
    statements = parity_sql(
        str(export(tmp_path / "source", source)), str(export(tmp_path / "lake", lake)), ["pk", "sk"]
    )
    for statement in statements[:-1]:
        spark.sql(statement)
    found = [json.loads(row.get(0)) for row in spark.sql(statements[-1]).collectAsList()]
    assert [(each["reason"], _name(each["key"])) for each in found] == [("duplicate", _name(source[3]))]


def test_a_key_that_cannot_stand_in_sql_is_refused() -> None:
    with pytest.raises(ParityError, match="has a quote"):
        parity_sql("a", "b", ["p'k"])
