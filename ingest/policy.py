"""What becomes of an attribute before the lake ever sees its value: keep, drop, hash or mask.

    keep   as it is (what an attribute without a policy gets)
    drop   the attribute never reaches the lake
    hash   an HMAC-SHA256 under the pipeline's key, as 64 hexadecimal digits of type S: equal values stay
           equal, so joins survive, and a key attribute may be hashed without rows collapsing
    mask   text, number and binary become "***" of type S, so that one still sees that there is a value

Key attributes can be kept or hashed: without them, or with all of them alike, a row has no name.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from ingest.errors import PolicyError
from lake.contract.numbers import canonical_number

Action = Literal["keep", "drop", "hash", "mask"]
KeyType = Literal["S", "N", "B"]

MASK: Final = "***"
MIN_KEY_BYTES: Final = 16
"""A shorter key than the 128 bits that a brute force must not reach is refused (NIST SP 800-107, 5.3.4)."""


class Policy:
    """The pipeline's policy, ready to be applied to items."""

    def __init__(
        self,
        actions: Mapping[str, Action] | None = None,
        *,
        key_attributes: Collection[str] = (),
        hash_key: bytes | None = None,
    ) -> None:
        """Check the policy against the table's key.

        Args:
            actions: attribute name -> action, top-level attributes.
            key_attributes: the names of the source table's key attributes.
            hash_key: the secret of the keyed hash, at least 16 bytes; needed where an action is "hash".

        Raises:
            PolicyError: a key attribute would be dropped or masked, or a hash has no sound key.
        """
        self._actions = {name: action for name, action in (actions or {}).items() if action != "keep"}
        for name in key_attributes:
            if self._actions.get(name, "hash") != "hash":
                raise PolicyError(
                    f"the policy would {self._actions[name]} {name!r}, a key attribute: keys can be kept or hashed"
                )
        if "hash" in self._actions.values():
            if hash_key is None:
                raise PolicyError(
                    "the policy hashes an attribute, but there is no key: set DYNALAKE_HASH_KEY"
                )
            if len(hash_key) < MIN_KEY_BYTES:
                raise PolicyError(f"the hash key has {len(hash_key)} bytes; {MIN_KEY_BYTES} is the least")
        self._hash_key = hash_key or b""

    def apply(self, item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The item, or the key, as the lake may see it. An item without affected attributes is copied as it is."""
        kept = dict(item)
        for name, action in self._actions.items():
            if name in kept:
                if action == "drop":
                    del kept[name]
                else:
                    kept[name] = {"S": MASK if action == "mask" else self._hash(kept[name])}
        return kept

    def key_type(self, attribute: str, source_type: KeyType) -> KeyType:
        """The type that a key attribute has in the lake: S where it is hashed, else the source's."""
        return "S" if self._actions.get(attribute) == "hash" else source_type

    @property
    def lossless(self) -> bool:
        """Whether every item passes unchanged."""
        return not self._actions

    def _hash(self, value: Mapping[str, Any]) -> str:
        return hmac.new(self._hash_key, _unambiguous(value), hashlib.sha256).hexdigest()


def _unambiguous(value: Mapping[str, Any]) -> bytes:
    """One text for equal values, and never one for values that differ: type tag, then canonical content."""
    ((tag, content),) = value.items()
    match tag:
        case "N":
            content = canonical_number(content)
        case "NS":
            content = sorted(canonical_number(number) for number in content)
        case "SS" | "BS":
            content = sorted(content)
        case "M":
            content = {name: _unambiguous(member).decode() for name, member in content.items()}
        case "L":
            content = [_unambiguous(element).decode() for element in content]
    return json.dumps([tag, content], sort_keys=True, ensure_ascii=False).encode()
