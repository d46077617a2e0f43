"""Parity of one pipeline: where the two sides come from, and which part of them is compared.

By content, whole tables: both by scan, or from DynamoDB's exports (which cost no read capacity). Whatever the rows
come from, one that differs is read again from the live tables before it counts; so two exports need not be of one
moment. A snapshot is compared with the lake in the same run (`dynalake.jobs.snapshots`). A sample, or what changed
since a moment, is read by key.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from botocore.exceptions import ClientError

from dynalake.errors import UserError
from dynalake.jobs.watching import Watcher, watch_to_end
from expectations.bulk import Pages, Policy
from expectations.canonical import canonical_text
from expectations.parity import Copy, Difference, Looks, ParityResult, Reader, Side, compare, compare_keys
from ingest.capacity import CapacityLimit
from ingest.errors import SourceError
from ingest.scan import Scan
from ingest.shards import RETENTION_S, StreamReader
from ingest.walk import Pacing
from ingest.wire import from_boto3, to_boto3
from lake.contract.expiry import Expiry
from lake.contract.exports import Files, Folder, open_export, pages_of_lines, read_data
from lake.contract.rows import DELETED, Item
from lake.contract.versions import KnownLabels
from lake.errors import aws_error
from lake.pages import RawScan

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

KEYS_A_REQUEST: Final = 100
"""BatchGetItem takes so many keys (API reference)."""

MAX_SCAN_SEGMENTS: Final = 1_000_000
"""DynamoDB's limit (API reference, Scan, TotalSegments)."""

SAMPLED_SEGMENTS: Final = 10
"""A sample is this many segments at least, so that it is not all of one neighbourhood."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the two sides is compared, and where it is read from.

    Attributes:
        source: None for the live table, or where an export of it is: a folder or `s3://bucket/prefix`.
        lake: likewise for the lake table; or a snapshot's file, `*.duckdb`, that is compared with both live tables.
        percent: compare a sample of about this share of both tables, in percent; all if None.
        since_ms: compare what changed in the source since, epoch milliseconds; all if None.
    """

    source: str | None = None
    lake: str | None = None
    percent: float | None = None
    since_ms: int | None = None

    def check(self, now_ms: int) -> None:
        """Refuse what cannot be.

        Raises:
            UserError: the parts do not go together, or the stream does not reach so far back.
        """
        by_key = self.percent is not None or self.since_ms is not None
        if self.percent is not None and self.since_ms is not None:
            raise UserError(
                "--sample and --since are two ways to compare less than all", remedy="give one of them"
            )
        if by_key and (self.source or self.lake):
            raise UserError(
                "--sample and --since read the live tables", remedy="leave out the exports and the snapshot"
            )
        if self.percent is not None and not 0 < self.percent <= 100:
            raise UserError("--sample is not a share in percent", remedy="give more than 0, and 100 at most")
        if self.since_ms is not None and now_ms - self.since_ms > RETENTION_S * 1000:
            raise UserError(
                "--since reads the source's stream, which keeps 24 hours",
                remedy="give a later moment, or compare all",
            )
        if self.since_ms is not None and self.since_ms > now_ms:
            raise UserError("--since is in the future")


@dataclass(frozen=True, slots=True)
class Table:
    """One live table.

    Attributes:
        dynamodb: the client of its account.
        name: the table's name.
        s3: the S3 client of its account.
        scan: a scan of it in so many segments.
        lines: all of its rows, as pages of lines.
    """

    dynamodb: DynamoDBClient
    name: str
    s3: S3Client
    scan: Callable[[int], Scan]
    lines: Callable[[], Pages]


