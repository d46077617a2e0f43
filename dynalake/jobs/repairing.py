"""A repair that goes on where it was cut off: what differs is a file, how far it is mended a checkpoint.

The file is `parity`'s, or one that the repair writes itself where it was started. The checkpoint, in the lake account,
names the file by its content; so a run on another host, or with another file, begins anew, which is harmless: a row
that is right already is read and left alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynalake.jobs.watching import Watcher, watch_to_end
from expectations.canonical import canonical_text
from ingest.shards import StreamReader
from ingest.walk import Pacing
from ingest.wire import from_boto3
from lake.contract.versions import Version, label_of_stream, streamed

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from ingest.repair import Refusal, RepairReport

_ENTRY: Final = "repair"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file of differences is mended.

    Attributes:
        fingerprint: the SHA-256 of the file.
        done: rows asked for so far, in the file's order.
    """

    fingerprint: str
    done: int


def fingerprint_of(file: Path) -> str:
    """The SHA-256 of a file. Raises OSError where it cannot be read."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def progress_of(pipeline: Pipeline) -> Progress | None:
    """How far a repair came that was cut off; None where none was."""
    item = pipeline.checkpoints().get(_ENTRY)
    return Progress(item["file"]["S"], int(item["done"]["N"])) if item else None


def mend_file(
    pipeline: Pipeline,
    fingerprint: str,
    keys: Iterable[Mapping[str, Any]],
    on_progress: Callable[[RepairReport], None] = lambda _: None,
    *,
    on_refused: Callable[[Refusal], None] = lambda _: None,
    reset_versions_of: Iterable[Mapping[str, Any]] | None = None,
) -> tuple[RepairReport, int]:
    """Mend the rows that a file names, from where an earlier run of the same file stopped.

    Args:
        pipeline: the pipeline.
        fingerprint: the file's, see `fingerprint_of`.
        keys: its source keys, in the file's order.
        on_progress: called after each batch; `asked` counts the rows of the earlier run, too.
        on_refused: called with each row that is refused; the others are repaired.
        reset_versions_of: as for `Pipeline.repair`.

    Returns:
        What this run did, and how many rows an earlier run had done.
    """
    checkpoints = pipeline.checkpoints()
    earlier = progress_of(pipeline)
    done = earlier.done if earlier and earlier.fingerprint == fingerprint else 0

    def note(report: RepairReport) -> None:
        so_far = done + report.asked
        checkpoints.put(_ENTRY, {"file": {"S": fingerprint}, "done": {"N": str(so_far)}})
        on_progress(replace(report, asked=so_far))

    checkpoints.put(_ENTRY, {"file": {"S": fingerprint}, "done": {"N": str(done)}})
    report = pipeline.repair(
        islice(keys, done, None), note, on_refused=on_refused, reset_versions_of=reset_versions_of
    )
    checkpoints.delete(_ENTRY)
    return report, done


def newest_versions(
    pipeline: Pipeline, keys: Iterable[Mapping[str, Any]], pacing: Pacing
) -> Callable[[Mapping[str, Any]], Version | None]:
    """What the source's stream tells of the newest version of some rows, as a function of their keys.

    A forged version says nothing of which changes a row has seen. The row is therefore written with the version that
    follows the newest change that the stream holds of it, so that a change which is delivered again stays older. Of
    a key that the stream does not hold, no change can be delivered again.
    """
    versions = _Versions(keys, label_of_stream(pipeline.source_table.stream_arn))
    if versions.wanted:
        reader = StreamReader(pipeline.source_streams(), pipeline.source_table.stream_arn)
        watch_to_end(reader, versions, pipeline.clocks.monotonic, pacing)
    return lambda key: versions.wanted.get(canonical_text(key))


class _Versions(Watcher):
    """Keeps the newest version of some keys."""

    def __init__(self, keys: Iterable[Mapping[str, Any]], label: str) -> None:
        super().__init__()
        self.wanted: dict[str, Version | None] = {canonical_text(key): None for key in keys}
        self._label = label
        self._lock = threading.Lock()

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        for record in records:
            body = record["dynamodb"]
            key = canonical_text(from_boto3(body["Keys"]))
            if key in self.wanted:
                version = streamed(self._label, body["SequenceNumber"])
                with self._lock:
                    self.wanted[key] = max(version, self.wanted[key] or version)
