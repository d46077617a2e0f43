"""What is known of a pipeline's source table since its set-up, stored in the lake.

In the checkpoint table, under the lake table's name (`pipeline`), entry "facts". Two kinds of readers need them:
whoever may read the lake account alone, and every job that must notice that the source table is another one than
the pipeline was set up for.

The item has a version. A reader ignores attributes that it does not know, and a writer updates only those that it
gives, so releases of different ages can share one item. Secrets never stand in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

FACTS_ENTRY: Final = "facts"
FORMAT: Final = 1

KeyType = Literal["S", "N", "B"]
KeyRole = Literal["HASH", "RANGE"]


@dataclass(frozen=True, slots=True)
class KeyFact:
    """One attribute of the key.

    Attributes:
        name: the attribute's name, the same in the source and in the lake.
        role: partition key (HASH) or sort key (RANGE).
        type: its DynamoDB type in the source.
        lake_type: its DynamoDB type in the lake, which is S where the policy hashes it.
    """

    name: str
    role: KeyRole
    type: KeyType
    lake_type: KeyType


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a pipeline.

    Attributes:
        account: the source account's id.
        region: the source's region.
        table: the source table's name.
        arn: its ARN.
        table_id: its TableId, which a table that is recreated under the same name does not share; empty if unknown.
        table_created_at: its CreationDateTime, epoch milliseconds, likewise; 0 if unknown.
        key: its key, the partition key first.
        policy: path -> action, as the configuration has it; without the hash key.
        ttl_attribute: the source's own time-to-live attribute; empty if it has none.
        noted_at: when the pipeline was set up for this table, epoch milliseconds.
        hash_key_fingerprint: identifies the hash key without telling it; empty if not noted.
        stream_labels: labels of the source's streams whose records may be in the lake, oldest first.
        format: the version of the item's layout.
    """

    account: str
    region: str
    table: str
    arn: str
    table_id: str
    table_created_at: int
    key: tuple[KeyFact, ...]
    policy: Mapping[str, Any] = field(default_factory=dict)
    ttl_attribute: str = ""
    noted_at: int = 0
    hash_key_fingerprint: str = ""
    stream_labels: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the key attributes, the partition key first."""
        return tuple(part.name for part in self.key)

    def to_attributes(self) -> dict[str, Any]:
        """The attributes to update in the stored item, in boto3's form; those that this object leaves empty are absent.

        The policy and the time-to-live attribute are always present, since either may have been taken away. The
        fingerprint is not: `ingest.hashkey` alone writes it, once.
        """
        texts = {
            "account": self.account,
            "region": self.region,
            "table": self.table,
            "arn": self.arn,
            "table_id": self.table_id,
        }
        numbers = {
            "table_created_at": self.table_created_at,
            "noted_at": self.noted_at,
            "format": self.format,
        }
        return {
            **{name: {"S": text} for name, text in texts.items() if text},
            **{name: {"N": str(number)} for name, number in numbers.items() if number},
            "key": {
                "L": [
                    {
                        "M": {
                            "name": {"S": part.name},
                            "role": {"S": part.role},
                            "type": {"S": part.type},
                            "lake_type": {"S": part.lake_type},
                        }
                    }
                    for part in self.key
                ]
            },
            "policy": {"S": json.dumps(self.policy, ensure_ascii=False, sort_keys=True)},
            "ttl_attribute": {"S": self.ttl_attribute},
            **(
                {"stream_labels": {"L": [{"S": label} for label in self.stream_labels]}}
                if self.stream_labels
                else {}
            ),
        }


def facts_from_item(item: Mapping[str, Mapping[str, Any]]) -> Facts:
    """The facts that an item holds, in boto3's form; attributes of later versions are ignored."""

    def text(name: str) -> str:
        return str(item[name]["S"]) if name in item else ""

    def number(name: str) -> int:
        return int(item[name]["N"]) if name in item else 0

    return Facts(
        account=text("account"),
        region=text("region"),
        table=text("table"),
        arn=text("arn"),
        table_id=text("table_id"),
        table_created_at=number("table_created_at"),
        key=tuple(
            KeyFact(**{name: part["M"][name]["S"] for name in ("name", "role", "type", "lake_type")})
            for part in item["key"]["L"]
        ),
        policy=json.loads(text("policy") or "{}"),
        ttl_attribute=text("ttl_attribute"),
        noted_at=number("noted_at"),
        hash_key_fingerprint=text("hash_key_fingerprint"),
        stream_labels=tuple(label["S"] for label in item["stream_labels"]["L"])
        if "stream_labels" in item
        else (),
        format=number("format") or FORMAT,
    )
