r"""What becomes of a value before the lake sees it: keep, drop, hash or mask.

    keep   as it is (what a value without a rule gets, unless `*` says otherwise)
    drop   the value never reaches the lake
    hash   an HMAC-SHA256 under the pipeline's key, as 64 hexadecimal digits of type S: equal values stay
           equal wherever they are, so joins still work
    mask   "***" of type S, so that one still sees that there is a value

A rule's target is a path: `ssn`, `address.street` (a map's member), `phones[].number` (in each element of a
list). `*` as the last step means every attribute or member that no other rule names: `"*" = "drop"` makes the
policy an allow-list. A dot, bracket, star or backslash that belongs to a name is written with a backslash
before it: `a\.b`.

The policy fails closed. Where a value does not have the type or form that a path expects (a text where `.street`
needs a map, a map where `[]` needs a list, a text without the separator of a split), it does not pass: the whole
row is refused, or the value is dropped, as `mismatch` says. An absent attribute, an explicit NULL and an empty
text, list or map hold nothing to protect, so they pass.

A key attribute can be kept or hashed: without it, or if all were alike, a row has no name. Of a composite text
such as `CUSTOMER#ann@example.org#ORDER#7` single segments can be hashed or masked (`Segments`); a segment's hash
is that of the same text on its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, cast, get_args

from ingest.errors import PolicyError, PolicyRefusedError
from ingest.segments import MASK, SEGMENT_ACTIONS, CannotFollowError, SegmentAction, Segments
from lake.contract.catalogue import TAGS
from lake.contract.numbers import canonical_number
from lake.errors import ContractError

__all__ = ["MASK", "Policy", "Rule", "SegmentAction", "Segments", "actions_from", "hashes", "parse_path"]

Action = Literal["keep", "drop", "hash", "mask"]
Mismatch = Literal["quarantine", "drop"]
"""What becomes of a value that a path cannot follow: the whole row is refused, or the value is dropped."""

KeyType = Literal["S", "N", "B"]
Value = Mapping[str, Any]
OnMismatch = Callable[[str], None]
Change = Callable[[Value, OnMismatch], Value | None]

MIN_KEY_BYTES: Final = 16
"""A shorter key than the 128 bits that a brute force must not reach is refused (NIST SP 800-107, 5.3.4)."""

_EMPTY: Final[tuple[Value, ...]] = ({"S": ""}, {"L": []}, {"M": {}}, {"NULL": True})
"""Values that hold nothing a policy could protect."""

_STEP: Final = re.compile(r"(?P<each>\[\])|\.?(?P<name>(?:\\.|[^.\[\]\\])+)")


class Wildcard(Enum):
    """A step of a path that is not a name."""

    EACH = "[]"
    OTHERS = "*"


Step = str | Wildcard


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of the value at a path.

    Attributes:
        action: the action.
        mismatch: what becomes of a value that the path cannot follow; the policy's default if None.
    """

    action: Action | Segments
    mismatch: Mismatch | None = None

    @property
    def protects(self) -> bool:
        """Whether it does anything but keep the value."""
        if isinstance(self.action, Segments):
            return bool(self.action.actions - {"keep"})
        return self.action != "keep"


@dataclass(slots=True)
class _Node:
    """A step of the policy's paths, with the steps that follow it."""

    path: str = ""
    rule: Rule | None = None
    members: dict[str, _Node] = field(default_factory=dict)
    each: _Node | None = None
    others: Rule | None = None

    @property
    def follows(self) -> bool:
        """Whether a path goes on from here."""
        return bool(self.members or self.each or self.others)

    def rules(self) -> Iterator[Rule]:
        """The rules here and below."""
        yield from (rule for rule in (self.rule, self.others) if rule)
        for node in (*self.members.values(), *([self.each] if self.each else [])):
            yield from node.rules()


def _keep(value: Value, _: OnMismatch) -> Value:
    return value


def _drop(_value: Value, _: OnMismatch) -> None:
    return None


def _mask(_value: Value, _: OnMismatch) -> Value:
    return {"S": MASK}


def _ignore(_reason: str) -> None:
    pass


