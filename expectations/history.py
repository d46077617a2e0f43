"""The outcome of a check, and how outcomes are kept.

In the lake account's checkpoint table, under the lake table's name (`pipeline`), beside the health: every host and
every reader with access to the lake sees the same history, it needs no place of its own, and what may write health
may write it.

    entry "check/<at, epoch milliseconds, 15 digits>"   one for each check: verdict S, document S (JSON)
    entry "checks/accepted"                             at N: up to when the schema was accepted
    entry "checks/told"                                 minute N: since the epoch, of the metrics last published
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from expectations.frames import Lags
from expectations.freshness import Freshness
from expectations.parity import ParityResult
from expectations.suites import Outcome
from lake.show import html_note, html_table

PREFIX: Final = "check/"
ACCEPTED: Final = "checks/accepted"
TOLD: Final = "checks/told"
KEPT: Final = 1_000
"""Outcomes kept of a pipeline: more than a month of hourly checks."""

Verdict = Literal["pass", "warn", "fail", "could not check"]

EXIT_CODES: Final[Mapping[Verdict, int]] = {"pass": 0, "warn": 1, "fail": 2, "could not check": 3}


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Attributes:
        pipeline: the pipeline's name.
        at: epoch milliseconds.
        outcomes: what became of each expectation.
        parity: source_rows, lake_rows, tombstones, missing, extra, different, in_flight, ratio; None if not looked at.
        freshness: verdict, sentence, behind_s, newest_change_age_s, source_newest_at, waiting; likewise.
        lag: rows, p50_ms, p99_ms and counts by `frames.LAG_STEPS_MS`; likewise.
        mend: the commands that mend what failed.
    """

    pipeline: str
    at: int
    outcomes: tuple[Outcome, ...]
    parity: Mapping[str, Any] | None = None
    freshness: Mapping[str, Any] | None = None
    lag: Mapping[str, Any] | None = None
    mend: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The worst of the outcomes; that something could not be judged is worse than a failure."""
        statuses = {each.status for each in self.outcomes}
        if not statuses or "error" in statuses:
            return "could not check"
        if "fail" in statuses:
            return "fail"
        return "warn" if "warn" in statuses else "pass"

    @property
    def failed(self) -> int:
        """Expectations that failed or could not be judged."""
        return sum(each.status in ("fail", "error") for each in self.outcomes)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"verdict": self.verdict, "failed": self.failed, **asdict(self)}

    def _repr_html_(self) -> str:
        rows = [[each.suite, each.says, each.status, each.observed] for each in self.outcomes]
        mend = f"; to mend it: {', '.join(self.mend)}" if self.mend else ""
        return html_note(f"{self.pipeline}: {self.verdict}{mend}") + html_table(
            ("suite", "expectation", "", "observed"), rows
        )

    def to_entry(self) -> tuple[str, dict[str, Any]]:
        """The entry of the checkpoint table and its content."""
        return f"{PREFIX}{self.at:015d}", {
            "verdict": {"S": self.verdict},
            "document": {"S": json.dumps(self.document(), ensure_ascii=False)},
        }


def check_from(item: Mapping[str, Mapping[str, Any]]) -> Check:
    """The check that an entry holds."""
    content = json.loads(item["document"]["S"])
    return Check(
        pipeline=content["pipeline"],
        at=content["at"],
        outcomes=tuple(Outcome(**each) for each in content["outcomes"]),
        parity=content["parity"],
        freshness=content["freshness"],
        lag=content["lag"],
        mend=tuple(content["mend"]),
    )


def parity_facts(result: ParityResult) -> dict[str, Any]:
    """What is kept of a comparison."""
    names = ("source_rows", "lake_rows", "tombstones", "missing", "extra", "different", "in_flight", "ratio")
    return {name: getattr(result, name) for name in names}


def freshness_facts(fresh: Freshness) -> dict[str, Any]:
    """What is kept of freshness."""
    names = ("verdict", "sentence", "behind_s", "newest_change_age_s", "source_newest_at", "waiting")
    return {name: getattr(fresh, name) for name in names}


def lag_facts(lags: Lags) -> dict[str, Any]:
    """What is kept of the lag."""
    return {"rows": lags.rows, "p50_ms": lags.p50_ms, "p99_ms": lags.p99_ms, "counts": list(lags.counts)}
