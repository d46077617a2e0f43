"""The lake table's changes on their way into a snapshot: a file of lines, written as they come, read when asked."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from ingest.wire import from_boto3
from lake.contract.rows import Item, version_of

BATCH_BYTES: Final = 4 << 20
"""Read back at once."""


def lets_go(old: Item | None, new: Item | None) -> bool:
    """Whether a snapshot must let a row go before it takes what the lake has instead.

    That is so for a row that was removed; and for one whose version fell. Every write raises a row's version, but for
    the repair of a forged one: the new version would lose against that.

    Args:
        old: the row before, as DynamoDB JSON or as boto3 gives it; None where it is not known, or there was none.
        new: the row after; None where it was removed.
    """
    return old is not None and (new is None or version_of(old) > version_of(new))


def change_lines(record: Mapping[str, Any]) -> Iterator[bytes]:
    """A record of the lake table's stream, as boto3 gives it, as `lake.snapshot` and `lake.refresh` take it."""
    body = record["dynamodb"]
    removed = record["eventName"] == "REMOVE"
    old, new = body["OldImage"] if removed else body.get("OldImage"), None if removed else body["NewImage"]
    if lets_go(old, new):
        yield json.dumps({"OldImage": from_boto3(old)}).encode() + b"\n"
    if new is not None:
        yield json.dumps({"NewImage": from_boto3(new)}).encode() + b"\n"


class ChangeSpool:
    """A temporary file of changes. Memory does not grow with them; they may wait as long as they must."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._lock = threading.Lock()

    def take(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds records of the stream."""
        with self._lock:
            self._file.seek(0, 2)
            self._file.writelines(line for record in records for line in change_lines(record))

    def add(self, lines: Sequence[bytes]) -> None:
        """Adds changes that are lines already, without line ends."""
        with self._lock:
            self._file.seek(0, 2)
            self._file.writelines(line + b"\n" for line in lines)

    @property
    def end(self) -> int:
        """Where the next change will be written."""
        with self._lock:
            return self._file.seek(0, 2)

    def pages(self, end: int) -> Iterator[list[bytes]]:
        """Lines from the beginning up to `end`, in batches; more may be taken meanwhile."""
        at = 0
        while at < end:
            with self._lock:
                self._file.seek(at)
                lines = self._file.readlines(min(BATCH_BYTES, end - at))
            at += sum(map(len, lines))
            yield [line.rstrip(b"\n") for line in lines]

    def forget(self, end: int) -> None:
        """Lets go of the lines up to `end`, since they have been applied."""
        with self._lock:
            self._file.seek(end)
            kept = tempfile.TemporaryFile()  # noqa: SIM115 - takes the other's place
            while block := self._file.read(BATCH_BYTES):
                kept.write(block)
            self._file.close()
            self._file = kept

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