class Policy:
    """The pipeline's policy, ready to be applied to items."""

    def __init__(
        self,
        actions: Mapping[str, Action | Segments | Rule] | None = None,
        *,
        key_attributes: Collection[str] = (),
        hash_key: bytes | None = None,
        mismatch: Mismatch = "quarantine",
    ) -> None:
        """Check the policy against the table's key.

        Args:
            actions: path -> what becomes of the value there.
            key_attributes: the names of the source table's key attributes.
            hash_key: the secret of the keyed hash, at least 16 bytes; needed where something is hashed.
            mismatch: what becomes of a value that a path cannot follow, unless its rule says otherwise. A key
                attribute cannot be dropped, so its row is refused in any case.

        Raises:
            PolicyError: a path or an action is invalid, a key attribute would be lost or is not named beside
                `*`, or a hash has no sound key.
        """
        if mismatch not in get_args(Mismatch):
            raise PolicyError(f"policy_mismatch is {mismatch!r}", remedy="write quarantine or drop")
        self._mismatch: Mismatch = mismatch
        self._hash_key = hash_key or b""
        self._root = root = _Node()
        for path, given in (actions or {}).items():
            _plant(root, path, given if isinstance(given, Rule) else Rule(given))
        default = cast("Action", root.others.action) if root.others else "keep"
        self._others = self._leaf("*", root.others) if root.others else _keep
        self._changes: dict[str, Change] = {}
        for name, node in root.members.items():
            if name in key_attributes:
                _check_key(name, node)
            self._changes[name] = self._compile(node, default, is_key=name in key_attributes)
        if default != "keep":
            _check_keys_are_named(key_attributes, self._changes.keys(), default)
        if hashes(root.rules()):
            if hash_key is None:
                raise PolicyError(
                    "the policy hashes a value, but there is no key", remedy="set DYNALAKE_HASH_KEY"
                )
            if len(hash_key) < MIN_KEY_BYTES:
                raise PolicyError(
                    f"the hash key has {len(hash_key)} bytes, fewer than {MIN_KEY_BYTES}",
                    remedy="use a longer key, such as the output of `openssl rand -hex 32`",
                )

    def apply(self, item: Mapping[str, Value], on_mismatch: OnMismatch = _ignore) -> dict[str, Any]:
        """The item, or the key, as the lake may see it. The item itself stays as it is.

        Args:
            item: an item in wire form.
            on_mismatch: called with the reason for each value that was dropped because a path cannot follow
                it. The reason names the policy's path and types, never a value.

        Raises:
            PolicyRefusedError: the row must not pass, because a path cannot follow a value.
        """
        kept: dict[str, Any] = {}
        for name, value in item.items():
            changed = self._changes.get(name, self._others)(value, on_mismatch)
            if changed is not None:
                kept[name] = changed
        return kept

    def admit(self, item: Mapping[str, Value]) -> dict[str, Any] | None:
        """The item, or the key, as the lake may see it; None where `apply` refuses it."""
        try:
            return self.apply(item)
        except PolicyRefusedError:
            return None

    def key_type(self, attribute: str, source_type: KeyType) -> KeyType:
        """The type that a key attribute has in the lake: S where it is hashed, else the source's.

        Raises:
            PolicyError: the policy splits an attribute that is no text, so every row would be refused.
        """
        node = self._root.members.get(attribute)
        rule = node.rule if node else None
        if rule and isinstance(rule.action, Segments) and rule.protects and source_type != "S":
            raise PolicyError(
                f"the policy splits the key attribute {attribute!r}, which has the type {source_type}: only a text "
                "has segments",
                remedy="keep it, or hash it whole",
            )
        return "S" if rule and rule.action == "hash" else source_type

    def changes(self, attribute: str) -> bool:
        """Whether the policy may change, drop or refuse this attribute of an item."""
        return self._changes.get(attribute, self._others) is not _keep

    @property
    def lossless(self) -> bool:
        """Whether every item passes unchanged."""
        return self._others is _keep and all(change is _keep for change in self._changes.values())

    # From the rules to functions

    def _compile(self, node: _Node, default: Action, *, is_key: bool = False) -> Change:
        """What becomes of the value at a node; `default` is for what no rule names."""
        whole = node.rule or Rule(default)
        if not node.follows or (node.rule and node.rule.action != "keep"):
            if node.follows:
                _check_nothing_opens(node)
            return self._leaf(node.path, whole, is_key=is_key)
        inside = node.others or whole
        inherited = cast("Action", inside.action)
        members = {name: self._compile(member, inherited) for name, member in node.members.items()}
        others = self._leaf(f"{node.path}.*", inside)
        each = self._compile(node.each, cast("Action", whole.action)) if node.each else None
        if not whole.protects and all(
            change is _keep for change in (*members.values(), others, each or _keep)
        ):
            return _keep
        by_name = bool(node.members or node.others)
        needed = " or ".join(["a map"] * by_name + ["a list"] * (each is not None))

        def follow(value: Value, on_mismatch: OnMismatch) -> Value | None:
            tag, content = _tagged(value)
            if tag == "M" and by_name and isinstance(content, Mapping):
                changed = {
                    name: members.get(name, others)(member, on_mismatch) for name, member in content.items()
                }
                return {"M": {name: member for name, member in changed.items() if member is not None}}
            if tag == "L" and each is not None and isinstance(content, list):
                elements = (each(element, on_mismatch) for element in content)
                return {"L": [element for element in elements if element is not None]}
            if value in _EMPTY:
                return value
            raise CannotFollowError(f"the value is {_kind(tag)}, where the path needs {needed}")

        return self._guarded(follow, node.path, self._mode(node.rules()))

    def _leaf(self, path: str, rule: Rule, *, is_key: bool = False) -> Change:
        if not rule.protects:
            return _keep
        match rule.action:
            case "drop":
                return _drop
            case "mask":
                return _mask
            case "hash":
                change: Change = self._change_whole
            case Segments() as segments:

                def change(value: Value, _: OnMismatch) -> Value:
                    return self._change_segments(segments, value)

        return self._guarded(change, path, "quarantine" if is_key else self._mode([rule]))

    def _mode(self, rules: Iterable[Rule]) -> Mismatch:
        """The strictest of these rules' modes."""
        modes = {rule.mismatch or self._mismatch for rule in rules}
        return "quarantine" if "quarantine" in modes else "drop"

    @staticmethod
    def _guarded(change: Change, path: str, mode: Mismatch) -> Change:
        """The change, refusing the row or dropping the value where it cannot be made."""

        def guarded(value: Value, on_mismatch: OnMismatch) -> Value | None:
            try:
                return change(value, on_mismatch)
            except CannotFollowError as error:
                reason = f"the policy cannot be applied at {path!r}: {error}"
            if mode == "quarantine":
                raise PolicyRefusedError(reason)
            on_mismatch(reason)
            return None

        return guarded

    def _change_whole(self, value: Value, _: OnMismatch) -> Value:
        return {"S": self._hash(value)}

    def _change_segments(self, segments: Segments, value: Value) -> Value:
        tag, content = _tagged(value)
        if value in _EMPTY:
            return value
        if tag != "S" or not isinstance(content, str):
            raise CannotFollowError(f"the value is {_kind(tag)}, where a split needs a text")
        return {"S": segments.change(content, lambda part: self._hash({"S": part}))}

    def _hash(self, value: Value) -> str:
        try:
            text = _unambiguous(value)
        except (ValueError, TypeError, AttributeError, RecursionError, ContractError):
            raise CannotFollowError("the value is not DynamoDB JSON") from None
        return hmac.new(self._hash_key, text, hashlib.sha256).hexdigest()


