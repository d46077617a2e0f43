"""What went wrong between here and Tableau, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from dynalake.errors import PublishError


@contextmanager
def explained(url: str, doing: str) -> Iterator[None]:
    """Turns what the client library raises into a PublishError.

    Args:
        url: the server.
        doing: what is being done, such as "publishing orders to Finance".
    """
    import requests
    from tableauserverclient.server.endpoint.exceptions import TableauError
    from tableauserverclient.server.exceptions import (
        EndpointUnavailableError,
        ServerInfoEndpointNotFoundError,
    )

    try:
        yield
    except (
        requests.RequestException,
        TableauError,
        EndpointUnavailableError,
        ServerInfoEndpointNotFoundError,
    ) as error:
        raise PublishError(_sentence(error, url, doing)) from error


def _sentence(error: Exception, url: str, doing: str) -> str:
    import requests
    from tableauserverclient.server.endpoint import exceptions as tableau

    host = urlsplit(url).netloc or url
    told: Sequence[tuple[type[Exception], Callable[[Any], str]]] = (
        (
            requests.exceptions.SSLError,
            lambda of: (
                f"{host} cannot be trusted ({_innermost(of)}): if its certificate is your company's own, let "
                "REQUESTS_CA_BUNDLE name the file of the certificate authority"
            ),
        ),
        (requests.exceptions.ProxyError, lambda of: f"the proxy to {host} cannot be used: {_innermost(of)}"),
        (requests.Timeout, lambda _: f"{host} did not answer in time, while {doing}"),
        (requests.ConnectionError, lambda of: f"{host} cannot be reached, while {doing}: {_innermost(of)}"),
        (requests.RequestException, lambda of: f"{host} cannot be asked, while {doing}: {of}"),
        (
            tableau.InternalServerError,
            lambda of: f"{host} had a fault of its own (HTTP {of.code}), while {doing}: try again later",
        ),
        (tableau.JobFailedException, lambda of: f"Tableau failed, while {doing}: {reason(of)}"),
        (tableau.XMLError, lambda of: _refusal(of, doing)),
        (tableau.RedirectError, lambda of: f"{host} leads elsewhere: {of}"),
    )
    for kind, sentence in told:
        if isinstance(error, kind):
            return sentence(error)
    return f"{host} does not answer as Tableau does: is {url} its address?"


def reason(error: object) -> str:
    """What the server says of a refusal, or of a job that failed."""
    notes = getattr(error, "notes", None) or ()
    parts = [*notes, getattr(error, "summary", None), getattr(error, "detail", None)]
    told = [" ".join(str(part).split()) for part in parts if part]
    return ": ".join(dict.fromkeys(filter(None, told))) or "it does not say why"


def _refusal(error: object, doing: str) -> str:
    code, told = str(getattr(error, "code", "") or ""), reason(error)
    match code[:3]:
        case "401":
            return (
                f"Tableau no longer takes the token, while {doing} ({told}): does another run use the same one? Each "
                "run needs a token of its own"
            )
        case "403":
            return (
                f"the token's user may not do this: {doing} ({told}); the project's permissions decide (Publish, or "
                "Save for what is there)"
            )
        case "409":
            return f"there is one already: {doing} ({told})"
        case "429":
            return f"Tableau was asked too often, while {doing}: try again later"
        case _:
            return f"Tableau refuses, while {doing}: {told or 'it does not say why'}" + (
                f" ({code})" if code else ""
            )


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of a chain of wrapped errors."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        inner = getattr(at, "reason", None) or next(
            (each for each in at.args if isinstance(each, BaseException)), None
        )
        at = inner if isinstance(inner, BaseException) else at.__cause__
    last = seen[-1]
    text = str(getattr(last, "strerror", None) or last)
    # urllib3 puts the object before the words: "<…HTTPSConnection object at 0x…>: Failed to …".
    return " ".join(text.split(">: ")[-1].split())
