"""From raw lines of DynamoDB JSON to a key and a keyed 128-bit digest each, in native code.

msgspec decodes a line into typed values and encodes it again with attributes, map members and set members in
order: equal items give the same bytes, whatever order, spaces or escapes their lines had. What is left is
numbers that are written in more than one way ("1.10" and "1.1"). DynamoDB itself always gives one, so such
numbers are only looked for, by one regular expression over the whole batch; the few rows that have one are
taken through `canonical_number`. `digester` makes digests of the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET, UnsetType

from expectations.errors import ParityError
from lake.contract.expiry import Expiry
from lake.contract.numbers import canonical_number
from lake.contract.rows import DELETED, METADATA, SOURCE_AT, VERSION, WRITTEN_AT
from lake.errors import ContractError

Item = Mapping[str, Mapping[str, Any]]
Policy = Callable[[Item], Item | None]
"""What the lake may see of an item or of a key; None where the policy refuses it."""

Pages = Iterable[Sequence[bytes]]
"""Pages of raw lines, an item a line, without line ends."""

Digest = Callable[[pa.StringArray], tuple[pa.UInt64Array, pa.UInt64Array]]
"""From texts to the upper and the lower 64 bits of a digest each."""

DIGEST_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 16

BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 8 << 20
"""A batch ends at whichever comes first: this bounds the memory, since an item's JSON may have megabytes."""


class Value(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One attribute value: just one of DynamoDB's ten type tags is set."""

    S: str | UnsetType = UNSET
    N: str | UnsetType = UNSET
    M: dict[str, Value] | UnsetType = UNSET
    L: list[Value] | UnsetType = UNSET
    BOOL: bool | UnsetType = UNSET
    NULL: bool | UnsetType = UNSET
    B: str | UnsetType = UNSET
    SS: set[str] | UnsetType = UNSET
    NS: set[str] | UnsetType = UNSET
    BS: set[str] | UnsetType = UNSET


_TYPED: Final = msgspec.json.Decoder(dict[str, Value])
_PLAIN: Final = msgspec.json.Decoder(dict[str, dict[str, Any]])
_ORDERED: Final = msgspec.json.Encoder(order="deterministic")

_ODD_NUMBER: Final = (
    r'"N(?:S":\[(?:"[^"]*",)*|":)"'
    r'(?:[^"]*[^0-9.\-"][^"]*|-?0[0-9][^"]*|-0?|-?\.[^"]*|[^"]*\.(?:[^"]*0)?)"'
)
"""A number that is not written as `canonical_number` writes it: an exponent, a plus, a leading or a trailing
zero, a bare point, minus zero, or no number at all. A quote inside a text is escaped, so `"N":"` is never a text."""


@dataclass(slots=True)
class Batch:
    """Some rows of one side.

    Attributes:
        keys: the keys as the lake has them, canonical JSON text.
        texts: the canonical JSON text of the items, after policy, without metadata.
        source_keys: the keys as the source has them; None where they are the same.
        tombstones: rows left out because they say that an item is deleted.
        states: the canonical JSON text of each row's version and times; None where they were not asked for.
        forged: the keys of the rows, tombstones included, whose version dynalake did not write.
        refused: the rows that the policy refuses, as (the lake's key, the source's key), canonical JSON text; the
            lake's key is None where the policy refuses the key itself.
        left_out: rows left out because they have expired.
    """

    keys: pa.StringArray
    texts: pa.StringArray
    source_keys: list[str | None] | None
    tombstones: int
    states: pa.StringArray | None = None
    forged: list[str] = field(default_factory=list)
    refused: list[tuple[str | None, str]] = field(default_factory=list)
    left_out: int = 0


@dataclass(slots=True)
class _Texts:
    """Texts one after the other, as Arrow wants them, without a Python object each."""

    buffer: bytearray = field(default_factory=bytearray)
    ends: list[int] = field(default_factory=lambda: [0])

    def add(self, value: Any) -> None:
        _ORDERED.encode_into(value, self.buffer, -1)
        self.ends.append(len(self.buffer))

    def array(self) -> pa.StringArray:
        offsets = pa.py_buffer(np.array(self.ends, dtype=np.int32))
        return pa.StringArray.from_buffers(len(self.ends) - 1, offsets, pa.py_buffer(self.buffer))


def digester(key: bytes) -> Digest:
    """Keyed BLAKE2b of 128 bits (RFC 7693): as fast as MD5, and without its collisions.

    Two items share a digest with odds of 2^-128, and nobody who does not know the key can look for such a pair.
    """
    keyed = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)

    def of(text: memoryview) -> bytes:
        one = keyed.copy()
        one.update(text)
        return one.digest()

    def digest(texts: pa.StringArray) -> tuple[pa.UInt64Array, pa.UInt64Array]:
        _, ends, content = texts.buffers()
        offsets = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
        view = memoryview(content or b"")
        digests = b"".join([of(view[start:end]) for start, end in pairwise(offsets)])
        halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        return pa.array(halves[:, 0]), pa.array(halves[:, 1])

    return digest


