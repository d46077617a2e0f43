"""The report page: what it shows of each pipeline, and the one file that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from expectations.errors import CheckError
from expectations.frames import LAG_STEPS_MS
from expectations.history import Check
from lake.contract.catalogue import Observation
from lake.contract.health import Health

ATTRIBUTES_SHOWN: Final = 30
"""Lines of the schema's timeline: those that changed last."""

_WORDS: Final = {
    "pass": "all is well",
    "warn": "worth a look",
    "fail": "needs mending",
    "could not check": "could not be checked",
    "never checked": "never checked",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What the report tells of one pipeline.

    Attributes:
        name: the pipeline's name.
        source_table: the source table's name.
        lake_table: the lake table's name.
        checks: the outcomes of its checks, oldest first.
        schema: what the catalogue knows of its attributes.
        health: what is known about it.
        limits: parity and freshness limits: (value, "warn" or "fail"), parity as a share.
    """

    name: str
    source_table: str
    lake_table: str
    checks: Sequence[Check]
    schema: Sequence[Observation]
    health: Health
    parity_limits: Sequence[tuple[float, str]]
    fresh_limits: Sequence[tuple[float, str]]

    @property
    def verdict(self) -> str:
        """The verdict of the last check; a failure where the lake may lack something, or that is not known."""
        if not self.checks:
            return "never checked"
        verdict = self.checks[-1].verdict
        return "fail" if not self.health.complete and verdict in ("pass", "warn") else verdict


def render(subjects: Sequence[Subject], now_ms: int) -> str:
    """The page, as HTML.

    Raises:
        CheckError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
        import matplotlib as mpl  # noqa: F401 the charts need it
    except ImportError:
        raise CheckError(
            "the report needs more packages", remedy="run `pip install 'dynalake[checks]'`"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = _moment
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["share"] = _share
    environment.filters["seconds"] = _seconds
    return environment.get_template("page.html.jinja").render(
        now=now_ms, pipelines=[_view(each, now_ms) for each in subjects], words=_WORDS
    )


def _view(subject: Subject, now_ms: int) -> dict[str, Any]:
    last = subject.checks[-1] if subject.checks else None
    return {
        "subject": subject,
        "last": last,
        "parity": _newest(subject, "parity"),
        "freshness": _newest(subject, "freshness"),
        "lag": _newest(subject, "lag"),
        "charts": _charts(subject, now_ms),
        "next": _next_steps(subject),
    }


def _newest(subject: Subject, part: str) -> tuple[int, Any] | None:
    """When a part was last looked at, and what was found."""
    for check in reversed(subject.checks):
        if getattr(check, part) is not None:
            return check.at, getattr(check, part)
    return None


def _charts(subject: Subject, now_ms: int) -> list[tuple[str, str]]:
    from expectations.report import charts

    made: list[tuple[str, str]] = []
    parity = [(each.at, 100 * each.parity["ratio"]) for each in subject.checks if each.parity is not None]
    if parity:
        limits = [(100 * value, kind) for value, kind in subject.parity_limits]
        title = f"{subject.name}: rows that disagree, in percent, over time"
        made.append(
            ("Parity over time", charts.over_time(title, parity, "% of rows", limits, logarithmic=True))
        )
    fresh = [(each.at, each.freshness["behind_s"]) for each in subject.checks if each.freshness is not None]
    if fresh:
        title = f"{subject.name}: seconds that the lake was behind, over time"
        made.append(
            ("Freshness", charts.over_time(title, fresh, "s behind", subject.fresh_limits, logarithmic=True))
        )
    lag = _newest(subject, "lag")
    if lag is not None and sum(lag[1]["counts"]):
        labels = [f"≤ {_seconds(step / 1000)}" for step in LAG_STEPS_MS] + ["more"]
        title = f"{subject.name}: how long changes took to the lake"
        made.append(("Lag of the last day's changes", charts.histogram(title, labels, lag[1]["counts"])))
    if subject.schema:
        title = f"{subject.name}: attributes and types, when first seen"
        made.append(("Schema", charts.timeline(title, _schema_rows(subject.schema), now_ms)))
    return made


def _schema_rows(schema: Sequence[Observation]) -> list[tuple[str, list[tuple[int, str]]]]:
    rows: dict[str, dict[str, int]] = {}
    for seen in sorted(schema, key=lambda each: each.first_seen):
        rows.setdefault(seen.attribute, {}).setdefault(seen.tag, seen.first_seen)
    newest = sorted(rows.items(), key=lambda row: max(row[1].values()), reverse=True)[:ATTRIBUTES_SHOWN]
    shown = sorted(newest, key=lambda row: (min(row[1].values()), row[0]))
    return [(name, [(at, tag) for tag, at in tags.items()]) for name, tags in shown]


def _next_steps(subject: Subject) -> list[tuple[str, str]]:
    """What to do next: (why, command)."""
    health = subject.health
    steps = [(gap.detail, f"dynalake {gap.remedy} {subject.name}") for gap in health.gaps]
    if health.reason in health.lacking and health.reason not in [what for what, _ in steps]:
        steps.append((health.reason, health.remedy))
    if not subject.checks:
        return [*steps, ("it was never checked", f"dynalake check {subject.name}")]
    known = {command for _, command in steps}
    last = subject.checks[-1]
    why = "; ".join(each.says for each in last.outcomes if each.status != "pass")
    steps += [(why, command) for command in last.mend if command not in known]
    if last.verdict == "could not check":
        steps.append(("the last check could not judge everything", f"dynalake check {subject.name}"))
    return steps


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _share(ratio: float) -> str:
    return f"{ratio * 100:.6f}".rstrip("0").rstrip(".") + " %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "not known"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:.1f}".removesuffix(".0") + " s"
