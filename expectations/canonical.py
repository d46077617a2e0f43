"""The one text that equal items share, so that items can be compared by content.

Equal means equal to DynamoDB: numbers by value (1.10 = 1.1, 1E2 = 100), sets without order, maps without
order, lists with it; a type is part of the value ("1" of type S is not 1 of type N).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lake.contract.numbers import canonical_number


def canonical_text(item: Mapping[str, Mapping[str, Any]]) -> str:
    """The canonical text of an item in wire form.

    Raises:
        ContractError: a number is not one.
    """
    return json.dumps(
        {name: _canonical(value) for name, value in item.items()},
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )


def differing_attributes(
    left: Mapping[str, Mapping[str, Any]], right: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The names of the attributes in which two items differ, sorted."""
    return sorted(
        name
        for name in left.keys() | right.keys()
        if name not in left or name not in right or _canonical(left[name]) != _canonical(right[name])
    )


def _canonical(value: Mapping[str, Any]) -> Any:
    ((tag, content),) = value.items()
    match tag:
        case "N":
            content = canonical_number(content)
        case "NS":
            content = sorted(canonical_number(number) for number in content)
        case "SS" | "BS":
            content = sorted(content)
        case "M":
            content = {name: _canonical(member) for name, member in content.items()}
        case "L":
            content = [_canonical(element) for element in content]
    return {tag: content}