def actions_from(document: Mapping[str, Any]) -> dict[str, Rule]:
    """The rules that a configuration or a Lambda's environment writes down.

    Args:
        document: path -> an action's name; or `{"action": "hash", "mismatch": "drop"}`; or
            `{"split": "#", "after": {"CUSTOMER": "hash"}, "at": {"1": "hash"}, "others": "hash"}`, which takes
            `mismatch`, too.

    Raises:
        PolicyError: a rule has none of these forms, or names an action that there is not.
    """
    if not isinstance(document, Mapping):
        raise PolicyError("the policy must be an object: path -> action")
    return {path: _rule_from(path, given) for path, given in document.items()}


def hashes(rules: Iterable[Rule]) -> bool:
    """Whether any of these rules needs the hash key."""
    return any("hash" in _actions_of(rule) for rule in rules)


def _rule_from(path: str, given: Any) -> Rule:
    if not isinstance(given, Mapping):
        return Rule(given)
    content = {name: value for name, value in given.items() if value is not None}
    mismatch = content.pop("mismatch", None)
    try:
        if "split" in content:
            at = {int(position): action for position, action in content.pop("at", {}).items()}
            return Rule(Segments(at=at, **content), mismatch)
        return Rule(**content, mismatch=mismatch)
    except (TypeError, ValueError, AttributeError):
        raise PolicyError(
            f"the policy's rule for {path!r} cannot be read",
            remedy="write an action, or a table with `action`, or one with `split` and `after` or `at`",
        ) from None


def parse_path(path: str) -> list[Step]:
    """The steps of a path: the attribute's name, then members' names, `[]` and, at the end, `*`.

    Raises:
        PolicyError: the path is invalid.
    """
    steps: list[Step] = []
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if (
            step is None
            or (path[position] == "." and not steps)
            or (step["each"] and not steps)
            or (steps and steps[-1] is Wildcard.OTHERS)
        ):
            raise PolicyError(
                f"the policy's path {path!r} cannot be read at character {position + 1}",
                remedy="write name, name.member, name[].member or name.*, with a backslash before a dot that "
                "belongs to a name",
            )
        if step["each"]:
            steps.append(Wildcard.EACH)
        else:
            steps.append(Wildcard.OTHERS if step["name"] == "*" else _unescaped(step["name"]))
        position = step.end()
    if not steps:
        raise PolicyError("the policy has an empty path")
    return steps


