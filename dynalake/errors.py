"""What the front door says when a user's mistake stops it.

UserError
├── ConfigError      dynalake.toml is missing, not TOML, or says something that cannot be
├── AccountError     a side's credentials are missing, refused, or of another account
├── DeployError      a stack cannot be made, changed or taken away
└── PublishError     Tableau cannot be reached, refuses, or has not what was named
"""

from lake.errors import ExplainedError


class UserError(ExplainedError):
    """A mistake that the user can mend; the command line prints it as one line and exits with 2."""


class ConfigError(UserError):
    """dynalake.toml is missing, not TOML, or says something that cannot be."""


class AccountError(UserError):
    """A side's credentials are missing, refused, or of another account."""


class DeployError(UserError):
    """A stack cannot be made, changed or taken away."""


class PublishError(UserError):
    """Tableau cannot be reached, refuses, or has not what was named."""
