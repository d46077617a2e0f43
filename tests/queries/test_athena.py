"""Athena: its SQL as sqlglot parses it, and boto3's client against moto and botocore's stubs.

No query runs on Athena here, so what these tests cannot see is whether Athena's own parser agrees.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
import requests
import sqlglot
from botocore.stub import Stubber
from moto import mock_aws
from sqlglot import exp

import dynalake
from queries.athena import AthenaProgress, AthenaSettings, stream_on_athena
from queries.ddl import Generated, parquet_table
from queries.errors import EngineError
from queries.named import load_query, named_queries, parse_query
from queries.transpile import transpile
from tests.queries import hostile

HEADER = "-- what: w\n-- grain: g\n"


@pytest.mark.parametrize("name", [query.name for query in named_queries()])
def test_a_shipped_query_is_athenas_sql(name: str) -> None:
    text = transpile(load_query(name), "athena")
    (tree,) = sqlglot.parse(text, read="athena")

    assert isinstance(tree, exp.Select)
    assert "`" not in text


def test_a_hostile_parameter_is_one_literal() -> None:
    rng = random.Random(3)
    query = parse_query("q", f"{HEADER}-- param: who text\nSELECT a FROM t WHERE a = :who")
    for _ in range(200):
        text = hostile.name(rng).replace("\x00", "")
        (tree,) = sqlglot.parse(transpile(query, "athena", {"who": text}), read="trino")
        assert tree is not None
        (equals,) = tree.find_all(exp.EQ)
        assert equals.expression.this == text


@pytest.mark.parametrize(
    ("duckdb", "athena"),
    [
        ("SELECT a // b AS c FROM t", 'SELECT (("a") / ("b")) AS "c" FROM "t"'),
        ("SELECT l[1] AS c FROM t", 'SELECT ELEMENT_AT("l", 1) AS "c" FROM "t"'),
        (
            "SELECT e.x.y AS y FROM t CROSS JOIN unnest(t.l) AS e (x)",
            'SELECT "e"."x"."y" AS "y" FROM "t" '
            'CROSS JOIN UNNEST(TRANSFORM("t"."l", element -> ROW(element))) AS "e"("x")',
        ),
        ("SELECT _lake_at FROM _lake.orders", 'SELECT "_lake_at" FROM "_lake_orders"'),
    ],
)
def test_what_trino_says_otherwise_is_said_otherwise(duckdb: str, athena: str) -> None:
    assert transpile(parse_query("q", HEADER + duckdb), "athena") == athena


def test_tables_and_views_over_hostile_exports_can_be_read() -> None:
    rng = random.Random(4)
    for _ in range(100):
        made = parquet_table(
            hostile.arrow_schema(rng),
            location="s3://b/o'rders/",
            database="lake",
            table="o",
            flavour="athena",
        )
        for view in Generated.over(made, "orders").views:
            (tree,) = sqlglot.parse(view.text, read="trino")
            assert isinstance(tree, exp.Create)
            assert len(tree.expression.expressions) == len(made.view_columns) + (
                len(made.metadata) if view.name.startswith("_lake_") else 0
            )


def test_a_name_that_athena_does_not_take_is_read_by_position() -> None:
    made = parquet_table(
        pa.schema([("a b", pa.string()), ("c", pa.int64())]),
        location="s3://b/orders/",
        database="lake",
        table="o",
        flavour="athena",
    )
    assert "WITH SERDEPROPERTIES (\n  'parquet.column.index.access' = 'true'\n)" in made.create
    assert "TBLPROPERTIES" not in made.create.replace("SERDEPROPERTIES", "")
    assert "`a_b` string" in made.create


# The client


@pytest.fixture
def athena() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("athena", region_name="eu-central-1")
        yield client


COLUMNS = {
    "n": "bigint", "d": "decimal(20,3)", "x": "double", "t": "varchar", "b": "boolean", "day": "date",
    "moment": "timestamp", "bytes": "varbinary",
}  # fmt: skip


def answer(*rows: list[str | None]) -> dict[str, Any]:
    """What GetQueryResults answers, the columns' names first."""
    every: list[list[str | None]] = [list(COLUMNS), *rows]
    return {
        "Rows": [
            {"Data": [{} if value is None else {"VarCharValue": value} for value in row]} for row in every
        ],
        "ResultSetMetadata": {
            "ColumnInfo": [
                {"Name": name, "Type": kind.partition("(")[0], "Precision": 20, "Scale": 3}
                for name, kind in COLUMNS.items()
            ]
        },
    }


