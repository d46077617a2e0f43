"""What went wrong between here and Tableau, and what to do about it."""

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
        raise _publish_error(error, url, doing) from error


def _publish_error(error: Exception, url: str, doing: str) -> PublishError:
    import requests
    from tableauserverclient.server.endpoint import exceptions as tableau

    host = urlsplit(url).netloc or url
    network = f"check the address {url} and the network"
    told: Sequence[tuple[type[Exception], Callable[[Any], PublishError]]] = (
        (
            requests.exceptions.SSLError,
            lambda of: PublishError(
                f"{host} cannot be trusted ({_innermost(of)})",
                remedy="if its certificate is your company's own, let REQUESTS_CA_BUNDLE name the file of the "
                "certificate authority",
            ),
        ),
        (
            requests.exceptions.ProxyError,
            lambda of: PublishError(
                f"the proxy to {host} cannot be used: {_innermost(of)}",
                remedy="check HTTPS_PROXY and NO_PROXY",
            ),
        ),
        (
            requests.Timeout,
            lambda _: PublishError(f"{host} did not answer in time, while {doing}", remedy="try again later"),
        ),
        (
            requests.ConnectionError,
            lambda of: PublishError(
                f"{host} cannot be reached, while {doing}: {_innermost(of)}", remedy=network
            ),
        ),
        (
            requests.RequestException,
            lambda of: PublishError(f"{host} cannot be asked, while {doing}: {of}", remedy=network),
        ),
        (
            tableau.InternalServerError,
            lambda of: PublishError(
                f"{host} failed (HTTP {of.code}), while {doing}", remedy="try again later"
            ),
        ),
        (
            tableau.JobFailedException,
            lambda of: PublishError(f"Tableau failed, while {doing}: {reason(of)}"),
        ),
        (tableau.XMLError, lambda of: _refusal(of, doing)),
        (
            tableau.RedirectError,
            lambda of: PublishError(f"{host} leads elsewhere: {of}", remedy="give the address it leads to"),
        ),
    )
    for kind, explain in told:
        if isinstance(error, kind):
            return explain(error)
    return PublishError(f"{host} does not answer as Tableau does", remedy=f"check that {url} is its address")


def reason(error: object) -> str:
    """What the server says of a refusal, or of a job that failed."""
    notes = getattr(error, "notes", None) or ()
    parts = [*notes, getattr(error, "summary", None), getattr(error, "detail", None)]
    told = [" ".join(str(part).split()) for part in parts if part]
    return ": ".join(dict.fromkeys(filter(None, told))) or "it does not say why"


def _refusal(error: object, doing: str) -> PublishError:
    code, told = str(getattr(error, "code", "") or ""), reason(error)
    match code[:3]:
        case "401":
            return PublishError(
                f"Tableau no longer takes the token, while {doing} ({told})",
                remedy="give each run another token: a second sign-in with a token ends the first one",
            )
        case "403":
            return PublishError(
                f"the token's user may not do this: {doing} ({told})",
                remedy="have the project's permissions changed (Publish, or Save for what exists)",
            )
        case "409":
            return PublishError(f"there is one already: {doing} ({told})")
        case "429":
            return PublishError(f"Tableau was asked too often, while {doing}", remedy="try again later")
        case _:
            return PublishError(
                f"Tableau refuses, while {doing}: {told or 'it does not say why'}"
                + (f" ({code})" if code else "")
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
