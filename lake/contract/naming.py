"""What the lake's tables are called.

    <prefix><source account alias>.<source table>    the lake table of one pipeline
    <prefix>catalogue                                the schema catalogue, one for all pipelines of a lake
    <prefix>checkpoints                              checkpoints, leases, health and gaps, likewise

The two shared names have no dot after the prefix, so no lake table can ever have one of them.
"""

from __future__ import annotations

import re
from typing import Final

from lake.errors import ContractError

DEFAULT_PREFIX: Final = "dynalake."
"""Lets one IAM statement cover the lake's tables, and keeps them together in the console's list."""

MIN_LENGTH: Final = 3
MAX_LENGTH: Final = 255
_ALLOWED: Final = re.compile(r"[a-zA-Z0-9_.-]+")


def lake_table_name(account_alias: str, source_table: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The lake table's name, so that two accounts' `orders` never meet.

    Raises:
        ContractError: the name would break DynamoDB's rules (3 to 255 of a-z A-Z 0-9 _ . -), or the alias
            holds a dot, which would make two pairs share a name.
    """
    if not account_alias or "." in account_alias:
        raise ContractError(f"the account alias {account_alias!r} must not be empty or hold a dot")
    return _checked(f"{prefix}{account_alias}.{source_table}")


def catalogue_table_name(prefix: str = DEFAULT_PREFIX) -> str:
    """The schema catalogue's table name."""
    return _checked(f"{prefix}catalogue")


def checkpoint_table_name(prefix: str = DEFAULT_PREFIX) -> str:
    """The name of the table that holds checkpoints, leases, health and gaps."""
    return _checked(f"{prefix}checkpoints")


def _checked(name: str) -> str:
    if not _ALLOWED.fullmatch(name):
        raise ContractError(f"{name!r} is no DynamoDB table name", remedy="use only a-z A-Z 0-9 _ . and -")
    if not MIN_LENGTH <= len(name) <= MAX_LENGTH:
        raise ContractError(
            f"{name!r} has {len(name)} characters, and a DynamoDB table name has {MIN_LENGTH} to {MAX_LENGTH}",
            remedy="give the lake table a shorter name (lake.table) or a shorter prefix (lake.prefix)",
        )
    return name
