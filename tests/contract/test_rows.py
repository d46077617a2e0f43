"""What a lake row looks like."""

from __future__ import annotations

from lake.contract.rows import (
    TOMBSTONE_LIFE_S,
    Change,
    is_tombstone,
    lake_row,
    reserved_attribute,
    source_item,
    version_of,
)
from lake.contract.versions import ABSENT, read_over, streamed

KEY = {"pk": {"S": "1"}}
IMAGE = {**KEY, "n": {"N": "1"}, "lake_": {"S": "mine"}}
VERSION = streamed("2026-11-24T00:00:00.000", "7")


def test_a_row_is_the_image_and_its_metadata() -> None:
    row = lake_row(Change(KEY, IMAGE, VERSION, source_at=4000), now_ms=5000)
    assert row == {
        **IMAGE,
        "_lake_version": {"S": VERSION},
        "_lake_at": {"N": "5000"},
        "_lake_source_at": {"N": "4000"},
    }
    assert source_item(row) == IMAGE
    assert version_of(row) == VERSION
    assert not is_tombstone(row)


def test_nobody_knows_when_a_change_that_was_read_was_made() -> None:
    row = lake_row(Change(KEY, IMAGE, read_over(ABSENT), read_over=ABSENT), now_ms=5000)
    assert "_lake_source_at" not in row


def test_a_tombstone_has_its_key_and_its_end_and_nothing_else() -> None:
    row = lake_row(Change(KEY, None, VERSION, deleted_by="ttl"), now_ms=5999)
    assert row == {
        **KEY,
        "_lake_version": {"S": VERSION},
        "_lake_at": {"N": "5999"},
        "_lake_deleted": {"S": "ttl"},
        "_lake_expires": {"N": str(5 + TOMBSTONE_LIFE_S)},
    }
    assert is_tombstone(row)
    assert TOMBSTONE_LIFE_S >= 14 * 24 * 3600


def test_a_row_that_dynalake_did_not_write_counts_as_absent() -> None:
    assert version_of(None) == version_of({}) == version_of(IMAGE) == ABSENT


def test_reserved_names_begin_with_the_prefix_as_it_is_written() -> None:
    assert reserved_attribute({"_lake_x": {"S": ""}, "a": {"S": ""}}) == "_lake_x"
    assert reserved_attribute({"_LAKE_x": {"S": ""}, "x_lake_": {"S": ""}, "_lake": {"S": ""}}) is None
