"""What is written in one account is in the other's lake, through a real Lambda of the real zip, with IAM enforced.

The function has the permissions of `estate.source_permissions` and `lake_permissions` and no other: that these
runs succeed shows that they suffice.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.estate import Estate, Item, Pipeline, key_of
from tests.waiting import until

METADATA = "_lake_"


@pytest.fixture(scope="module")
def orders(estate: Estate) -> Pipeline:
    pipeline = Pipeline(estate, "orders")
    pipeline.connect()
    return pipeline


def item(pk: str, sk: int = 1, **more: Any) -> Item:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}, **more}


def shown(pipeline: Pipeline) -> dict[str, Item]:
    """The lake as a reader sees it: no tombstones, no metadata."""
    return {
        key: {name: value for name, value in row.items() if not name.startswith(METADATA)}
        for key, row in pipeline.lake().items()
        if "_lake_deleted" not in row
    }


def arrives(estate: Estate, pipeline: Pipeline) -> None:
    """Wait until every record of the stream has been applied, then compare.

    The lake may equal the source before that: an item that was inserted and deleted changes neither.
    """
    until(pipeline.drained, estate.aws.tail)
    assert shown(pipeline) == pipeline.source()


def test_inserts_updates_deletes_and_schema_changes_arrive(estate: Estate, orders: Pipeline) -> None:
    every_type: Item = item(
        "types",
        s={"S": "ünïcode"},
        n={"N": "12345678901234567890.123456789"},
        b={"B": "AAECAw=="},
        yes={"BOOL": True},
        nothing={"NULL": True},
        ss={"SS": ["a", "b"]},
        ns={"NS": ["1", "2.5"]},
        bs={"BS": ["AAE=", "/w=="]},
        list={"L": [{"S": "x"}, {"N": "1"}, {"M": {"deep": {"L": []}}}]},
        map={"M": {"a.b": {"S": "dots"}, 'q"uote': {"NULL": True}}},
    )
    orders.put(every_type)
    for number in range(5):
        orders.put(item("a", number, status={"S": "new"}))
    arrives(estate, orders)
    assert len(shown(orders)) == 6

    orders.put(item("a", 1, status={"S": "paid"}))
    orders.put(item("a", 2, status={"N": "7"}, late={"BOOL": False}))  # another type, and a new attribute
    orders.delete(key_of(item("a", 3)))
    orders.put(item("gone"))
    orders.delete(key_of(item("gone")))
    arrives(estate, orders)
    assert {"a/3", "gone/1"} <= {key for key, row in orders.lake().items() if "_lake_deleted" in row}
    assert {("status", "S"), ("status", "N.int64"), ("late", "BOOL"), ("map", "M")} <= orders.observed()
    assert orders.gaps() == []


def test_a_batch_that_comes_again_changes_nothing(estate: Estate, orders: Pipeline) -> None:
    orders.put(item("again", n={"N": "1"}))
    orders.put(item("again", n={"N": "2"}))
    orders.put(item("again-deleted"))
    orders.delete(key_of(item("again-deleted")))
    arrives(estate, orders)
    records, before = orders.records(), orders.lake()
    assert len(records) >= 4
    for again in (records, records[:-2], records[:1], records[-3:-1]):
        assert orders.invoke(again).applied_all
        assert orders.lake() == before, "the times of writing too"


def test_what_can_never_apply_goes_to_the_bucket_whole_and_the_rest_goes_on(estate: Estate) -> None:
    pipeline = Pipeline(estate, "invoices")
    reserved = item("reserved", _lake_mine={"S": "a secret value"})
    large = item("large", content={"S": "x" * (400 * 1024 - 40)})
    pipeline.put(item("before"))
    pipeline.put(reserved)
    pipeline.put(large)
    pipeline.put(item("after"))
    records = {record["dynamodb"]["Keys"]["pk"]["S"]: record for record in pipeline.records()}
    pipeline.connect()
    applied = {"before/1", "after/1"}
    until(
        lambda: len(pipeline.quarantined()) == 2 and applied <= shown(pipeline).keys() and pipeline.gaps(),
        estate.aws.tail,
    )

    assert set(shown(pipeline)) == applied
    kept = {
        document["record"]["dynamodb"]["Keys"]["pk"]["S"]: document
        for document in pipeline.quarantined().values()
    }
    for name, source, why in (("reserved", reserved, "reserved for dynalake"), ("large", large, "400 KB")):
        assert kept[name]["record"]["dynamodb"]["NewImage"] == source
        assert (
            kept[name]["record"]["dynamodb"]["SequenceNumber"] == records[name]["dynamodb"]["SequenceNumber"]
        )
        assert why in kept[name]["reason"]
        assert "a secret value" not in kept[name]["reason"]
    (gap,) = pipeline.gaps()
    assert gap["kind"]["S"] == "given up"
    assert "closed_at" not in gap


def test_policy_keeps_values_from_the_lake(estate: Estate) -> None:
    environment = {
        "DYNALAKE_POLICY": '{"ssn": "drop", "email": "hash", "phone": "mask"}',
        "DYNALAKE_HASH_KEY": "a key of the pipeline's own",
    }
    pipeline = Pipeline(estate, "patients", environment=environment)
    values: dict[str, Any] = {
        "ssn": {"S": "123-45-6789"},
        "email": {"S": "ada@example.org"},
        "phone": {"S": "555-0100"},
    }
    pipeline.put(item("p", 1, **values))
    answer = pipeline.invoke(pipeline.records())
    assert answer.applied_all
    (row,) = pipeline.lake().values()
    assert "ssn" not in row
    assert row["email"]["S"] != "ada@example.org"
    assert {name for name, _ in pipeline.observed()} == {"pk", "sk", "email", "phone"}
    for value in ("123-45-6789", "ada@example.org", "555-0100"):
        assert value not in str(row)
        assert value not in answer.log
        assert value not in estate.aws.log.read_text(errors="replace")