@dataclass(frozen=True, slots=True)
class ParityJob:
    """The parts of a comparison.

    Attributes:
        pipeline: the pipeline's name, which is that of its table in a snapshot.
        source: the source table.
        lake: the lake table.
        key: the names of the key attributes.
        policy: what the lake may see, None where it refuses it; None where every item passes unchanged.
        stream: the source's stream.
        limit: caps the read units a second of what is read by key.
        now_ms: the time of day, epoch milliseconds.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        random: chooses a sample.
        pacing: how often a stream is asked.
        lake_stream: the lake table's stream; None where it is not to be read.
        labels: the stream labels that the pipeline has read; versions are not checked if None.
        expiry: which rows are left out because they have expired; those that a snapshot leaves out if None.
    """

    pipeline: str
    source: Table
    lake: Table
    key: Sequence[str]
    policy: Policy | None
    stream: Callable[[], StreamReader]
    limit: CapacityLimit | None
    now_ms: Callable[[], int]
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]
    random: random.Random
    pacing: Pacing = field(default_factory=Pacing)
    lake_stream: Callable[[], StreamReader] | None = None
    labels: KnownLabels | None = None
    expiry: Expiry | None = None

    def run(
        self,
        scope: Scope,
        *,
        looks: Looks | None = None,
        on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
        on_difference: Callable[[Difference], None] = lambda _: None,
    ) -> ParityResult:
        """Compare; see `expectations.parity.compare`.

        Raises:
            UserError: the scope's parts do not go together.
            SourceError: a table cannot be read.
            ContractError: an export is not complete.
            SnapshotError: there is no such snapshot.
            ParityError: the two sides cannot be compared.
        """
        scope.check(self.now_ms())
        settings: dict[str, Any] = {
            "sleep": self.sleep,
            "monotonic": self.monotonic,
            "looks": looks,
            "forged": None if self.labels is None else self.labels.forgery,
            "expiry": self.expiry or self._expiry_of(scope.lake),
            "on_progress": on_progress,
            "on_difference": on_difference,
        }
        source = self._reader(self.source)
        lake = self._reader(self.lake)
        if scope.percent is not None:
            keys = self._sampled(scope.percent)
            return compare_keys(keys, source, lake, self.policy, **settings)
        if scope.since_ms is not None:
            return compare_keys(self._changed_since(scope.since_ms), source, lake, self.policy, **settings)
        with self._copy(scope.lake) as copy:
            return compare(
                self._side(self.source, scope.source, source),
                self._side(self.lake, None if copy else scope.lake, lake),
                self.key,
                self.policy,
                copy=copy,
                **settings,
            )

    def _side(self, table: Table, export: str | None, reader: Reader) -> Side:
        if export is None:
            return Side(table.lines(), reader)
        files, where = files_of(export, table.s3)
        return Side(exported_lines(files, where), reader, wrapper="Item")

    def _expiry_of(self, place: str | None) -> Expiry | None:
        """What a snapshot leaves out must be left out of the tables, too."""
        if place is None or not place.endswith(".duckdb"):
            return None
        from lake.open import open_lake

        with open_lake(Path(place), self.pipeline) as lake:
            left_out = lake.left_out(self.pipeline)
        return None if left_out is None else Expiry(left_out.attribute, self.now_ms())

    def _copy(self, place: str | None) -> AbstractContextManager[Copy | None]:
        if place is None or not place.endswith(".duckdb"):
            return nullcontext()
        from dynalake.jobs.snapshots import snapshot_copy

        return snapshot_copy(
            Path(place),
            self.pipeline,
            self.key,
            stream=self.lake_stream,
            now_ms=self.now_ms,
            monotonic=self.monotonic,
            pacing=self.pacing,
        )

    def _reader(self, table: Table) -> Reader:
        return lambda keys: read_keys(table.dynamodb, table.name, keys, self.sleep, self.limit)

    def _sampled(self, percent: float) -> Iterator[tuple[Item | None, Item]]:
        """The keys of some segments of both tables, as (lake key, source key)."""
        segments = min(MAX_SCAN_SEGMENTS, math.ceil(SAMPLED_SEGMENTS * 100 / percent))
        chosen = max(1, round(segments * percent / 100))
        for table in (self.source, self.lake):
            if table is self.lake and not self._keys_are_plain:
                return  # a hashed key does not tell which source row it is of, so extra rows cannot be sampled
            starts: dict[int, Any] = dict.fromkeys(self.random.sample(range(segments), chosen))
            for page in table.scan(segments).pages(starts):
                for item in page.items:
                    if table is self.source or DELETED not in item:
                        yield self._both_keys({name: item[name] for name in self.key})

    @property
    def _keys_are_plain(self) -> bool:
        probe: Item = {name: {"S": "probe"} for name in self.key}
        return self.policy is None or self.policy(probe) == probe

    def _both_keys(self, key: Item) -> tuple[Item | None, Item]:
        return (self.policy(key) if self.policy else key), key

    def _changed_since(self, since_ms: int) -> Iterator[tuple[Item | None, Item]]:
        """The keys that the source's stream names since a moment; from a file, however many they are."""
        with tempfile.TemporaryFile() as spool:
            keys = _Keys(spool, since_ms)
            watch_to_end(self.stream(), keys, self.monotonic, self.pacing)
            if keys.trimmed:
                raise UserError(
                    f"the source's stream was trimmed while it was read ({keys.trimmed})",
                    remedy="give a later moment",
                )
            spool.seek(0)
            for line in spool:
                yield self._both_keys(json.loads(line))


