"""What a command sees of a pipeline: it looks at the source account if it may, and else goes by what the lake holds.

Whoever looks stores what was seen in the lake, gaps included, so that a reader with credentials of the lake account
alone knows it, too. Where that may not be stored, the command judges by it all the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.health import HealthStore, note_table_stream
from ingest.heartbeat import FunctionSeen, look_at_function, store
from ingest.source import table_stream
from lake.contract.evidence import Observed, Reading, TableStream, judge
from lake.contract.health import Health
from lake.errors import ExplainedError

if TYPE_CHECKING:
    from dynalake.aws import Account
    from ingest.checkpoints import Checkpoints

log = logging.getLogger(__name__)

LOOK_S: Final = 30.0
"""What was seen is used again for so long: a follower asks for the health every few seconds."""


class Onlooker:
    """Looks at one pipeline."""

    def __init__(
        self,
        name: str,
        table: str,
        function: str,
        source: Callable[[], Account],
        store: HealthStore,
        checkpoints: Checkpoints,
        *,
        profile: str | None,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """Look at this pipeline.

        Args:
            name: the pipeline's name.
            table: the source table's name.
            function: the name that its function has, if there is one.
            source: opens the source account.
            store: where observations and gaps are stored.
            checkpoints: the pipeline's entries in the checkpoint table.
            profile: the AWS profile of the source account, for the remedies.
            now_ms: the time of day, epoch milliseconds.
            monotonic: a monotonic clock, seconds.
        """
        self._name, self._table_name, self._function, self._profile = name, table, function, profile
        self._source, self._store, self._checkpoints = source, store, checkpoints
        self._now_ms, self._monotonic = now_ms, monotonic
        self._looked_at: float | None = None
        self._table: TableStream | None = None
        self._reading: Reading | None = None
        self._unseen = ""

    def health(self) -> Health:
        """What is known about the pipeline now; see `lake.contract.evidence`."""
        if self._looked_at is None or self._monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = self._monotonic()
            self._look()
        health = judge(self._newest(self._store.observed()), self._store.gaps(), self._now_ms(), self._name)
        if self._unseen and health.state in ("not known", "not started"):
            return dataclasses.replace(health, reason=f"{health.reason}; {self._unseen}")
        return health

    def compared(self, differing: int, began_ms: int, *, was_caught_up: bool) -> None:
        """Store what a comparison of both whole tables found, if that is allowed; see `HealthStore.compared`."""
        try:
            self._store.compared(differing, began_ms, was_caught_up=was_caught_up)
        except (ClientError, BotoCoreError) as error:
            log.info("what a comparison of %s found could not be stored: %s", self._name, error)

    def _newest(self, stored: Observed) -> Observed:
        """What was stored and what was seen now, whichever is newer: storing may not be allowed."""
        reading, table = stored.reading, stored.table
        if self._table is not None and (table is None or table.at < self._table.at):
            table = self._table
        if self._reading is not None and (reading is None or reading.at < self._reading.at):
            newest = reading.newest_source_at if reading else None
            reading = dataclasses.replace(self._reading, newest_source_at=newest)
        return Observed(reading, table, stored.waiting)

    def _look(self) -> None:
        self._table = self._reading = None
        self._unseen = ""
        try:
            account = self._source()
            self._table = table_stream(account.dynamodb(), self._table_name, self._now_ms)
        except (ExplainedError, ClientError, BotoCoreError) as error:
            self._unseen = f"the source account cannot be asked: {error}"
            return
        try:
            seen = look_at_function(
                self._table,
                account.functions(),
                account.cloudwatch(),
                self._function,
                pipeline=self._name,
                profile=self._profile,
            )
        except (ExplainedError, BotoCoreError) as error:
            self._unseen = str(error)
            seen = None
        self._reading = seen.reading if seen else None
        self._keep(seen)

    def _keep(self, seen: FunctionSeen | None) -> None:
        """Store what was seen, if that is allowed."""
        try:
            if seen is not None:
                store(self._store, self._checkpoints, seen)
            elif self._table is not None:
                note_table_stream(self._store, self._checkpoints, self._table, is_read=False)
        except (ClientError, BotoCoreError) as error:
            log.info("what was seen of %s could not be stored: %s", self._name, error)
