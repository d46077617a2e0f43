from __future__ import annotations

import csv
import io

from queries.ddl import Generated, dynamodb_table
from queries.dictionary import ALATION_FIELDS, CSV_FIELDS, dictionary, written
from tests.queries.hostile import seen

DAY = 24 * 3600 * 1000


def entries() -> tuple[str, str]:
    observations = [
        seen("pk", "S", 20_000 * DAY),
        seen('e,"mail\n', "S", 20_000 * DAY),
        seen("n", "N.int64", 20_001 * DAY),
    ]
    table = dynamodb_table(
        observations,
        [("pk", "S", "HASH")],
        lake_table="dynalake.shop.orders",
        region="eu-west-1",
        database="lake",
        table="orders_live",
        sensitivity={'e,"mail\n': "hashed by policy"},
    )
    found = dictionary(
        Generated.over(table, "orders"), observations, {"pk": "HASH"}, {'e,"mail\n': "hashed by policy"}
    )
    return written(found, "csv"), written(found, "alation")


def test_the_csv_has_all_that_is_known() -> None:
    rows = list(csv.DictReader(io.StringIO(entries()[0])))

    assert tuple(rows[0]) == CSV_FIELDS
    assert [row["column"] for row in rows if row["view"] == "orders"] == ["", "pk", "e__mail_", "n"]
    assert [row["column"] for row in rows if row["view"] == "_lake_orders"][-3:] == [
        "_lake_version",
        "_lake_at",
        "_lake_source_at",
    ]
    mail = next(row for row in rows if row["column"] == "e__mail_")
    assert mail["attribute"] == 'e,"mail\n'
    assert mail["sensitivity"] == "hashed by policy"
    assert mail["first_seen"] == "2024-10-04"
    number = next(row for row in rows if row["column"] == "n")
    assert (number["hive_type"], number["dynamodb_types"]) == ("bigint", "N.int64 since 2024-10-05")
    assert next(row for row in rows if row["column"] == "pk")["key"] == "HASH"


def test_alations_upload_has_the_documented_fields_and_unique_keys() -> None:
    """Requirements for CSV/TSV source files: a head row of unique field names, of which `key` is required."""
    rows = list(csv.DictReader(io.StringIO(entries()[1])))
    keys = [row["key"] for row in rows]

    assert tuple(rows[0]) == ALATION_FIELDS == ("key", "title", "description")
    assert len(set(keys)) == len(keys)
    assert keys[:3] == ["lake.orders", "lake.orders.pk", "lake.orders.e__mail_"]
    assert all(key.count(".") in (1, 2) for key in keys)
    assert "hashed by policy" in rows[2]["description"]
