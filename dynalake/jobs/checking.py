"""`dynalake check`: gathers what the suites need, has it judged, keeps the outcome and tells CloudWatch."""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from dynalake.config import ChecksConfig
from dynalake.errors import AccountError
from dynalake.jobs.freshness import look_at_stream
from dynalake.jobs.parity import MAX_SCAN_SEGMENTS, Table, read_keys
from dynalake.metrics import NAMESPACE
from expectations.bulk import Policy
from expectations.errors import CheckError
from expectations.frames import Lags, drift_frame, freshness_frame, lags_of, parity_frame, rows_frame
from expectations.freshness import Freshness
from expectations.history import (
    ACCEPTED,
    KEPT,
    PREFIX,
    TOLD,
    Check,
    check_from,
    freshness_facts,
    lag_facts,
    parity_facts,
)
from expectations.parity import ParityResult
from expectations.suites import SUITES, Outcome, Plan, Rules, Suite, expected_of, judge, own_expectations
from ingest.checkpoints import Checkpoints
from ingest.health import HealthStore
from ingest.shards import StreamReader
from lake.contract.catalogue import Observation
from lake.contract.evidence import Waiting
from lake.contract.health import Health

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient

log = logging.getLogger(__name__)

SAMPLE_ROWS: Final = 5_000
"""Rows of the lake table that are read for its lag, its keys and the team's own expectations."""

MINUTE_MS: Final = 60_000
MOST_MINUTES_AHEAD: Final = 60
"""A minute of the check before that lies further ahead was taken from a wrong clock."""