class _Keys(Watcher):
    """Keeps the keys of a stream's records in a file."""

    def __init__(self, spool: Any, since_ms: int) -> None:
        super().__init__()
        self._spool = spool
        self._since_ms = since_ms
        self._lock = threading.Lock()

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: ARG002
        lines = []
        for record in records:
            body = record["dynamodb"]
            # A change's creation has whole seconds, so one of the second before may be later than it says.
            if body["ApproximateCreationDateTime"].timestamp() * 1000 > self._since_ms - 1000:
                lines.append(json.dumps(from_boto3(body["Keys"])).encode() + b"\n")
        with self._lock:
            self._spool.writelines(lines)


def scanned_lines(scan: Scan) -> Iterator[list[bytes]]:
    """The items of a scan, as pages of lines."""
    for page in scan.pages():
        yield [json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass") for item in page.items]


def raw_lines(
    dynamodb: DynamoDBClient, table: str, *, segments: int, limit: CapacityLimit | None = None
) -> Iterator[list[bytes]]:
    """The rows of a scan as DynamoDB sent them, as pages of lines; botocore does not parse them.

    Raises:
        SnapshotError: the table cannot be scanned.
    """
    split = msgspec.json.Decoder(list[msgspec.Raw]).decode
    for page in RawScan(dynamodb, table, segments=segments, limit=limit).pages():
        # A Raw is read like bytes: it is a view of its page.
        yield cast("list[bytes]", split(b"[" + bytes(page.rows.text) + b"]"))


def exported_lines(files: Files, where: str) -> Iterator[list[bytes]]:
    """The lines of a full export, as they are: `{"Item": …}`; checksums and counts are verified.

    Raises:
        ContractError: there is no complete full export, or a file is not what its manifest says.
    """
    export = open_export(files, where)
    if export.kind != "full":
        raise UserError(
            f"the export in {where or 'that folder'} is incremental, and parity needs a full one",
            remedy="export the table in full",
        )
    for file in export.files:
        yield from pages_of_lines(file, read_data(files, export, file))


def files_of(address: str, s3: S3Client) -> tuple[Files, str]:
    """Where an export is: what reads its files, and the key or path that names it."""
    if not address.startswith("s3://"):
        return Folder(Path(address)), ""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return _Bucket(s3, bucket), prefix


def read_keys(
    dynamodb: DynamoDBClient,
    table: str,
    keys: Sequence[Item],
    sleep: Callable[[float], None],
    limit: CapacityLimit | None = None,
) -> list[Item | None]:
    """Items by their keys, read consistently, in the keys' order; None where there is none.

    Raises:
        SourceError: the table cannot be read.
    """
    found: dict[str, Item] = {}
    for start in range(0, len(keys), KEYS_A_REQUEST):
        wanted = {canonical_text(key): key for key in keys[start : start + KEYS_A_REQUEST]}
        names = list(next(iter(wanted.values())))
        rest: list[Any] = [to_boto3(key) for key in wanted.values()]
        pause = 0.05
        while rest:
            if limit:
                limit.wait()
            try:
                answer = dynamodb.batch_get_item(
                    RequestItems={table: {"Keys": rest, "ConsistentRead": True}},
                    ReturnConsumedCapacity="TOTAL",
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                raise SourceError(
                    f"the table {table!r} cannot be read ({code})", remedy=aws_error(error).remedy
                ) from error
            if limit:
                limit.spend(
                    sum(each.get("CapacityUnits", 0.0) for each in answer.get("ConsumedCapacity", []))
                )
            for each in answer.get("Responses", {}).get(table, []):
                item = from_boto3(each)
                found[canonical_text({name: item[name] for name in names})] = item
            unread: Mapping[str, Any] = answer.get("UnprocessedKeys") or {}
            rest = list(unread[table]["Keys"]) if table in unread else []
            if rest:
                sleep(pause)
                pause = min(2.0, pause * 2)
    return [found.get(canonical_text(key)) for key in keys]


class _Bucket:
    """Files of a bucket."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def read(self, key: str) -> bytes:
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            raise FileNotFoundError(key) from None

    def below(self, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for each in page.get("Contents", []):
                yield each["Key"]
