"""One signed-in session at Tableau Server or Tableau Cloud.

What may be sent again. A request that the server refused because it is busy (429, 503) was not done, so it is sent
again, after the time that the server asks for. A question is asked again also where the answer got lost. But where
the answer to a part of an upload gets lost, nobody can tell whether the part was added to what had come before, and
sent again it might stand in the file twice: the upload is begun anew, in a session of its own. Publishing is done
again if it replaces what is there, and is not where it adds to it; an update has a number of its own, under which the
server does it once.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from dynalake.errors import PublishError
from dynalake.tableau.failures import explained, reason
from dynalake.tableau.token import NAME, Token

if TYPE_CHECKING:
    import requests
    import tableauserverclient as tsc
    from urllib3.response import BaseHTTPResponse

T = TypeVar("T")
Progress = Callable[[int, int], None]
Mode = Literal["overwrite", "create", "append"]

CHUNK_BYTES: Final = 8 << 20
"""One part of an upload: Tableau takes up to 64 MB at a time."""

ATTEMPTS: Final = 4
"""How often an upload is begun, or something is published, before the fault is the user's to know of."""

TIMEOUTS_S: Final = (15, 600)
"""For a connection, and for an answer."""

BUSY: Final = (429, 503)
LONGEST_PAUSE_S: Final = 120
"""A busy server may ask for an hour's patience; a scheduler would rather be told."""

UPDATES_SINCE: Final = "3.13"
"""The version of the REST API, and with it of the server (2021.3), that updates data sources row by row."""

_MODES: Final[Mapping[Mode, str]] = {"overwrite": "overwrite", "create": "createNew", "append": "append"}


class UpdateRefusedError(PublishError):
    """The server does not exchange rows of this data source; the text says why, as far as it does."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project: its id, and its path from the top, parts parted by `/`."""

    id: str
    path: str


@dataclass(frozen=True, slots=True)
class DataSource:
    """A published data source.

    Attributes:
        id: the server's name for it.
        state: changes whenever somebody changes it.
        url: its page.
    """

    id: str
    state: str
    url: str | None


@contextmanager
def signed_in(
    url: str, site: str, token: Token, *, pause_s: float = 1.0, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Session]:
    """A session that is signed out when the block ends.

    Args:
        url: the server's address, https.
        site: the site's name as its address has it; "" is the default site of a server.
        token: the personal access token.
        pause_s: the first pause before something is sent again; the next are longer.
        chunk_bytes: the size of an upload's parts.

    Raises:
        PublishError: the library is not installed, the server cannot be reached or trusted, or refuses the token.
    """
    try:
        import tableauserverclient as tsc
    except ImportError as error:
        raise PublishError(
            "publishing needs tableauserverclient", remedy="install dynalake[tableau]"
        ) from error
    address = _address(url)
    with explained(address, "looking for Tableau there"):
        server = tsc.Server(
            address,
            http_options={"timeout": TIMEOUTS_S},
            session_factory=lambda: _http(address, pause_s),
        )
        # The library's own way to find the version takes any failure for an old server.
        told = server.server_info.get()
        if told is None or not told.rest_api_version:
            raise PublishError(f"{address} does not answer as Tableau does", remedy="check the address")
        server.version = told.rest_api_version
    session = Session(server, address, site, token, pause_s, chunk_bytes)
    session.sign_in()
    try:
        yield session
    finally:
        session.sign_out()


