"""A status, for people at 80 columns and for scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dynalake.cli.replicate import health_document, tell_gaps
from dynalake.screen import Screen, when

if TYPE_CHECKING:
    from dynalake.status import Capacity, Checked, Status


def status_document(status: Status) -> dict[str, Any]:
    """A status for scripts: seconds, shares from 0 to 1, epoch milliseconds; null where it was not seen."""
    return {
        "pipeline": status.pipeline,
        "source_table": status.source_table,
        "lake_table": status.lake_table,
        "attributes": status.attributes,
        **health_document(status.health),
        "state": status.state,
        "by_function": status.by_function,
        "lag_s": {"p50": status.lag_s[0], "p99": status.lag_s[1]} if status.lag_s else None,
        "iterator_age_s": status.iterator_age_s,
        "last_change": status.last_change_ms,
        "rows": status.rows,
        "source_rows": status.source_rows,
        "tombstones": status.tombstones,
        "parity": dataclasses.asdict(status.parity) if status.parity else None,
        "last_check": dataclasses.asdict(status.verdict) if status.verdict else None,
        "freshness": dataclasses.asdict(status.freshness) if status.freshness else None,
        "put_away": dataclasses.asdict(status.put_away) if status.put_away else None,
        "alarms": status.alarms,
        "writes": _capacity_document(status.writes),
        "reads": _capacity_document(status.reads),
        "monthly_usd": {"all": status.cost.usd, **status.cost.parts, "priced": status.cost.priced}
        if status.cost
        else None,
        "unseen": status.unseen,
    }


def show_status(screen: Screen, status: Status) -> None:
    """Print a status: what matters first, first."""
    screen.heading(f"{status.pipeline}: {_state(status)}")
    screen.table(["", ""], [[what, text] for what, text in _lines(status) if text])
    tell_gaps(screen, status.pipeline, status.health)
    for text in status.unseen:
        screen.say(f"not seen: {text}")


def _state(status: Status) -> str:
    ringing = sum(state == "ALARM" for state in status.alarms.values())
    since = f" since {when(status.health.at)}" if status.state == "not known" and status.health.at else ""
    return (
        f"{status.state}{since}"
        + (f", with {len(status.health.gaps)} gap(s)" if status.health.gaps else "")
        + (f", {ringing} ALARM(S)" if ringing else "")
    )


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    if status.lag_s:
        yield "lag", f"median {status.lag_s[0]:.1f} s, 99 % within {status.lag_s[1]:.1f} s (15 minutes)"
    elif status.by_function:
        yield "lag", "no change in 15 minutes"
    if status.iterator_age_s is not None:
        yield "behind the stream", f"{status.iterator_age_s:.1f} s"
    yield "as of", when(status.health.at)
    yield "newest change applied", when(status.last_change_ms)
    yield "lake table", status.lake_table
    if status.rows is not None:
        source = f", the source {status.source_rows:,}" if status.source_rows is not None else ""
        yield "rows", f"{status.rows:,}{source} (DynamoDB's count, to six hours old)"
    if status.tombstones is not None:
        yield "of these tombstones", f"{status.tombstones:,}"
    yield "attributes seen", f"{status.attributes:,}"
    yield from _last_check(status)
    if status.put_away:
        away = status.put_away
        yield (
            "put away",
            f"{away.quarantine:,} in quarantine, {away.failed + away.given_up:,} given up"
            if away.all
            else "nothing",
        )
    if status.alarms:
        ringing = sorted(name for name, state in status.alarms.items() if state == "ALARM")
        yield "alarms", f"ON: {', '.join(ringing)}" if ringing else f"{len(status.alarms)}, none is on"
    yield "writes", _capacity(status.writes)
    yield "reads", _capacity(status.reads)
    if status.cost:
        parts = ", ".join(f"{name} ${usd:,.2f}" for name, usd in status.cost.parts.items())
        yield (
            "a month",
            f"about ${status.cost.usd:,.2f} ({parts}); an estimate from the last day at us-east-1 prices of "
            f"{status.cost.priced}",
        )


def _last_check(status: Status) -> Iterator[tuple[str, str]]:
    if status.verdict:
        failed = f", {status.verdict.failed} failed" if status.verdict.failed else ""
        yield "last check", f"{status.verdict.verdict}{failed}, {when(status.verdict.at_ms)}"
    yield "rows that differ", _checked(status.parity, lambda value: f"{value:.6%}")
    yield "freshness", _checked(status.freshness, lambda value: f"{value:,.1f} s")


def _checked(checked: Checked | None, text: Any) -> str:
    return f"{text(checked.value)}, as checked {when(checked.at_ms)}" if checked else "not checked yet"


def _capacity(capacity: Capacity | None) -> str:
    if capacity is None or (capacity.used is None and capacity.provisioned is None):
        return ""
    used = "none" if capacity.used is None else f"{capacity.used:,.1f}"
    if capacity.provisioned is None:
        return f"{used} units a second, on demand"
    share = f" ({capacity.share:.0%})" if capacity.share is not None else ""
    return f"{used} of {capacity.provisioned:,} units a second{share}"


def _capacity_document(capacity: Capacity | None) -> dict[str, Any] | None:
    return {**dataclasses.asdict(capacity), "share": capacity.share} if capacity else None
