"""The shipped queries give the same answer on Spark, from a Parquet file, as they do on DuckDB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest

from queries.named import load_query, parse_query
from queries.transpile import Dialect, transpile
from tests.queries import flights, hostile
from tests.queries.jvm import java

# What Spark needs opened on Java 17 and later (its launcher's JavaModuleOptions), as far as SQL goes.
_OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
    "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.util.calendar",
    "sun.security.action", "jdk.internal.ref",
)  # fmt: skip
_OPTIONS = {
    "spark.master": "local[1]",
    "spark.app.name": "dynalake",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("spark")
    pq.write_table(flights.table(), folder / "flights.parquet")
    options = {**_OPTIONS, "spark.sql.warehouse.dir": str(folder / "warehouse")}
    with java(
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        *(f"-D{key}={value}" for key, value in options.items()),
        "-Xmx1g",
    ) as jvm:
        spark = jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate()
        path = str(folder / "flights.parquet").replace("`", "``")
        spark.sql(f"CREATE TEMPORARY VIEW flights AS SELECT * FROM parquet.`{path}`")
        yield spark
        spark.stop()


def answer(spark: Any, sql: str) -> list[tuple[Any, ...]]:
    rows = spark.sql(sql).collectAsList()
    return [tuple(_value(row.get(at)) for at in range(row.length())) for row in rows]


def _value(value: Any) -> Any:
    return Decimal(value.toString()) if hasattr(value, "toString") else value


@pytest.mark.parametrize("dialect", ["hive", "spark"])
@pytest.mark.parametrize("name", sorted(flights.ANSWERS))
def test_a_shipped_query_gives_the_right_answer(name: str, dialect: Dialect, spark: Any) -> None:
    params, expected = flights.ANSWERS[name]

    assert answer(spark, transpile(load_query(name), dialect, params)) == expected


def test_hostile_parameters_stay_data(spark: Any) -> None:
    rng = random.Random(11)
    query = parse_query("q", "-- what: w\n-- grain: g\n-- param: who text\nSELECT :who AS who")
    for _ in range(30):
        text = hostile.name(rng).replace("\x00", "")
        assert answer(spark, transpile(query, "spark", {"who": text})) == [(text,)]
