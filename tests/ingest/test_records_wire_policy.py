"""From a stream record to a change: form, spelling, policy."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ForeignRecordError, MalformedRecordError, PolicyError
from ingest.policy import Policy, Segments
from ingest.records import Origin, change_of, lambda_event, last_change_per_key, sequence_number
from ingest.wire import from_boto3, to_boto3
from lake.contract.versions import streamed
from tests.ingest.building import (
    ARN,
    LABEL,
    NOW_MS,
    ORIGIN,
    TABLE_ARN,
    delete_change,
    item,
    put_change,
    record,
)

KEY = b"0123456789abcdef"


def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


# What a record means


def test_a_record_is_a_change() -> None:
    change = change_of(record(7, "a"), Policy(), ORIGIN)
    assert change == put_change("a", 7)
    assert change.version == streamed(LABEL, "7")


@pytest.mark.parametrize("event", ["INSERT", "MODIFY"])
def test_inserts_and_modifications_alike_carry_the_image(event: str) -> None:
    assert change_of(record(7, event=event), Policy(), ORIGIN).image == item("a", 7)


def test_a_removal_is_a_delete_even_if_it_brings_an_image() -> None:
    removal = record(7, event="REMOVE", NewImage=item("a", 6), OldImage=item("a", 5))
    assert change_of(removal, Policy(), ORIGIN) == delete_change("a", 7)


TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
DELETED_S = NOW_MS // 1000 - 1


@pytest.mark.parametrize("replicated_ttl", [None, "", "expires"])
@pytest.mark.parametrize("expires", [{"N": "1"}, {"N": "9999999999"}, {"S": "1"}, None])
def test_a_deletion_by_time_to_live_in_this_region_says_so(replicated_ttl: str | None, expires: Any) -> None:
    old = item("a", 6, **({"expires": expires} if expires else {}))
    removal = {**record(7, event="REMOVE", OldImage=old), "userIdentity": TTL}
    assert change_of(removal, Policy(), Origin(TABLE_ARN, replicated_ttl)).deleted_by == "ttl"


@pytest.mark.parametrize(
    ("replicated_ttl", "old", "who"),
    [
        ("", item("a", 6, expires={"N": "1"}), "user"),
        ("", None, "user"),
        (None, item("a", 6), "unknown"),
        (None, None, "unknown"),
        ("expires", None, "unknown"),
        ("expires", item("a", 6), "user"),
        ("expires", item("a", 6, expires={"S": "1"}), "user"),
        ("expires", item("a", 6, expires={"N": str(DELETED_S - 3600)}), "unknown"),
        ("expires", item("a", 6, expires={"N": str(DELETED_S)}), "unknown"),
        ("expires", item("a", 6, expires={"N": str(DELETED_S + 30)}), "unknown"),
        ("expires", item("a", 6, expires={"N": str(DELETED_S + 3600)}), "user"),
        ("expires", item("a", 6, expires={"N": "1.5E3"}), "unknown"),
    ],
)
def test_a_deletion_without_identity_is_a_user_s_only_where_that_is_certain(
    replicated_ttl: str | None, old: Any, who: str
) -> None:
    """A replica of a global table gets another Region's deletions by time-to-live without `userIdentity`."""
    removal = record(7, event="REMOVE", **({"OldImage": old} if old else {}))
    assert change_of(removal, Policy(), Origin(TABLE_ARN, replicated_ttl)).deleted_by == who


@pytest.mark.parametrize("principal", ["replication.dynamodb.amazonaws.com", "", None])
def test_a_deletion_by_another_service_is_nobody_s_that_is_known(principal: Any) -> None:
    identity = {"type": "Service", "principalId": principal}
    removal = {**record(7, event="REMOVE"), "userIdentity": identity}
    assert change_of(removal, Policy(), ORIGIN).deleted_by == "unknown"


