"""Random changes to valid inputs: of bytes, and of JSON documents."""

from __future__ import annotations

import copy
from random import Random
from typing import Any, Final

TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"null",
    b"true", b"NaN", b"1e999999", b"-0", b"9" * 400, b"../", b"$", b'"S"', b'"M"', b'"Item"', b"S3://", b"[[[[",
)  # fmt: skip
"""What parsers stumble over."""

JUNK: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 10**45, 1e308, float("nan"), "", "1", "S", "9" * 41, "\ud800", "\0", "../../x", "1E+99999",
    [], {}, [[]], {"S": 1}, {"N": "x"}, {"M": {"x": {}}}, {"L": [{}]}, {"B": "?"}, {"NULL": False}, {"SS": [1]},
)  # fmt: skip

DEPTHS: Final = (40, 1_500, 60_000)
"""Beyond DynamoDB's 32 levels, beyond Python's limit of recursion, and far beyond."""

MOST_CHANGES: Final = 4


def changed_bytes(content: bytes, random: Random) -> bytes:
    """The content with a few bytes flipped, removed, doubled, moved or replaced by what parsers stumble over."""
    changed = bytearray(content)
    for _ in range(random.randint(1, MOST_CHANGES)):
        begin = random.randrange(len(changed) + 1)
        end = min(len(changed), begin + random.choice((0, 1, 2, 8, 64)))
        match random.randrange(6):
            case 0:
                changed[begin:end] = random.randbytes(end - begin)
            case 1:
                del changed[begin:end]
            case 2:
                changed[begin:begin] = changed[begin:end] * random.choice((1, 2, 200))
            case 3:
                del changed[begin:]
            case _:
                changed[begin:end] = random.choice(TOKENS)
    return bytes(changed)


def changed_json(value: Any, random: Random) -> Any:
    """The document with a few of its parts removed, doubled, replaced, or nested without end."""
    holder = [copy.deepcopy(value)]
    for _ in range(random.randint(1, MOST_CHANGES)):
        places = list(_places(holder))
        if not places:
            break
        parent, name = random.choice(places)
        match random.randrange(8):
            case 0 | 1 | 2:
                parent[name] = copy.deepcopy(random.choice(JUNK))
            case 3 | 4:
                del parent[name]
            case 5:
                other, there = random.choice(places)
                parent[name] = copy.deepcopy(other[there])
            case 6 if isinstance(parent, dict):
                parent[random.choice(("", "\0", "_lake_version", "x" * 70_000, "\ud800", "a.b", "key"))] = (
                    parent[name]
                )
            case _:
                for _ in range(random.choice(DEPTHS)):
                    parent[name] = random.choice(
                        ({"M": {"x": parent[name]}}, {"L": [parent[name]]}, [parent[name]])
                    )
                break  # a deep document is too deep to be copied again
    return holder[0] if holder else None


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, name or index) inside."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        children = list(
            inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        )
        found += [(inner, name) for name, _ in children]
        waiting += [child for _, child in children]
    return found
