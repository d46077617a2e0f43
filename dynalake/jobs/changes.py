"""The lake table's changes on their way into a snapshot: a file of lines, written as they come, read when asked."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from ingest.wire import from_boto3

BATCH_BYTES: Final = 4 << 20
"""Read back at once."""


def change_line(record: Mapping[str, Any]) -> bytes:
    """A record of the lake table's stream, as boto3 gives it, as `lake.snapshot` and `lake.refresh` take it."""
    body = record["dynamodb"]
    image = "OldImage" if record["eventName"] == "REMOVE" else "NewImage"
    return json.dumps({image: from_boto3(body[image])}).encode() + b"\n"


class ChangeSpool:
    """A temporary file of changes. Memory does not grow with them; they may wait as long as they must."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._lock = threading.Lock()

    def take(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds records of the stream."""
        with self._lock:
            self._file.seek(0, 2)
            self._file.writelines(change_line(record) for record in records)

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
