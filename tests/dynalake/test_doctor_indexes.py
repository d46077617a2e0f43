"""What `doctor` says about secondary indexes of the lake table, which the source table need not have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dynalake.doctor.checkup import Patient, WarnedError
from dynalake.doctor.tables import _indexes


def described(**indexes: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """A table with the key `pk`, `sk` and these global indexes: name -> (attribute, role)."""
    return {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "N" if name == "n" else "S"}
            for name in ("pk", "sk", "mail", "n", "_lake_at")
        ],
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": name,
                "KeySchema": [{"AttributeName": attribute, "KeyType": role} for attribute, role in key],
            }
            for name, key in indexes.items()
        ],
    }


def look(lake: dict[str, Any], source: dict[str, Any], policy: dict[str, Any] | None = None) -> str:
    patient = SimpleNamespace(
        lake_description=lake, source_description=source, config=SimpleNamespace(policy=policy or {})
    )
    return _indexes(cast("Patient", patient))


@pytest.mark.parametrize(
    ("lake", "source"),
    [
        (described(), described()),
        ({**described(), "GlobalSecondaryIndexes": None}, described()),
        (described(by_mail=(("mail", "HASH"),)), described(theirs=(("mail", "HASH"),))),
        (described(turned=(("sk", "HASH"), ("_lake_at", "RANGE"))), described()),
    ],
)
def test_indexes_that_take_every_row_are_fine(lake: dict[str, Any], source: dict[str, Any]) -> None:
    assert look(lake, source)


@pytest.mark.parametrize(
    ("key", "source", "policy", "named"),
    [
        ((("mail", "HASH"),), described(), None, "by_mail by 'mail' (S)"),
        ((("sk", "HASH"), ("n", "RANGE")), described(), None, "by_mail by 'n' (N)"),
        ((("mail", "RANGE"),), described(by_mail=(("mail", "HASH"),)), None, "by_mail by 'mail' (S)"),
        ((("n", "HASH"), ("pk", "RANGE")), described(x=(("n", "HASH"),)), None, "by_mail by 'pk' (S)"),
        ((("mail", "HASH"),), described(x=(("mail", "HASH"),)), {"mail": "mask"}, "by_mail by 'mail' (S)"),
    ],
)
def test_an_index_that_may_refuse_a_row_is_warned_of(
    key: tuple[tuple[str, str], ...], source: dict[str, Any], policy: Any, named: str
) -> None:
    with pytest.raises(WarnedError) as raised:
        look(described(by_mail=key), source, policy)
    assert raised.value.message.startswith(named)
    assert "quarantine" in raised.value.message
    assert "delete the index" in raised.value.remedy


def test_local_indexes_count_too() -> None:
    lake = described()
    lake["LocalSecondaryIndexes"] = described(by_mail=(("pk", "HASH"), ("mail", "RANGE")))[
        "GlobalSecondaryIndexes"
    ]
    with pytest.raises(WarnedError, match="by_mail by 'mail'"):
        look(lake, described())
