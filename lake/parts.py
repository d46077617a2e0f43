"""Rows on their way into a snapshot: chunks of DynamoDB JSON as they come, and the files that they are spooled to.

A chunk is left as it is: the text between the brackets of a scan page's `Items`, or whole lines of an export. What
is noted of it is how many rows it has, and how many quotation marks: `lake.account` holds the columns against them.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from lake.errors import DecodeError
from lake.lines import item_from_line

PART_BYTES: Final = 128 << 20
"""What is decoded at a time: large enough that a table's row groups (122,880 rows) get full, small enough that
doing one again costs little."""

BLOCK_BYTES: Final = 8 << 20
"""What is looked at again where something does not fit: small enough that one late attribute costs next to nothing,
large enough that opening files does not count. DuckDB reads a file of items with one thread, too."""

_SLICE: Final = 1 << 20

Form = Literal["lines", "items"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows as they came.

    Attributes:
        text: `lines`: JSON objects, a line each, with or without a line end at the end; `items`: JSON objects
            with commas between them.
        rows: how many they are.
        form: which of the two.
        wrapper: where a row is not the item but `{"Item": item}`: that name.
    """

    text: bytes | memoryview
    rows: int
    form: Form
    wrapper: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in one file.

    Attributes:
        number: counts from 0, through all parts.
        path: the file.
        rows: how many rows it holds.
        quotes: how many quotation marks, those within texts not counted.
    """

    number: int
    path: Path
    rows: int
    quotes: int


@dataclass(frozen=True, slots=True)
class Part:
    """Blocks that are decoded together.

    Attributes:
        blocks: at least one.
        form: see `Chunk`.
        wrapper: see `Chunk`.
    """

    blocks: tuple[Block, ...]
    form: Form
    wrapper: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The blocks' files."""
        return tuple(block.path for block in self.blocks)

    @property
    def rows(self) -> int:
        """How many rows its blocks hold."""
        return sum(block.rows for block in self.blocks)

    @property
    def quotes(self) -> int:
        """How many quotation marks; see `Block`."""
        return sum(block.quotes for block in self.blocks)

    @property
    def format(self) -> str:
        """What DuckDB calls the form."""
        return "array" if self.form == "items" else "newline_delimited"


def chunk_of_lines(lines: Sequence[bytes], before: int, source: str) -> Chunk:
    """Some lines as a chunk.

    Args:
        lines: one JSON object each, without a line end.
        before: how many lines came before, for errors.
        source: what to call the lines in an error.

    Raises:
        DecodeError: a line is empty or holds a line end.
    """
    block = b"\n".join(lines)
    if lines and (block.count(b"\n") != len(lines) - 1 or not all(lines)):
        number = next(i for i, line in enumerate(lines, before + 1) if not line or b"\n" in line)
        raise DecodeError(f"line {number} of {source} is empty or is more than one line")
    return Chunk(block, len(lines), "lines")


def structural_quotes(text: bytes | memoryview) -> int:
    """How many quotation marks of JSON text begin or end a string: all but those within strings."""
    marks = np.frombuffer(text, np.uint8)
    count = sum(
        int(np.count_nonzero(marks[start : start + _SLICE] == ord('"')))
        for start in range(0, len(marks), _SLICE)
    )
    whole = bytes(text)
    if b"\\" in whole:
        count -= whole.replace(b"\\\\", b"").count(b'\\"')
    return count


def as_chunks(pages: Iterable[Sequence[bytes] | Chunk], source: str) -> Iterator[Chunk]:
    """Pages of lines as chunks; chunks as they are. `source` is what to call lines in an error.

    Raises:
        DecodeError: a line is empty or holds a line end.
    """
    lines = 0
    for page in pages:
        chunk = page if isinstance(page, Chunk) else chunk_of_lines(page, lines, source)
        lines += chunk.rows
        yield chunk


