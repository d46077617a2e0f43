"""A policy fails closed: whatever type a value has, nothing under a protected path reaches the lake.

The properties draw a policy and an item each, at random, and take the item through the handler. What must not pass
is decided by a second, much plainer reading of the policy (`is_protected`).
"""

from __future__ import annotations

import base64
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ingest.errors import PolicyError, PolicyRefusedError
from ingest.policy import Policy, Rule, Segments, actions_from, parse_path
from tests.ingest.building import LakeSide, event_of, item, record

KEY: Final = b"7f3a-not-a-key-of-anybody-91c5e2"

CANARY: Final = "canary"


# Items whose every leaf is a canary of its own


class Canaries:
    """Values of every type, each with a canary that no other value has; where each of them is, is remembered."""

    def __init__(self) -> None:
        self._numbers = itertools.count(700_000_001)
        self.at: dict[str, tuple[str, ...]] = {}
        """Canary -> the steps to it; "[]" for an element."""

    def value(self, draw: Any, place: tuple[str, ...], depth: int) -> dict[str, Any]:
        kinds = ["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS"] + ["M", "L"] * 3 * (depth > 0)
        match draw(st.sampled_from(kinds)):
            case "S":
                return {"S": f"{CANARY}{self._new(place)}"}
            case "N":
                return {"N": self._new(place)}
            case "B":
                return {"B": _base64(f"{CANARY}{self._new(place)}")}
            case "BOOL":
                return {"BOOL": True}
            case "NULL":
                return {"NULL": True}
            case "SS":
                return {"SS": [f"{CANARY}{self._new(place)}" for _ in range(2)]}
            case "NS":
                return {"NS": [self._new(place) for _ in range(2)]}
            case "BS":
                return {"BS": [_base64(f"{CANARY}{self._new(place)}") for _ in range(2)]}
            case "M":
                names = draw(st.sets(st.sampled_from("xyz"), max_size=3))
                return {"M": {name: self.value(draw, (*place, name), depth - 1) for name in sorted(names)}}
        elements = draw(st.integers(0, 2))
        return {"L": [self.value(draw, (*place, "[]"), depth - 1) for _ in range(elements)]}

    def _new(self, place: tuple[str, ...]) -> str:
        number = str(next(self._numbers))
        self.at[number] = place
        return number


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


STEPS = st.sampled_from(["x", "y", "[]"])
PATHS = st.builds(
    lambda attribute, steps, star: (attribute, *steps, *(["*"] if star else [])),
    st.sampled_from("abc"),
    st.lists(STEPS, max_size=2),
    st.booleans(),
) | st.just(("*",))
POLICIES = st.dictionaries(PATHS, st.sampled_from(["keep", "drop", "hash", "mask"]), max_size=5)


def written(path: Sequence[str]) -> str:
    text = path[0]
    for step in path[1:]:
        text += step if step == "[]" else f".{step}"
    return text


def is_protected(rules: Mapping[tuple[str, ...], str], place: tuple[str, ...]) -> bool:
    """Whether what is at `place` must not pass as it is: a plain reading of each rule for itself."""
    covering = [path for path in rules if covers(path, place)]
    closest = max(covering, key=lambda path: len(path) - 0.5 * (path[-1] == "*"), default=None)
    if closest is not None and rules[closest] != "keep":
        return True
    return any(
        action != "keep" and path not in covering and cannot_follow(path, place, rules)
        for path, action in rules.items()
    )


def covers(path: tuple[str, ...], place: tuple[str, ...]) -> bool:
    if path[-1] == "*":
        *way, _ = path
        return len(place) > len(way) and [*place[: len(way)]] == way and place[len(way)] != "[]"
    return place[: len(path)] == path


def cannot_follow(
    path: tuple[str, ...], place: tuple[str, ...], rules: Mapping[tuple[str, ...], str]
) -> bool:
    """Whether a path ends in what is at `place`, or has a name where there are elements, or the other way round."""
    fork = next((n for n, (one, other) in enumerate(zip(path, place, strict=False)) if one != other), None)
    if fork is None:
        return len(place) < len(path)
    if "[]" not in (path[fork], place[fork]):
        return False
    siblings = [each for each in rules if len(each) > fork and each[:fork] == path[:fork]]
    return not any((each[fork] == "[]") == (place[fork] == "[]") for each in siblings)


