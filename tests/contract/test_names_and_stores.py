"""What tables are called, and how observations and gaps are stored."""

from __future__ import annotations

import pytest

from lake.contract.catalogue import OBSERVATION, Observation, from_item, kind_of, to_item
from lake.contract.health import MENDED_BY, Gap, gap_from_item, gap_to_item
from lake.contract.naming import catalogue_table_name, checkpoint_table_name, lake_table_name
from lake.contract.versions import Version
from lake.errors import ContractError


def test_two_accounts_tables_never_meet() -> None:
    assert lake_table_name("shop", "orders") == "dynalake.shop.orders"
    assert lake_table_name("a", "b.c") != lake_table_name("a-b", "c")
    with pytest.raises(ContractError, match="alias"):
        lake_table_name("a.b", "c")
    shared = {catalogue_table_name(), checkpoint_table_name()}
    assert not shared & {lake_table_name("shop", name) for name in ("catalogue", "checkpoints")}


@pytest.mark.parametrize(("alias", "table"), [("", "t"), ("a b", "t"), ("a", "x" * 250), ("ä", "t")])
def test_names_that_dynamodb_would_refuse_are_refused(alias: str, table: str) -> None:
    with pytest.raises(ContractError):
        lake_table_name(alias, table)


def test_a_name_may_be_as_long_as_dynamodb_takes() -> None:
    assert len(lake_table_name("a", "t" * 244)) == 255
    with pytest.raises(ContractError, match="255"):
        lake_table_name("a", "t" * 245)
    with pytest.raises(ContractError, match="3 to 255"):
        lake_table_name("a", "", prefix="")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"S": "1"}, "S"), ({"N": "1"}, "N.int64"), ({"N": "1.5"}, "N.fraction"), ({"N": "1" * 30}, "N.integer"),
        ({"NS": ["1", "2.5", "9" * 20]}, "NS.fraction"), ({"NS": ["1", "9" * 20]}, "NS.integer"),
        ({"NULL": True}, "NULL"), ({"M": {}}, "M"), ({"L": []}, "L"), ({"BS": ["eA=="]}, "BS"),
        ({"BOOL": False}, "BOOL"),
    ],
)  # fmt: skip
def test_kinds(value: dict[str, object], kind: str) -> None:
    assert kind_of(value) == kind
    assert Observation("a", kind, 1, Version("v")).tag == next(iter(value))


@pytest.mark.parametrize("name", ["a", "with#hash", "ä" * 900, "😀", "x" * 60_000])
def test_an_observation_survives_the_catalogue_and_its_key_fits(name: str) -> None:
    seen = Observation(name, "N.int64", 123, Version("v"))
    item = to_item("lake", seen)
    assert from_item(item) == seen
    assert len(item[OBSERVATION]["S"].encode()) <= 1024


def test_long_names_have_keys_of_their_own() -> None:
    keys = {
        to_item("lake", Observation("x" * n, kind, 1, Version("v")))[OBSERVATION]["S"]
        for n in (901, 902)
        for kind in ("S", "B")
    }
    assert len(keys) == 4


def test_a_gap_survives_its_store() -> None:
    for closed in (None, 9):
        gap = Gap("trimmed/shard-1/7", "trimmed", "why", 1, 2, closed)
        assert gap_from_item(gap_to_item("lake", gap)) == gap


def test_a_backfill_mends_only_what_filling_absent_rows_can_mend() -> None:
    assert {kind for kind, verb in MENDED_BY.items() if verb == "backfill"} == {"not backfilled"}
