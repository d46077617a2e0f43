from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from expectations.errors import ParityError
from expectations.parity import Difference, Looks, ParityResult, Side, compare

Item = Mapping[str, Mapping[str, Any]]


def item(key: int, **attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"pk": {"S": str(key)}, **attributes}


def row(key: int, version: int = 1, **attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {**item(key, **attributes), "_lake_version": {"S": f"2026T/{version}"}, "_lake_at": {"N": "1"}}


def tombstone(key: int) -> dict[str, Any]:
    return {**row(key), "_lake_deleted": {"S": "user"}, "_lake_expires": {"N": "9"}}


def lines(items: Iterable[Item]) -> list[list[bytes]]:
    return [[json.dumps(each).encode() for each in items]]


class Table:
    """One side, whose items a test may change between two looks."""

    def __init__(self, *items: Mapping[str, Any]) -> None:
        self.items = {each["pk"]["S"]: each for each in items}
        self.before_get: Callable[[str], None] = lambda _key: None

    def side(self) -> Side:
        return Side(lines(self.items.values()), self.read)

    def read(self, keys: Sequence[Item]) -> list[Item | None]:
        return [self.get(key) for key in keys]

    def get(self, key: Item) -> Item | None:
        self.before_get(key["pk"]["S"])
        return self.items.get(key["pk"]["S"])


def compared(source: Table, lake: Table, policy: Callable[[Item], Item | None] | None = None) -> ParityResult:
    return compare(source.side(), lake.side(), ["pk"], policy, sleep=lambda _s: None, looks=Looks(3))


def test_equal_sides_are_exact_and_tombstones_and_metadata_do_not_count() -> None:
    source = Table(*(item(n, n={"N": f"{n}.50"}) for n in range(100)))
    lake = Table(*(row(n, n={"N": f"{n}.5"}) for n in range(100)), tombstone(200))
    result = compared(source, lake)
    assert result.exact
    assert (result.source_rows, result.lake_rows, result.tombstones) == (100, 100, 1)
    assert result.ratio == 0.0


def test_each_fault_is_found_and_named() -> None:
    source = Table(item(1), item(2, n={"N": "1"}, s={"SS": ["a", "b"]}), item(3), item(4))
    lake = Table(row(1), row(2, n={"S": "1"}, s={"SS": ["a"]}), row(5), tombstone(4))
    result = compared(source, lake)
    assert {(each.reason, each.key["pk"]["S"], each.attributes) for each in result.differences} == {
        ("different", "2", ("n", "s")),
        ("missing", "3", ()),
        ("missing", "4", ()),
        ("extra", "5", ()),
    }
    assert (result.missing, result.extra, result.different) == (2, 1, 1)
    assert not result.exact
    assert result.ratio == 1.0


def test_a_row_in_flight_does_not_count() -> None:
    source, lake = Table(item(1, n={"N": "2"}), item(2)), Table(row(1, n={"N": "1"}))
    looks = {"1": 0, "2": 0}

    def arrive(key: str) -> None:
        looks[key] += 1
        if looks[key] == 2:
            lake.items[key] = row(int(key), 2, **({"n": {"N": "2"}} if key == "1" else {}))

    lake.before_get = arrive
    result = compared(source, lake)
    assert result.exact
    assert result.in_flight == 2


def test_a_row_that_keeps_moving_does_not_count_but_one_that_stands_still_does() -> None:
    source, lake = Table(item(1, n={"N": "0"}), item(2)), Table(row(1, n={"N": "1"}))
    version = [1]

    def move(key: str) -> None:
        if key == "1":
            version[0] += 1
            lake.items["1"] = row(1, version[0], n={"N": str(version[0])})

    lake.before_get = move
    result = compared(source, lake)
    assert [each.key for each in result.differences] == [{"pk": {"S": "2"}}]
    assert result.in_flight == 1


def test_policy_is_applied_to_the_source_before_comparing() -> None:
    def drop_secret(seen: Item) -> Item:
        return {name: value for name, value in seen.items() if name != "ssn"}

    source, lake = Table(item(1, ssn={"S": "1-2-3"})), Table(row(1))
    assert compared(source, lake, drop_secret).exact
    assert not compared(source, lake).exact


def test_a_hashed_key_keeps_the_source_key_for_the_repair() -> None:
    def hashed(seen: Item) -> Item:
        return {**seen, "pk": {"S": "h" + seen["pk"]["S"]}} if not seen["pk"]["S"].startswith("h") else seen

    source, lake = Table(item(1), item(2)), Table({**row(1), "pk": {"S": "h1"}})
    (difference,) = compared(source, lake, hashed).differences
    assert difference == Difference("missing", {"pk": {"S": "h2"}}, {"pk": {"S": "2"}})


def test_a_row_that_the_policy_refuses_is_reported_and_is_no_difference() -> None:
    def strict(seen: Item) -> Item | None:
        return None if seen["pk"]["S"] == "9" or "odd" in seen else seen

    odd = {"odd": {"S": "x"}}
    source = Table(item(1), item(2, **odd), item(3, **odd), item(9))
    lake = Table(row(1), row(2), row(4))
    for workspace_rows in (1, 4_000_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("expectations.parity.PASS_ROWS", workspace_rows)
            result = compare(
                source.side(), lake.side(), ["pk"], strict, sleep=lambda _s: None, looks=Looks(2)
            )
        assert (result.refused, result.missing, result.extra, result.different) == (3, 0, 1, 0)
        assert (result.source_rows, result.in_flight, result.wrong, result.exact) == (4, 0, 1, False)
        assert {
            (each.reason, json.dumps(each.key), json.dumps(each.source_key)) for each in result.differences
        } == {
            ("refused", '{"pk": {"S": "2"}}', '{"pk": {"S": "2"}}'),
            ("refused", '{"pk": {"S": "3"}}', '{"pk": {"S": "3"}}'),
            ("refused", "{}", '{"pk": {"S": "9"}}'),
            ("extra", '{"pk": {"S": "4"}}', '{"pk": {"S": "4"}}'),
        }


def test_a_refused_row_that_is_corrected_meanwhile_is_in_flight() -> None:
    source, lake = Table(item(1, odd={"S": "x"})), Table()

    def corrected(_key: str) -> None:
        source.items["1"] = item(1)
        lake.items["1"] = row(1)

    side = source.side()
    source.before_get = corrected
    result = compare(
        side,
        lake.side(),
        ["pk"],
        lambda seen: None if "odd" in seen else seen,
        sleep=lambda _s: None,
        looks=Looks(3),
    )
    assert (result.refused, result.in_flight, result.exact) == (0, 1, True)


def test_two_source_items_that_become_one_row_are_an_error() -> None:
    def collapse(seen: Item) -> Item:
        return {**seen, "pk": {"S": "same"}}

    with pytest.raises(ParityError, match="share a key after policy"):
        compared(Table(item(1), item(2)), Table(), collapse)


def test_a_row_that_is_twice_in_an_export_of_the_lake_is_an_error() -> None:
    with pytest.raises(ParityError, match="1 rows of the lake share a key"):
        compare(
            Side(lines([item(1)]), lambda _keys: []),
            Side(lines([row(1), row(1)]), lambda _keys: []),
            ["pk"],
            None,
            sleep=lambda _s: None,
        )


def test_an_item_without_its_key_is_an_error() -> None:
    with pytest.raises(ParityError, match="lacks its key attribute 'pk'"):
        compare(
            Side([[b'{"x":{"S":"y"}}']], lambda _keys: []),
            Side([], lambda _keys: []),
            ["pk"],
            None,
            sleep=lambda _s: None,
        )


def test_the_digests_key_is_new_with_each_comparison_and_changes_no_outcome() -> None:
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    source, lake = Table(item(1), item(2), item(3)), Table(row(1), row(2, x={"S": "?"}))
    for _ in range(2):
        result = compare(
            source.side(), lake.side(), ["pk"], None, sleep=lambda _s: None, random_bytes=random_bytes
        )
        assert (result.missing, result.different) == (1, 1)
    assert asked == [32, 32]
