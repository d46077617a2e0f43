"""Every item that DynamoDB can hold goes through the whole path, handler to lake to reader, and is the same.

The stream's record is made from the source's item; the handler writes it over HTTP with its direct writer, and
with boto3's; the table behind the endpoint checks keys, sizes and numbers as DynamoDB does.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from expectations.canonical import canonical_text
from ingest.apply import Applier
from ingest.errors import MalformedRecordError
from ingest.handler import Replicator
from ingest.lakewriter import LakeWriter, PlainWriter, direct_writer
from ingest.wire import from_boto3, to_boto3
from lake.contract.rows import MAX_ITEM_BYTES, lake_row, source_item
from tests.ingest.building import LAKE, NOW_MS, ORIGIN, LakeSide, event_of, put_change, record
from tests.ingest_speed.clients import client_of
from tests.ingest_speed.endpoint import Endpoint, answer, refused_with
from tests.stubs.dynamodb import item_bytes

Item = dict[str, Any]


class Lake:
    """A lake table behind HTTP, and the handler that writes to it."""

    def __init__(self, endpoint: Endpoint, plain: bool, key: Mapping[str, str] | None = None) -> None:
        self.side = LakeSide(key=key)
        endpoint.otherwise = self._play
        client = client_of(endpoint.url)
        writer: LakeWriter = PlainWriter(client) if plain else direct_writer(client)
        applier = Applier(
            client,
            LAKE,
            now_ms=lambda: NOW_MS,
            sleep=time.sleep,
            random=Random(1),
            in_flight=1,
            writer=writer,
        )
        side = self.side
        self.replicator = Replicator(
            applier,
            side.policy,
            side.quarantine(),
            side.observer(),
            side.gaps,
            side.clock.now_ms,
            origin=ORIGIN,
        )

    def _play(self, connection: Any, request: Any) -> bool:
        content = json.loads(request.body)
        try:
            said = self.side.dynamodb.put_item(**{**content, "Item": to_boto3(content["Item"])})
        except (MalformedRecordError, ParamValidationError, TypeError, AttributeError):
            connection.sendall(refused_with("SerializationException"))
        except ClientError as error:
            details = error.response["Error"]
            connection.sendall(refused_with(details["Code"], details["Message"]))
        else:
            connection.sendall(answer(json.dumps(said).encode()))
        return True

    def goes_through(self, *items: Item, number: int = 1) -> None:
        """Deliver the items as one batch; each must be in the lake as it is in the source."""
        keys = tuple(self.side.table.key)
        records = [
            record(number + offset, NewImage=item, Keys={name: item[name] for name in keys})
            for offset, item in enumerate(items)
        ]
        event = json.loads(json.dumps(event_of(*records)))  # as Lambda hands it over
        report = self.replicator.process(event, within())
        assert report.failed_from is None
        assert not self.side.place.documents, self.side.place.documents
        rows = {canonical_text(source_item(from_boto3(row))) for row in self.side.table.items.values()}
        assert {canonical_text(item) for item in items} <= rows


def within() -> Callable[[], float]:
    """Not for ever, should a write never be answered."""
    until = time.monotonic() + 10
    return lambda: until - time.monotonic()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as made:
        yield made


@pytest.fixture(params=["direct", "plain"])
def lake(endpoint: Endpoint, request: pytest.FixtureRequest) -> Lake:
    return Lake(endpoint, plain=request.param == "plain")


# Whatever there is

NUMBERS: Final = st.builds(
    lambda sign, digits, exponent: f"{sign}{digits}E{exponent}",
    st.sampled_from(["", "-"]),
    st.integers(1, 10**38 - 1),
    st.integers(-130, 87),
) | st.sampled_from(
    [
        "0",
        "-0",
        "0.0",
        "1E-130",
        "-1E-130",
        "9.9999999999999999999999999999999999999E+125",
        "-9.9999999999999999999999999999999999999E+125",
        "99999999999999999999999999999999999999",
        "0.12345678901234567890123456789012345678",
        "1.10",
        "100",
        "1e2",
        "18446744073709551616",
        "-9223372036854775809",
    ]
)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
BYTES: Final = st.binary(max_size=60).map(lambda content: base64.b64encode(content).decode())
NASTY: Final = st.sampled_from(
    [
        "a.b", "a[0]", "#name", ":value", "size", "SELECT", "ttl", "'", '"', "\\", "`", "\n", "\0", " ", "ключ", "💥",
        "__type", "S", "M", "constructor", "a,b", "a:b", "lake_version", "_Lake_", "%s", "{}", "</script>", "\u2028",
    ]
)  # fmt: skip
NAMES: Final = (NASTY | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)).filter(
    lambda name: not name.startswith("_lake_")
)


def _sets(members: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(members, min_size=1, max_size=4, unique=True)


VALUES: Final = st.recursive(
    st.one_of(
        TEXTS.map(lambda text: {"S": text}),
        NUMBERS.map(lambda number: {"N": number}),
        BYTES.map(lambda content: {"B": content}),
        st.booleans().map(lambda yes: {"BOOL": yes}),
        st.just({"NULL": True}),
        _sets(TEXTS).map(lambda members: {"SS": members}),
        _sets(BYTES).map(lambda members: {"BS": members}),
        st.lists(st.integers(-(10**37), 10**37), min_size=1, max_size=4, unique=True).map(
            lambda members: {"NS": [str(member) for member in members]}
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda elements: {"L": elements})
        | st.dictionaries(NAMES, inner, max_size=4).map(lambda members: {"M": members})
    ),
    max_leaves=12,
)
ITEMS: Final = st.dictionaries(NAMES.filter(lambda name: name != "pk"), VALUES, max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ITEMS)
@example({"e": {"S": ""}, "b": {"B": ""}, "l": {"L": []}, "m": {"M": {}}, "n": {"NULL": True}})
@example({"m": {"M": {"": {"S": ""}}}})
def test_any_item_is_the_same_in_the_lake(lake: Lake, attributes: Item) -> None:
    lake.side.table.items.clear()
    lake.goes_through({"pk": {"S": "k"}, **attributes})


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("S", ["k", " ", "é", "e\u0301", "💥", "\0", "a" * 2048, "#", "1"]),
        ("N", ["0", "-1", "1E-130", "9.9999999999999999999999999999999999999E+125", "1.5"]),
        ("B", ["AA==", "AAE=", base64.b64encode(bytes(range(256))).decode(), "//79"]),
    ],
)
def test_keys_of_every_type(endpoint: Endpoint, type_: str, values: list[str]) -> None:
    lake = Lake(endpoint, plain=False, key={"pk": type_, "sk": type_})
    items = [
        {"pk": {type_: first}, "sk": {type_: second}, "n": {"N": "1"}}
        for first in values
        for second in values
    ]
    lake.goes_through(*items)
    assert len(lake.side.table.items) == len(values) ** 2, "keys that differ stay apart"


def test_thirty_two_levels(lake: Lake) -> None:
    """DynamoDB's limit (developer guide, "Service quotas", nested attribute depth)."""
    for number, deepest in enumerate(({"S": "deep"}, {"M": {}}, {"L": []}), start=1):
        value: Any = deepest
        for level in range(31):
            value = {"M": {"down": value}} if level % 2 else {"L": [value]}
        lake.goes_through({"pk": {"S": "k"}, "deep": value}, number=number)


