"""Settling what quarantine and failure destination hold, once the cause is mended.

What a document holds is never applied: it is old. Its rows are read from the source again and mended as in
`ingest.repair`, and the mended row is newer than the record that did not arrive, so the record can come late, or
again, and do no harm.

Why nothing is lost:

- A document is taken away only after each of its rows was settled: written anew, buried, or found absent under a
  version that is newer than the record's. If the process is killed before, the next run finds the document again,
  and what it does is the same.
- A row that was changed between the look and the write is looked at again, as long as what it shows may still be
  older than the record. One that can still not be written stays, with the reason of today.
- A document that is only a pointer (`DDBStreamBatchInfo`, all that SQS gets) is followed into the stream. Where the
  stream no longer has the records, nobody knows the rows: that becomes a gap of its own, which only a repair closes,
  and then the pointer, which says nothing any more, is taken away.
- What cannot be understood, or is of another pipeline, is told and left, and stops nothing.
- The gap "given up" is closed only if every place was looked at, nothing of this pipeline's is left in any, no more
  was put away since the run began, and no queue can have forgotten a message since the gap was opened.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.documents import Meaning, Pointer, Reader, Row
from ingest.errors import (
    ExpiredIteratorError,
    ForeignDocumentError,
    StreamBusyError,
    StreamError,
    TrimmedError,
    UnknownDocumentError,
)
from ingest.health import HealthStore
from ingest.records import key_identity, lambda_event
from ingest.repair import BATCH, Mended, Repair, Wanted
from ingest.shards import StreamReader
from ingest.shelves import Shelf, Stored
from lake.contract.health import Gap
from lake.contract.versions import is_newer

log = logging.getLogger(__name__)

LOOKS: Final = 5
"""How often a row is looked at that the stream keeps changing under the redrive."""

PAUSE_S: Final = 0.5
"""Before a row is looked at again, and before a stream that gave nothing, or was busy, is asked again."""

EMPTY_ANSWERS: Final = 40
"""An open shard may answer nothing while records remain: so many times in a row, and the document waits for the next
run."""

PROBLEMS_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """A document that was left.

    Attributes:
        document: its name.
        why: one sentence, without an item's values.
    """

    document: str
    why: str


@dataclass(slots=True)
class RedriveReport:
    """What a redrive did so far.

    Attributes:
        documents: documents looked at.
        settled: documents taken away, because every row of theirs was settled.
        lost: of these, pointers to records that the stream no longer has; each left a gap for a repair.
        left: documents of this pipeline that stay.
        foreign: documents of other pipelines.
        unknown: documents that cannot be understood, or of which not every record says its row.
        rows: rows asked for, each once in a batch.
        written: rows written anew.
        deleted: rows that became tombstones.
        absent: rows that neither side has.
        same: rows that were right already.
        overtaken: rows that newer changes reached meanwhile.
        refused: rows that can still not be written.
        failed: rows that could not be written now.
        problems: the first of the documents that were left, and why.
        gaps_closed: the gaps that the run covered.
        gap_stays: why a gap stays open, in a sentence; empty where none does.
    """

    documents: int = 0
    settled: int = 0
    lost: int = 0
    left: int = 0
    foreign: int = 0
    unknown: int = 0
    rows: int = 0
    written: int = 0
    deleted: int = 0
    absent: int = 0
    same: int = 0
    overtaken: int = 0
    refused: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)
    gaps_closed: list[Gap] = field(default_factory=list)
    gap_stays: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the places hold, without touching it.

    Attributes:
        documents: documents, of a queue about so many.
        rows: distinct rows that the documents which could be looked into are about.
        pointers: documents that only point into the stream.
        foreign: documents of other pipelines.
        unknown: documents that cannot be understood.
        unseen: documents of queues, which cannot be looked into without hiding them from others.
        problems: the first that would be left, and why.
    """

    documents: int
    rows: int
    pointers: int
    foreign: int
    unknown: int
    unseen: int
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True)
class _Open:
    """A document that is being settled."""

    stored: Stored
    meaning: Meaning
    rows: tuple[Row, ...]
    unknown: int