def digest_batches(
    pages: Pages,
    side: str,
    key: Sequence[str],
    policy: Policy | None = None,
    *,
    metadata: bool = False,
    wrapper: str | None = None,
    states: bool = False,
    forged: Callable[[Mapping[str, Any] | None], str | None] | None = None,
    expiry: Expiry | None = None,
) -> Iterator[Batch]:
    """The rows of one side, in batches that are ready to be digested and stored.

    Args:
        pages: raw lines.
        side: what to call the lines in an error.
        key: the names of the key attributes.
        policy: what the lake may see of an item, None where it refuses it; None where every item passes unchanged.
        metadata: whether these are lake rows: tombstones and metadata are left out.
        wrapper: where a line is not the item but `{"Item": item}`: that name.
        states: whether the rows' versions and times are wanted too; only with `metadata`.
        forged: says why a row's version attribute is forged; None where it is not. Only with `metadata`.
        expiry: which items are left out because they have expired; none if None.

    Raises:
        ParityError: a line is no item in DynamoDB JSON, or an item lacks its key.
    """
    rows = _Rows(tuple(key), policy, metadata, wrapper, states, forged, expiry)
    number = 1
    for lines in _rebatched(pages):
        yield _batch(lines, rows, number, side)
        number += len(lines)


def _batch(lines: Sequence[bytes], rows: _Rows, first: int, side: str) -> Batch:
    keys, texts, source_keys = _Texts(), _Texts(), list[str | None]()
    states = _Texts() if rows.states else None
    live: list[int] = []
    forged: list[str] = []
    rows.refused = []
    left_out = 0
    try:
        for at, line in enumerate(lines):
            item = rows.item(line)
            if rows.is_forged():
                forged.append(rows.key_text(line))
            left_out += rows.expired
            if item is not None:
                if states is not None:
                    states.add(rows.state())
                names = rows.key_of(item)
                keys.add(names)
                texts.add(item)
                live.append(at)
                if rows.policy is not None:
                    source_keys.append(rows.source_key(line, names))
        text = texts.array()
        odd = pc.match_substring_regex(text, _ODD_NUMBER)
        if pc.any(odd).as_py():
            exact = _Texts()
            for at, is_odd in zip(live, odd.to_pylist(), strict=True):
                item = rows.item(lines[at]) or {}
                rows.key_of(item)
                exact.add(_with_canonical_numbers(item) if is_odd else item)
            text = exact.array()
    except KeyError as error:
        raise ParityError(f"line {first + at} of {side}: an item lacks its key attribute {error}") from None
    except (msgspec.MsgspecError, ContractError, UnicodeDecodeError) as error:
        raise ParityError(f"line {first + at} of {side} is not an item in DynamoDB JSON: {error}") from None
    return Batch(
        keys.array(),
        text,
        source_keys if rows.policy is not None else None,
        len(lines) - len(live) - len(rows.refused) - left_out,
        states.array() if states is not None else None,
        forged,
        rows.refused,
        left_out,
    )