@pytest.mark.parametrize(
    "created",
    [
        (NOW_MS - 1000) // 1000,
        (NOW_MS - 1000) / 1000,
        NOW_MS - 1000,
        float(NOW_MS - 1000),
        (NOW_MS - 1000) * 1000,
        str((NOW_MS - 1000) // 1000),
    ],
)
def test_the_time_of_a_change_is_the_same_in_every_unit(created: Any) -> None:
    assert (
        change_of(record(7, ApproximateCreationDateTime=created), Policy(), ORIGIN).source_at == NOW_MS - 1000
    )


@pytest.mark.parametrize(
    "created", [-1, 1e17, 1e30, float("inf"), float("nan"), "1e999", [], {"N": "1"}, 10**400]
)
def test_what_is_no_time_of_a_change_is_refused(created: Any) -> None:
    with pytest.raises(MalformedRecordError, match="is not a time"):
        change_of(record(7, ApproximateCreationDateTime=created), Policy(), ORIGIN)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:dynamodb:eu-west-1:111111111111:table/parcels",
        "arn:aws:dynamodb:eu-west-1:222222222222:table/orders",
        "arn:aws:dynamodb:eu-west-2:111111111111:table/orders",
        "arn:aws-cn:dynamodb:eu-west-1:111111111111:table/orders",
        "arn:aws:dynamodb:eu-west-1:111111111111:table/orders2",
        "arn:aws:dynamodb:eu-west-1:111111111111:table/Orders",
    ],
)
def test_a_record_of_another_table_is_refused(arn: str) -> None:
    with pytest.raises(ForeignRecordError, match="is of the table"):
        change_of({**record(7), "eventSourceARN": f"{arn}/stream/{LABEL}"}, Policy(), ORIGIN)


def test_a_record_of_the_table_s_next_stream_is_taken() -> None:
    """The stream gets another label when it is switched off and on."""
    later = "2026-12-01T00:00:00.000"
    change = change_of({**record(7), "eventSourceARN": f"{TABLE_ARN}/stream/{later}"}, Policy(), ORIGIN)
    assert change.version == streamed(later, "7")


def test_the_image_is_a_better_witness_of_the_key_than_the_keys_are() -> None:
    twice = {"pk": {"B": base64.b64encode(b"eA==").decode()}}
    once = {"pk": {"B": "eA=="}}
    assert change_of(record(7, Keys=twice, NewImage=once), Policy(), ORIGIN).key == once
    assert change_of(record(7, event="REMOVE", Keys=twice, OldImage=once), Policy(), ORIGIN).key == once


