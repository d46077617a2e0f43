r"""What becomes of a value before the lake ever sees it: keep, drop, hash or mask.

    keep   as it is (what a value without a policy gets)
    drop   the value never reaches the lake
    hash   an HMAC-SHA256 under the pipeline's key, as 64 hexadecimal digits of type S: equal values stay
           equal wherever they stand, so joins survive
    mask   "***" of type S, so that one still sees that there is a value

A policy's target is a path: `ssn`, `address.street` (a map's member), `phones[].number` (in each element of a
list). A dot, bracket or backslash that belongs to a name is written with a backslash before it: `a\.b`.

A key attribute can be kept or hashed: without it, or with all alike, a row has no name. Of a composite text
such as `CUSTOMER#ann@example.org#ORDER#7` single segments can be hashed or masked (`Segments`); a segment's hash
is that of the same text standing alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ingest.errors import PolicyError
from lake.contract.numbers import canonical_number

Action = Literal["keep", "drop", "hash", "mask"]
SegmentAction = Literal["keep", "hash", "mask"]
KeyType = Literal["S", "N", "B"]
Value = Mapping[str, Any]

MASK: Final = "***"
MIN_KEY_BYTES: Final = 16
"""A shorter key than the 128 bits that a brute force must not reach is refused (NIST SP 800-107, 5.3.4)."""

_EACH: Final = "[]"
_STEP: Final = re.compile(r"(?P<each>\[\])|\.?(?P<name>(?:\\.|[^.\[\]\\])+)")


@dataclass(frozen=True, slots=True)
class Segments:
    """What becomes of single segments of a text.

    Attributes:
        split: what separates the segments.
        after: action for the segment that follows a segment of this text, as in `{"CUSTOMER": "hash"}`.
        at: action for the segment at this position, counted from 0, or from the end with -1 for the last.
    """

    split: str
    after: Mapping[str, SegmentAction] = field(default_factory=dict)
    at: Mapping[int, SegmentAction] = field(default_factory=dict)

    @property
    def actions(self) -> set[SegmentAction]:
        """The actions that it uses."""
        return {*self.after.values(), *self.at.values()}


class Policy:
    """The pipeline's policy, ready to be applied to items."""

    def __init__(
        self,
        actions: Mapping[str, Action | Segments] | None = None,
        *,
        key_attributes: Collection[str] = (),
        hash_key: bytes | None = None,
    ) -> None:
        """Check the policy against the table's key.

        Args:
            actions: path -> what becomes of the value there.
            key_attributes: the names of the source table's key attributes.
            hash_key: the secret of the keyed hash, at least 16 bytes; needed where something is hashed.

        Raises:
            PolicyError: a path is none, a key attribute would be lost, or a hash has no sound key.
        """
        given = {path: action for path, action in (actions or {}).items() if action != "keep"}
        self._hash_key = hash_key or b""
        self._whole: dict[str, Action] = {}
        self._rules: list[tuple[str, Callable[[Value], Value | None]]] = []
        for path, action in given.items():
            attribute, *steps = parse_path(path)
            if attribute in key_attributes:
                _check_key_action(attribute, action)
            if not steps and not isinstance(action, Segments):
                self._whole[attribute] = action
            self._rules.append((attribute, self._along(steps, self._change(action))))
        if any("hash" in (each.actions if isinstance(each, Segments) else {each}) for each in given.values()):
            if hash_key is None:
                raise PolicyError(
                    "the policy hashes a value, but there is no key", remedy="set DYNALAKE_HASH_KEY"
                )
            if len(hash_key) < MIN_KEY_BYTES:
                raise PolicyError(
                    f"the hash key has {len(hash_key)} bytes, fewer than {MIN_KEY_BYTES}",
                    remedy="use a longer key, such as the output of `openssl rand -hex 32`",
                )

    def apply(self, item: Mapping[str, Value]) -> dict[str, Any]:
        """The item, or the key, as the lake may see it. The item itself stays as it is."""
        kept: dict[str, Any] = dict(item)
        for attribute, change in self._rules:
            value = kept.get(attribute)
            if value is not None:
                changed = change(value)
                if changed is None:
                    del kept[attribute]
                else:
                    kept[attribute] = changed
        return kept

    def key_type(self, attribute: str, source_type: KeyType) -> KeyType:
        """The type that a key attribute has in the lake: S where it is hashed, else the source's."""
        return "S" if self._whole.get(attribute) == "hash" else source_type

    @property
    def lossless(self) -> bool:
        """Whether every item passes unchanged."""
        return not self._rules

    def _change(self, action: Action | Segments) -> Callable[[Value], Value | None]:
        match action:
            case "drop":
                return lambda _value: None
            case "mask":
                return lambda _value: {"S": MASK}
            case "hash":
                return lambda value: {"S": self._hash(value)}
            case Segments():
                return lambda value: self._change_segments(action, value)
        return lambda value: value

    def _along(
        self, steps: Sequence[str], change: Callable[[Value], Value | None]
    ) -> Callable[[Value], Value | None]:
        """The change at the end of a path, as a change of the attribute where the path begins."""
        if not steps:
            return change
        inner = self._along(steps[1:], change)
        if steps[0] == _EACH:
            return lambda value: _in_each(value, inner)
        return lambda value: _in_member(value, _unescaped(steps[0]), inner)

    def _change_segments(self, segments: Segments, value: Value) -> Value:
        text = value.get("S")
        if text is None:
            return value
        parts = text.split(segments.split)
        changed = list(parts)
        for position, part in enumerate(parts):
            action = segments.at.get(position) or segments.at.get(position - len(parts))
            if action is None and position:
                action = segments.after.get(parts[position - 1])
            if action == "hash":
                changed[position] = self._hash({"S": part})
            elif action == "mask":
                changed[position] = MASK
        return {"S": segments.split.join(changed)}

    def _hash(self, value: Value) -> str:
        return hmac.new(self._hash_key, _unambiguous(value), hashlib.sha256).hexdigest()


