"""The version of a row, and which of two versions is newer.

A version is a string that compares, byte by byte, in the order in which the source's item changed:

    "<stream label>/<sequence number, zero-padded to 40 digits>"          a streamed change
    "<the version it was read over>~<revision, zero-padded to 6 digits>"   a change that was read

Why a string: sequence numbers have 21 to 40 digits (DynamoDB Streams API reference, `SequenceNumber`),
and a DynamoDB number keeps 38. Why the label: sequence numbers order an item's changes within one stream
only; the label is the stream's creation time in ISO form, so after the stream was switched off and on,
newer still compares as newer. Why `~`: it sorts after every digit and after the end of the string, so a
read row is newer than what it replaced and older than any streamed change still to come.

The rule has two translations and no third: the condition of a DynamoDB write (`ingest.apply`) and the merge
of a DuckDB snapshot (`lake.snapshot`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NewType

from lake.errors import ContractError

Version = NewType("Version", str)

ABSENT: Final = Version("0")
"""The version of a row that is not there: older than every other, since stream labels begin with a year."""

SEQUENCE_DIGITS: Final = 40
REVISION_DIGITS: Final = 6
_REVISION_MARK: Final = "~"
_LAST_REVISION: Final = 10**REVISION_DIGITS - 1

_GRAMMAR: Final = re.compile(
    rf"(?:{ABSENT}|([0-9][^~]*T[^~]*)/[0-9]{{{SEQUENCE_DIGITS}}})(?:~([0-9]{{{REVISION_DIGITS}}}))?"
)


def streamed(stream_label: str, sequence_number: str) -> Version:
    """The version of a change that came through the source's stream.

    Args:
        stream_label: the stream's label, an ISO 8601 timestamp without zone (the last part of its ARN).
        sequence_number: the record's sequence number, 1 to 40 decimal digits.

    Raises:
        ContractError: the label is no timestamp, or the sequence number is no such number.
    """
    if not (sequence_number.isascii() and sequence_number.isdigit()):
        raise ContractError("the sequence number is not a number")
    if len(sequence_number) > SEQUENCE_DIGITS:
        raise ContractError(f"the sequence number has more than {SEQUENCE_DIGITS} digits")
    if not (stream_label[:1].isdigit() and "T" in stream_label and _REVISION_MARK not in stream_label):
        raise ContractError(f"the stream label {stream_label!r} is not an ISO timestamp")
    return Version(f"{stream_label}/{sequence_number.zfill(SEQUENCE_DIGITS)}")


def read_over(seen: Version, *also_known: Version) -> Version:
    """The version of a change that was read from the source, not streamed.

    The caller first looked at the row's version in the store (`seen`), then read the source consistently;
    it will write on condition that the row's version is still `seen`. Any streamed change that comes after
    the read is newer than the result.

    Args:
        seen: the row's version in the store before the source was read; `ABSENT` where there was no row.
        also_known: versions that are known to precede the read for another reason, such as that of the
            quarantined record which caused a redrive.

    Raises:
        ContractError: the row was read over 999,999 times without one streamed change.
    """
    base, mark, revision = max((seen, *also_known)).partition(_REVISION_MARK)
    if mark and not (revision.isascii() and revision.isdigit()):
        raise ContractError("the row's version is not one that dynalake writes")
    count = int(revision) + 1 if mark else 1
    if count > _LAST_REVISION:
        raise ContractError(
            "the row has no revision left: it was repaired 999,999 times since its last change"
        )
    return Version(f"{base}{_REVISION_MARK}{count:0{REVISION_DIGITS}d}")


def is_newer(version: Version, than: Version) -> bool:
    """Whether `version` is newer than `than`: the one rule applies a change if, and only if, it is."""
    return version > than


def label_of_stream(stream_arn: str) -> str:
    """The stream's label: the last part of its ARN.

    Raises:
        ContractError: this is not the ARN of a DynamoDB stream.
    """
    _, found, label = stream_arn.partition("/stream/")
    if not found or not label:
        raise ContractError(f"{stream_arn[:200]!r} is not the ARN of a DynamoDB stream")
    return label


def table_of_stream(stream_arn: str) -> str:
    """The ARN of the table whose stream this is; it stays the same when the stream is switched off and on."""
    return stream_arn.partition("/stream/")[0]


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """The stream labels that a pipeline has read, against which the versions of its rows are checked.

    Attributes:
        labels: the labels on record.
        complete: whether every label since the pipeline was set up is on record. One that was set up by a release
            that kept no record has read labels that nobody knows; of it, only a label newer than those on record is
            foreign. An older one does no harm: every change of a known stream is newer.
        now_ms: the time of day, epoch milliseconds.
    """

    labels: frozenset[str]
    complete: bool
    now_ms: int

    def forgery(self, stored: Mapping[str, Any] | None) -> str | None:
        """Why a row's version attribute is not one that this pipeline wrote; None where it may be.

        Args:
            stored: the attribute as DynamoDB JSON; None for a row without it, which any change overwrites.
        """
        if stored is None:
            return None
        text = stored.get("S")
        if text is None:
            return "it is not of type S"
        match = _GRAMMAR.fullmatch(text)
        if match is None or text == ABSENT:
            return "it does not have the form of a version"
        label, revision = match.groups()
        if revision is not None and not 0 < int(revision) < _LAST_REVISION:
            return "its revision is one that no repair writes"
        if label is None or label in self.labels:
            return None
        if is_future(label, self.now_ms):
            return "its stream label is in the future"
        if self.complete or label > max(self.labels, default=""):
            return "its stream label is none that the pipeline has read"
        return None


def label_of(version: Version) -> str | None:
    """The stream label of a version; None where it has none, or where this is no version."""
    match = _GRAMMAR.fullmatch(version)
    return match[1] if match else None


def is_future(label: str, now_ms: int) -> bool:
    """Whether a stream label is later than tomorrow: it is the time at which the stream was switched on.

    Args:
        label: the label, an ISO timestamp.
        now_ms: the time of day, epoch milliseconds; that this clock is a little wrong does not matter.
    """
    tomorrow = datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(days=1)
    return label[:10] > tomorrow.date().isoformat()
