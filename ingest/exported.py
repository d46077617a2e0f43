"""Backfilling from DynamoDB's exports to S3, which cost the source table no read capacity.

A full export is a scan that DynamoDB did: `ExportScan` gives its lines as `ingest.scan.Scan` gives a table's, and
`ingest.backfill.Backfill` does the rest. What may be done with a line, and why:

- Its image was read before the lake's row was looked at, so it may only fill a row that is absent, tombstones
  included, like a page of a scan. What the stream has written or will write is newer.
- A page of a scan is seconds old, an export may be weeks old. An item that was deleted since must not come back. So
  each deletion since must have left a tombstone, or must still be on its way:
  - the stream must have been read from before the export's moment on (`exportTime` not before the note of the
    stream), or the deletion may have been missed;
  - nothing may have been lost to the lake since that moment: a gap found later, closed or not, may hold a
    deletion, and a repair that found the row on neither side left no tombstone;
  - the oldest tombstone that matters must not have expired: the export must be younger than a tombstone's life,
    before every page, since a backfill may take long.
  Otherwise the export is refused: `refuse_unfit` says why.

An incremental export says of every item that changed within a window what it was at the window's end. By the same
argument such an image, too, might fill an absent row; but no more than that: where the row is there, nothing tells
which is newer, since `WriteTimestampMicros` is no sequence number, and two writes may share one. And it names rows
that changed, of which a lake mostly has one. So of a line only the key is used: `ExportedChanges` reads the row from
the source again and mends it (`ingest.repair`, which says why that is safe beside a live stream); a row that is right
already is left alone. Since no image is trusted, an incremental export of any age and window will do, deletions
included. It makes rows right, but closes no gap: that the window covers what a gap lost, nobody can know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ingest.checkpoints import Checkpoints
from ingest.errors import BackfillError
from ingest.records import key_identity
from ingest.repair import BATCH, Repair, Wanted
from ingest.scan import Page
from lake.contract.exports import Export, Files, lines_of, read_data
from lake.contract.health import Gap
from lake.contract.rows import TOMBSTONE_LIFE_S
from lake.errors import ContractError

LINES_A_PAGE: Final = 500

_LINE: Final = "line"
_CHANGES: Final = "exported-changes"


def refuse_another_table(export: Export, table_arn: str, table_id: str) -> None:
    """Refuse an export of another table, or of an earlier one of the same name.

    Args:
        export: the export.
        table_arn: the source table's ARN.
        table_id: the source table's id; empty where it is not known.

    Raises:
        BackfillError: it is one.
    """
    if export.table_arn != table_arn:
        raise BackfillError(f"the export is of {export.table_arn}, and the source table is {table_arn}")
    if table_id and export.table_id and export.table_id != table_id:
        raise BackfillError(
            f"the export is of an earlier table of the same name (its id was {export.table_id}, that of the source "
            f"table is {table_id})",
            remedy="export again",
        )


def refuse_unfit(export: Export, noted_at: int, gaps: Sequence[Gap], now_ms: int) -> None:
    """Refuse a full export that could bring deleted rows back; see above.

    Args:
        export: the export.
        noted_at: since when the stream is read, epoch milliseconds.
        gaps: every gap of the pipeline, closed ones included.
        now_ms: epoch milliseconds.

    Raises:
        BackfillError: it could.
    """
    if export.kind != "full":
        raise BackfillError(
            "the export is incremental, and only a full one can fill a table", remedy="export again in full"
        )
    taken = _moment(export.shows_ms)
    if export.shows_ms < noted_at:
        raise BackfillError(
            f"the export shows the table as of {taken}, and the stream is read since {_moment(noted_at)}, so "
            "what was deleted between would come back",
            remedy="export again, or use --source scan",
        )
    refuse_expired(export, now_ms)
    for gap in gaps:
        if gap.kind != "not backfilled" and gap.last_found_at > export.shows_ms:
            raise BackfillError(
                f"the export shows the table as of {taken}, and the lake may have missed deletions since "
                f"({gap.detail}), which would bring rows back",
                remedy="export again, or use --source scan",
            )


def refuse_expired(export: Export, now_ms: int) -> None:
    """Refuse an export that is older than a tombstone's life.

    Raises:
        BackfillError: it is.
    """
    if now_ms - export.shows_ms >= TOMBSTONE_LIFE_S * 1000:
        raise BackfillError(
            f"the export shows the table as of {_moment(export.shows_ms)}, and tombstones live for "
            f"{TOMBSTONE_LIFE_S // 86_400} days, so rows deleted since could come back",
            remedy="export again, or use --source scan",
        )


class ExportScan:
    """A full export, read as a scan is: its segments are its data files."""

    def __init__(self, files: Files, export: Export, now_ms: Callable[[], int]) -> None:
        """Read `export` from `files`; `now_ms` is the time of day, epoch milliseconds."""
        self._files = files
        self._export = export
        self._now_ms = now_ms
        self.segments = len(export.files)

    def pages(self, starts: Mapping[int, Mapping[str, Any] | None] | None = None) -> Iterator[Page]:
        """All pages, file by file.

        Args:
            starts: the files to read, each with the `last_key` after which it goes on; all if not given.

        Raises:
            BackfillError: the export has become too old meanwhile, or a file is not what its manifest says.
        """
        for number, start in (starts or dict.fromkeys(range(self.segments))).items():
            read = 0 if start is None else int(start[_LINE]["N"])
            file = self._export.files[number]
            try:
                content = read_data(self._files, self._export, file)
                images: list[dict[str, Any]] = []
                for count, line in enumerate(lines_of(self._export, file, content), 1):
                    if count <= read:
                        continue
                    images.append(dict(line.image or {}))
                    if len(images) == LINES_A_PAGE:
                        yield self._page(number, images, {_LINE: {"N": str(count)}})
                        images = []
                yield self._page(number, images, None)
            except ContractError as error:
                raise BackfillError(error.message, remedy=error.remedy) from error

    def _page(self, file: int, images: list[dict[str, Any]], last: Mapping[str, Any] | None) -> Page:
        refuse_expired(self._export, self._now_ms())
        return Page(file, images, last, read_units=0.0)


@dataclass(frozen=True, slots=True)
class ChangesReport:
    """What became of an incremental export's rows, resumed parts not included.

    Attributes:
        read: lines read.
        written: rows written anew.
        deleted: rows that became tombstones.
        same: rows that were right already.
        absent: rows that neither side has.
        overtaken: rows that the stream changed meanwhile, and so were left to it.
        refused: rows that can never be written.
        failed: rows that were not written now.
        files_done: data files at their end, resumed parts included.
        files: data files in all.
        resumed: whether an earlier run was gone on with.
    """

    read: int = 0
    written: int = 0
    deleted: int = 0
    same: int = 0
    absent: int = 0
    overtaken: int = 0
    refused: int = 0
    failed: int = 0
    files_done: int = 0
    files: int = 0
    resumed: bool = False


class ExportedChanges:
    """Mends the rows that an incremental export names."""

    def __init__(self, files: Files, export: Export, repair: Repair, checkpoints: Checkpoints) -> None:
        """Join the parts; `repair` should leave rows alone that are right already."""
        self._files = files
        self._export = export
        self._repair = repair
        self._checkpoints = checkpoints

    def run(
        self, *, restart: bool = False, on_progress: Callable[[ChangesReport], None] = lambda _: None
    ) -> ChangesReport:
        """Mend every row that the export names; go on with an earlier run that was cut off.

        Args:
            restart: begin anew, whatever an earlier run did.
            on_progress: called after every batch of rows.

        Raises:
            BackfillError: the export is not incremental, or a file is not what its manifest says.
            SourceError: the source cannot be read.
            LakeUnavailableError: the lake refuses every write.
        """
        if self._export.kind != "incremental":
            raise BackfillError("the export is full", remedy="use it with `dynalake backfill`")
        done = set() if restart else self._done()
        resumed = bool(done)
        if not resumed:
            self._forget()
        counts: dict[str, int] = {}

        def report() -> ChangesReport:
            return ChangesReport(
                **counts, files_done=len(done), files=len(self._export.files), resumed=resumed
            )

        for number, file in enumerate(self._export.files):
            if number in done:
                continue
            try:
                for batch in self._batches(file, read_data(self._files, self._export, file)):
                    for mended in self._repair.settle(batch):
                        counts["read"] = counts.get("read", 0) + 1
                        counts[mended.outcome] = counts.get(mended.outcome, 0) + 1
                    on_progress(report())
            except ContractError as error:
                raise BackfillError(error.message, remedy=error.remedy) from error
            self._checkpoints.put(f"{_CHANGES}/{number:08d}", {"export": {"S": self._export.arn}})
            done.add(number)
            on_progress(report())
        self._forget()
        return report()

    def _batches(self, file: Any, content: bytes) -> Iterator[Sequence[Wanted]]:
        batch: dict[Any, Wanted] = {}
        for line in lines_of(self._export, file, content):
            if line.key is not None:
                batch[key_identity(line.key)] = Wanted(line.key)
            if len(batch) >= BATCH:
                yield list(batch.values())
                batch = {}
        if batch:
            yield list(batch.values())

    def _done(self) -> set[int]:
        return {
            int(entry.rpartition("/")[2])
            for entry, item in self._checkpoints.entries(f"{_CHANGES}/")
            if item["export"]["S"] == self._export.arn
        }

    def _forget(self) -> None:
        for entry, _ in list(self._checkpoints.entries(f"{_CHANGES}/")):
            self._checkpoints.delete(entry)


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