class Session:
    """A signed-in session; use `signed_in`."""

    def __init__(
        self, server: tsc.Server, address: str, site: str, token: Token, pause_s: float, chunk_bytes: int
    ) -> None:
        self._server, self._address, self._site, self._token = server, address, site, token
        self._pause_s, self._chunk_bytes = pause_s, chunk_bytes

    @property
    def address(self) -> str:
        """The server's address."""
        return self._address

    @property
    def version(self) -> str:
        """The version of the server's REST API."""
        return str(self._server.version)

    @property
    def updates(self) -> bool:
        """Whether the server updates data sources row by row."""
        return bool(self._server.check_at_least_version(UPDATES_SINCE))

    def sign_in(self) -> None:
        """Signs in, also anew."""
        import tableauserverclient as tsc
        from tableauserverclient.server.endpoint.exceptions import FailedSignInError

        credentials = tsc.PersonalAccessTokenAuth(self._token.name, self._token.value, site_id=self._site)
        with explained(self._address, "signing in"):
            try:
                self._again(lambda: self._server.auth.sign_in(credentials), renewing=False)
            except FailedSignInError as error:
                where = (
                    f"the site {self._site!r}" if self._site else "the default site (--site names another)"
                )
                raise PublishError(
                    f"Tableau does not take the token {self._token.name!r} for {where}",
                    remedy=f"check the token that {NAME} names: its value, that it has neither expired nor been "
                    "revoked, and that it was created in this site",
                ) from error

    def sign_out(self) -> None:
        """Signs out; a session that cannot be is left to expire."""
        import requests
        from tableauserverclient.server.endpoint.exceptions import TableauError

        try:
            self._server.auth.sign_out()
        except (requests.RequestException, TableauError):
            pass
        finally:
            self._server.session.close()

    def project(self, wanted: str) -> Project:
        """The project of this name, or of this path (`Finance/Orders`).

        Raises:
            PublishError: there is none, or there are several.
        """
        import tableauserverclient as tsc

        with explained(self._address, "listing the projects"):
            found = self._ask(lambda: list(tsc.Pager(self._server.projects)))
        items = {str(each.id): each for each in found}
        paths = {each_id: _path(each_id, items) for each_id in items}
        by_path = [each for each, path in paths.items() if path == wanted]
        by_name = [each for each, item in items.items() if item.name == wanted]
        matching = by_path or by_name
        if len(matching) == 1:
            return Project(matching[0], paths[matching[0]])
        if matching:
            several = ", ".join(sorted(paths[each] for each in matching))
            raise PublishError(
                f"there are several projects {wanted!r}", remedy=f"give the path of one of {several}"
            )
        names = sorted({*paths.values(), *(str(item.name) for item in items.values())})
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4) or sorted(paths.values())[:5]
        told = f"; near it are {', '.join(near)}" if near else ", and the token's user sees none"
        raise PublishError(f"there is no project {wanted!r} that the token's user may see{told}")

    def data_source(self, project: Project, name: str) -> DataSource | None:
        """The data source of this name in the project."""
        item = self._item(project, name)
        return None if item is None else _data_source(item)

    def publish(
        self,
        file: Path,
        project: Project,
        name: str,
        mode: Mode,
        description: str = "",
        on_progress: Progress = lambda _done, _total: None,
    ) -> DataSource:
        """Publishes a .hyper or a .tdsx, and waits until the server has taken it in.

        Raises:
            PublishError: the server cannot be reached, or refuses.
        """
        doing = f"publishing {name} to {project.path}"
        with explained(self._address, doing):
            before = self._item(project, name)
            if mode == "create" and before is not None:
                raise PublishError(
                    f"there is a data source {name!r} in {project.path}",
                    remedy="--mode overwrite replaces it",
                )
            self._publish(file, project, name, mode, description, on_progress)
            published = self._item(project, name)
        if published is None:
            raise PublishError(
                f"Tableau says that it has published {name}, and does not show it in {project.path}"
            )
        return _data_source(published)

    def update(
        self,
        project: Project,
        name: str,
        payload: Path,
        actions: Sequence[Mapping[str, Any]],
        number: str,
        description: str = "",
        on_progress: Progress = lambda _done, _total: None,
    ) -> DataSource:
        """Exchanges rows of a published data source, and waits until it is done.

        Args:
            project: where it is.
            name: its name.
            payload: a .hyper file with the rows that the actions speak of.
            actions: what to do, as Tableau's REST API has it ("Update Data in Hyper Data Source").
            number: a name for this very update, under which the server does it once.
            description: what people shall read of it.
            on_progress: called with bytes sent and all bytes.

        Raises:
            UpdateRefusedError: the server does not exchange rows of this data source.
            PublishError: the server cannot be reached, or refuses.
        """
        from tableauserverclient.server.endpoint.exceptions import JobFailedException, ServerResponseError

        with explained(self._address, f"updating {name} in {project.path}"):
            item = self._item(project, name)
            if item is None:
                raise PublishError(f"there is no data source {name!r} in {project.path} any more")

            job: Any = None

            def send() -> None:
                nonlocal job
                job = self._patch(str(item.id), self._upload(payload, on_progress), actions, number)

            try:
                self._again(send)
                self._wait(job)
            except (JobFailedException, ServerResponseError) as error:
                raise UpdateRefusedError(reason(error)) from error
            item.description = description
            self._ask(lambda: self._server.datasources.update(item))
            return _data_source(self._item(project, name) or item)

    def _publish(
        self,
        file: Path,
        project: Project,
        name: str,
        mode: Mode,
        description: str,
        on_progress: Progress,
    ) -> None:
        import tableauserverclient as tsc
        from tableauserverclient.server import RequestFactory

        item = tsc.DatasourceItem(project.id, name=name)
        item.description = description
        asked, job = False, None

        def send() -> None:
            nonlocal asked, job
            if asked and mode == "create" and self._item(project, name) is not None:
                return
            session = self._upload(file, on_progress)
            body, kind = RequestFactory.Datasource.publish_req_chunked(item)
            url = (
                f"{self._server.datasources.baseurl}?uploadSessionId={session}&datasourceType={file.suffix[1:]}"
                f"&{_MODES[mode]}=true&asJob=true"
            )
            asked = True
            try:
                answer = self._server.datasources.post_request(url, body, kind)
            except Exception as error:
                if mode == "append" and _lost(error):
                    raise PublishError(
                        f"Tableau may or may not have taken the rows for {name}: the answer was lost",
                        remedy="look at the data source before you append them again",
                    ) from error
                raise
            job = tsc.JobItem.from_response(answer.content, self._server.namespace)[0]

        self._again(send)
        # Apart from the sending: where the server cannot be asked how far it is, nothing is to be sent again.
        if job is not None:
            self._wait(job)

    def _upload(self, file: Path, on_progress: Progress) -> str:
        """Sends a file in parts; gives the upload's session."""
        from tableauserverclient.server import RequestFactory

        total, done = file.stat().st_size, 0
        on_progress(0, total)
        session = str(self._server.fileuploads.initiate())
        with file.open("rb") as opened:
            while chunk := opened.read(self._chunk_bytes):
                body, kind = RequestFactory.Fileupload.chunk_req(chunk)
                self._server.fileuploads.append(session, body, kind)
                done += len(chunk)
                on_progress(done, total)
        return session

    def _patch(
        self, data_source: str, session: str, actions: Sequence[Mapping[str, Any]], number: str
    ) -> Any:
        import json

        import tableauserverclient as tsc

        answer = self._server.datasources.patch_request(
            f"{self._server.datasources.baseurl}/{data_source}/data?uploadSessionId={session}",
            json.dumps({"actions": list(actions)}),
            "application/json",
            parameters={"headers": {"requestid": number}},
        )
        return tsc.JobItem.from_response(answer.content, self._server.namespace)[0]

    def _wait(self, job: Any) -> None:
        self._again(lambda: self._server.jobs.wait_for_job(job))

    def _item(self, project: Project, name: str) -> Any:
        import tableauserverclient as tsc

        options = tsc.RequestOptions()
        # A comma or a colon would end the filter's value: then all are looked at.
        if not set(",:&") & set(name):
            options.filter.add(
                tsc.Filter(tsc.RequestOptions.Field.Name, tsc.RequestOptions.Operator.Equals, name)
            )
        found = self._ask(lambda: list(tsc.Pager(self._server.datasources, options)))
        return next((each for each in found if each.name == name and each.project_id == project.id), None)

    def _ask(self, ask: Callable[[], T]) -> T:
        """Asks what may be asked twice: where the session has expired, after signing in anew."""
        from tableauserverclient.server.endpoint.exceptions import FailedSignInError, NotSignedInError

        try:
            return ask()
        except (FailedSignInError, NotSignedInError):
            self.sign_in()
            return ask()

    def _again(self, send: Callable[[], object], *, renewing: bool = True) -> None:
        """Does something from its beginning, and again where nobody can tell how far it came.

        Args:
            send: does it.
            renewing: whether it is also done again after signing in anew, where the session has expired.
        """
        from tableauserverclient.server.endpoint.exceptions import FailedSignInError, NotSignedInError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                send()
            except Exception as error:
                expired = isinstance(error, FailedSignInError | NotSignedInError)
                if attempt == ATTEMPTS or not (_lost(error) or (expired and renewing)):
                    raise
                if expired:
                    self.sign_in()
                else:
                    time.sleep(self._pause_s * 2 ** (attempt - 1))
            else:
                return


