"""The demo's stage: a source table with a stream, the writes that the flights' lives are, and their replication.

What the tour plays from end to end and what a notebook plays hour by hour is the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynalake.demo.flights import KEY, TABLE, Write
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT
from dynalake.pipeline import Pipeline
from ingest.walk import Pacing

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from ingest.backfill import BackfillReport
    from ingest.worker import WorkerReport

IN_FLIGHT: Final = 4
"""The embedded AWS runs in this process, so more writes at once would only wait for one another."""

BACKLOG: Final = 20
"""The writer waits while more changes than this are on their way: the embedded AWS serves some hundred requests
a second, writer and replicator together, and a backlog would measure that and not the pipeline."""

PACING: Final = Pacing(least_s=0.01, most_s=0.1, quiet_answers=5, quiet_s=1.0)


def configuration(folder: Path) -> dict[str, Any]:
    """The configuration of the demo's one pipeline; what it puts away goes below this folder."""
    role = "arn:aws:iam::{}:role/dynalake-demo"
    source = {
        "account": SOURCE_ACCOUNT,
        "region": REGION,
        "role_arn": role.format(SOURCE_ACCOUNT),
        "table": TABLE,
    }
    lake = {
        "account": LAKE_ACCOUNT,
        "region": REGION,
        "role_arn": role.format(LAKE_ACCOUNT),
        "external_id": "demo",
    }
    quarantine = str(folder / "quarantine")
    return {"pipelines": {TABLE: {"source": source, "lake": lake, "quarantine": quarantine}}}


def make_source(dynamodb: DynamoDBClient, items: Sequence[Mapping[str, Any]]) -> None:
    """A table that was there before anyone thought of replication: the stream comes after the rows."""
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": KEY[0][0], "KeyType": "HASH"},
            {"AttributeName": KEY[1][0], "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in KEY],
        BillingMode="PAY_PER_REQUEST",
    )
    for start in range(0, len(items), 25):
        requests: Sequence[Any] = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        dynamodb.batch_write_item(RequestItems={TABLE: requests})
    dynamodb.update_table(
        TableName=TABLE, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    )


class Replication:
    """The worker and the backfill, side by side in threads of their own."""

    def __init__(
        self, pipeline: Pipeline, *, fill: bool = True, on_row: Callable[[int], None] = lambda _: None
    ) -> None:
        """Replicate a pipeline that is set up.

        Args:
            pipeline: the pipeline.
            fill: whether it is backfilled too.
            on_row: called with the rows backfilled so far.
        """
        self._pipeline = pipeline
        self._on_row = on_row
        self._stop, self._finish, self._delivered = threading.Event(), threading.Event(), threading.Event()
        self._records = 0
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=[job], daemon=True)
            for job in ((self._work, self._fill) if fill else (self._work,))
        ]
        self.worker: WorkerReport
        self.backfill: BackfillReport

    def __enter__(self) -> Replication:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def wait_until_reading(self) -> None:
        """Return once the worker reads the stream."""
        while self._pipeline.health().state == "not started" and self._failure is None:
            self._delivered.wait(0.05)
        self._raise()

    def wait_for_backlog(self, written: int) -> None:
        """Return once no more than BACKLOG of the changes written are still on their way."""
        while written - self._records > BACKLOG and self._failure is None:
            self._delivered.clear()
            self._delivered.wait(0.05)
        self._raise()

    def finish(self) -> None:
        """Return once both are done: all rows filled, all changes delivered."""
        self._finish.set()
        for thread in self._threads:
            thread.join()
        self._raise()

    def _work(self) -> None:
        self.worker = self._pipeline.run_worker(
            self._stop, self._finish, pacing=PACING, on_progress=self._note
        )

    def _fill(self) -> None:
        self.backfill = self._pipeline.backfill(on_progress=lambda report: self._on_row(report.read))

    def _note(self, report: WorkerReport) -> None:
        self._records = report.records
        self._delivered.set()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            self._failure = failure
            self._stop.set()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure


def write_to_source(dynamodb: DynamoDBClient, write: Write) -> None:
    """What happened to a flight, as a write to the source table."""
    key: Any = write.key
    if write.kind == "insert":
        dynamodb.put_item(TableName=TABLE, Item=dict(write.values))
    elif write.kind == "delete":
        dynamodb.delete_item(TableName=TABLE, Key=key)
    else:
        sets = [f"#a{number} = :a{number}" for number in range(len(write.values))]
        names = {f"#a{number}": name for number, name in enumerate(write.values)}
        values: dict[str, Any] = {f":a{number}": value for number, value in enumerate(write.values.values())}
        dynamodb.update_item(
            TableName=TABLE,
            Key=key,
            UpdateExpression=f"SET {', '.join(sets)}, #h = list_append(#h, :h)",
            ExpressionAttributeNames={**names, "#h": "history"},
            ExpressionAttributeValues={**values, ":h": {"L": [write.history]}},
        )