def spool_parts(
    chunks: Iterable[Chunk], folder: Path, part_bytes: int = PART_BYTES, block_bytes: int = BLOCK_BYTES
) -> Generator[Part, None, None]:
    """Writes chunks to files and gives each part as soon as it is full; no part is empty.

    Args:
        chunks: rows, all of one form and wrapper.
        folder: where to make the files; it must exist.
        part_bytes: how large a part gets before the next is begun.
        block_bytes: how large a block gets before the next is begun.
    """
    blocks: list[Block] = []
    size = number = 0
    block: _OpenBlock | None = None
    form: Form = "lines"
    wrapper = None
    try:
        for chunk in chunks:
            if not chunk.rows:
                continue
            form, wrapper = chunk.form, chunk.wrapper
            if block is None:
                block = _OpenBlock(folder / f"{number:06d}.json", number, form)
            block.write(chunk)
            size += len(chunk.text)
            full = size >= part_bytes
            if full or block.size >= block_bytes:
                blocks.append(block.finish())
                block, number = None, number + 1
            if full:
                yield Part(tuple(blocks), form, wrapper)
                blocks, size = [], 0
        if block is not None:
            blocks.append(block.finish())
            block = None
        if blocks:
            yield Part(tuple(blocks), form, wrapper)
    finally:
        if block is not None:
            block.close()


class _OpenBlock:
    """A block that is being written."""

    def __init__(self, path: Path, number: int, form: Form) -> None:
        self._path, self._number, self._form = path, number, form
        self._file = path.open("wb")
        self._rows = self._quotes = 0
        self.size = 0

    def write(self, chunk: Chunk) -> None:
        """Puts a chunk behind what is there."""
        if self._form == "items":
            self._file.write(b"," if self.size else b"[")
        self._file.write(chunk.text)
        if self._form == "lines" and bytes(chunk.text[-1:]) != b"\n":
            self._file.write(b"\n")
        self._rows += chunk.rows
        self._quotes += structural_quotes(chunk.text)
        self.size += len(chunk.text)

    def finish(self) -> Block:
        """The block, whose file is whole now."""
        if self._form == "items":
            self._file.write(b"]")
        self.close()
        return Block(self._number, self._path, self._rows, self._quotes)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


@contextmanager
def read_ahead(parts: Generator[Part, None, None]) -> Iterator[Iterator[Part]]:
    """Gives the parts, while a thread makes the next one; leaving the block ends the thread."""
    ahead = _Ahead(parts)
    try:
        yield ahead.taken()
    finally:
        ahead.stop()


class _Ahead:
    """The thread that makes parts, at most one more than was taken."""

    def __init__(self, parts: Generator[Part, None, None]) -> None:
        self._parts = parts
        self._ready: queue.Queue[Part | BaseException | None] = queue.Queue(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def taken(self) -> Iterator[Part]:
        while (part := self._ready.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            yield part

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for part in self._parts:
                self._put(part)
                if self._stop.is_set():
                    break
            self._parts.close()
            self._put(None)
        except BaseException as failure:
            self._put(failure)

    def _put(self, part: Part | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._ready.put(part, timeout=0.1)
            except queue.Full:
                continue
        return None


def first_bad_row(parts: Iterable[Part]) -> tuple[int, str] | None:
    """The first row that is no item in DynamoDB JSON, counted from 1, and why; None where all are sound.

    It is slow, and meant for telling people where the trouble is once it is known that there is some.
    """
    number = 0
    for part in parts:
        for number, row in enumerate(_rows(part), number + 1):  # noqa: B020
            try:
                _item(row, part.wrapper)
            except (DecodeError, ValueError) as error:
                return number, str(error)
    return None


def first_row_without(parts: Iterable[Part], key: Sequence[str]) -> int:
    """The first row that lacks a key attribute, counted from 1; 0 if there is none. It is slow likewise."""
    number = 0
    for part in parts:
        for number, row in enumerate(_rows(part), number + 1):  # noqa: B020
            if not _item(row, part.wrapper).keys() >= set(key):
                return number
    return 0


def _item(row: bytes, wrapper: str | None) -> dict[str, Any]:
    if wrapper is None:
        return item_from_line(row)
    wrapped = json.loads(row)
    if not isinstance(wrapped, dict) or wrapped.keys() != {wrapper}:
        raise DecodeError(f"it is not one {wrapper}")
    return item_from_line(json.dumps(wrapped[wrapper]))


def _rows(part: Part) -> Iterator[bytes]:
    for path in part.files:
        if part.form == "lines":
            with path.open("rb") as file:
                yield from file
            continue
        text = path.read_text(encoding="utf-8", errors="surrogateescape")[1:]
        decoder, at = json.JSONDecoder(), 0
        while at < len(text) - 1:
            try:
                _, end = decoder.raw_decode(text, at)
            except ValueError:
                end = len(text)
            after = _after_space(text, end)
            if text[after : after + 1] not in (",", "]"):
                end = after = len(text)
            yield text[at:end].encode("utf-8", "surrogateescape")
            at = _after_space(text, after + 1)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
