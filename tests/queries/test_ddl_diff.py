"""From what stands to what is generated: what each kind of change becomes, and what is refused."""

from __future__ import annotations

import random
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pytest

from queries.ddl import Diff, Generated, Partitions, SavedState, difference, dynamodb_table, parquet_table
from queries.ddl.partitions import partitions_of
from queries.errors import DdlError
from tests.queries import hostile
from tests.queries.hostile import seen
from tests.queries.test_ddl_dynamodb import unescaped


def over_dynamodb(*observations: Any, **more: Any) -> Generated:
    table = dynamodb_table(
        observations,
        [("pk", "S", "HASH")],
        **{
            "lake_table": "dynalake.shop.orders",
            "region": "eu-west-1",
            "database": "lake",
            "table": "orders_live",
            **more,
        },
    )
    return Generated.over(table, "orders")


def over_parquet(fields: dict[str, Any], location: str = "s3://b/orders/", **more: Any) -> Generated:
    made = parquet_table(
        pa.schema(list(fields.items())), location=location, database="lake", table="orders_parquet", **more
    )
    return Generated.over(made, "orders")


def heads(found: Diff) -> list[str]:
    return [" ".join(statement.split("(")[0].split()) for statement in found.statements]


def test_nothing_stands_so_all_is_made() -> None:
    wanted = over_dynamodb(seen("a", "S"))

    assert difference(SavedState(None), wanted).statements == wanted.ddl().statements


def test_nothing_has_changed() -> None:
    wanted = over_dynamodb(seen("a", "S"), seen("s", "NS.int64"))

    assert difference(wanted.state, wanted) == Diff((), wanted.state)


def test_a_new_attribute_of_the_lake_table_is_mapped_and_then_added() -> None:
    before, after = (
        over_dynamodb(seen("a", "S")),
        over_dynamodb(seen("a", "S"), seen("New, one", "S"), seen("tags", "SS")),
    )
    found = difference(before.state, after)

    assert heads(found) == [
        "ALTER TABLE `lake`.`orders_live` SET TBLPROPERTIES",
        "ALTER TABLE `lake`.`orders_live` ADD COLUMNS",
        "CREATE OR REPLACE VIEW `lake`.`orders`",
        "CREATE OR REPLACE VIEW `lake`.`_lake_orders`",
    ]
    assert "tags:tags" in found.statements[0]
    assert "'dynamodb.type.mapping' = 'tags:SS'" in found.statements[0]
    assert "`tags` array<string>" in found.statements[1]
    assert "New" not in found.statements[1]  # a comma: it is read from the item, by the view
    assert difference(found.stands, after).statements == ()


def test_an_attribute_that_got_a_second_type_keeps_its_column_and_its_mapping() -> None:
    before = over_dynamodb(seen("a", "S"), seen("b", "SS"))
    after = over_dynamodb(seen("a", "S"), seen("b", "SS"), seen("b", "S", 5), seen("c", "S", 6))
    found = difference(before.state, after)

    assert "c:c" in found.statements[0]
    assert ",b:b'" in found.statements[0]
    assert ",b:b" not in after.table.properties["dynamodb.column.mapping"]
    assert "the column b stays" in found.notes[0]
    assert difference(found.stands, after).statements == ()
    later = over_dynamodb(
        seen("a", "S"), seen("b", "SS"), seen("b", "S", 5), seen("c", "S", 6), seen("d", "S", 7)
    )
    again = difference(SavedState.from_json(found.stands.to_json(), "file"), later)
    assert ",b:b'" in again.statements[0]
    assert "UNSET" not in "".join(again.statements)


def test_a_number_that_got_a_fraction_cannot_be_altered() -> None:
    before, after = (
        over_dynamodb(seen("n", "N.int64")),
        over_dynamodb(seen("n", "N.int64"), seen("n", "N.fraction", 3)),
    )
    found = difference(before.state, after)

    assert found.statements == ()
    assert found.stands == before.state
    assert "n is of type bigint and must become double" in found.impossible[0].what
    assert found.impossible[0].safe_way == (after.table.drop, after.table.create)
    done = difference(before.state, after, recreate=True)
    assert done.statements == (after.table.drop, after.table.create, *(view.text for view in after.views))
    assert done.stands == after.state


def test_another_lake_table_or_read_percent_is_a_property() -> None:
    before, after = over_dynamodb(seen("a", "S")), over_dynamodb(seen("a", "S"), read_percent=1.0)

    (statement,) = difference(before.state, after).statements
    assert statement == (
        "ALTER TABLE `lake`.`orders_live` SET TBLPROPERTIES (\n  'dynamodb.throughput.read.percent' = '1.0'\n)"
    )


def test_a_property_that_is_gone_is_unset_and_a_servers_own_stays() -> None:
    before = over_dynamodb(seen("a", "S"), endpoint="https://vpce-1.example.org")
    state = SavedState.from_json(
        before.state.to_json().replace('"dynamodb.region"', '"numFiles": "3", "dynamodb.region"'), "file"
    )
    (statement,) = difference(state, over_dynamodb(seen("a", "S"))).statements

    assert statement == "ALTER TABLE `lake`.`orders_live` UNSET TBLPROPERTIES IF EXISTS ('dynamodb.endpoint')"


def test_comments_of_a_handlers_table_stay_and_its_views_have_them() -> None:
    before, after = (
        over_dynamodb(seen("a", "S")),
        over_dynamodb(seen("a", "S"), sensitivity={"a": "hashed by policy"}),
    )
    found = difference(before.state, after)

    assert heads(found) == [
        "CREATE OR REPLACE VIEW `lake`.`orders`",
        "CREATE OR REPLACE VIEW `lake`.`_lake_orders`",
    ]
    assert "cannot be altered in place" in found.notes[0]