def test_a_name_as_long_as_an_item_may_have(lake: Lake) -> None:
    lake.goes_through({"pk": {"S": "k"}, "n" * 65_535: {"S": "v"}})


def of_size(row_bytes: int, filling: str = "x") -> Item:
    """An item whose lake row, with its metadata, has this many bytes."""
    bare = {"pk": {"S": "a"}, "n": {"N": "7"}, "filling": {"S": ""}}
    rest = row_bytes - item_bytes(lake_row(put_change("a", 7, filling={"S": ""}), NOW_MS))
    count, left = divmod(rest, len(filling.encode()))
    return {**bare, "filling": {"S": filling * count + "x" * left}}


@pytest.mark.parametrize("filling", ["x", "é", "💥", '"', "\n", "\0"])
def test_an_item_as_large_as_fits_with_the_metadata(lake: Lake, filling: str) -> None:
    lake.goes_through(of_size(MAX_ITEM_BYTES, filling), number=7)


@pytest.mark.parametrize("more", [1, 100])
def test_one_byte_more_goes_to_quarantine_whole(lake: Lake, more: int) -> None:
    large = of_size(MAX_ITEM_BYTES + more)
    assert item_bytes(large) <= MAX_ITEM_BYTES, "the source can hold it"
    report = lake.replicator.process(event_of(record(7, "a", NewImage=large), record(8, "b")), within())
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 1
    document = lake.side.kept(7)
    assert document["record"]["dynamodb"]["NewImage"] == large
    assert "400 KB" in document["reason"]
    assert set(lake.side.shown()) == {"b"}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"_lake_version": {"S": "9"}},
        {"_lake_": {"NULL": True}},
        {"_lake_deleted": {"S": "user"}},
        {"n": {"N": "1" * 39}},
        {"n": {"N": "not a number"}},
        {"n": {}},
        {"n": {"X": "?"}},
        {"n": None},
        {"n": ["S", "x"]},
        {"b": {"B": "not base64!"}},
    ],
    ids=str,
)
def test_what_no_row_can_hold_goes_to_quarantine_whole(lake: Lake, spoilt: Item) -> None:
    image = {"pk": {"S": "a"}, **spoilt}
    report = lake.replicator.process(event_of(record(1, "a", NewImage=image), record(2, "b")), within())
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 1
    assert lake.side.kept(1)["record"]["dynamodb"]["NewImage"] == image
    assert set(lake.side.shown()) == {"b"}


def test_a_nested_attribute_may_be_called_as_the_metadata(lake: Lake) -> None:
    lake.goes_through({"pk": {"S": "k"}, "m": {"M": {"_lake_version": {"S": "theirs"}}}})
