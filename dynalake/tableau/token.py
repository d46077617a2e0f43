"""The personal access token that publishing signs in with: from the environment, never from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dynalake.errors import PublishError

NAME: Final = "TABLEAU_TOKEN_NAME"
VALUE: Final = "TABLEAU_TOKEN_VALUE"


@dataclass(frozen=True, slots=True)
class Token:
    """A personal access token; its value is in no text that is made of it."""

    name: str
    value: str = field(repr=False)


def token_from(environment: Mapping[str, str]) -> Token:
    """The token that the environment holds.

    Raises:
        PublishError: it holds none.
    """
    name, value = environment.get(NAME, "").strip(), environment.get(VALUE, "").strip()
    missing = [variable for variable, text in ((NAME, name), (VALUE, value)) if not text]
    if missing:
        raise PublishError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
            remedy="create a personal access token in Tableau "
            f"(your account, Settings), and put its name and its value into {NAME} and {VALUE}",
        )
    return Token(name, value)
