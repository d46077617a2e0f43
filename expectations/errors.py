"""What can go wrong in the expectations package, as one family.

ExpectationsError
├── ParityError      the two sides cannot be compared
└── CheckError       the suites cannot be run
"""

from lake.errors import ExplainedError


class ExpectationsError(ExplainedError):
    """Base of all errors of the expectations package; its text says what is wrong and what to do."""


class ParityError(ExpectationsError):
    """The two sides cannot be compared."""


class CheckError(ExpectationsError):
    """The suites cannot be run."""