def actions_from(document: Mapping[str, Any]) -> dict[str, Action | Segments]:
    """The actions that a configuration or a Lambda's environment writes down.

    Args:
        document: path -> an action's name, or `{"split": "#", "after": {"CUSTOMER": "hash"}, "at": {"1": "hash"}}`.
    """
    actions: dict[str, Action | Segments] = {}
    for path, action in document.items():
        if isinstance(action, Mapping):
            at = {int(position): each for position, each in action.get("at", {}).items()}
            actions[path] = Segments(split=action["split"], after=action.get("after", {}), at=at)
        else:
            actions[path] = action
    return actions


def parse_path(path: str) -> list[str]:
    """The steps of a path: the attribute's name, then members' names (still escaped) and `[]`.

    Raises:
        PolicyError: the path is none.
    """
    steps: list[str] = []
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None or (path[position] == "." and not steps) or (step["each"] and not steps):
            raise PolicyError(
                f"the policy's path {path!r} cannot be read at character {position + 1}",
                remedy="write name, name.member or name[].member, with a backslash before a dot that belongs to a name",
            )
        steps.append(step["each"] or step["name"])
        position = step.end()
    if not steps:
        raise PolicyError("the policy has an empty path")
    return [_unescaped(steps[0]), *steps[1:]]


def _check_key_action(attribute: str, action: Action | Segments) -> None:
    lost = action.actions & {"mask"} if isinstance(action, Segments) else {action} - {"hash"}
    if lost:
        raise PolicyError(
            f"the policy would {lost.pop()} {attribute!r}, a key attribute, so distinct rows would become one",
            remedy="keep or hash key attributes",
        )


def _in_each(value: Value, change: Callable[[Value], Value | None]) -> Value:
    elements = value.get("L")
    if elements is None:
        return value
    return {"L": [changed for element in elements if (changed := change(element)) is not None]}


def _in_member(value: Value, name: str, change: Callable[[Value], Value | None]) -> Value:
    members = value.get("M")
    if members is None or name not in members:
        return value
    changed = change(members[name])
    kept = {each: member for each, member in members.items() if each != name}
    return {"M": kept if changed is None else {**kept, name: changed}}


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _unambiguous(value: Value) -> bytes:
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
