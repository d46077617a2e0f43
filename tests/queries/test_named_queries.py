from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from queries.errors import EngineError, ParameterError, QueryNotFound
from queries.named import load_query, named_queries, parse_query
from queries.run import run_on_duckdb
from queries.transpile import literal, transpile
from tests.queries import flights

HEADER = "-- what: w\n-- grain: g\n"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.register("arrow_flights", flights.table())
        connection.execute("CREATE SCHEMA _lake; CREATE TABLE _lake.flights AS FROM arrow_flights")
        connection.execute(
            "CREATE VIEW flights AS SELECT * EXCLUDE (_lake_version, _lake_at, _lake_source_at) FROM _lake.flights"
        )
        yield connection


def rows(answer: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in answer.to_pylist()]


def test_the_shipped_queries_say_what_they_are() -> None:
    queries = named_queries()

    assert len(queries) == 9
    assert all(query.what and query.grain and query.parameters for query in queries)
    assert all(parameter.what for query in queries for parameter in query.parameters)
    assert {query.name for query in queries} == set(flights.ANSWERS)


@pytest.mark.parametrize("name", sorted(flights.ANSWERS))
def test_a_shipped_query_gives_the_right_answer(name: str, connection: duckdb.DuckDBPyConnection) -> None:
    params, expected = flights.ANSWERS[name]

    assert rows(run_on_duckdb(load_query(name), connection, params)) == expected


def test_parameters_reach_the_query(connection: duckdb.DuckDBPyConnection) -> None:
    late = load_query("late_flights.sql")

    assert len(run_on_duckdb(late, connection, {"minutes": 61})) == 2
    assert len(run_on_duckdb(late, connection, {"minutes": "0", "top_n": 1})) == 1
    assert len(run_on_duckdb(load_query("route_league"), connection)) == 0


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE flights; --", "x' OR '1'='1", "\\", "${x}", "$who", ":who", "é😀"]
)
def test_what_looks_like_sql_stays_data(text: str, connection: duckdb.DuckDBPyConnection) -> None:
    query = parse_query("q", f"{HEADER}-- param: who text\nSELECT :who AS who WHERE 'a' <> :who")

    assert run_on_duckdb(query, connection, {"who": text}).to_pylist() == [{"who": text}]
    assert connection.execute("SELECT count(*) FROM flights").fetchone() == (11,)


def test_every_type_is_bound(connection: duckdb.DuckDBPyConnection) -> None:
    given = {
        "i": -(2**63),
        "d": Decimal("12345678901234567890.123456789"),
        "t": "text",
        "day": date(2013, 1, 1),
        "at": datetime(2013, 1, 1, 5, 15),
        "b": True,
    }
    kinds = {"i": "integer", "d": "decimal", "t": "text", "day": "date", "at": "timestamp", "b": "boolean"}
    header = HEADER + "".join(f"-- param: {name} {kind}\n" for name, kind in kinds.items())
    query = parse_query("q", f"{header}SELECT " + ", ".join(f"(:{name}) AS {name}" for name in kinds))

    assert run_on_duckdb(query, connection, given).to_pylist() == [given]


def test_only_placeholders_are_replaced() -> None:
    query = parse_query(
        "q",
        f"{HEADER}-- param: n integer = 1\n"
        "SELECT ':n', a::INT, s[1:n], {'k':n}, $$ :n $$, \":n\", -- :n\n /* :n */ :n, x=:n, (:n) FROM t;\n",
    )

    assert query.sql == (
        "SELECT ':n', a::INT, s[1:n], {'k':n}, $$ :n $$, \":n\", -- :n\n /* :n */ $n, x=$n, ($n) FROM t"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT 1", "-- what"),
        ("-- what: x\nSELECT 1", "-- grain"),
        (HEADER, "one statement"),
        (f"{HEADER}SELECT 1; SELECT 2", "one statement"),
        (f"{HEADER}SELECT 'open", "cannot be read"),
    ],
)
def test_a_file_that_is_no_query_is_refused(text: str, says: str) -> None:
    with pytest.raises(QueryNotFound, match=says):
        parse_query("q", text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEADER}SELECT (:n)", "without a line"),
        (f"{HEADER}-- param: n integer\nSELECT 1", "never uses"),
        (f"{HEADER}-- param: n integer\n-- param: n text\nSELECT (:n)", "twice"),
    ],
)
def test_placeholders_and_declarations_must_agree(text: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        parse_query("q", text)


def test_a_readers_own_file_is_found_by_its_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.sql"
    own.write_text(f"{HEADER}SELECT 1 AS one", encoding="utf-8-sig")

    assert load_query(own).name == load_query(str(own)).name == "mine"


@pytest.mark.parametrize(
    "name", ["nothing", "nothing.sql", "", "../sql/late_flights", "sql/late_flights", "."]
)
def test_an_unknown_query_is_said_with_those_that_are_there(name: str) -> None:
    with pytest.raises(QueryNotFound, match="late_flights"):
        load_query(name)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.sql"
    own.write_bytes(b"-- what: \xff\xfe")

    with pytest.raises(QueryNotFound, match="UTF-8"):
        load_query(own)


@pytest.mark.parametrize(
    "statement", ["DROP TABLE flights", "DELETE FROM flights", "CREATE TABLE t AS SELECT 1"]
)
def test_nothing_but_a_select_runs(statement: str, connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EngineError, match="no SELECT"):
        run_on_duckdb(parse_query("q", HEADER + statement), connection)
    assert connection.execute("SELECT count(*) FROM flights").fetchone() == (11,)


def test_duckdbs_refusal_names_the_query(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EngineError, match=r"'q'.*nowhere"):
        run_on_duckdb(parse_query("q", f"{HEADER}SELECT * FROM nowhere"), connection)


def test_the_other_dialects_text_has_literals_quotes_and_places_for_nulls() -> None:
    query = parse_query(
        "q",
        f"{HEADER}-- param: who text\n-- param: n integer\n"
        "SELECT order_, row_number() OVER (ORDER BY a NULLS FIRST) AS r FROM t "
        "WHERE a = :who AND b = :n ORDER BY a, b DESC NULLS LAST",
    )

    assert transpile(query, "hive", {"who": "it's;${x}", "n": -1}) == (
        "SELECT `order_`, CAST(ROW_NUMBER() OVER (ORDER BY `a` ASC NULLS FIRST) AS BIGINT) AS `r` FROM `t` "
        "WHERE `a` = 'it\\u0027s\\u003b\\u0024{x}' AND `b` = (-1) ORDER BY `a` ASC NULLS LAST, `b` DESC NULLS LAST"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "TRUE"),
        (7, "7"),
        (-7, "(-7)"),
        (Decimal("12.50"), "CAST('12.50' AS DECIMAL(4,2))"),
        (Decimal("-0.001"), "CAST('-0.001' AS DECIMAL(3,3))"),
        (date(2013, 1, 31), "CAST('2013-01-31' AS DATE)"),
        (datetime(2013, 1, 31, 5, 15), "CAST('2013-01-31 05:15:00' AS TIMESTAMP)"),
    ],
)
def test_literals_keep_their_type(value: Any, expected: str) -> None:
    assert literal(value).sql("hive") == expected


def test_a_dialect_that_is_not_served_is_refused() -> None:
    with pytest.raises(EngineError, match="hive, spark, athena"):
        transpile(load_query("late_flights"), "oracle")  # type: ignore[arg-type]


def test_what_sqlglot_cannot_parse_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="'q'"):
        transpile(parse_query("q", f"{HEADER}SELECT FROM WHERE ((("), "hive")