@st.composite
def cases(draw: Any) -> tuple[dict[tuple[str, ...], str], str, dict[str, Any], dict[str, tuple[str, ...]]]:
    rules = draw(POLICIES)
    if ("*",) in rules:
        rules[("pk",)] = draw(st.sampled_from(["keep", "hash"]))
    canaries = Canaries()
    names = draw(st.sets(st.sampled_from("abcd"), min_size=1))
    image = {name: canaries.value(draw, (name,), 3) for name in sorted(names)}
    return rules, draw(st.sampled_from(["quarantine", "drop"])), image, canaries.at


def everything(side: LakeSide) -> str:
    """What the lake account, the gaps and the reasons hold."""
    tables = [row for table in side.dynamodb.tables.values() for row in table.items.values()]
    reasons = [(name, document["reason"]) for name, document in side.place.documents.items()]
    return json.dumps([tables, reasons, side.gaps.details], default=_text)


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


def canaries_in(text: str, canaries: Mapping[str, Any]) -> set[str]:
    return {each for each in canaries if each in text or _base64(f"{CANARY}{each}") in text}


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_no_canary_under_a_protected_path_reaches_the_lake(
    case: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rules, mismatch, image, places = case
    caplog.clear()
    try:
        policy = Policy(
            {written(path): action for path, action in rules.items()},
            key_attributes=["pk"],
            hash_key=KEY,
            mismatch=mismatch,
        )
    except PolicyError:
        assume(False)
    side = LakeSide(policy)
    with caplog.at_level(logging.DEBUG):
        report = side.replicator().process(event_of(record(1, "k", NewImage={"pk": {"S": "k"}, **image})))
    hidden = {canary for canary, place in places.items() if is_protected(rules, place)}
    logs = "\n".join(f"{each.getMessage()} {each.__dict__}" for each in caplog.records)
    assert not canaries_in(everything(side) + logs, dict.fromkeys(hidden))
    if report.outcomes["quarantined"]:
        assert mismatch == "quarantine"
        assert report.outcomes["policy_mismatches"] == 1
        assert not side.table.items
        (document,) = side.place.documents.values()
        assert document["record"]["dynamodb"]["NewImage"] == {"pk": {"S": "k"}, **image}, "kept whole"
    elif not report.outcomes["policy_mismatches"]:
        assert canaries_in(everything(side), places) == places.keys() - hidden, "and nothing else is withheld"


# The cases of the table in docs/security.md

TEN: Final[dict[str, dict[str, Any]]] = {
    "S": {"S": "canary"}, "N": {"N": "424242"}, "B": {"B": "Y2FuYXJ5"}, "BOOL": {"BOOL": True},
    "SS": {"SS": ["canary"]}, "NS": {"NS": ["424242"]}, "BS": {"BS": ["Y2FuYXJ5"]},
    "L": {"L": [{"S": "canary"}]}, "M": {"M": {"canary": {"S": "canary"}}}, "NULL": {"NULL": True},
}  # fmt: skip
EMPTY: Final[tuple[dict[str, Any], ...]] = ({"NULL": True}, {"S": ""}, {"L": []}, {"M": {}})


def nested(path: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """An item with this value at a path."""
    attribute, *steps = parse_path(path)
    inner: Any = value
    for step in reversed(steps):
        inner = {"M": {step: inner}} if isinstance(step, str) else {"L": [inner]}
    assert isinstance(attribute, str)
    return {attribute: inner}


@pytest.mark.parametrize("tag", TEN)
@pytest.mark.parametrize(
    ("path", "at", "needs"),
    [
        ("a.x", "a", "M"),
        ("a.x.y", "a.x", "M"),
        ("a[].x", "a", "L"),
        ("a[].x", "a[]", "M"),
        ("a[]", "a", "L"),
        ("a.x[].y", "a.x", "L"),
        ("a.*", "a", "M"),
        ("a[].*", "a[]", "M"),
    ],
)
@pytest.mark.parametrize("action", ["drop", "hash", "mask"])
def test_a_value_of_another_type_than_its_path_needs_does_not_pass(
    path: str, at: str, needs: str, tag: str, action: Any
) -> None:
    source = {"pk": {"S": "k"}, **nested(at, TEN[tag])}
    policy = Policy({path: action}, hash_key=KEY)
    if tag == "NULL":
        assert policy.apply(source) == source, "an explicit NULL holds nothing"
    elif tag != needs:
        with pytest.raises(PolicyRefusedError) as refused:
            policy.apply(source)
        assert "canary" not in str(refused.value)
        assert tag in str(refused.value)
        reasons: list[str] = []
        kept = Policy({path: action}, hash_key=KEY, mismatch="drop").apply(source, reasons.append)
        assert kept["pk"] == {"S": "k"}
        assert len(reasons) == 1
        for canary in ("canary", "424242", "Y2FuYXJ5"):
            assert canary not in json.dumps(kept) + "".join(reasons)


@pytest.mark.parametrize("value", EMPTY)
@pytest.mark.parametrize("path", ["a.x", "a[].x", "a[]", "a.*"])
def test_an_empty_value_and_an_absent_attribute_hold_nothing_to_protect(path: str, value: Any) -> None:
    policy = Policy({path: "drop"})
    sources: list[dict[str, Any]] = [{"a": value}, {"b": {"S": "x"}}, {"a": {"M": {}}}]
    for source in sources:
        if path.startswith("a[]") or "M" not in source.get("a", {}):
            assert policy.apply(source) == source


@pytest.mark.parametrize(
    "value",
    [{}, {"M": "canary"}, {"L": {"x": {"S": "canary"}}}, {"m": {"x": {"S": "canary"}}}, {"canary": "canary"},
     {"M": {}, "S": "canary"}, {"NULL": "canary"}, "canary", None, ["canary"]],
)  # fmt: skip
@pytest.mark.parametrize("path", ["a.x", "a[].x"])
def test_what_is_no_dynamodb_json_does_not_pass(path: str, value: Any) -> None:
    with pytest.raises(PolicyRefusedError) as refused:
        Policy({path: "drop"}).apply({"a": value})
    assert "canary" not in str(refused.value)
    assert Policy({path: "drop"}, mismatch="drop").apply({"a": value}) == {}


def test_a_dropped_element_or_member_leaves_the_rest() -> None:
    policy = Policy({"a[].x": "hash", "b.x.y": "drop"}, hash_key=KEY, mismatch="drop")
    reasons: list[str] = []
    source: dict[str, Any] = {
        "a": {"L": [{"S": "canary"}, {"M": {"x": {"S": "v"}, "z": {"N": "1"}}}]},
        "b": {"M": {"x": {"S": "canary"}, "z": {"N": "2"}}},
    }
    kept = policy.apply(source, reasons.append)
    assert kept == {
        "a": {"L": [{"M": {"x": kept["a"]["L"][0]["M"]["x"], "z": {"N": "1"}}}]},
        "b": {"M": {"z": {"N": "2"}}},
    }
    assert reasons == [
        "the policy cannot be applied at 'a[]': the value is of type S, where the path needs a map",
        "the policy cannot be applied at 'b.x': the value is of type S, where the path needs a map",
    ]


def test_a_rule_may_say_otherwise_than_the_policy_and_the_strictest_of_a_place_counts() -> None:
    strict = Policy({"a.x": "drop", "b.x": Rule("drop", "drop"), "c.x": Rule("drop", "drop"), "c.y": "mask"})
    assert strict.apply({"b": {"S": "canary"}}) == {}
    lenient = Policy({"a.x": Rule("drop", "quarantine"), "b.x": "drop"}, mismatch="drop")
    assert lenient.apply({"b": {"S": "canary"}}) == {}
    for policy, attribute in ((strict, "a"), (strict, "c"), (lenient, "a")):
        with pytest.raises(PolicyRefusedError):
            policy.apply({attribute: {"S": "canary"}})


def test_rules_for_both_types_of_one_place_make_a_path_for_each() -> None:
    policy = Policy({"a.x": "drop", "a[].y": "drop"})
    assert policy.apply({"a": {"M": {"x": {"S": "canary"}, "z": {"S": "z"}}}}) == {
        "a": {"M": {"z": {"S": "z"}}}
    }
    assert policy.apply({"a": {"L": [{"M": {"y": {"S": "canary"}}}]}}) == {"a": {"L": [{"M": {}}]}}
    with pytest.raises(PolicyRefusedError, match="needs a map or a list"):
        policy.apply({"a": {"S": "canary"}})


# Splits

SPLIT: Final = Segments("#", after={"CUSTOMER": "hash", "ORDER": "keep"})


def segments_of(segments: Segments, value: Mapping[str, Any], mismatch: Any = "quarantine") -> Any:
    return Policy({"a": segments}, hash_key=KEY, mismatch=mismatch).apply({"a": value}).get("a")


@pytest.mark.parametrize("tag", sorted(TEN.keys() - {"S", "NULL"}))
def test_only_a_text_has_segments(tag: str) -> None:
    with pytest.raises(PolicyRefusedError, match=f"of type {tag}"):
        segments_of(SPLIT, TEN[tag])
    assert segments_of(SPLIT, TEN[tag], "drop") is None


@pytest.mark.parametrize("value", EMPTY)
def test_what_is_empty_has_no_segments_to_protect(value: Any) -> None:
    assert segments_of(SPLIT, value) == value


@pytest.mark.parametrize(
    "text",
    [
        "ann@example.org", "CUSTOMER:ann@example.org", "CUSTOMER ann@example.org", "CUSTOMER＃ann@example.org",
        "customer#ann@example.org", "Customer#ann@example.org#ORDER#7", " CUSTOMER#ann@example.org",
        "CUSTOMER #ann@example.org", "ＣＵＳＴＯＭＥＲ#ann@example.org", "ORDER#7#customer#ann@example.org",
        "ORDER#7#CUSTOMER:ann@example.org", "customer-ann@example.org#ORDER#7", "CUSTOMER#customer#ann@example.org",
    ],
)  # fmt: skip
def test_a_text_without_its_separator_or_with_a_prefix_spelt_otherwise_does_not_pass(text: str) -> None:
    with pytest.raises(PolicyRefusedError) as refused:
        segments_of(SPLIT, {"S": text})
    assert "ann@" not in str(refused.value)
    assert segments_of(SPLIT, {"S": text}, "drop") is None


@pytest.mark.parametrize(
    "text",
    ["ORDER#7", "ORDER", "CUSTOMER", "PRODUCT#7", "CUSTOMERS#all", "CUSTOMER_STATUS#new", "ORDER#7#ORDER#8"],
)
def test_a_text_that_the_policy_does_not_speak_of_passes(text: str) -> None:
    assert segments_of(SPLIT, {"S": text}) == {"S": text}


@given(st.text("CUSTOMERcustomer#:ann ", min_size=1, max_size=30), st.sampled_from([0, 1, 2, -1, -2]))
def test_a_position_is_hashed_or_the_text_does_not_pass(text: str, position: int) -> None:
    parts = text.split("#")
    segments = Segments("#", at={position: "mask"})
    if -len(parts) <= position < len(parts):
        expected = [*parts]
        expected[position] = "***"
        assert segments_of(segments, {"S": text}) == {"S": "#".join(expected)}
    else:
        with pytest.raises(PolicyRefusedError):
            segments_of(segments, {"S": text})


LABELS = st.sampled_from(["CUSTOMER", "customer", "Customer", "ORDER", "order", "cUSTOMER "])
PEOPLE = st.sampled_from(["ann-canary", "bob-canary", "ORDER", "CUSTOMER", "customer"])


@given(st.lists(st.tuples(LABELS, PEOPLE), min_size=1, max_size=3), st.booleans())
def test_no_segment_behind_a_protected_prefix_passes_in_any_case(pairs: Any, closed: bool) -> None:
    text = "#".join(f"{label}#{person}" for label, person in pairs)
    segments = Segments("#", after=SPLIT.after, others="hash" if closed else "keep")
    try:
        kept = segments_of(segments, {"S": text})["S"]
    except PolicyRefusedError:
        assert not closed
        return
    for position, (label, person) in enumerate(pairs):
        if "canary" in person and label.strip().casefold() == "customer":
            assert kept.split("#")[2 * position + 1] != person


@pytest.mark.parametrize("text", ["ann@example.org", "customer#ann", "x#CUSTOMER#ORDER#ann", "CUSTOMER:ann"])
def test_others_closes_a_split_for_what_it_does_not_name(text: str) -> None:
    segments = Segments("#", after=SPLIT.after, others="hash")
    assert "ann" not in segments_of(segments, {"S": text})["S"]
    assert segments_of(segments, {"S": "ORDER#7"}) == {"S": "ORDER#7"}


def test_a_key_that_cannot_be_split_is_refused_whatever_the_mode_is() -> None:
    policy = Policy({"pk": SPLIT}, key_attributes=["pk"], hash_key=KEY, mismatch="drop")
    side = LakeSide(policy)
    report = side.replicator().process(
        event_of(record(1, "ann@example.org"), record(2, "ann@example.org", "REMOVE"), record(3, "ORDER#3"))
    )
    assert report.outcomes["quarantined"] == report.outcomes["policy_mismatches"] == 2
    assert side.shown() == {"ORDER#3": "3"}
    assert "ann@" not in everything(side)


# Default deny


def test_a_policy_can_be_an_allow_list() -> None:
    policy = Policy(
        {
            "*": "drop",
            "pk": "keep",
            "name": "keep",
            "mail": "hash",
            "address.city": "keep",
            "tags[].t": "keep",
        },
        key_attributes=["pk"],
        hash_key=KEY,
    )
    source = {
        **item("k", 1),
        "name": {"S": "n"},
        "mail": {"S": "m"},
        "new": {"S": "canary"},
        "address": {"M": {"city": {"S": "c"}, "street": {"S": "canary"}, "geo": {"M": {"lat": {"N": "1"}}}}},
        "tags": {"L": [{"M": {"t": {"N": "1"}, "u": {"S": "canary"}}}]},
    }
    kept = policy.apply(source)
    assert kept == {
        "pk": {"S": "k"},
        "name": {"S": "n"},
        "mail": kept["mail"],
        "address": {"M": {"city": {"S": "c"}}},
        "tags": {"L": [{"M": {"t": {"N": "1"}}}]},
    }
    assert not policy.lossless
    assert policy.changes("new")
    assert not policy.changes("pk")
    for changed in ({"address": {"S": "canary"}}, {"tags": {"M": {"t": {"S": "canary"}}}}):
        with pytest.raises(PolicyRefusedError):
            policy.apply({**source, **changed})


@pytest.mark.parametrize("action", ["drop", "hash", "mask"])
def test_a_new_attribute_does_not_pass_by_itself(action: Any) -> None:
    side = LakeSide(Policy({"*": action, "pk": "keep", "n": "keep"}, key_attributes=["pk"], hash_key=KEY))
    image = item("k", 1, **{f"new{tag}": value for tag, value in TEN.items()})
    side.replicator().process(event_of(record(1, "k", NewImage=image)))
    assert side.shown() == {"k": "1"}
    assert "canary" not in everything(side)
    assert "424242" not in everything(side)
    row = side.row("k") or {}
    assert ("newS" in row) == (action != "drop")
    assert ("newS" in everything(side)) == (action != "drop"), "the catalogue does not name it either"


def test_default_deny_within_a_map_and_its_opposite() -> None:
    address = {"address": {"M": {"city": {"S": "c"}, "street": {"S": "s"}}}}
    assert Policy({"address.*": "drop", "address.city": "keep"}).apply(address) == {
        "address": {"M": {"city": {"S": "c"}}}
    }
    opposite = Policy({"*": "drop", "address": "keep", "address.street": "drop"})
    assert opposite.apply({**address, "new": {"S": "x"}}) == {"address": {"M": {"city": {"S": "c"}}}}
    opened = Policy({"*": "drop", "address.*": "keep", "address.street": "mask"})
    assert opened.apply(address) == {"address": {"M": {"city": {"S": "c"}, "street": {"S": "***"}}}}


def test_a_star_that_belongs_to_a_name_is_written_with_a_backslash() -> None:
    policy = Policy({r"\*": "drop", "a*": "drop", r"b.\*": "drop"})
    source: dict[str, Any] = {
        "*": {"S": "1"},
        "a*": {"S": "2"},
        "c": {"S": "3"},
        "b": {"M": {"*": {"S": "4"}, "x": {"S": "5"}}},
    }
    assert policy.apply(source) == {"c": {"S": "3"}, "b": {"M": {"x": {"S": "5"}}}}


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        ({"*": "drop"}, "'pk' is a key attribute: say what becomes of it"),
        ({"*": "mask", "pk.x": "hash"}, "neither members nor elements"),
        ({"pk[]": "hash"}, "neither members nor elements"),
        ({"pk": Segments("#", others="mask")}, "would mask 'pk'"),
        ({"a.*.b": "drop"}, "cannot be read at character 4"),
        ({"*.b": "drop"}, "cannot be read at character 2"),
        ({"a": "drop", "a.b": "keep"}, "keeps a part of 'a'"),
        ({"a": "drop", "a.*": "keep"}, "keeps a part of 'a'"),
        ({"a": "drop", r"\a": "hash"}, "two rules for the path"),
        ({"a.*": Segments("#", at={0: "hash"})}, "cannot be split"),
        ({"a": "Drop"}, "is 'Drop'"),
        ({"a": "hide"}, "is 'hide'"),
        ({"a": None}, "is None"),
        ({"a": ["drop"]}, "write one of"),
        ({"a": Segments("#", after={"C": "HASH"})}, "is 'HASH'"),  # type: ignore[dict-item]
        ({"a": Segments("#", after="C")}, "write one of"),  # type: ignore[arg-type]
        ({"a": Segments("", at={0: "hash"})}, "splits at nothing"),
        ({"a": Rule("drop", "Quarantine")}, "write quarantine or drop"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(actions: Any, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        Policy(actions, key_attributes=["pk"], hash_key=KEY)


@pytest.mark.parametrize(
    "document",
    [["a"], {"a": {"action": "drop", "more": 1}}, {"a": {"split": "#", "at": {"x": "hash"}}}, {"a": {}}],
)
def test_a_written_policy_that_cannot_be_read_is_refused(document: Any) -> None:
    with pytest.raises(PolicyError):
        actions_from(document)


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(PolicyError, match="policy_mismatch"):
        Policy({}, mismatch="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("source_type", ["N", "B"])
def test_a_split_of_a_key_that_is_no_text_is_refused_before_the_first_row(source_type: Any) -> None:
    policy = Policy({"pk": SPLIT}, key_attributes=["pk"], hash_key=KEY)
    assert policy.key_type("pk", "S") == "S"
    with pytest.raises(PolicyError, match="only a text has segments"):
        policy.key_type("pk", source_type)


# The hash

SCALARS = st.one_of(
    st.text(max_size=4).map(lambda text: {"S": text}),
    st.binary(max_size=4).map(lambda data: {"B": base64.b64encode(data).decode()}),
    st.decimals(-1000, 1000, places=3).map(lambda number: {"N": str(number)}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.sets(st.sampled_from(["1", "1.5", "2"]), min_size=1).map(lambda members: {"NS": sorted(members)}),
    st.sets(st.text(max_size=2), min_size=1, max_size=3).map(lambda members: {"SS": sorted(members)}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda elements: {"L": elements})
        | st.dictionaries(st.text(max_size=2), inner, max_size=2).map(lambda members: {"M": members})
    ),
    max_leaves=5,
)


def respelt(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same value in other words: numbers with another exponent or zeros, members and sets in another order."""
    ((tag, content),) = value.items()
    match tag:
        case "N":
            yield {"N": f"{content}E0"}
            yield {"N": f"+{content}" if content[0] != "-" else f"-0{content[1:]}"}
            yield {"N": content + ("0" if "." in content else ".000")}
        case "NS":
            yield {"NS": [f"{number}E0" for number in reversed(content)]}
        case "SS":
            yield {"SS": list(reversed(content))}
        case "L":
            yield {"L": [next(respelt(element), element) for element in content]}
        case "M":
            yield {"M": {name: next(respelt(content[name]), content[name]) for name in reversed(content)}}


def meaning(value: Mapping[str, Any]) -> Any:
    """A value as something that is equal exactly where the values are."""
    from decimal import Decimal

    ((tag, content),) = value.items()
    match tag:
        case "N":
            return tag, Decimal(content)
        case "NS":
            return tag, frozenset(map(Decimal, content))
        case "SS":
            return tag, frozenset(content)
        case "L":
            return tag, tuple(map(meaning, content))
        case "M":
            return tag, frozenset((name, meaning(member)) for name, member in content.items())
    return tag, content


@given(st.lists(VALUES, min_size=2, max_size=6))
def test_equal_values_share_a_hash_wherever_they_are_and_others_never_do(
    values: list[dict[str, Any]],
) -> None:
    policy = Policy({"a": "hash", "b.x": "hash", "c[]": "hash", "d.*": "hash", "pk": "hash"}, hash_key=KEY)
    hashes: dict[str, Any] = {}
    for value in values:
        for spelling in (value, *respelt(value)):
            kept = policy.apply(
                {
                    "a": spelling,
                    "b": {"M": {"x": spelling}},
                    "c": {"L": [spelling]},
                    "d": {"M": {"y": spelling}},
                    "pk": spelling,
                }
            )
            found = {
                kept["a"]["S"],
                kept["b"]["M"]["x"]["S"],
                kept["c"]["L"][0]["S"],
                kept["d"]["M"]["y"]["S"],
                kept["pk"]["S"],
            }
            assert len(found) == 1
            assert hashes.setdefault(found.pop(), meaning(value)) == meaning(value)
    assert len(hashes) == len({meaning(value) for value in values})
