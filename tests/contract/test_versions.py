"""Which of two versions is newer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.contract.versions import ABSENT, is_newer, label_of_stream, read_over, streamed
from lake.errors import ContractError

OLD = "2026-11-24T00:00:00.000"
NEW = "2026-11-24T00:00:00.001"
NUMBERS = st.integers(0, 10**40 - 1)


@given(NUMBERS, NUMBERS)
def test_within_a_stream_the_sequence_number_decides(a: int, b: int) -> None:
    assert is_newer(streamed(OLD, str(a)), streamed(OLD, str(b))) == (a > b)


@given(NUMBERS, NUMBERS)
def test_a_later_stream_is_newer_whatever_its_numbers(a: int, b: int) -> None:
    assert is_newer(streamed(NEW, str(a)), streamed(OLD, str(b)))


@given(NUMBERS, NUMBERS, st.integers(1, 50))
def test_what_was_read_is_newer_than_what_it_was_read_over_and_older_than_what_comes(
    seen: int, coming: int, times: int
) -> None:
    version = before = streamed(OLD, str(seen))
    for _ in range(times):
        version, before = read_over(version), version
        assert is_newer(version, before)
    assert is_newer(streamed(OLD, str(coming)), version) == (coming > seen)
    assert is_newer(streamed(NEW, "0"), version)


def test_an_absent_row_is_older_than_everything() -> None:
    assert is_newer(read_over(ABSENT), ABSENT)
    assert is_newer(streamed(OLD, "0"), read_over(ABSENT))
    assert is_newer(streamed(OLD, "0"), read_over(read_over(ABSENT)))


def test_a_redrive_is_newer_than_the_record_that_caused_it() -> None:
    seen, quarantined = streamed(OLD, "5"), streamed(OLD, "9")
    assert read_over(seen, quarantined) == f"{quarantined}~000001"
    assert read_over(read_over(quarantined), quarantined) == f"{quarantined}~000002"


def test_revisions_end_in_an_error_not_in_a_wrong_order() -> None:
    last = read_over(streamed(OLD, "1")).replace("~000001", "~999999")
    with pytest.raises(ContractError, match="repaired"):
        read_over(last)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["", "-1", "1.0", "x", "٣", "1" * 41])
def test_a_sequence_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(ContractError, match="sequence number"):
        streamed(OLD, number)


@pytest.mark.parametrize("label", ["", "latest", "T", "2026", "2026T~"])
def test_a_label_that_is_no_time_is_refused(label: str) -> None:
    with pytest.raises(ContractError, match="label"):
        streamed(label, "1")


def test_a_label_is_the_end_of_the_arn() -> None:
    assert label_of_stream(f"arn:aws:dynamodb:eu-west-1:1:table/a/stream/{OLD}") == OLD
    for wrong in ("", "arn:aws:dynamodb:eu-west-1:1:table/a", "arn:aws:dynamodb:eu-west-1:1:table/a/stream/"):
        with pytest.raises(ContractError, match="not the ARN"):
            label_of_stream(wrong)
