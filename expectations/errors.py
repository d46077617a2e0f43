"""The errors of the expectations package; `lake.errors` has their base class and draws the whole hierarchy."""

from lake.errors import ExplainedError


class ExpectationsError(ExplainedError):
    """Base of all errors of the expectations package."""


class ParityError(ExpectationsError):
    """The two sides cannot be compared."""


class CheckError(ExpectationsError):
    """The suites cannot be run."""
