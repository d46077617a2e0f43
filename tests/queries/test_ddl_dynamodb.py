"""One test a rule of EMR's DynamoDBStorageHandler; the mapping is read back as the handler reads it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pyarrow as pa
import pytest

from lake.contract import rows
from lake.contract.catalogue import Observation
from queries.ddl import HiveTable, KeyAttribute, analyst_view, dynamodb_table
from queries.errors import DdlError
from tests.queries import hostile
from tests.queries.hostile import seen

KEY: list[KeyAttribute] = [("pk", "S", "HASH")]


def table(*observations: Observation, keys: Sequence[KeyAttribute] = KEY, **options: object) -> HiveTable:
    settings: dict[str, object] = {
        "lake_table": "dynalake.shop.orders",
        "region": "eu-west-1",
        "database": "lake",
        "table": "orders_dynamodb",
    }
    return dynamodb_table(observations, keys, **{**settings, **options})  # type: ignore[arg-type]


def unescaped(literal: str) -> str:
    text = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), literal)
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def columns(made: HiveTable) -> dict[str, str]:
    """Hive column -> Hive type."""
    return dict(re.findall(r"^  `([^`]+)` (\S+) COMMENT ", made.create, re.MULTILINE))


def prop(made: HiveTable, name: str) -> str | None:
    found = re.search(rf"'{re.escape(name)}' = '(.*)'", made.create)
    return unescaped(found[1]) if found else None


def mapping(made: HiveTable, name: str = "dynamodb.column.mapping") -> dict[str, str]:
    """As HiveDynamoDBUtil splits it: at each comma, then at the first colon, nothing trimmed."""
    pairs = [entry.split(":", 1) for entry in (prop(made, name) or "").split(",") if entry]
    assert all(len(pair) == 2 for pair in pairs)
    result = {column.lower(): value for column, value in pairs}
    assert len(result) == len(pairs)
    return result


def view_of(made: HiveTable, **options: object) -> str:
    return analyst_view(made, "orders", **options).text


def test_the_handler_the_lake_table_and_the_region_are_named() -> None:
    made = table(read_percent=0.25, endpoint="https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com")

    assert made.create.startswith("CREATE EXTERNAL TABLE `lake`.`orders_dynamodb` (")
    assert "STORED BY 'org.apache.hadoop.hive.dynamodb.DynamoDBStorageHandler'" in made.create
    assert prop(made, "dynamodb.table.name") == "dynalake.shop.orders"
    assert prop(made, "dynamodb.region") == "eu-west-1"
    assert prop(made, "dynamodb.throughput.read.percent") == "0.25"
    assert prop(made, "dynamodb.endpoint") == "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com"


def test_no_space_stands_in_the_mapping_but_those_of_names() -> None:
    made = table(seen("total", "N.int64"), seen(" spaced out ", "S"))

    assert mapping(made)["_spaced_out_"] == " spaced out "
    assert ": " not in (prop(made, "dynamodb.column.mapping") or "").replace(": spaced out ", "")
    assert ", " not in (prop(made, "dynamodb.column.mapping") or "")


def test_a_name_with_a_colon_is_mapped_whole() -> None:
    assert mapping(table(seen("x:y:z", "S")))["x_y_z"] == "x:y:z"


@pytest.mark.parametrize("name", ["a,b", ",", "tab\there", "nul\x00", "${user.name}"])
def test_a_name_that_cannot_stand_in_the_mapping_is_read_from_the_item(name: str) -> None:
    made = table(seen(name, "S"))

    assert name not in mapping(made).values()
    (note,) = made.notes
    assert repr(name) in note
    assert "item" in note
    column = next(c for c in made.view_columns if c.attribute == name)
    assert unescaped(column.expression) == f"`item`['{name}']"


def test_one_column_alone_has_no_mapping_and_it_is_the_whole_item() -> None:
    made = table(seen("m", "M"), seen("l", "L"), seen("s", "S"))

    unmapped = {name: kind for name, kind in columns(made).items() if name not in mapping(made)}
    assert unmapped == {"item": "map<string,string>"}
    assert [kind for kind in columns(made).values() if kind == "map<string,string>"] == ["map<string,string>"]


def test_every_mapping_has_its_column() -> None:
    made = table(seen("s", "SS"), seen("n", "NS.int64"), seen("b", "BS"), seen("l", "L"))

    assert mapping(made).keys() <= columns(made).keys()
    assert mapping(made, "dynamodb.type.mapping").keys() <= columns(made).keys()


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("S",), "string"),
        (("B",), "binary"),
        (("BOOL",), "boolean"),
        (("N.int64",), "bigint"),
        (("N.integer",), "double"),
        (("N.fraction",), "double"),
        (("N.int64", "N.fraction"), "double"),
        (("N.int64", "N.integer"), "double"),
        (("SS",), "array<string>"),
        (("BS",), "array<binary>"),
        (("NS.int64",), "array<bigint>"),
        (("NS.int64", "NS.fraction"), "array<double>"),
        (("NS.integer",), "array<double>"),
        (("S", "NULL"), "string"),
        (("M",), None),
        (("L",), None),
        (("NULL",), None),
        (("S", "N.int64"), None),
        (("N.int64", "NS.int64"), None),
        (("S", "SS", "NULL"), None),
    ],
)
def test_the_hive_type_follows_all_that_was_seen(kinds: tuple[str, ...], expected: str | None) -> None:
    made = table(*(seen("a", kind) for kind in kinds))

    assert columns(made).get("a") == expected
    assert (mapping(made).get("a") == "a") is (expected is not None)


def test_sets_are_named_in_the_type_mapping_and_nothing_else_is() -> None:
    made = table(seen("ss", "SS"), seen("ns", "NS.fraction"), seen("bs", "BS"), seen("s", "S"))

    assert mapping(made, "dynamodb.type.mapping") == {"ss": "SS", "ns": "NS", "bs": "BS"}
    assert prop(table(seen("s", "S")), "dynamodb.type.mapping") is None


@pytest.mark.parametrize(("tag", "expected"), [("S", "string"), ("N", "bigint"), ("B", "binary")])
def test_a_key_has_the_type_of_the_key_schema(tag: str, expected: str) -> None:
    made = table(keys=[("Id", tag, "HASH")])  # type: ignore[list-item]

    assert columns(made)["id"] == expected
    assert mapping(made)["id"] == "Id"


def test_a_key_that_has_held_fractions_is_a_double() -> None:
    assert columns(table(seen("n", "N.fraction"), keys=[("n", "N", "HASH")]))["n"] == "double"


def test_no_column_may_have_a_keys_name_and_another_type() -> None:
    """DynamoDBStorageHandler.checkTableSchemaType compares names ignoring case, mapped or not."""
    made = table(seen("pk", "N.int64"), seen("Pk", "SS"), keys=[("PK", "S", "HASH")])

    assert {c: a for c, a in mapping(made).items() if a.lower() == "pk"} == {
        "pk": "PK",
        "pk_2": "Pk",
        "pk_3": "pk",
    }
    assert columns(made)["pk"] == "string"


def test_two_keys_of_one_name_and_two_types_both_step_aside() -> None:
    made = table(keys=[("K", "S", "HASH"), ("k", "N", "RANGE")])

    assert "k" not in columns(made)
    assert {a: columns(made)[c] for c, a in mapping(made).items() if a in {"K", "k"}} == {
        "K": "string",
        "k": "bigint",
    }


@pytest.mark.parametrize("key", ["item", "Item", "_LAKE_AT", "_Lake_Version", "\u212aey"])
def test_a_key_pushes_our_own_column_aside(key: str) -> None:
    made = table(seen("key", "N.int64"), keys=[(key, "B", "HASH")])

    for column, kind in columns(made).items():
        if column == key.lower():
            assert kind == "binary"
    assert key in mapping(made).values()
    assert set(rows.METADATA) <= set(mapping(made).values())
    assert list(columns(made).values()).count("map<string,string>") == 1


def test_column_names_are_lower_case_and_unique_while_the_mapping_keeps_the_true_name() -> None:
    made = table(seen("Name", "S", 1), seen("name", "S", 2), seen("NAME", "S", 3), seen("name_2", "S", 4))

    named = {c: a for c, a in mapping(made).items() if a.lower().startswith("name")}
    assert named == {"name": "Name", "name_2": "name", "name_3": "NAME", "name_2_2": "name_2"}


def test_an_attribute_that_comes_later_moves_no_column() -> None:
    early = table(seen("b", "S", 1), seen("B", "N.int64", 2))
    late = table(seen("b", "S", 1), seen("B", "N.int64", 2), seen("item", "S", 3), seen("a", "S", 3))

    assert columns(early).items() <= columns(late).items()
    assert mapping(early).items() <= mapping(late).items()
    assert columns(late)["item"] == "map<string,string>"


def test_an_attribute_that_becomes_mixed_moves_no_other_column() -> None:
    made = table(seen("b", "S", 1), seen("b", "N.int64", 9), seen("B", "S", 2))

    assert mapping(made)["b_2"] == "B"
    assert "b" not in columns(made)


def test_the_metadata_is_there_with_the_types_it_has() -> None:
    made = table()

    assert {n: columns(made)[n] for n in rows.METADATA} == {
        "_lake_version": "string",
        "_lake_at": "bigint",
        "_lake_source_at": "bigint",
        "_lake_deleted": "string",
        "_lake_expires": "bigint",
    }
    assert all(mapping(made)[name] == name for name in rows.METADATA)


def test_the_view_hides_tombstones_and_metadata_and_the_item() -> None:
    text = view_of(table(seen("total", "N.int64")))

    assert text.endswith("FROM `lake`.`orders_dynamodb`\nWHERE `_lake_deleted` IS NULL")
    assert re.findall(r" AS `([^`]+)`", text) == ["pk", "total"]


def test_the_view_takes_exact_numbers_from_the_item_where_an_export_says_their_type() -> None:
    made = table(seen("price", "N.fraction"), seen("qty", "N.int64"))
    like = pa.schema([("price", pa.decimal128(38, 4)), ("qty", pa.int64())])

    text = view_of(made, like=like)

    assert "CAST(get_json_object(`item`['price'], '$.n') AS decimal(38,4)) AS `price`" in text
    assert "  `qty` AS `qty`" in text
    assert "  `price` AS `price`" in view_of(made)


def test_lossy_and_unmapped_attributes_are_said() -> None:
    notes = table(seen("price", "N.fraction"), seen("m", "M"), seen("mixed", "S"), seen("mixed", "L")).notes

    assert len(notes) == 3
    assert any("'price'" in note and "rounds" in note for note in notes)
    assert any("'mixed'" in note and "several types" in note for note in notes)


def test_a_comment_says_the_true_name_and_the_types_and_fits() -> None:
    made = table(seen("Straße", "S"), seen("Straße", "NULL"), seen("x" * 400, "B"))

    assert "'attribute \"Stra\\u005cu00dfe\" | NULL since 1970-01-01, S since 1970-01-01'" in made.create
    comments = [unescaped(text) for text in re.findall(r" COMMENT '(.*)'", made.create)]
    assert max(map(len, comments)) <= 255
    assert any(text.endswith("xxx... | B since 1970-01-01") for text in comments)


def test_comments_tell_the_type_history_and_the_sensitivity() -> None:
    day = 24 * 3600 * 1000
    made = table(
        seen("mail", "S", 20_000 * day),
        seen("price", "N.int64", 20_000 * day),
        seen("price", "N.fraction", 20_100 * day),
        sensitivity={"mail": "hashed by policy", "pk": "segments hashed by policy"},
    )
    text = unescaped(made.create)

    assert '"mail" | S since 2024-10-04 | hashed by policy\'' in text
    assert '"price" | N.int64 since 2024-10-04, N.fraction since 2025-01-12 | all digits in item\'' in text
    assert '"pk" | segments hashed by policy | key of type S\'' in text
    assert "hashed by policy" in unescaped(view_of(made))


def test_a_long_history_keeps_the_types_and_the_first_day() -> None:
    made = table(*(seen("n" * 60, kind, 86_400_000 * at) for at, kind in enumerate(hostile.KINDS)))
    (shown,) = (column.comment for column in made.view_columns if column.attribute.startswith("nn"))

    assert "first seen 1970-01-01" in shown
    assert all(kind in shown for kind in hostile.KINDS)
    assert len(shown) <= 255


def test_replacing_drops_first_and_only_when_asked() -> None:
    made = table()

    assert made.ddl().statements == ("CREATE DATABASE IF NOT EXISTS `lake`", made.create)
    assert made.ddl(replace=True).statements[1] == "DROP TABLE IF EXISTS `lake`.`orders_dynamodb`"
    assert made.ddl().text == f"CREATE DATABASE IF NOT EXISTS `lake`;\n{made.create}"


def test_the_same_catalogue_gives_the_same_text_in_any_order() -> None:
    rng = random.Random(7)
    observations, keys = hostile.catalogue(rng)
    shuffled = observations.copy()
    rng.shuffle(shuffled)

    assert table(*observations, keys=keys) == table(*shuffled, keys=keys)


@pytest.mark.parametrize(
    "options",
    [
        {"lake_table": "a b'"},
        {"lake_table": "x"},
        {"region": "eu-west-1'; DROP"},
        {"region": ""},
        {"database": "a`b"},
        {"database": ""},
        {"table": "a.b"},
        {"table": "é"},
        {"read_percent": 0.0},
        {"read_percent": 2},
        {"read_percent": float("nan")},
        {"endpoint": "file:///x"},
        {"keys": []},
        {"keys": [("a", "S", "RANGE")]},
        {"keys": [("a", "S", "HASH"), ("b", "S", "HASH")]},
        {"keys": [("a", "S", "HASH"), ("a", "S", "RANGE")]},
        {"keys": [("a", "BOOL", "HASH")]},
        {"keys": [("_lake_x", "S", "HASH")]},
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(DdlError):
        table(**options)  # type: ignore[arg-type]


def test_a_catalogue_with_an_unknown_kind_or_an_empty_name_is_refused() -> None:
    with pytest.raises(DdlError, match="unknown kind"):
        table(seen("a", "X"))
    with pytest.raises(DdlError, match="without a name"):
        table(seen("", "S"))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DdlError, match="Unicode"):
        table(seen("\ud83d", "S"))