def _plant(root: _Node, path: str, rule: Rule) -> None:
    """Add a rule to the tree of paths.

    Raises:
        PolicyError: the path or the rule is invalid, or another rule has the same path.
    """
    _check_rule(path, rule)
    node = root
    *way, last = parse_path(path)
    for step in way:
        node = _child(node, step)
    if last is Wildcard.OTHERS:
        if isinstance(rule.action, Segments):
            raise PolicyError(
                f"the policy's path {path!r} cannot be split", remedy="keep, drop, hash or mask `*`"
            )
        taken, node.others = node.others, rule
    else:
        node = _child(node, last)
        taken, node.rule = node.rule, rule
    if taken is not None:
        raise PolicyError(f"the policy has two rules for the path {path!r}", remedy="leave one of them out")


def _child(node: _Node, step: Step) -> _Node:
    if isinstance(step, str):
        name = re.sub(r"([\\.\[\]])", r"\\\1", step) if step != "*" else r"\*"
        return node.members.setdefault(step, _Node(f"{node.path}.{name}".removeprefix(".")))
    if node.each is None:
        node.each = _Node(f"{node.path}[]")
    return node.each


def _check_rule(path: str, rule: Rule) -> None:
    splits = isinstance(rule.action, Segments)
    allowed = SEGMENT_ACTIONS if splits else frozenset(get_args(Action))
    try:
        wrong = [action for action in _actions_of(rule) if action not in allowed]
    except (TypeError, AttributeError):
        wrong = [rule.action]
    if wrong:
        raise PolicyError(
            f"the policy's rule for {path!r} is {wrong[0]!r}",
            remedy=f"write one of {', '.join(sorted(allowed))}",
        )
    if isinstance(rule.action, Segments) and not (isinstance(rule.action.split, str) and rule.action.split):
        raise PolicyError(f"the policy's rule for {path!r} splits at nothing", remedy="name the separator")
    if rule.mismatch not in (None, *get_args(Mismatch)):
        raise PolicyError(
            f"mismatch of the policy's rule for {path!r} is {rule.mismatch!r}",
            remedy="write quarantine or drop",
        )


def _actions_of(rule: Rule) -> frozenset[Any]:
    return frozenset(rule.action.actions if isinstance(rule.action, Segments) else {rule.action})


def _check_nothing_opens(node: _Node) -> None:
    """Refuse a rule that keeps a part of what is dropped, hashed or masked whole: nobody can tell what is meant."""
    below = [*node.members.values(), *([node.each] if node.each else [])]
    rules = [rule for each in below for rule in each.rules()] + ([node.others] if node.others else [])
    if any(not rule.protects for rule in rules):
        raise PolicyError(
            f"the policy keeps a part of {node.path!r}, and has a rule for all of it",
            remedy=f'write "{node.path}.*" for the members that no other rule names',
        )


def _check_key(attribute: str, node: _Node) -> None:
    if node.follows:
        raise PolicyError(
            f"the policy looks inside {attribute!r}, a key attribute, which has neither members nor elements"
        )
    rule = node.rule or Rule("keep")
    lost = _actions_of(rule) & {"mask", "drop"}
    if lost:
        raise PolicyError(
            f"the policy would {next(iter(lost))} {attribute!r}, a key attribute, so rows would become one",
            remedy="keep or hash it",
        )


def _check_keys_are_named(key_attributes: Collection[str], named: Collection[str], default: Action) -> None:
    for attribute in key_attributes:
        if attribute not in named:
            raise PolicyError(
                f"the policy would {default} every attribute that it does not name, and {attribute!r} is a key "
                "attribute",
                remedy=f'say what becomes of it: {attribute} = "keep" or {attribute} = "hash"',
            )


def _tagged(value: Any) -> tuple[str | None, Any]:
    """The type tag of a value and what it holds; None for a value that is not DynamoDB JSON."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((tag, content),) = value.items()
        if tag in TAGS:
            return tag, content
    return None, None


def _kind(tag: str | None) -> str:
    return f"of type {tag}" if tag else "not DynamoDB JSON"


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
        case "SS":
            content = sorted(content)
        case "B":
            content = _canonical_base64(content)
        case "BS":
            content = sorted(map(_canonical_base64, content))
        case "M":
            content = {name: _unambiguous(member).decode() for name, member in content.items()}
        case "L":
            content = [_unambiguous(element).decode() for element in content]
    return json.dumps([tag, content], sort_keys=True, ensure_ascii=False).encode()


def _canonical_base64(text: str) -> str:
    """The one text of some bytes. A text that is not base64 stays as it is: the lake refuses it."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except binascii.Error:
        return text