@pytest.mark.parametrize("flavour", ["hive", "spark"])
def test_comments_over_parquet_are_changed(flavour: Any) -> None:
    before = over_parquet({"a": pa.string()}, flavour=flavour)
    after = over_parquet({"a": pa.string()}, flavour=flavour, sensitivity={"a": "masked by policy"})

    assert difference(before.state, after).statements[0] == (
        "ALTER TABLE `lake`.`orders_parquet` CHANGE COLUMN `a` `a` string COMMENT "
        "'attribute \"a\" | masked by policy'"
    )


def test_a_new_column_over_parquet_reaches_the_partitions_of_hive() -> None:
    by_day = Partitions((("day", "string"),))
    for flavour, ending in (("hive", "\n) CASCADE"), ("spark", "\n)"), ("athena", "\n)")):
        before = over_parquet({"a": pa.string()}, partitions=by_day, flavour=flavour)
        after = over_parquet({"a": pa.string(), "b": pa.int64()}, partitions=by_day, flavour=flavour)
        found = difference(before.state, after)

        assert found.statements[0].endswith(ending)
        assert found.statements[1] == "MSCK REPAIR TABLE `lake`.`orders_parquet`"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (over_parquet({"a": pa.int64()}), over_parquet({"a": pa.string()}), "bigint and must become string"),
        (
            over_parquet({"a": pa.string()}),
            over_parquet({"a": pa.string()}, partitions=Partitions((("day", "string"),))),
            "partitions the table",
        ),
        (
            over_parquet({"a": pa.string()}),
            over_parquet({"a": pa.string(), "a.b": pa.string()}),
            "by position",
        ),
        (
            over_parquet({"a.b": pa.string(), "c": pa.string()}),
            over_parquet({"c": pa.string(), "a.b": pa.string()}),
            "they have moved",
        ),
    ],
)
def test_what_cannot_be_altered_is_said_with_the_safe_way(
    before: Generated, after: Generated, says: str
) -> None:
    found = difference(before.state, after)

    assert found.statements == ()
    assert says in found.impossible[0].what
    assert found.impossible[0].safe_way[:2] == (after.table.drop, after.table.create)


def test_a_column_read_by_position_may_be_added_at_the_end() -> None:
    before = over_parquet({"a.b": pa.string()})
    after = over_parquet({"a.b": pa.string(), "c": pa.string()})

    assert not difference(before.state, after).impossible


def test_from_any_catalogue_to_any_later_one_the_state_reaches_the_end() -> None:
    rng = random.Random(5)
    for _ in range(60):
        observations, keys = hostile.catalogue(rng)
        cut = rng.randint(0, len(observations))
        early, late = (
            Generated.over(
                dynamodb_table(
                    part,
                    keys,
                    lake_table="dynalake.shop.orders",
                    region="eu-west-1",
                    database="lake",
                    table="o_live",
                ),
                "o",
            )
            for part in (observations[:cut], observations)
        )
        found = difference(early.state, late, recreate=True)
        stands = SavedState.from_json(found.stands.to_json(), "file")
        assert difference(stands, late).statements == ()
        assert stands.table is not None
        mapped = {
            pair.split(":")[0] for pair in stands.table.properties["dynamodb.column.mapping"].split(",")
        }
        assert {column.name for column in stands.table.columns} - mapped == {"item"} or keys[0][
            0
        ].lower() == "item"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"dynalake_ddl": 2, "table": null, "views": {}}', "null", "x"]
)
def test_a_file_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(DdlError, match=r"state\.json"):
        SavedState.from_json(text, "state.json")


def test_partitions_are_read_from_folders() -> None:
    files = [PurePosixPath(f"day=2013-01-0{n}/n={n}/part-0.parquet") for n in (1, 2)]
    found = partitions_of(files, [seen("n", "N.int64"), seen("day", "S")], explicit=True)

    assert found == Partitions(
        (("day", "string"), ("n", "bigint")), (("2013-01-01", "1"), ("2013-01-02", "2"))
    )
    made = over_parquet({"a": pa.string()}, partitions=found)
    assert made.table.partition_statements[0] == (
        "ALTER TABLE `lake`.`orders_parquet` ADD IF NOT EXISTS PARTITION (`day`='2013-01-01', `n`=1)"
    )
    assert [column.name for column in made.table.view_columns] == ["a", "day", "n"]
    assert partitions_of([PurePosixPath("part-0.parquet")]) is None


def test_a_partition_that_looks_like_a_number_stays_text_where_the_catalogue_does_not_know_it() -> None:
    found = partitions_of([PurePosixPath("zip=01234/a.parquet")], [seen("zip", "S")])

    assert found == Partitions((("zip", "string"),))


@pytest.mark.parametrize(
    "files",
    [["day=1/a.parquet", "a.parquet"], ["Day=1/a.parquet"], ["a-b=1/a.parquet"], ["day=1/a", "n=1/a"]],
)
def test_partitions_that_hive_would_not_find_are_refused(files: list[str]) -> None:
    with pytest.raises(DdlError):
        partitions_of([PurePosixPath(file) for file in files])


def test_a_hostile_partition_stays_a_literal() -> None:
    found = Partitions((("day", "string"),), (("x') DROP TABLE t; --",),))
    (statement,) = over_parquet({"a": pa.string()}, partitions=found).table.partition_statements

    assert ";" not in statement
    assert unescaped(statement).endswith("(`day`='x') DROP TABLE t; --')")
    with pytest.raises(DdlError):
        over_parquet({"a": pa.string()}, partitions=Partitions((("n", "bigint"),), (("1) --",),)))