@dataclass(frozen=True, slots=True)
class CheckJob:
    """The parts of a check.

    Attributes:
        pipeline: the pipeline's name.
        config: what is expected.
        key: the names of the key attributes.
        lake: the lake table.
        lake_rows: how many rows it has, about.
        stream: the source's stream.
        policy: what the lake may see; None where it refuses it.
        checkpoints: the pipeline's entries in the checkpoint table.
        health: what is known about the pipeline.
        observations: where the pipeline's health is stored.
        schema: what the catalogue knows.
        parity: compares both sides.
        cloudwatch: makes the client for metrics; None for no metrics.
        now_ms: the time of day, epoch milliseconds.
        sleep: waits that many seconds.
        random: chooses the sample.
        own: a file of the team's own expectations; none if None.
    """

    pipeline: str
    config: ChecksConfig
    key: Sequence[str]
    lake: Table
    lake_rows: int
    stream: Callable[[], StreamReader]
    policy: Policy
    checkpoints: Checkpoints
    health: Callable[[], Health]
    observations: HealthStore
    schema: Callable[[], Sequence[Observation]]
    parity: Callable[[], ParityResult]
    cloudwatch: Callable[[], CloudWatchClient] | None
    now_ms: Callable[[], int]
    sleep: Callable[[float], None]
    random: random.Random
    own: Path | None = None
    on_step: Callable[[str], None] = field(default=lambda _: None)

    def run(self, suites: Sequence[Suite], docs: Path | None = None) -> Check:
        """Check, keep the outcome, and tell CloudWatch.

        Args:
            suites: what to check.
            docs: a folder for Data Docs; none if None.

        Raises:
            CheckError: the suites cannot be run.
            IngestError: something cannot be read.
        """
        expected_of("parity", self._rules)  # without Great Expectations nothing need be read at all
        at = self.now_ms()
        plan, extra = Plan(), list[Outcome]()
        result = fresh = lags = None
        if "parity" in suites:
            self.on_step("comparing both tables")
            result = self.parity()
            plan.add("parity", "parity", parity_frame(result), expected_of("parity", self._rules))
        if {"freshness", "drift"} & set(suites):
            self.on_step("reading a sample of the lake table")
            lines = self._sample()
            if "freshness" in suites:
                lags = lags_of(lines, at)
                self.on_step("looking for changes that wait")
                fresh = self._freshness(lags)
                if fresh.verdict != "unknown":
                    since = fresh.waiting_since if fresh.verdict == "stalled" else None
                    self.observations.found_waiting(Waiting(fresh.at, since))
                extra += self._expect_freshness(plan, fresh, lags)
            if "drift" in suites:
                self._expect_drift(plan, lines)
        self.on_step("judging")
        outcomes = judge(plan, self.pipeline, docs) + extra
        check = Check(
            pipeline=self.pipeline,
            at=at,
            outcomes=tuple(outcomes),
            parity=parity_facts(result) if result else None,
            freshness=freshness_facts(fresh) if fresh else None,
            lag=lag_facts(lags) if lags else None,
            mend=self._remedies(outcomes, fresh),
        )
        self._keep(check)
        self._tell(check, whole=set(SUITES) <= set(suites))
        return check

    def history(self) -> list[Check]:
        """The outcomes kept, oldest first."""
        return [check_from(item) for _, item in self.checkpoints.entries(PREFIX)]

    def accept_schema(self) -> None:
        """What the catalogue knows now is how it should be; what comes later is drift."""
        self.checkpoints.put(ACCEPTED, {"at": {"N": str(self.now_ms())}})

    @property
    def _rules(self) -> Rules:
        config = self.config
        return Rules(
            parity_warn=config.parity_warn_percent / 100,
            parity_fail=config.parity_fail_percent / 100,
            fresh_warn_s=config.fresh_warn_s,
            fresh_fail_s=config.fresh_fail_s,
            lag_p99_warn_ms=config.lag_p99_warn_s * 1000,
            lag_p99_fail_ms=config.lag_p99_fail_s * 1000,
            drift=config.drift,
        )

    def _sample(self) -> list[bytes]:
        """Some segments of the lake table, at random; all of a small one."""
        wanted = max(1, math.ceil(self.lake_rows / SAMPLE_ROWS))
        segments = min(MAX_SCAN_SEGMENTS, wanted * 10) if wanted > 1 else 1
        chosen = self.random.sample(range(segments), max(1, segments // wanted))
        lines: list[bytes] = []
        for page in self.lake.scan(segments).pages(dict.fromkeys(chosen)):
            lines += [json.dumps(item, ensure_ascii=False).encode("utf-8", "replace") for item in page.items]
            if len(lines) >= 2 * SAMPLE_ROWS:
                break
        return lines

    def _freshness(self, lags: Lags) -> Freshness:
        reader = self.stream()
        shards = self.checkpoints.shards(reader.label)
        known = [at for at in (self.health().newest_source_at, lags.newest_source_at) if at is not None]
        return look_at_stream(
            reader,
            {name: shard.sequence_number for name, shard in shards.items() if not shard.finished},
            {name for name, shard in shards.items() if shard.finished},
            lambda keys: read_keys(self.lake.dynamodb, self.lake.name, keys, self.sleep),
            self.policy,
            now_ms=self.now_ms,
            sleep=self.sleep,
            lake_newest_at=max(known, default=None),
            limit_s=self.config.fresh_warn_s,
        )

    def _expect_freshness(self, plan: Plan, fresh: Freshness, lags: Lags) -> list[Outcome]:
        frame = freshness_frame(fresh, lags, len(self.health().gaps))
        # Where nobody changed anything in a day there is no lag to judge, and nothing is wrong with that.
        plan.add(
            "freshness",
            "freshness",
            frame,
            [each for each in expected_of("freshness", self._rules) if frame[each.column].notna().all()],
        )
        outcomes = []
        if fresh.behind_s is None:
            outcomes.append(
                Outcome("freshness", "Whether a change waits for the lake is known", "warn", fresh.sentence)
            )
        health = self.health()
        if health.state not in ("caught up", "catching up") and not health.gaps:
            outcomes.append(
                Outcome(
                    "freshness", "The pipeline's health is known", "fail", f"{health.state}: {health.reason}"
                )
            )
        return outcomes

    def _expect_drift(self, plan: Plan, lines: Sequence[bytes]) -> None:
        history = self.schema()
        entry = self.checkpoints.get(ACCEPTED)
        if entry is None:
            self.accept_schema()
        accepted = int(entry["at"]["N"]) if entry else self.now_ms()
        attributes = drift_frame(history, accepted, self.config.attributes)
        plan.add("attributes", "drift", attributes, expected_of("drift", self._rules))
        tags: dict[str, set[str]] = {name: set() for name in self.key}
        for seen in history:
            tags.setdefault(seen.attribute, set()).add(seen.tag)
        names = {name: next(iter(found)) if len(found) == 1 else "" for name, found in tags.items()}
        rows = rows_frame(lines, names)
        plan.add("rows", "drift", rows, expected_of("drift", self._rules, self.key))
        if self.own is not None:
            plan.add("own", "own", rows, own_expectations(self.own, self.pipeline))

    def _remedies(self, outcomes: Sequence[Outcome], fresh: Freshness | None) -> tuple[str, ...]:
        wrong = {each.suite for each in outcomes if each.status in ("warn", "fail")}
        health = self.health()
        commands = [
            f"dynalake {gap.remedy} {self.pipeline}"
            for gap in health.gaps
            if gap.kind != "different" or "parity" not in wrong  # which has a remedy of its own, below
        ]
        if health.remedy and not health.gaps:
            commands.append(health.remedy)
        if "parity" in wrong:
            commands.append(f"dynalake repair {self.pipeline} --from {self.pipeline}.parity.jsonl")
        # Only where the status says so, too: what was found to wait is part of the health since.
        if fresh is not None and "freshness" in wrong and health.state == "catching up":
            commands.append(f"dynalake status {self.pipeline}")
        if "drift" in wrong:
            commands.append(f"dynalake check {self.pipeline} --suite drift --accept-schema")
        return tuple(dict.fromkeys(commands))

    def _keep(self, check: Check) -> None:
        self.checkpoints.put(*check.to_entry())
        entries = [entry for entry, _ in self.checkpoints.entries(PREFIX)]
        for entry in entries[:-KEPT]:
            self.checkpoints.delete(entry)

    def _tell(self, check: Check, *, whole: bool) -> None:
        """The metrics that the alarms watch, each with the dimension `pipeline`.

        Args:
            check: what was found.
            whole: whether every suite was run. A part of them can raise the alarm of failed checks and not reset it.
        """
        if self.cloudwatch is None:
            return
        values: dict[str, float | None] = {
            "parity_ratio": check.parity["ratio"] if check.parity else None,
            "freshness_s": check.freshness["behind_s"] if check.freshness else None,
            "checks_failed": float(check.failed) if whole or check.failed else None,
            "checks_run": 1.0,
        }
        at = self._minute_of_its_own()
        data: list[Any] = [
            {
                "MetricName": name,
                "Dimensions": [{"Name": "pipeline", "Value": self.pipeline}],
                "Timestamp": at,
                "Value": value,
                "Unit": {"freshness_s": "Seconds", "parity_ratio": "None"}.get(name, "Count"),
            }
            for name, value in values.items()
            if value is not None
        ]
        try:
            self.cloudwatch().put_metric_data(Namespace=NAMESPACE, MetricData=data)
        except (ClientError, BotoCoreError, AccountError) as error:
            # The outcome of the check is worth more than its metric.
            log.warning("CloudWatch did not take the metrics: %s", error)

    def _minute_of_its_own(self) -> datetime:
        """The minute for which the metrics are published: now, or the one after that of the check before.

        The alarms watch the worst value of each minute, and keep their state until another minute has a value. A check
        that fails and the check after the repair, both within one minute, would leave the alarm raised for good.
        CloudWatch takes values for up to two hours ahead (API reference, PutMetricData).
        """
        minute = self.now_ms() // MINUTE_MS
        before = self.checkpoints.get(TOLD)
        if before is not None and minute <= int(before["minute"]["N"]) < minute + MOST_MINUTES_AHEAD:
            minute = int(before["minute"]["N"]) + 1
        self.checkpoints.put(TOLD, {"minute": {"N": str(minute)}})
        return datetime.fromtimestamp(minute * MINUTE_MS / 1000, UTC)


def suites_of(name: str) -> tuple[Suite, ...]:
    """The suites that a name stands for; "all" for all.

    Raises:
        CheckError: there is none of this name.
    """
    if name == "all":
        return SUITES
    for suite in SUITES:
        if suite == name:
            return (suite,)
    raise CheckError(f"there is no suite {name!r}", remedy=f"give one of {', '.join(SUITES)} or all")


def own_file(config: ChecksConfig, path: Path, pipeline: str) -> Path | None:
    """The file of a team's own expectations, if there is one.

    Args:
        config: the pipeline's.
        path: the configuration file, whose folder paths are relative to.
        pipeline: the pipeline's name.

    Raises:
        CheckError: the configuration names a file that is not there.
    """
    if config.custom is not None:
        named = path.parent / config.custom
        if not named.is_file():
            raise CheckError(f"checks.custom names {named}, and there is no such file")
        return named
    usual = path.parent / "expectations" / "custom" / f"{pipeline}.py"
    return usual if usual.is_file() else None
