"""Items of every type, and the same items written in another way."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

NASTY = 'quote " backslash \\ slash / é € 😀 ]} {"N":"1.0"} ["SS":["b","a"]] \t\n'


def rich_item(rng: random.Random, number: int) -> dict[str, Any]:
    """An item with each of the ten types, nested."""
    return {
        "pk": {"S": f"p{number} é"},
        "sk": {"N": str(number)},
        "n": {"N": f"{rng.randrange(10**6)}.{rng.randrange(1, 10**6)}5"},
        "long": {"N": "0." + "".join(rng.choice("123456789") for _ in range(38))},
        "code": {"N": str(rng.randrange(10**6))},
        "text": {"S": rng.choice(["", "1.0", NASTY, "ü" * 5])},
        "tags": {"SS": rng.sample(["a", "b", "é", NASTY, "]", "c,d", '"'], 4)},
        "numbers": {"NS": rng.sample(["1", "2.5", "-3", "1000000", "0"], 3)},
        "blobs": {"BS": rng.sample(["AA==", "AQ==", "Ag=="], 2)},
        "blob": {"B": "AAECAw=="},
        "yes": {"BOOL": True},
        "null": {"NULL": True},
        "list": {"L": [{"N": "1"}, {"S": "x"}, {"M": {"b": {"N": "2"}, "a": {"SS": ["y", "x"]}}}, {"L": []}]},
        "map": {"M": {"z": {"S": "1"}, "a": {"N": "7"}, "inner": {"M": {"deep": {"S": NASTY}, "N": {"S": "n"}}}}},
        NASTY: {"S": "an attribute with a nasty name"},
    }  # fmt: skip


def respelt(rng: random.Random, item: Mapping[str, Any]) -> dict[str, Any]:
    """An equal item: maps and sets in another order, numbers written otherwise but for the sort key's."""
    members = [(name, value if name == "sk" else _value(rng, value)) for name, value in item.items()]
    rng.shuffle(members)
    return dict(members)


def _value(rng: random.Random, value: Mapping[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    match tag:
        case "N":
            return {"N": _number(rng, content)}
        case "NS":
            return {"NS": rng.sample([_number(rng, each) for each in content], len(content))}
        case "SS" | "BS":
            return {tag: rng.sample(content, len(content))}
        case "M":
            return {"M": respelt(rng, content)}
        case "L":
            return {"L": [_value(rng, each) for each in content]}
    return {tag: content}


def _number(rng: random.Random, text: str) -> str:
    number = Decimal(text)
    return rng.choice(
        [
            text,
            f"{text}.0" if "." not in text else f"{text}00",
            f"{number:E}",
            f"+{text}" if number >= 0 else text,
            f"00{text}" if number >= 0 else text,
            f"{text}e0",
            "-0" if number == 0 else text,
        ]
    )