MALFORMED: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "lacks its form"),
    "no record": ("text", "lacks its form"),
    "no body": (without(record(7), "dynamodb"), "lacks its form"),
    "a body of text": ({**record(7), "dynamodb": "x"}, "no sequence number"),
    "no event name": (without(record(7), "eventName"), "lacks its form"),
    "another event name": ({**record(7), "eventName": "DELETE"}, "'DELETE' is none of"),
    "no stream": (without(record(7), "eventSourceARN"), "lacks its form"),
    "no stream's ARN": ({**record(7), "eventSourceARN": "arn:aws:kinesis:x"}, "not the ARN"),
    "a stream without a time": ({**record(7), "eventSourceARN": f"{TABLE_ARN}/stream/x"}, "ISO timestamp"),
    "no sequence number": ({**record(7), "dynamodb": without(record(7)["dynamodb"], "SequenceNumber")}, "no sequence"),
    "a sequence number of text": (record(7, SequenceNumber="x"), "not a number"),
    "a sequence number of 41 digits": (record(7, SequenceNumber="1" * 41), "more than 40"),
    "no keys": ({**record(7), "dynamodb": without(record(7)["dynamodb"], "Keys")}, "lacks its form"),
    "empty keys": (record(7, Keys={}), "no keys"),
    "no image": (record(7, NewImage=None), "NEW_IMAGE"),
    "an image without its key": (record(7, NewImage={"n": {"N": "1"}}), "lacks a key"),
    "an image of text": (record(7, NewImage="x"), "lacks its form"),
    "a time of text": (record(7, ApproximateCreationDateTime="now"), "not a time"),
    "a key without a type": (record(7, Keys={"pk": {}}, NewImage={"pk": {}}), "a key attribute"),
    "a key of two types": (record(7, event="REMOVE", Keys={"pk": {"S": "a", "N": "1"}}), "a key attribute"),
    "a key of no key's type": (record(7, event="REMOVE", Keys={"pk": {"BOOL": True}}), "a key attribute"),
    "a key that is no text": (record(7, event="REMOVE", Keys={"pk": {"N": 7}}), "a key attribute"),
    "a reserved name": (record(7, NewImage=item("a", 1, _lake_x={"S": ""})), "'_lake_x' begins with"),
    "a reserved key": (record(7, event="REMOVE", Keys={"_lake_k": {"S": ""}}), "'_lake_k' begins with"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_can_never_apply_says_why(name: str) -> None:
    wrong, why = MALFORMED[name]
    with pytest.raises(MalformedRecordError, match=why):
        change_of(wrong, Policy(), ORIGIN)


def test_a_reason_never_holds_a_value() -> None:
    secret = record(7, NewImage=item("a", 1, _lake_x={"S": "4111-1111"}))
    with pytest.raises(MalformedRecordError) as raised:
        change_of(secret, Policy(), ORIGIN)
    assert "4111" not in str(raised.value)


def test_a_record_without_a_number_cannot_be_named() -> None:
    for wrong in ({}, {"dynamodb": None}, "x"):
        with pytest.raises(MalformedRecordError):
            sequence_number(wrong)


def test_the_last_change_of_a_key_stays_whatever_the_order() -> None:
    changes = [
        put_change("a", 2),
        put_change("b", 3),
        delete_change("a", 9),
        put_change("a", 10),
        put_change("b", 1),
    ]
    for order in (changes, changes[::-1]):
        kept = {change.key["pk"]["S"]: change for change in last_change_per_key(order)}
        assert kept == {"a": put_change("a", 10), "b": put_change("b", 3)}


def test_keys_that_look_alike_are_two_keys() -> None:
    keys = [
        {"pk": {"S": "1"}},
        {"pk": {"N": "1"}},
        {"pk": {"S": "1"}, "sk": {"S": "2"}},
        {"pk": {"S": "2"}, "sk": {"S": "1"}},
    ]
    records = [record(n, Keys=key, NewImage=key) for n, key in enumerate(keys, 1)]
    assert len(last_change_per_key(change_of(each, Policy(), ORIGIN) for each in records)) == 4


def test_the_api_s_records_become_what_lambda_delivers() -> None:
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": datetime.fromtimestamp(NOW_MS // 1000 - 1, UTC),
        "Keys": {"pk": {"S": "a"}},
        "NewImage": {"pk": {"S": "a"}, "raw": {"B": b"\xff"}},
        "SequenceNumber": "7",
    }
    identity = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    given_by_api = {"eventName": "INSERT", "dynamodb": body}
    (delivered,) = lambda_event([given_by_api], ARN)["Records"]
    change = change_of(delivered, Policy(), ORIGIN)
    assert change.image == {"pk": {"S": "a"}, "raw": {"B": "/w=="}}
    assert change.source_at == NOW_MS - 1000
    removal = {"eventName": "REMOVE", "dynamodb": body, "userIdentity": identity}
    (delivered,) = lambda_event([removal], ARN)["Records"]
    assert change_of(delivered, Policy(), ORIGIN).deleted_by == "ttl"
    assert body["NewImage"]["raw"] == {"B": b"\xff"}, "what was given stays as it was"


# The two spellings

SCALARS = st.one_of(
    st.text(max_size=5).map(lambda text: {"S": text}),
    st.integers().map(lambda number: {"N": str(number)}),
    st.binary(max_size=5).map(lambda data: {"B": data}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.lists(st.binary(max_size=3), min_size=1, max_size=3).map(lambda members: {"BS": members}),
    st.lists(st.text(max_size=3), min_size=1, max_size=3).map(lambda members: {"SS": members}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda elements: {"L": elements}),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda members: {"M": members}),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_binary_survives_both_spellings_at_any_depth(boto3_item: dict[str, Any]) -> None:
    wire = from_boto3(boto3_item)
    assert to_boto3(wire) == boto3_item
    assert b"" not in _leaves(wire)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in _leaves(member)]
    if isinstance(value, list):
        return [leaf for member in value for leaf in _leaves(member)]
    return [value] if isinstance(value, bytes) else []


@pytest.mark.parametrize(
    "wrong",
    [{"B": "@"}, {"B": "YQ"}, {"BS": ["YQ==", "@"]}, {"M": {"a": {"B": "é"}}}, {"L": [{"B": "@"}]},
     {"B": None}, {"B": 1}, {"BS": 1}, {}, {"S": "a", "N": "1"}, "text", None, {"L": [None]}, {"M": {"a": "x"}}],
)  # fmt: skip
def test_what_is_no_dynamodb_json_is_malformed(wrong: Any) -> None:
    with pytest.raises(MalformedRecordError):
        to_boto3({"a": wrong})


# Policy


def test_keep_drop_hash_mask() -> None:
    policy = Policy({"a": "keep", "b": "drop", "c": "hash", "d": "mask", "absent": "mask"}, hash_key=KEY)
    source = {name: {"S": "x"} for name in "abcde"}
    kept = policy.apply(source)
    assert kept == {"a": {"S": "x"}, "c": kept["c"], "d": {"S": "***"}, "e": {"S": "x"}}
    assert len(kept["c"]["S"]) == 64
    assert source == {name: {"S": "x"} for name in "abcde"}
    assert not policy.lossless
    assert Policy({"a": "keep"}).lossless