def _lost(error: Exception) -> bool:
    """Whether what was asked for may or may not have been done."""
    import requests
    from tableauserverclient.server.endpoint.exceptions import InternalServerError

    return isinstance(
        error, requests.ConnectionError | requests.Timeout | InternalServerError
    ) and not isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError)


def _http(address: str, pause_s: float) -> requests.Session:
    """A session that retries what may be retried, and sends nothing to any host but the server's."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    class Careful(Retry):
        """Sends again whatever the server was too busy for, and questions of which the answer was lost."""

        def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:  # noqa: ARG002
            return status_code in BUSY

        def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
            asked = super().get_retry_after(response)
            return None if asked is None else min(asked, LONGEST_PAUSE_S)

    retries = Careful(
        total=6,
        connect=2,  # whoever gave a wrong address shall not wait for a minute
        backoff_factor=pause_s,
        backoff_jitter=pause_s / 2,
        status_forcelist=BUSY,
        allowed_methods={"GET"},
        raise_on_status=False,
        respect_retry_after_header=True,
    )

    class OneHost(requests.Session):
        """Refuses every request to another host or without TLS: each carries the token.

        Redirects come here too, those that requests follows and the one that the client library follows itself when
        it signs in.
        """

        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            _refuse_other_host(address, str(request.url))
            return super().send(request, **options)

    session = OneHost()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def _refuse_other_host(address: str, url: str) -> None:
    """Allow the server itself, and its host by https.

    Raises:
        PublishError: a redirect leads elsewhere.
    """
    ours, asked = urlsplit(address), urlsplit(url)
    encrypted = asked.scheme == "https" or asked.netloc == ours.netloc
    if asked.hostname == ours.hostname and asked.scheme in (ours.scheme, "https") and encrypted:
        return
    place = f"{asked.scheme}://{asked.netloc}"
    raise PublishError(
        f"{address} redirects to {place}, which would receive the token: dynalake follows redirects only to https on "
        "the same host"
        + (f"; if that is your server, give --server {place}" if asked.scheme == "https" else "")
    )


def _address(url: str) -> str:
    address = (url if "://" in url else f"https://{url}").rstrip("/")
    parts = urlsplit(address)
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise PublishError(f"{url} is no address of a server", remedy="give https://host")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise PublishError(
            f"{url} would carry the token in clear text", remedy=f"give https://{parts.netloc}"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _path(of: str, items: Mapping[str, Any]) -> str:
    parts: list[str] = []
    at: str | None = of
    while at is not None and at in items and len(parts) < len(items):
        parts.append(str(items[at].name))
        at = items[at].parent_id
    return "/".join(reversed(parts))


def _data_source(item: Any) -> DataSource:
    return DataSource(str(item.id), f"{item.id} {item.updated_at}", item.webpage_url)
