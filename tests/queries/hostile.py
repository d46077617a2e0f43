"""Names and schemas from hostile places, made from a seed so that a failure can be made again."""

from __future__ import annotations

import random

import pyarrow as pa

from lake.contract.catalogue import Observation
from lake.contract.versions import Version
from queries.ddl import KeyAttribute

KINDS = (
    "S", "N.int64", "N.integer", "N.fraction", "B", "BOOL", "NULL", "M", "L",
    "SS", "NS.int64", "NS.integer", "NS.fraction", "BS",
)  # fmt: skip

FRAGMENTS = (
    "a", "A", "id", "Name", "order", "select", "1st", "item", "Item", "_lake_at", "_LAKE_version", "row__id",
    "`", "``", "'", "''", '"', "\\", "\\'", "\\u0027", ";", "--", "/*", "*/", ",", ":", ".", " ", "\t", "\n",
    "\r\n", "\x00", "\x1b", "\u2028", "${system:user.home}", "$", "{", "}", "%s", "?", "!", "(", ")", "<", ">",
    "é", "ß", "İ", "ı", "\u212a", "名前", "😀", "👩‍👩‍👧", "\u0301", "'; DROP TABLE t; --", "`) STORED AS ORC --",
    "');", "x" * 300,
)  # fmt: skip


def name(rng: random.Random) -> str:
    text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 4)))
    return text if not text.startswith("_lake_") else f"x{text}"  # onboarding refuses reserved names


def seen(attribute: str, kind: str, at: int = 0) -> Observation:
    return Observation(attribute, kind, at, Version("2026-01-01T00:00:00.000/" + "1".zfill(40)))


def catalogue(rng: random.Random) -> tuple[list[Observation], list[KeyAttribute]]:
    attributes = {name(rng) for _ in range(rng.randint(1, 25))}
    observations = [
        seen(attribute, kind, rng.randint(0, 5))
        for attribute in sorted(attributes)
        for kind in rng.sample(KINDS, rng.choice((1, 1, 1, 2, 3)))
    ]
    keys: list[KeyAttribute] = [(name(rng), rng.choice(("S", "N", "B")), "HASH")]
    if rng.random() < 0.5:
        sort_key = rng.choice((name(rng), keys[0][0].swapcase()))
        if sort_key != keys[0][0]:
            keys.append((sort_key, rng.choice(("S", "N", "B")), "RANGE"))
    return observations, keys


def arrow_type(rng: random.Random, depth: int = 0) -> pa.DataType:
    scalars = [
        pa.string(), pa.large_string(), pa.binary(), pa.bool_(), pa.int64(), pa.int32(), pa.float64(), pa.date32(),
        pa.decimal128(38, rng.randint(0, 38)), pa.decimal128(rng.randint(5, 38), 5),
        pa.dictionary(pa.int32(), pa.string()),
    ]  # fmt: skip
    choice = rng.random()
    if depth > 3 or choice < 0.6:
        return rng.choice(scalars)
    if choice < 0.75:
        return pa.list_(arrow_type(rng, depth + 1))
    if choice < 0.85:
        return pa.map_(pa.string(), arrow_type(rng, depth + 1))
    fields = rng.sample(("a", "order", "_x", "select", "1st", "B_2", "timestamp"), rng.randint(1, 4))
    return pa.struct([(field, arrow_type(rng, depth + 1)) for field in fields])


def arrow_schema(rng: random.Random) -> pa.Schema:
    names = sorted({name(rng) for _ in range(rng.randint(1, 20))} | {"id"})
    if rng.random() < 0.5:
        names = [f"plain_{at}" for at in range(len(names))] + ["_lake_version", "_lake_deleted"]
    return pa.schema([(field, arrow_type(rng)) for field in names])
