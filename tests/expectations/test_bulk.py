"""The bulk form is the exact one: equal items, and no others, have the same text."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations.bulk import BATCH_ROWS, digest_batches, digester
from expectations.canonical import canonical_text
from expectations.errors import ParityError
from tests.expectations.items import NASTY, respelt, rich_item


def texts(*items: Any, **more: Any) -> list[str]:
    pages = [[json.dumps(each).encode() for each in items]]
    return [text for batch in digest_batches(pages, "it", ["pk"], **more) for text in batch.texts.to_pylist()]


def test_an_item_written_in_another_way_has_the_same_text() -> None:
    rng = random.Random(3)
    items = [rich_item(rng, number) for number in range(300)]
    assert texts(*items) == texts(*(respelt(rng, each) for each in items))
    assert len(set(texts(*items))) == len(items)


_numbers = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**9), max_value=10**9).map(
        str
    ),
    st.sampled_from(
        ["0", "-0", "0.0", "1", "1.0", "10", "1E1", "1e-5", "+7", "007", ".5", "5.", "-.50", "0.50"]
    ),
)
_words = st.sampled_from(["", "a", "b", '"', "\\", "é", NASTY, "1.0", "N", "SS"])
_values = st.recursive(
    st.one_of(
        st.builds(lambda content: {"N": content}, _numbers),
        st.builds(lambda content: {"S": content}, _words),
        st.builds(lambda content: {"SS": content}, st.lists(_words, min_size=1, max_size=3, unique=True)),
        st.builds(lambda content: {"NS": [content]}, _numbers),
        st.just({"NULL": True}),
        st.builds(lambda content: {"BOOL": content}, st.booleans()),
    ),
    lambda inner: st.one_of(
        st.builds(lambda content: {"L": content}, st.lists(inner, max_size=3)),
        st.builds(lambda content: {"M": content}, st.dictionaries(_words, inner, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=400)
@given(st.dictionaries(_words, _values, max_size=3), st.dictionaries(_words, _values, max_size=3))
def test_two_items_share_a_text_if_and_only_if_they_are_equal(left: Any, right: Any) -> None:
    key = {"pk": {"S": "1"}}
    one, other = texts(left | key, right | key)
    assert (one == other) == (canonical_text(left | key) == canonical_text(right | key))


def test_keys_are_canonical_and_the_source_s_is_kept_where_it_is_another() -> None:
    pages = [[b'{"pk":{"N":"1.0"},"x":{"S":"1"}}', b'{"x":{"S":"2"},"pk":{"N":"2"}}']]

    def hashed(item: Any) -> Any:
        return {**item, "pk": {"S": "h" + item["pk"]["N"]}} if "1.0" in item["pk"]["N"] else item

    (batch,) = digest_batches(pages, "it", ["pk"], hashed)
    assert batch.keys.to_pylist() == ['{"pk":{"S":"h1.0"}}', '{"pk":{"N":"2"}}']
    assert batch.source_keys == ['{"pk":{"N":"1"}}', None]


def test_lake_rows_lose_their_metadata_and_tombstones_are_counted() -> None:
    row = {"pk": {"S": "1"}, "n": {"N": "1.50"}, "_lake_version": {"S": "v"}, "_lake_at": {"N": "1"}}
    gone = {"pk": {"S": "2"}, "_lake_version": {"S": "v"}, "_lake_deleted": {"S": "ttl"}}
    pages = [[json.dumps(each).encode() for each in (row, gone)]]
    (batch,) = digest_batches(pages, "it", ["pk"], metadata=True)
    assert batch.texts.to_pylist() == ['{"n":{"N":"1.5"},"pk":{"S":"1"}}']
    assert batch.tombstones == 1


def test_batches_are_bounded_whatever_the_pages_are() -> None:
    pages = [[b'{"pk":{"S":"%d"}}' % n for n in range(2 * BATCH_ROWS + 1)]]
    assert [len(batch.keys) for batch in digest_batches(pages, "it", ["pk"])] == [BATCH_ROWS, BATCH_ROWS, 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"pk":{"S":"1"', "line 2 of it is not an item"),
        (b'{"pk":{"X":"1"}}', "line 2 of it is not an item"),
        (b'{"pk":{"S":1}}', "line 2 of it is not an item"),
        (b'{"pk":{"S":"1"},"n":{"N":"one"}}', "line 2 of it is not an item"),
        (b'{"x":{"S":"1"}}', "line 2 of it: an item lacks its key attribute 'pk'"),
        (b"[]", "line 2 of it is not an item"),
    ],
)
def test_what_is_no_item_is_named_by_its_line(line: bytes, said: str) -> None:
    with pytest.raises(ParityError, match=said):
        list(digest_batches([[b'{"pk":{"S":"0"}}', line]], "it", ["pk"]))


@pytest.mark.parametrize("texts", [[], ["a"], ["", "a", "é", "a", "x" * 100_000]], ids=len)
def test_a_digest_is_keyed_blake2b_of_the_text(texts: list[str]) -> None:
    key = bytes(range(32))
    high, low = digester(key)(pa.array(texts, pa.string()))
    found = [
        int(upper).to_bytes(8, sys.byteorder) + int(lower).to_bytes(8, sys.byteorder)
        for upper, lower in zip(high.to_pylist(), low.to_pylist(), strict=True)
    ]
    assert found == [hashlib.blake2b(text.encode(), key=key, digest_size=16).digest() for text in texts]


def test_a_digest_of_a_part_of_an_array_is_that_of_its_texts() -> None:
    texts, digest = pa.array(["a", "bc", "def"]), digester(bytes(32))
    assert [each.to_pylist() for each in digest(texts.slice(1, 1))] == [
        each.to_pylist() for each in digest(pa.array(["bc"]))
    ]


def test_no_two_comparisons_share_a_key() -> None:
    """Who writes items cannot prepare two that have one digest; and a digest tells nobody anything later."""
    texts = pa.array(["a"])
    assert digester(secrets.token_bytes(32))(texts) != digester(secrets.token_bytes(32))(texts)