def hashed(value: Mapping[str, Any], key: bytes = KEY) -> str:
    return str(Policy({"a": "hash"}, hash_key=key).apply({"a": value})["a"]["S"])


EQUAL = [
    [{"N": "1"}, {"N": "1.0"}, {"N": "10E-1"}],
    [{"SS": ["a", "b"]}, {"SS": ["b", "a"]}],
    [{"NS": ["1", "2"]}, {"NS": ["2.0", "1"]}],
    [{"M": {"a": {"N": "1"}, "b": {"S": ""}}}, {"M": {"b": {"S": ""}, "a": {"N": "1.0"}}}],
    [{"L": [{"N": "0"}]}, {"L": [{"N": "-0"}]}],
]
DIFFERENT: list[dict[str, Any]] = [
    {"S": "1"}, {"N": "1"}, {"B": "1"}, {"SS": ["1"]}, {"NS": ["1"]}, {"BS": ["1"]}, {"BOOL": True}, {"BOOL": False},
    {"NULL": True}, {"L": []}, {"M": {}}, {"S": ""}, {"L": [{"S": "1"}]}, {"L": [{"N": "1"}]},
    {"L": [{"S": "1"}, {"S": ""}]},
    {"SS": ["a,b"]}, {"SS": ["a", "b"]}, {"L": [{"S": "a"}, {"S": "b"}]}, {"S": '["S", "1"]'}, {"M": {"S": {"S": "1"}}},
    {"L": [{"L": []}, {"L": []}]}, {"L": [{"L": [{"L": []}]}]}, {"S": "\u00c9"}, {"S": "E\u0301"},
]  # fmt: skip


@pytest.mark.parametrize("values", EQUAL)
def test_equal_values_have_equal_hashes(values: list[Any]) -> None:
    assert len(set(map(hashed, values))) == 1


def test_values_that_differ_never_do_whatever_their_types() -> None:
    assert len(set(map(hashed, DIFFERENT))) == len(DIFFERENT)


def test_a_hash_depends_on_its_key_and_does_not_change_with_releases() -> None:
    assert hashed({"S": "x"}) != hashed({"S": "x"}, b"another key, long")
    assert hashed({"S": "x"}) == hmac.new(KEY, b'["S", "x"]', "sha256").hexdigest()


@pytest.mark.parametrize("action", ["drop", "mask"])
def test_a_key_can_be_kept_or_hashed_and_no_more(action: Any) -> None:
    with pytest.raises(PolicyError, match="key attribute"):
        Policy({"pk": action}, key_attributes=["pk"], hash_key=KEY)
    assert Policy({"pk": "hash"}, key_attributes=["pk"], hash_key=KEY).key_type("pk", "N") == "S"
    assert Policy({"n": action}, key_attributes=["pk"]).key_type("pk", "N") == "N"


@pytest.mark.parametrize(("key", "why"), [(None, "no key"), (b"short", "5 bytes")])
def test_a_hash_without_a_sound_secret_is_refused(key: bytes | None, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        Policy({"a": "hash"}, hash_key=key)


def test_the_key_in_the_image_and_the_key_alone_are_hashed_alike() -> None:
    policy = Policy({"pk": "hash"}, key_attributes=["pk"], hash_key=KEY)
    put = change_of(record(1, "a"), policy, ORIGIN)
    removal = change_of(record(2, "a", "REMOVE"), policy, ORIGIN)
    assert put.image is not None
    assert put.key == removal.key == {"pk": put.image["pk"]}
    assert put.key != {"pk": {"S": "a"}}
    assert len(last_change_per_key([put, removal, change_of(record(3, "b"), policy, ORIGIN)])) == 2


def test_a_segment_s_hash_is_that_of_the_text_alone() -> None:
    policy = Policy(
        {"pk": Segments("#", after={"CUSTOMER": "hash"}), "email": "hash"},
        key_attributes=["pk"],
        hash_key=KEY,
    )
    kept = policy.apply({"pk": {"S": "CUSTOMER#a@b#ORDER#7"}, "email": {"S": "a@b"}})
    assert kept["pk"]["S"] == f"CUSTOMER#{kept['email']['S']}#ORDER#7"
