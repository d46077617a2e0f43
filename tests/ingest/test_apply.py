"""The rule on DynamoDB."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import botocore.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.apply import BACKOFF_CAP_S, Applier, Outcome, condition, longest_pause_s
from ingest.capacity import CapacityLimit
from ingest.errors import LakeUnavailableError
from lake.contract.rows import VERSION, Change
from lake.contract.versions import ABSENT, Version, read_over, streamed
from tests.ingest.building import LABEL, LakeSide, delete_change, fails, item, put_change
from tests.stubs.faults import (
    Call,
    Fault,
    client_error,
    connect_timeout,
    read_timeout,
    server_error,
    throttled,
)
from tests.waiting import PATIENCE_S


def read_change(pk: str, n: int, seen: Version, *, gone: bool = False) -> Change:
    image = None if gone else item(pk, n)
    return Change({"pk": {"S": pk}}, image, read_over(seen), read_over=seen)


def outcomes(side: LakeSide, *changes: Change) -> list[str]:
    return [result.outcome.value for result in side.applier().apply(changes)]


V5 = streamed(LABEL, "5")


@pytest.mark.parametrize(
    ("before", "change", "outcome", "shown"),
    [
        (None, put_change("a", 5), "applied", "5"),
        (None, delete_change("a", 5), "applied", None),
        (put_change("a", 5), put_change("a", 6), "applied", "6"),
        (put_change("a", 5), put_change("a", 5), "stale", "5"),
        (put_change("a", 5), put_change("a", 4), "stale", "5"),
        (put_change("a", 5), delete_change("a", 4), "stale", "5"),
        (put_change("a", 5), delete_change("a", 6), "applied", None),
        (delete_change("a", 5), put_change("a", 4), "stale", None),
        (delete_change("a", 5), put_change("a", 6), "applied", "6"),
        (None, read_change("a", 1, ABSENT), "applied", "1"),
        (put_change("a", 5), read_change("a", 1, ABSENT), "stale", "5"),
        (delete_change("a", 5), read_change("a", 1, ABSENT), "stale", None),
        (put_change("a", 5), read_change("a", 1, V5), "applied", "1"),
        (put_change("a", 5), read_change("a", 1, V5, gone=True), "applied", None),
        (delete_change("a", 5), read_change("a", 1, V5), "applied", "1"),
        (put_change("a", 6), read_change("a", 1, V5), "stale", "6"),
        (read_change("a", 1, ABSENT), read_change("a", 2, ABSENT), "stale", "1"),
        (read_change("a", 1, ABSENT), put_change("a", 4), "applied", "4"),
        (None, read_change("a", 1, V5), "stale", None),
    ],
)
def test_the_rule(before: Change | None, change: Change, outcome: str, shown: str | None) -> None:
    side = LakeSide()
    if before is not None:
        seed = Change(before.key, before.image, before.version)
        assert outcomes(side, seed) == ["applied"]
    assert outcomes(side, change) == [outcome]
    assert side.shown().get("a") == shown


def test_a_row_that_somebody_else_wrote_is_replaced() -> None:
    side = LakeSide()
    side.table.put(item("a", 99))
    assert outcomes(side, put_change("a", 1)) == ["applied"]
    assert side.shown() == {"a": "1"}


def test_a_late_change_that_came_before_a_repair_does_not_undo_it() -> None:
    side = LakeSide()
    outcomes(side, put_change("a", 5))
    assert outcomes(side, read_change("a", 7, V5)) == ["applied"]
    assert outcomes(side, put_change("a", 5), delete_change("b", 1)) == ["stale", "applied"]
    assert outcomes(side, put_change("a", 6)) == ["applied"], (
        "the stream's next change is newer than the read"
    )


CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=8).map(
    lambda spec: [put_change(k, n) if put else delete_change(k, n) for n, (k, put) in enumerate(spec, 8)]
)


@given(CHANGES, st.randoms(use_true_random=False))
def test_any_order_any_number_of_times_leaves_the_newest(changes: list[Change], chance: Random) -> None:
    side = LakeSide()
    side.dynamodb = side.dynamodb
    applier = side.applier()
    deliveries = [*changes, *chance.choices(changes, k=12)]
    chance.shuffle(deliveries)
    for change in deliveries:
        applier.apply([change])
    newest = {change.key["pk"]["S"]: change for change in changes}
    assert {row["pk"]["S"]: row[VERSION]["S"] for row in side.table.items.values()} == {
        key: change.version for key, change in newest.items()
    }
    assert side.shown() == {
        key: change.image["n"]["N"] for key, change in newest.items() if change.image is not None
    }


def test_every_permutation_of_three_changes_gives_the_same_row() -> None:
    changes = [put_change("a", 9), delete_change("a", 10), put_change("a", 11)]
    rows = []
    for order in itertools.permutations(changes):
        side = LakeSide()
        outcomes(side, *order)
        rows.append(side.row("a"))
    assert all(row == rows[0] for row in rows)


TEMPORARY: list[Callable[[], BaseException]] = [
    throttled,
    server_error,
    read_timeout,
    connect_timeout,
    lambda: client_error("PutItem", "ThrottlingException"),
    lambda: client_error("PutItem", "RequestLimitExceeded"),
    lambda: client_error("PutItem", "SomethingNew", status=503),
]


@pytest.mark.parametrize("error", TEMPORARY)
def test_what_passes_is_waited_out(error: Callable[[], BaseException]) -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", error, times=3)
    (result,) = side.applier().apply([put_change("a", 1)])
    assert (result.outcome, result.throttled) == (Outcome.APPLIED, 3)
    assert len(side.clock.slept) == 3


@pytest.mark.parametrize("error", TEMPORARY)
def test_but_only_as_long_as_there_is_time(error: Callable[[], BaseException]) -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", error)
    began = side.clock.s
    results = side.applier().apply([put_change("a", 1), put_change("b", 2)], side.clock.within(10.0))
    assert [result.outcome for result in results] == [Outcome.FAILED] * 2
    assert side.clock.s - began <= 10.0, "it reports before its time is over"
    assert all(result.reason for result in results)
    assert side.shown() == {}


def test_the_pauses_grow_and_stay_below_their_cap() -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", throttled, times=40)
    side.applier(random=_Greatest()).apply([put_change("a", 1)])
    assert side.clock.slept[:3] == [0.1, 0.2, 0.4]
    assert max(side.clock.slept) == 5.0


class _Greatest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_a_write_whose_answer_was_lost_is_stale_when_it_is_tried_again() -> None:
    side = LakeSide()
    faults = [Fault(read_timeout(), "done")]
    side.dynamodb.hook = lambda _: faults.pop() if faults else None
    assert outcomes(side, put_change("a", 1)) == ["stale"]
    assert side.shown() == {"a": "1"}


def test_a_write_that_lands_late_does_not_undo_newer_ones() -> None:
    side = LakeSide()
    faults = [Fault(read_timeout(), "later")]
    side.dynamodb.hook = lambda _: faults.pop() if faults else None
    outcomes(side, put_change("a", 1))
    outcomes(side, delete_change("a", 2))
    side.dynamodb.land()
    assert side.shown() == {}


def test_an_item_that_fits_the_source_and_not_the_lake_is_refused() -> None:
    side = LakeSide()
    large = put_change("a", 1, x={"S": "x" * (400 * 1024 - 60)})
    (result,) = side.applier().apply([large])
    assert result.outcome is Outcome.REFUSED
    assert "400 KB" in result.reason


@pytest.mark.parametrize(
    "value", [{"N": "one"}, {"B": "@"}, {"S": 5}, {"BOOL": "yes"}, {"X": "1"}, {"S": "a", "N": "1"}, "text"]
)
def test_a_value_that_no_table_takes_is_refused_alone(value: Any) -> None:
    side = LakeSide()
    assert outcomes(side, put_change("a", 1, bad=value), put_change("b", 2)) == ["refused", "applied"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: client_error("PutItem", "ResourceNotFoundException"), "does not exist"),
        (lambda: client_error("PutItem", "AccessDeniedException"), "check the role"),
        (lambda: client_error("PutItem", "UnrecognizedClientException"), "check the role"),
        (lambda: client_error("PutItem", "KMSAccessDeniedException"), "refuses writes"),
    ],
)
def test_a_lake_that_refuses_every_write_is_an_error_and_no_quarantine(
    error: Callable[[], BaseException], says: str
) -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", error)
    with pytest.raises(LakeUnavailableError, match=says):
        side.applier().apply([put_change("a", 1)])
    assert side.clock.slept == []


@pytest.mark.parametrize("key", [{"pk": "N"}, {"id": "S"}])
def test_another_key_schema_is_an_error_and_no_quarantine(key: dict[str, str]) -> None:
    with pytest.raises(LakeUnavailableError, match="key schema"):
        LakeSide(key=key).applier().apply([put_change("a", 1)])


def test_many_are_in_flight_and_answers_keep_their_order() -> None:
    side = LakeSide()
    together = threading.Barrier(4)

    def meet(_: Call) -> None:
        together.wait(timeout=PATIENCE_S)

    side.dynamodb.hook = meet
    changes = [put_change(f"k{n}", n) for n in range(1, 9)]
    results = side.applier(in_flight=4).apply(changes)
    assert [result.change for result in results] == changes
    assert {result.outcome for result in results} == {Outcome.APPLIED}
    assert len(side.shown()) == 8


def test_when_one_is_refused_for_good_the_others_stop_trying() -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", lambda: client_error("PutItem", "AccessDeniedException"))
    with pytest.raises(LakeUnavailableError):
        side.applier(in_flight=2).apply([put_change(f"k{n}", n) for n in range(100)])
    assert side.dynamodb.calls["put_item"] < 10


def test_a_throttled_write_may_be_tried_for_hours() -> None:
    """A backfill has no limit of time: two to the power of its attempts must not overflow."""
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", throttled, times=1500)
    (result,) = side.applier().apply([put_change("a", 1)])
    assert result.outcome is Outcome.APPLIED
    assert result.throttled == 1500
    assert max(side.clock.slept) <= BACKOFF_CAP_S
    assert longest_pause_s(1) == 0.1
    assert longest_pause_s(10**6) == BACKOFF_CAP_S


def limited(side: LakeSide, units: float) -> Applier:
    return side.applier(limit=CapacityLimit(units, side.clock.monotonic, side.clock.sleep))


def test_writes_keep_to_their_rate_refused_ones_included() -> None:
    side = LakeSide()
    applier = limited(side, 2.0)
    changes: Sequence[Change] = [put_change("a", 5)] * 20
    began = side.clock.s
    applier.apply(changes)
    assert side.clock.s - began == pytest.approx((20 - 1 - 2) / 2, abs=1.0)


def test_a_large_write_s_debt_does_not_outlast_the_invocation() -> None:
    side = LakeSide()
    applier = limited(side, 1.0)
    large = put_change("a", 1, x={"S": "x" * 100_000})
    began = side.clock.s
    results = applier.apply([large, put_change("b", 2)], side.clock.within(30.0))
    assert [result.outcome for result in results] == [Outcome.APPLIED, Outcome.FAILED]
    assert side.clock.s - began <= 30.0


def test_conditions_name_the_version_and_nothing_else() -> None:
    for change in (
        put_change("a", 1),
        delete_change("a", 1),
        read_change("a", 1, ABSENT),
        read_change("a", 1, V5),
    ):
        made = condition(change)
        assert made["ExpressionAttributeNames"] == {"#version": VERSION}


# Credentials, and whatever else concerns every call alike


BEFORE_THE_CALL: list[Exception] = [
    botocore.exceptions.NoCredentialsError(),
    botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
    botocore.exceptions.CredentialRetrievalError(provider="custom-process", error_msg="exit 1"),
    botocore.exceptions.MetadataRetrievalError(error_msg="no answer"),
    botocore.exceptions.TokenRetrievalError(provider="sso", error_msg="expired"),
    botocore.exceptions.SSOTokenLoadError(error_msg="no token"),
    botocore.exceptions.UnauthorizedSSOTokenError(),
    botocore.exceptions.RefreshWithMFAUnsupportedError(),
    botocore.exceptions.NoRegionError(),
    botocore.exceptions.UnknownRegionError(region_name="x", error_msg="y"),
    botocore.exceptions.InvalidConfigError(error_msg="x"),
    botocore.exceptions.ProfileNotFound(profile="x"),
    botocore.exceptions.UnsupportedSignatureVersionError(signature_version="x"),
    RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
    client_error("AssumeRole", "AccessDenied", status=403),
    client_error("AssumeRole", "ExpiredToken", status=403),
    client_error("PutItem", "ExpiredTokenException"),
    client_error("PutItem", "UnrecognizedClientException"),
    client_error("PutItem", "InvalidSignatureException"),
]


@pytest.mark.parametrize("error", BEFORE_THE_CALL, ids=lambda error: f"{type(error).__name__} {error}"[:60])
def test_what_concerns_every_call_is_no_failure_of_a_record(error: Exception) -> None:
    """The lake refuses every write: whoever delivers waits, and gives nothing up."""
    side = LakeSide()
    side.dynamodb.hook = lambda _: Fault(error)
    with pytest.raises(LakeUnavailableError):
        side.applier().apply([put_change("a", 1), put_change("b", 2)])


@pytest.mark.parametrize("error", [connect_timeout(), read_timeout(), throttled(), server_error()], ids=str)
def test_what_passes_of_itself_is_tried_again(error: BaseException) -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", lambda: error, times=3)
    (result,) = side.applier().apply([put_change("a", 1)])
    assert (result.outcome, result.throttled) == (Outcome.APPLIED, 3)


# An index of the lake table


INDEXED = {
    "empty": ({"S": ""}, "is empty"),
    "another type": ({"N": "1"}, "has the type N, not S"),
    "no key's type": ({"NULL": True}, "has the type NULL, not S"),
    "a map": ({"M": {}}, "has the type M, not S"),
    "too long": ({"S": "x" * 2049}, "is longer than 2048 bytes"),
}


@pytest.mark.parametrize("name", INDEXED)
def test_an_item_that_an_index_cannot_hold_is_refused_by_its_name(name: str) -> None:
    value, why = INDEXED[name]
    side = LakeSide()
    side.table.indexes.append(("by-mail.v2", "the mail, of course", "S", 2048))
    results = side.applier().apply(
        [put_change("a", 1, **{"the mail, of course": value}), put_change("b", 2), delete_change("c", 3)]
    )
    assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.APPLIED, Outcome.APPLIED]
    reason = results[0].reason
    assert (
        f"the index 'by-mail.v2' of the lake table takes no item whose 'the mail, of course' {why}" in reason
    )
    assert "delete the index" in reason
    assert "xxx" not in reason


def test_an_index_takes_what_fits() -> None:
    side = LakeSide()
    side.table.indexes.append(("by-mail", "mail", "S", 2048))
    values: list[Any] = [{"S": "x"}, {"S": "x" * 2048}, None]
    changes = [
        put_change(pk, 1, **({"mail": value} if value else {}))
        for pk, value in zip("abc", values, strict=True)
    ]
    assert outcomes(side, *changes) == ["applied"] * 3


def test_a_full_collection_of_a_local_index_concerns_its_items_alone() -> None:
    side = LakeSide()
    side.dynamodb.hook = fails(
        "put_item", lambda: client_error("PutItem", "ItemCollectionSizeLimitExceededException"), times=1
    )
    first, second = side.applier().apply([put_change("a", 1), put_change("b", 2)])
    assert first.outcome is Outcome.REFUSED
    assert "10 GB" in first.reason
    assert second.outcome is Outcome.APPLIED


@pytest.mark.parametrize("key", [{"pk": {"N": "1"}}, {"id": {"S": "1"}}])
def test_another_key_concerns_all_rows_until_one_has_fitted(key: dict[str, Any]) -> None:
    side = LakeSide()
    odd = Change(key, key, streamed(LABEL, "1"))
    applier = side.applier()
    with pytest.raises(LakeUnavailableError):
        applier.apply([odd])
    assert [result.outcome for result in applier.apply([put_change("a", 1), odd])] == [
        Outcome.APPLIED,
        Outcome.REFUSED,
    ]


@pytest.mark.parametrize("tag", ["M", "L"])
@pytest.mark.parametrize("depth", [400, 5_000, 60_000])
def test_a_value_that_is_nested_without_end_is_refused_alone(tag: str, depth: int) -> None:
    """DynamoDB allows 32 levels, and botocore's check of a value is recursive."""
    deep: dict[str, Any] = {"S": "x"}
    for _ in range(depth):
        deep = {"M": {"x": deep}} if tag == "M" else {"L": [deep]}
    side = LakeSide()
    changes = [put_change("a", 1), put_change("deep", 2, d=deep), put_change("c", 3)]
    outcomes = [result.outcome for result in side.applier().apply(changes)]
    assert outcomes[0] is outcomes[2] is Outcome.APPLIED
    if depth > 1_000:
        assert outcomes[1] is Outcome.REFUSED


@pytest.mark.parametrize(
    "more", [{"d": {"S": "\ud800"}}, {"\udfff": {"S": "x"}}, {"d": {"SS": ["a", "\ud83d"]}}]
)
def test_half_of_a_surrogate_pair_is_refused_alone(more: dict[str, Any]) -> None:
    side = LakeSide()
    changes = [put_change("a", 1), put_change("odd", 2, **more), put_change("c", 3)]
    outcomes = [result.outcome for result in side.applier().apply(changes)]
    assert outcomes == [Outcome.APPLIED, Outcome.REFUSED, Outcome.APPLIED]