class Redrive:
    """One pipeline's redrive."""

    def __init__(
        self,
        repair: Repair,
        documents: Reader,
        stream: Callable[[str], StreamReader],
        health: HealthStore,
        *,
        now_ms: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        """Join the parts.

        Args:
            repair: mends rows; its limits hold for the redrive, too.
            documents: understands what is found.
            stream: a reader of the stream with this ARN.
            health: whose gap "given up" the redrive closes.
            now_ms: the time of day, epoch milliseconds.
            sleep: waits that many seconds.
        """
        self._repair = repair
        self._documents = documents
        self._stream = stream
        self._health = health
        self._now_ms = now_ms
        self._sleep = sleep

    def run(
        self,
        shelves: Sequence[Shelf],
        *,
        covers_all: bool,
        on_progress: Callable[[RedriveReport], None] = lambda _: None,
    ) -> RedriveReport:
        """Settle what can be settled.

        Args:
            shelves: where to look.
            covers_all: whether these are all the places where records of this pipeline may be.
            on_progress: called after every batch.

        Raises:
            QuarantineError: a place does not answer, or does not let go of a document.
            SourceError: the source cannot be read.
            LakeUnavailableError: the lake refuses every write.
        """
        began = self._now_ms()
        report = RedriveReport()
        queues: list[tuple[Shelf, int]] = []
        for shelf in shelves:
            foreign = report.foreign
            try:
                for batch in _in_batches(self._open(shelf, report)):
                    self._settle(shelf, batch, report)
                    on_progress(report)
            finally:
                shelf.close()
            if shelf.looking_is_touching:
                queues.append((shelf, report.foreign - foreign))
        self._tell_health(queues, covers_all, began, report)
        on_progress(report)
        return report

    def survey(self, shelves: Sequence[Shelf]) -> Survey:
        """What a run would find; nothing is changed, and nothing is hidden from others.

        Raises:
            QuarantineError: a place does not answer.
        """
        rows: set[Any] = set()
        found = RedriveReport()
        pointers = unseen = 0
        for shelf in shelves:
            if shelf.looking_is_touching:
                unseen += shelf.count()
                continue
            for stored in shelf.stored():
                found.documents += 1
                meaning = self._understand(stored, found)
                if meaning is not None:
                    rows |= {key_identity(row.key) for row in meaning.rows}
                    pointers += meaning.pointer is not None
                    found.unknown += meaning.unknown > 0
        return Survey(
            documents=found.documents + unseen,
            rows=len(rows),
            pointers=pointers,
            foreign=found.foreign,
            unknown=found.unknown,
            unseen=unseen,
            problems=found.problems,
        )

    # One document

    def _open(self, shelf: Shelf, report: RedriveReport) -> Iterator[_Open]:
        for stored in shelf.stored():
            report.documents += 1
            meaning = self._understand(stored, report)
            if meaning is None:
                continue
            if meaning.pointer is None:
                yield _Open(stored, meaning, meaning.rows, meaning.unknown)
                continue
            try:
                rows = list(self._documents.rows_of(self._follow(meaning.pointer)))
            except TrimmedError as error:
                self._note_lost(meaning.pointer, str(error))
                shelf.take_away(stored)
                report.lost += 1
                report.settled += 1
            except StreamError as error:
                report.left += 1
                _tell(report, stored, f"the stream could not be read again: {error}")
            else:
                yield _Open(stored, meaning, tuple(row for row in rows if row), rows.count(None))

    def _understand(self, stored: Stored, report: RedriveReport) -> Meaning | None:
        try:
            return self._documents.understand(stored.body)
        except ForeignDocumentError as error:
            report.foreign += 1
            _tell(report, stored, str(error))
        except UnknownDocumentError as error:
            report.unknown += 1
            _tell(report, stored, str(error))
        return None

    def _note_lost(self, pointer: Pointer, why: str) -> None:
        self._health.open_gap(
            f"given-up/{pointer.shard_id}/{pointer.first}",
            "trimmed",
            f"the records {pointer.first} to {pointer.last} of the shard {pointer.shard_id} were given up, and the "
            f"stream no longer has them: {why}",
        )

    def _follow(self, pointer: Pointer) -> list[Mapping[str, Any]]:
        """The records that a pointer means, in Lambda's form.

        Raises:
            TrimmedError: the stream does not have all of them any more.
            StreamError: it could not be read.
        """
        reader = self._stream(pointer.arn)
        first, last = int(pointer.first), int(pointer.last)
        found: list[Mapping[str, Any]] = []
        iterator: str | None = None
        empty = 0
        while True:
            try:
                if iterator is None:
                    at = found[-1]["dynamodb"]["SequenceNumber"] if found else None
                    iterator = (
                        reader.iterator(pointer.shard_id, at)
                        if at
                        else reader.iterator_at(pointer.shard_id, pointer.first)
                    )
                records, iterator = reader.records(iterator)
            except (StreamBusyError, ExpiredIteratorError):
                empty += 1
                if empty >= EMPTY_ANSWERS:
                    raise
                self._sleep(PAUSE_S)
                continue
            numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
            found += [
                record for number, record in zip(numbers, records, strict=True) if first <= number <= last
            ]
            if numbers and numbers[-1] >= last:
                break
            if iterator is None:
                raise TrimmedError("the shard ends before the last of them")
            if not records:
                empty += 1
                if empty >= EMPTY_ANSWERS:
                    raise StreamBusyError("the shard gave nothing for a while")
                self._sleep(PAUSE_S)
        have = {int(record["dynamodb"]["SequenceNumber"]) for record in found}
        if not {first, last} <= have:
            raise TrimmedError("the shard does not have all of them")
        return list(lambda_event(found, pointer.arn)["Records"])

    # A batch of documents

    def _settle(self, shelf: Shelf, batch: Sequence[_Open], report: RedriveReport) -> None:
        wanted: dict[Any, Wanted] = {}
        for row in (row for each in batch for row in each.rows):
            identity = key_identity(row.key)
            known = [each for each in (row.version, _known(wanted.get(identity))) if each is not None]
            wanted[identity] = Wanted(row.key, max(known, default=None))
        report.rows += len(wanted)
        mended = self._mend(wanted)
        for outcome, rows in Counter(each.outcome for each in mended.values()).items():
            setattr(report, outcome, getattr(report, outcome) + rows)
        for document in batch:
            outcomes = [mended[key_identity(row.key)] for row in document.rows]
            unsettled = [each for each in outcomes if each.outcome in ("refused", "failed")]
            if unsettled:
                report.left += 1
                self._leave(shelf, document, unsettled[0], report)
            elif document.unknown:
                report.unknown += 1
                why = f"{document.unknown} of its records do not say which row they are of"
                _tell(report, document.stored, why)
            else:
                shelf.take_away(document.stored)
                report.settled += 1

    @staticmethod
    def _leave(shelf: Shelf, document: _Open, because: Mended, report: RedriveReport) -> None:
        _tell(report, document.stored, because.reason)
        if because.outcome == "refused" and because.reason != document.meaning.reason:
            shelf.replace(document.stored, document.meaning.with_reason(because.reason))

    def _mend(self, wanted: Mapping[Any, Wanted]) -> dict[Any, Mended]:
        """What became of each row; "overtaken" only where it is newer than the record."""
        done: dict[Any, Mended] = {}
        waiting = dict(wanted)
        for look in range(LOOKS):
            if look:
                self._sleep(PAUSE_S)
            for some in _chunks(list(waiting.values())):
                for each in self._repair.settle(some):
                    done[key_identity(each.wanted.key)] = each
            waiting = {
                identity: each.wanted
                for identity, each in done.items()
                if each.outcome == "failed" or _may_be_older(each)
            }
            if not waiting:
                break
        for identity, each in done.items():
            if _may_be_older(each):
                why = "the row changes all the time; it is left for the next run"
                done[identity] = Mended(each.wanted, "failed", each.seen, why)
        return done

    # The gap

    def _tell_health(
        self, queues: Sequence[tuple[Shelf, int]], covers_all: bool, began: int, report: RedriveReport
    ) -> None:
        if report.left:
            self._health.given_up(f"{_documents(report.left)} could not be redriven")
        report.gap_stays = self._why_not_closed(queues, covers_all, report)
        if not report.gap_stays:
            report.gaps_closed = self._health.close_gaps("redrive", began)
            if any(gap.remedy == "redrive" for gap in self._health.gaps()):
                report.gap_stays = "more was put away meanwhile: redrive again"

    def _why_not_closed(
        self, queues: Sequence[tuple[Shelf, int]], covers_all: bool, report: RedriveReport
    ) -> str:
        """Why the gap "given up" may not be closed; empty where it may, or there is none.

        `queues` are the places that hide messages, each with how many of other pipelines it was found to hold.
        """
        gaps = [gap for gap in self._health.gaps() if gap.remedy == "redrive"]
        if not gaps:
            return ""
        if report.left:
            return f"{_documents(report.left)} could not be settled"
        if report.unknown:
            return f"of {_documents(report.unknown)} it is not known which rows they are of: only a repair can close it"
        if not covers_all:
            return "this was one place of several: a redrive without --from looks at all of them"
        found_at = min(gap.found_at for gap in gaps)
        for queue, _ in queues:
            keeps_s = queue.keeps_s
            if keeps_s is not None and found_at < self._now_ms() - keeps_s * 1000:
                return (
                    f"a queue forgets a message after {keeps_s / 86_400:.3g} days, and the gap is older: only a "
                    "repair can close it"
                )
        hidden = sum(shelf.count() - foreign for shelf, foreign in queues)
        if hidden > 0:
            return f"a queue still holds about {hidden} messages, hidden or delayed: redrive again later"
        return ""


def _documents(count: int) -> str:
    return f"{count:,} document{'' if count == 1 else 's'}"


def _known(wanted: Wanted | None) -> Any:
    return None if wanted is None else wanted.known


def _may_be_older(mended: Mended) -> bool:
    """Whether a row that was changed under the redrive may still be older than the record."""
    if mended.outcome != "overtaken":
        return False
    known, seen = mended.wanted.known, mended.seen
    return known is None or seen is None or is_newer(known, seen)


def _tell(report: RedriveReport, stored: Stored, why: str) -> None:
    log.info("a document was left: %s", why, extra={"document": stored.name})
    if len(report.problems) < PROBLEMS_KEPT:
        report.problems.append(Problem(stored.name, why))


def _in_batches(documents: Iterator[_Open]) -> Iterator[Sequence[_Open]]:
    """Documents, together until they are about `BATCH` rows."""
    batch: list[_Open] = []
    rows = 0
    for document in documents:
        batch.append(document)
        rows += len(document.rows)
        if rows >= BATCH or len(batch) >= BATCH:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _chunks(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    for start in range(0, len(wanted), BATCH):
        yield wanted[start : start + BATCH]
