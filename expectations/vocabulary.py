"""What dynalake expects of a pipeline, in words that read well in a report; Great Expectations judges them.

Importing this module imports Great Expectations, which takes seconds: import it late, through `expectations.gx`.

Each expectation is one of Great Expectations' own, given a column of a frame that DuckDB computed. A limit comes
twice, as a warning and as a failure: `severity` says which.
"""

from __future__ import annotations

import great_expectations.expectations as gxe

from expectations.frames import percent


class ExpectRowsToAgree(gxe.ExpectColumnMaxToBeBetween):
    """No more than a share of the rows is missing, extra or different."""

    column: str = "parity_ratio"


class ExpectRowsMissing(gxe.ExpectColumnMaxToBeBetween):
    """No more than a share of the source's rows is missing from the lake."""

    column: str = "missing_ratio"


class ExpectRowsExtra(gxe.ExpectColumnMaxToBeBetween):
    """No more than a share of the lake's rows is not in the source."""

    column: str = "extra_ratio"


class ExpectRowsDifferent(gxe.ExpectColumnMaxToBeBetween):
    """No more than a share of the rows differs in content."""

    column: str = "different_ratio"


class ExpectNewestChangeNoOlder(gxe.ExpectColumnMaxToBeBetween):
    """The oldest change that the lake still lacks is no older than so many seconds; none is lacking if quiet."""

    column: str = "behind_s"


class ExpectLagBelow(gxe.ExpectColumnMaxToBeBetween):
    """99 of 100 changes reach the lake within so many milliseconds."""

    column: str = "lag_p99_ms"


class ExpectNoGap(gxe.ExpectColumnMaxToBeBetween):
    """No change is known to be missing."""

    column: str = "open_gaps"


class ExpectNoUnexpectedAttribute(gxe.ExpectColumnValuesToBeNull):
    """No attribute is new since the schema was accepted."""

    column: str = "unexpected"


class ExpectNoTypeChange(gxe.ExpectColumnValuesToBeNull):
    """No attribute has come to hold another type since the schema was accepted."""

    column: str = "changed_type"


class ExpectKeyNeverNull(gxe.ExpectColumnValuesToNotBeNull):
    """A key attribute is in every row."""


def rows_agree(limit: float, severity: str) -> list[gxe.Expectation]:
    """The four limits of parity, as a share from 0 to 1."""
    share = percent(limit)
    words = {
        ExpectRowsToAgree: f"No more than {share} of the rows disagree",
        ExpectRowsMissing: f"No more than {share} of the rows are missing from the lake",
        ExpectRowsExtra: f"No more than {share} of the rows are only in the lake",
        ExpectRowsDifferent: f"No more than {share} of the rows differ in content",
    }
    return [kind(max_value=limit, severity=severity, description=text) for kind, text in words.items()]


def fresh(seconds: float, severity: str) -> gxe.Expectation:
    """No change waits longer than this for the lake."""
    return ExpectNewestChangeNoOlder(
        max_value=seconds,
        severity=severity,
        description=f"No change of the source waits longer than {seconds:g} s for the lake (a quiet source has none)",
    )


def lag_below(milliseconds: float, severity: str) -> gxe.Expectation:
    """The lag's 99th percentile."""
    return ExpectLagBelow(
        max_value=milliseconds,
        severity=severity,
        description=f"99 of 100 changes of the last day reached the lake within {milliseconds / 1000:g} s",
    )


def no_gap() -> gxe.Expectation:
    """No open gap."""
    return ExpectNoGap(max_value=0, severity="critical", description="No change is known to be missing")


def drift(severity: str) -> list[gxe.Expectation]:
    """Nothing new in the schema."""
    return [
        ExpectNoUnexpectedAttribute(severity=severity, description="No attribute is unexpected"),
        ExpectNoTypeChange(severity=severity, description="No attribute has come to hold another type"),
    ]


def key_never_null(attribute: str) -> gxe.Expectation:
    """The key attribute in the rows that were looked at."""
    return ExpectKeyNeverNull(
        column=attribute, severity="critical", description=f"The key attribute {attribute!r} is in every row"
    )