class _Rows:
    """How a line becomes an item and its key."""

    def __init__(
        self,
        key: tuple[str, ...],
        policy: Policy | None,
        metadata: bool,
        wrapper: str | None,
        states: bool,
        forged: Callable[[Mapping[str, Any] | None], str | None] | None,
        expiry: Expiry | None,
    ) -> None:
        self.policy = policy
        self.refused: list[tuple[str | None, str]] = []
        self.states = states
        self._forged = forged
        self._told: dict[str, Value] = {}
        self._expiry = expiry
        self.expired = False
        """Whether the row that `item` saw last has expired, and is therefore left out."""
        self._key = key
        self._metadata = metadata
        self._wrapper = wrapper
        self._typed = msgspec.json.Decoder(dict[str, dict[str, Value]]) if wrapper else _TYPED
        self._plain = msgspec.json.Decoder(dict[str, dict[str, dict[str, Any]]]) if wrapper else _PLAIN

    def item(self, line: bytes) -> dict[str, Value] | None:
        """What the lake may see of an item, or has of it.

        None for a tombstone, for a row that is `refused`, and for one that has expired.
        """
        self.expired = False
        if self.policy is not None:
            whole = self._unwrapped(self._plain, line)
            if self._expiry is not None and self._expiry.has_passed(whole):
                self.expired = True
                return None
            seen = self.policy(whole)
            if seen is not None:
                return msgspec.convert(seen, dict[str, Value])
            source = {name: whole[name] for name in self._key}
            lake = self.policy(source)
            self.refused.append((None if lake is None else self._text_of(lake), self._text_of(source)))
            return None
        item: dict[str, Value] = self._unwrapped(self._typed, line)
        if self._metadata:
            self._told = {name: item.pop(name) for name in METADATA if name in item}
            if DELETED in self._told:
                return None
        if self._expiry is not None:
            time = item.get(self._expiry.attribute)
            self.expired = time is not None and time.N is not UNSET and self._expiry.is_past(time.N)
        return None if self.expired else item

    def state(self) -> dict[str, Value]:
        """The version and the times of the row that `item` gave last."""
        return {name: self._told[name] for name in (VERSION, WRITTEN_AT, SOURCE_AT) if name in self._told}

    def is_forged(self) -> bool:
        """Whether the version of the row that `item` saw last is one that dynalake did not write."""
        if self._forged is None:
            return False
        version = self._told.get(VERSION)
        return self._forged(None if version is None else msgspec.to_builtins(version)) is not None

    def key_text(self, line: bytes) -> str:
        """The canonical text of a row's key, a tombstone's too."""
        return _ORDERED.encode(self.key_of(self._unwrapped(self._typed, line))).decode()

    def key_of(self, item: dict[str, Value]) -> dict[str, Value]:
        """The key attributes, their numbers in canonical form from now on."""
        names = {}
        for name in self._key:
            value = item[name]
            if value.N is not UNSET:
                value.N = canonical_number(value.N)
            names[name] = value
        return names

    def _text_of(self, key: Item) -> str:
        return _ORDERED.encode(self.key_of(msgspec.convert(key, dict[str, Value]))).decode()

    def source_key(self, line: bytes, names: dict[str, Value]) -> str | None:
        """The key as the source has it, as canonical text; None where it is the same."""
        whole = self._unwrapped(self._plain, line)
        source = self.key_of(msgspec.convert({name: whole[name] for name in self._key}, dict[str, Value]))
        return None if source == names else _ORDERED.encode(source).decode()

    def _unwrapped(self, decoder: Any, line: bytes) -> Any:
        found = decoder.decode(line)
        return found[self._wrapper] if self._wrapper else found


def _with_canonical_numbers(item: dict[str, Value]) -> dict[str, Value]:
    for value in item.values():
        _canonise(value)
    return item


def _canonise(value: Value) -> None:
    if value.N is not UNSET:
        value.N = canonical_number(value.N)
    elif value.NS is not UNSET:
        value.NS = {canonical_number(number) for number in value.NS}
    elif value.M is not UNSET:
        for member in value.M.values():
            _canonise(member)
    elif value.L is not UNSET:
        for element in value.L:
            _canonise(element)


def _rebatched(pages: Pages) -> Iterator[list[bytes]]:
    """The lines again, in batches of a size that suits the engine."""
    batch: list[bytes] = []
    size = 0
    for page in pages:
        for line in page:
            batch.append(line)
            size += len(line)
            if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
