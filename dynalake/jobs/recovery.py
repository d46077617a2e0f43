"""Redrive and the backfill from an export, put together for one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from dynalake.costs import Estimate, estimate_filling, estimate_mending
from dynalake.deploy.names import LAMBDA_FAILURES
from dynalake.errors import UserError
from dynalake.jobs.parity import files_of
from ingest.backfill import BackfillReport
from ingest.documents import Reader
from ingest.errors import BackfillError
from ingest.exported import ChangesReport, ExportedChanges, ExportScan, refuse_another_table, refuse_unfit
from ingest.quarantine import bucket_of, is_queue, queue_of
from ingest.redrive import Redrive, RedriveReport, Survey
from ingest.shards import StreamReader
from ingest.shelves import Shelf
from lake.contract.exports import Export, Files, open_export
from lake.errors import aws_error

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Redriving:
    """A redrive that is ready to run.

    Attributes:
        places: the addresses where it looks.
        covers_all: whether these are all that the configuration knows of.
    """

    places: Sequence[str]
    covers_all: bool
    _shelves: Sequence[Shelf]
    _job: Redrive
    _row_bytes: float

    def count(self) -> int:
        """How many documents there are, those of other pipelines included; of a queue about so many."""
        return sum(shelf.count() for shelf in self._shelves)

    def estimate(self, rows: int, counted: str) -> Estimate:
        """What mending so many rows takes."""
        return estimate_mending(rows, self._row_bytes, counted)

    def survey(self) -> Survey:
        """What a run would find; see `ingest.redrive`."""
        return self._job.survey(self._shelves)

    def run(self, on_progress: Callable[[RedriveReport], None] = lambda _: None) -> RedriveReport:
        """Settle what can be settled; see `ingest.redrive`."""
        return self._job.run(self._shelves, covers_all=self.covers_all, on_progress=on_progress)


def redriving(pipeline: Pipeline, from_: str | None = None) -> Redriving:
    """Put a redrive together.

    Args:
        pipeline: the pipeline.
        from_: one place to look at; all that the configuration knows of if None.

    Raises:
        UserError: `from_` is no place.
        SourceError: the source table cannot be replicated.
    """
    places = [_place(from_)] if from_ else places_of(pipeline)
    source = pipeline.source_table
    job = Redrive(
        pipeline.mender(leave_same=True),
        Reader(pipeline.name, source.arn, source.key_names),
        lambda arn: StreamReader(pipeline.source_streams(), arn),
        pipeline.health_store,
        now_ms=pipeline.now_ms,
        sleep=pipeline.clocks.sleep,
    )
    return Redriving(
        places,
        from_ is None,
        [pipeline.shelf(place) for place in places],
        job,
        source.approximate_bytes / source.approximate_rows if source.approximate_rows else 0.0,
    )


@dataclass(frozen=True, slots=True)
class FromExport:
    """A backfill from an export that is ready to run.

    Attributes:
        export: the export.
        estimate: what it takes.
    """

    export: Export
    estimate: Estimate
    _files: Files
    _pipeline: Pipeline

    def fill(
        self, *, restart: bool = False, on_progress: Callable[[BackfillReport], None] = lambda _: None
    ) -> BackfillReport:
        """Fill absent rows from a full export; see `ingest.exported`.

        Raises:
            BackfillError: it has become too old meanwhile, or is not what its manifest says.
        """
        pipeline = self._pipeline
        return pipeline.a_backfill(
            lambda _: ExportScan(self._files, self.export, pipeline.now_ms),
            source=self.export.arn,
            as_of_ms=self.export.shows_ms,
        ).run(restart=restart, on_progress=on_progress)

    def mend(
        self, *, restart: bool = False, on_progress: Callable[[ChangesReport], None] = lambda _: None
    ) -> ChangesReport:
        """Mend the rows that an incremental export names; see `ingest.exported`."""
        repair = self._pipeline.mender(leave_same=True)
        job = ExportedChanges(self._files, self.export, repair, self._pipeline.checkpoints())
        return job.run(restart=restart, on_progress=on_progress)


def from_export(pipeline: Pipeline, address: str) -> FromExport:
    """Open an export of the pipeline's source table.

    Args:
        pipeline: the pipeline.
        address: `s3://bucket/prefix`, or the folder that it was copied to.

    Raises:
        ContractError: there is no complete export.
        BackfillError: it is of another table, or a full one that could bring deleted rows back.
        UserError: the bucket cannot be read.
    """
    files, where = files_of(address, pipeline.source_s3())
    source = pipeline.source_table
    try:
        export = open_export(files, where)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise UserError(f"{address} cannot be read ({code})", remedy=aws_error(error).remedy) from error
    refuse_another_table(export, source.arn, source.id)
    counted = "the export's count"
    if export.kind == "full":
        noted = pipeline.checkpoints().stream()
        if noted is None or noted.arn != source.stream_arn:
            raise BackfillError(
                "the source's stream is not the one that the pipeline recorded",
                remedy="let `dynalake run` read it first",
            )
        refuse_unfit(export, noted.noted_at, pipeline.health_store.history(), pipeline.now_ms())
        cost = estimate_filling(export.items, export.billed_bytes, counted)
    else:
        row_bytes = source.approximate_bytes / source.approximate_rows if source.approximate_rows else 0.0
        cost = estimate_mending(export.items, row_bytes, counted)
    return FromExport(export, cost, files, pipeline)


def places_of(pipeline: Pipeline) -> list[str]:
    """Everywhere that records of a pipeline may have been put away, as far as the configuration knows.

    The quarantine, the worker's failure destination beside it, in a bucket Lambda's too (it always begins with
    `aws/lambda/`), and `failures`.
    """
    quarantine = pipeline.config.quarantine.rstrip("/")
    if is_queue(quarantine):
        places = [f"sqs:{queue_of(quarantine)[0]}"]
    else:
        places = [f"{quarantine}/quarantine/{pipeline.name}", f"{quarantine}/failed/{pipeline.name}"]
        if quarantine.startswith("s3://"):
            places.append(f"s3://{bucket_of(quarantine)[0]}/{LAMBDA_FAILURES.rstrip('/')}")
    if pipeline.config.failures:
        places.append(pipeline.config.failures)
    return list(dict.fromkeys(places))


def _place(address: str) -> str:
    if address.startswith("https://sqs."):
        return f"sqs:{address}"
    if not (address.startswith("s3://") or is_queue(address) or Path(address).is_dir()):
        raise UserError(
            f"--from {address!r}: there is no such folder",
            remedy="name s3://bucket/prefix, sqs:<the queue's URL> or a folder",
        )
    return address
