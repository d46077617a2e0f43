"""The errors of the command line and the Python API; `lake.errors` draws the whole hierarchy."""

from typing import Any

from lake.errors import ExplainedError


def error_document(error: ExplainedError) -> dict[str, Any]:
    """An error as `--json` prints it; `remedy` is null where none is known."""
    return {"error": error.message, "remedy": error.remedy or None, "exit_code": error.exit_code}


class UserError(ExplainedError):
    """A mistake that the user can correct; the command line prints it on one line and exits with 2."""


class ConfigError(UserError):
    """dynalake.toml is missing, not TOML, or says something that cannot be."""


class AccountError(UserError):
    """A side's credentials are missing, refused, or of another account."""


class DeployError(UserError):
    """A stack cannot be made, changed or taken away."""


class PublishError(UserError):
    """Tableau cannot be reached, refuses, or has not what was named."""
