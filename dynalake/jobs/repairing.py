"""A repair that goes on where it was cut off: what differs is a file, how far it is mended a checkpoint.

The file is `parity`'s, or one that the repair writes itself where it was started. The checkpoint, in the lake account,
names the file by its content; so a run on another host, or with another file, begins anew, which is harmless: a row
that is right already is read and left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from ingest.repair import RepairReport

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
) -> tuple[RepairReport, int]:
    """Mend the rows that a file names, from where an earlier run of the same file stopped.

    Args:
        pipeline: the pipeline.
        fingerprint: the file's, see `fingerprint_of`.
        keys: its source keys, in the file's order.
        on_progress: called after each batch; `asked` counts the rows of the earlier run, too.

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
    report = pipeline.repair(islice(keys, done, None), note)
    checkpoints.delete(_ENTRY)
    return report, done