def queue(*answers: dict[str, Any]) -> None:
    requests.post(
        "http://motoapi.amazonaws.com/moto-api/static/athena/query-results",
        json={
            "results": [
                {"rows": each["Rows"], "column_info": each["ResultSetMetadata"]["ColumnInfo"]}
                for each in answers
            ],
            "region": "eu-central-1",
        },
        timeout=5,
    )


def test_an_answer_has_its_types(athena: Any) -> None:
    queue(
        answer(
            [
                "1",
                "12345678901234567.890",
                "0.5",
                "text",
                "true",
                "2013-01-31",
                "2013-01-31 05:15:00.123",
                "00ff",
            ],
            [None] * 8,
        )
    )
    seen: list[AthenaProgress] = []
    with stream_on_athena(athena, AthenaSettings(output="s3://b/a/"), "SELECT 1", seen.append) as reader:
        found = reader.read_all()

    assert list(found.to_pylist()[0].values()) == [
        1, Decimal("12345678901234567.890"), 0.5, "text", True, date(2013, 1, 31),
        datetime(2013, 1, 31, 5, 15, 0, 123_000), b"\x00\xff",
    ]  # fmt: skip
    assert set(found.to_pylist()[1].values()) == {None}
    assert found.schema.field("d").type == pa.decimal128(20, 3)
    assert seen[-1].state == "SUCCEEDED"


def test_run_asks_athena(athena: Any, tmp_path: Path) -> None:
    queue(answer(["1", "1.5", "0.5", "x", "false", "2013-01-31", "2013-01-31 05:15:00", "00"]))
    config = tmp_path / "dynalake.toml"
    config.write_text('[athena]\nregion = "eu-central-1"\ndatabase = "lake"\noutput = "s3://answers/"\n')
    found = dynalake.run("late_flights", engine="athena", config=config, minutes=90)
    (asked,) = athena.list_query_executions()["QueryExecutionIds"]
    asked = athena.get_query_execution(QueryExecutionId=asked)["QueryExecution"]

    assert found["d"].tolist() == [Decimal("1.500")]
    assert 'WHERE "dep_delay" >= 90' in asked["Query"]
    assert asked["QueryExecutionContext"] == {"Database": "lake", "Catalog": "AwsDataCatalog"}


def stubbed(*states: dict[str, Any], stopped: bool = False) -> tuple[Any, Stubber]:
    client = boto3.client(
        "athena", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    stubber = Stubber(client)
    stubber.add_response("start_query_execution", {"QueryExecutionId": "q-1"})
    for state in states:
        stubber.add_response(
            "get_query_execution", {"QueryExecution": {"QueryExecutionId": "q-1", "Status": state}}
        )
    if stopped:
        stubber.add_response("stop_query_execution", {}, {"QueryExecutionId": "q-1"})
    stubber.activate()
    return client, stubber


def test_a_failed_query_is_one_line_with_athenas_reason() -> None:
    reason = "SYNTAX_ERROR: line 1:8:\nColumn 'nope' cannot be resolved"
    client, _ = stubbed({"State": "QUEUED"}, {"State": "FAILED", "StateChangeReason": reason})
    with (
        pytest.raises(
            EngineError, match=r"^Athena says: failed: SYNTAX_ERROR: line 1:8: Column 'nope' cannot be"
        ),
        stream_on_athena(client, AthenaSettings(), "SELECT nope", sleep=lambda _: None),
    ):
        pass


def test_an_interrupt_stops_the_query() -> None:
    client, stubber = stubbed({"State": "RUNNING"}, stopped=True)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        stream_on_athena(client, AthenaSettings(), "SELECT 1", sleep=interrupt),
    ):
        pass
    stubber.assert_no_pending_responses()


def test_a_refusal_is_one_line() -> None:
    client = boto3.client(
        "athena", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    stubber = Stubber(client)
    stubber.add_client_error("start_query_execution", "AccessDeniedException", "not authorized to perform")
    stubber.activate()
    with (
        pytest.raises(EngineError, match="Athena says: AccessDeniedException: not authorized"),
        stream_on_athena(client, AthenaSettings(), "SELECT 1"),
    ):
        pass


def test_pages_are_read_one_by_one() -> None:
    client, stubber = stubbed({"State": "SUCCEEDED"})
    first, last = answer(["1", *[None] * 7]), answer()
    last["Rows"] = [{"Data": [{"VarCharValue": "2"}, *[{}] * 7]}]
    where = {"QueryExecutionId": "q-1"}
    stubber.add_response("get_query_results", {"ResultSet": first, "NextToken": "more"}, where)
    stubber.add_response("get_query_results", {"ResultSet": last}, {**where, "NextToken": "more"})
    with stream_on_athena(client, AthenaSettings(), "SELECT 1") as reader:
        assert [batch.column(0).to_pylist() for batch in reader] == [[1], [2]]
    assert json.dumps(where)
