"""Tableau Server's REST API, as far as publishing goes: a real HTTP server that checks what a real one checks.

with TableauStub() as tableau:
    tableau.url, tableau.token …                    # sign in there
    tableau.faults.append(Fault("PUT", "fileUploads", status=503))
    tableau.failing = "no room"                     # jobs fail, and say so; failing_updates: those that exchange rows
    tableau.expire_at = "PUT fileUploads/"          # the session expires when the next such request comes
    tableau.extract("orders")                       # the file of a published data source, to be read

It is written after Tableau's REST API reference (version 3.24): signing in with a personal access token and a session
token in `X-Tableau-Auth`; projects and data sources in pages; uploads as parts of `multipart/mixed`, added in the
order in which they come; asynchronous publishing; jobs; "Update Data in Hyper Data Source", whose actions are carried
out by Hyper in one transaction. Errors are `<error code=…>` documents, a busy server says when to come again, and a
session can expire. What it takes in is opened with Hyper first, so a file with a part too many is a failed job.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from tests.stubs import tableau_files

NAMESPACE: Final = "http://tableau.com/api"
LARGEST_PART: Final = 64 << 20
FIRST_SECOND: Final = 1_767_225_600


@dataclass(slots=True)
class Fault:
    """What a request may meet: it counts down `times`, after `skip` requests of its kind were left alone.

    Attributes:
        method: of the request.
        path: a part of its path.
        status: answered instead, with an error document; 0 drops the connection without an answer.
        done: whether the request takes effect all the same.
        retry_after: said in the answer's header, seconds.
        location: said in the answer's header, where it redirects.
        half: whether the connection is dropped when half of the body has been read.
    """

    method: str
    path: str
    status: int = 0
    done: bool = False
    retry_after: str = ""
    location: str = ""
    half: bool = False
    times: int = 1
    skip: int = 0


@dataclass(slots=True)
class Published:
    """A data source."""

    id: str
    name: str
    project: str
    kind: str
    content: bytes
    description: str
    updated: int


@dataclass(slots=True)
class RefusedError(Exception):
    """An error document."""

    status: int
    code: str
    summary: str
    detail: str = ""


@dataclass(slots=True)
class _Job:
    id: str
    type: str
    polls: int = 0
    failure: str = ""


@dataclass
class TableauStub:
    """The server; use it in a `with` block."""

    token: tuple[str, str] = ("ci", "s3cr3t-value")
    site: str = ""
    version: str = "3.24"
    page: int = 2
    projects: dict[str, tuple[str, str | None]] = field(
        default_factory=lambda: {"p1": ("default", None), "p2": ("Finance", None), "p3": ("Orders", "p2")}
    )
    forbidden: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    sources: dict[str, Published] = field(default_factory=dict)
    jobs: dict[str, _Job] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    parts: list[int] = field(default_factory=list)
    begun: int = 0
    failing: str = ""
    failing_updates: str = ""
    expire_at: str = ""
    done: dict[str, str] = field(default_factory=dict)
    sites: str = "site-1"

    def __enter__(self) -> Self:
        stub = self
        self._lock = threading.RLock()
        self._clock = FIRST_SECOND
        self._folder = tempfile.TemporaryDirectory(prefix="tableau-stub-")

        class Handler(_Handler):
            tableau: TableauStub = stub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"TABLEAU_TOKEN_NAME": self.token[0], "TABLEAU_TOKEN_VALUE": self.token[1]}

    def source(self, name: str) -> Published:
        (found,) = [each for each in self.sources.values() if each.name == name]
        return found

    def extract(self, name: str) -> Path:
        """A published data source's file, its extension saying what it is."""
        source = self.source(name)
        file = Path(self._folder.name) / f"{source.id}.{source.kind}"
        file.write_bytes(source.content)
        return file

    def count(self, method: str, path: str) -> int:
        """How many requests of this kind have come."""
        return sum(each == method and path in where for each, where in self.requests)

    def expire(self) -> None:
        """Ends all sessions."""
        self.sessions.clear()

    def now(self) -> int:
        self._clock += 1
        return self._clock

    # What the paths do. Each takes what the path named, the query, the headers and the body, and gives a document.

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        with self._lock:
            if match := re.fullmatch(r"/api/[\d.]+/serverInfo", path):
                return 200, (
                    '<serverInfo><productVersion build="20243.24">2024.3</productVersion>'
                    f"<restApiVersion>{self.version}</restApiVersion></serverInfo>"
                )
            if match := re.fullmatch(r"/api/([\d.]+)/auth/sign(in|out)", path):
                return self._sign_in(body) if match[2] == "in" else self._sign_out(headers)
            match = re.fullmatch(r"/api/([\d.]+)/sites/([^/]+)/(.*)", path)
            if match is None:
                raise RefusedError(404, "404001", "Resource Not Found")
            verb, _, part = self.expire_at.partition(" ")
            if part and verb == method and part in path:
                self.expire_at = ""
                self.sessions.clear()
            if headers.get("x-tableau-auth") not in self.sessions:
                raise RefusedError(
                    401, "401002", "Unauthorized Access", "Invalid authentication credentials were provided."
                )
            if match[2] != self.sites:
                raise RefusedError(403, "403004", "Forbidden", "This is not your site.")
            for pattern, verb, what in self._routes():
                if verb == method and (found := re.fullmatch(pattern, match[3])):
                    return what(found.groups(), query, headers, body)
            raise RefusedError(405, "405000", "Invalid Request Method")

    def _routes(self) -> list[tuple[str, str, Callable[..., tuple[int, str]]]]:
        return [
            (r"projects", "GET", self._list_projects),
            (r"datasources", "GET", self._list_sources),
            (r"datasources", "POST", self._publish),
            (r"datasources/([^/]+)", "PUT", self._describe),
            (r"datasources/([^/]+)/data", "PATCH", self._update),
            (r"fileUploads", "POST", self._begin_upload),
            (r"fileUploads/([^/]+)", "PUT", self._add_part),
            (r"jobs/([^/]+)", "GET", self._show_job),
        ]

    def _sign_in(self, body: bytes) -> tuple[int, str]:
        credentials = ET.fromstring(body).find("credentials")
        assert credentials is not None
        site = credentials.find("site")
        asked = (credentials.get("personalAccessTokenName"), credentials.get("personalAccessTokenSecret"))
        if asked != self.token or site is None or site.get("contentUrl") != self.site:
            raise RefusedError(401, "401001", "Signin Error", "Error signing in to Tableau Server")
        session = uuid.uuid4().hex
        # A token has one session at a time.
        self.sessions = {session}
        return 200, (
            f'<credentials token="{session}"><site id="{self.sites}" contentUrl="{self.site}"/>'
            '<user id="user-1"/></credentials>'
        )

    def _sign_out(self, headers: Mapping[str, str]) -> tuple[int, str]:
        self.sessions.discard(headers.get("x-tableau-auth", ""))
        return 204, ""

    def _paged(self, query: Mapping[str, str], name: str, items: list[str]) -> tuple[int, str]:
        size, number = min(int(query.get("pageSize", "100")), self.page), int(query.get("pageNumber", "1"))
        some = items[size * (number - 1) : size * number]
        return 200, (
            f'<pagination pageNumber="{number}" pageSize="{size}" totalAvailable="{len(items)}"/>'
            f"<{name}>{''.join(some)}</{name}>"
        )

    def _list_projects(self, _: Any, query: Mapping[str, str], *__: Any) -> tuple[int, str]:
        return self._paged(
            query,
            "projects",
            [
                f'<project id="{each}" name={quoteattr(name)} description=""'
                + (f' parentProjectId="{parent}"' if parent else "")
                + '><owner id="user-1"/></project>'
                for each, (name, parent) in self.projects.items()
            ],
        )

    def _list_sources(self, _: Any, query: Mapping[str, str], *__: Any) -> tuple[int, str]:
        wanted = query.get("filter", "")
        sources = list(self.sources.values())
        if wanted:
            attribute, operator, value = wanted.split(":", 2)
            assert (attribute, operator) == ("name", "eq")
            sources = [each for each in sources if each.name == value]
        return self._paged(query, "datasources", [self._source_document(each) for each in sources])

    def _source_document(self, of: Published) -> str:
        updated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(of.updated))
        return (
            f'<datasource id="{of.id}" name={quoteattr(of.name)} description={quoteattr(of.description)} '
            f'contentUrl="x" type="hyper" createdAt="2026-01-01T00:00:00Z" updatedAt="{updated}" '
            f'webpageUrl="{self.url}/#/datasources/{of.id}"><project id="{of.project}" '
            f'name={quoteattr(self.projects[of.project][0])}/><owner id="user-1"/><tags/></datasource>'
        )

    def _begin_upload(self, *_: Any) -> tuple[int, str]:
        self.begun += 1
        session = f"{self.begun}:{uuid.uuid4().hex}-0:1"
        self.uploads[session] = bytearray()
        return 201, f'<fileUpload uploadSessionId="{session}" fileSize="0"/>'

    def _add_part(
        self, names: tuple[str], _: Any, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        if names[0] not in self.uploads:
            raise RefusedError(404, "404011", "Resource Not Found", "The upload session is not there.")
        parts = _multipart(headers, body)
        if set(parts) != {"request_payload", "tableau_file"}:
            raise RefusedError(
                400, "400011", "Bad Request", "an upload's part is request_payload and tableau_file"
            )
        content = parts["tableau_file"]
        if not 0 < len(content) <= LARGEST_PART:
            raise RefusedError(413, "413000", "Payload Too Large")
        self.uploads[names[0]] += content
        self.parts.append(len(content))
        size = len(self.uploads[names[0]]) >> 20
        return 200, f'<fileUpload uploadSessionId="{names[0]}" fileSize="{size}"/>'

    def _publish(
        self, _: Any, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        parts = _multipart(headers, body)
        if set(parts) != {"request_payload"}:
            raise RefusedError(
                400, "400011", "Bad Request", "only request_payload is expected with an upload session"
            )
        asked = ET.fromstring(parts["request_payload"]).find("datasource")
        assert asked is not None
        project = asked.find("project")
        name, where = asked.get("name"), project.get("id") if project is not None else None
        modes = [mode for mode in ("overwrite", "createNew", "append") if query.get(mode) == "true"]
        if not name or len(modes) != 1 or query.get("asJob") != "true":
            raise RefusedError(400, "400011", "Bad Request", "name, one mode and asJob are needed")
        if where not in self.projects:
            raise RefusedError(404, "404005", "Resource Not Found", "Project could not be found.")
        if where in self.forbidden:
            raise RefusedError(403, "403007", "Forbidden", "The user may not publish to the project.")
        there = next(
            (each for each in self.sources.values() if (each.name, each.project) == (name, where)), None
        )
        if modes == ["createNew"] and there is not None:
            raise RefusedError(409, "409009", "Resource Conflict", "A data source with that name exists.")
        content = self._take(query)
        kind = query["datasourceType"]
        if modes == ["append"] and (kind != "hyper" or there is None):
            raise RefusedError(
                400, "400003", "Bad Request", "Only an extract can be appended, to an extract."
            )

        def work() -> None:
            new = content
            if modes == ["append"] and there is not None:
                new = tableau_files.appended(there.content, content)
            else:
                tableau_files.check(kind, content)
            found = there or Published(str(uuid.uuid4()), name, where or "", kind, new, "", 0)
            found.kind, found.content, found.updated = kind, new, self.now()
            found.description = asked.get("description") or ""
            self.sources[found.id] = found

        return self._run("PublishDatasource", work)

    def _take(self, query: Mapping[str, str]) -> bytes:
        content = self.uploads.pop(query.get("uploadSessionId", ""), None)
        if content is None:
            raise RefusedError(404, "404011", "Resource Not Found", "The upload session is not there.")
        return bytes(content)

    def _describe(self, names: tuple[str], _: Any, __: Any, body: bytes) -> tuple[int, str]:
        found = self._known(names[0])
        asked = ET.fromstring(body).find("datasource")
        assert asked is not None
        found.description, found.updated = asked.get("description") or "", self.now()
        return 200, self._source_document(found)

    def _update(
        self, names: tuple[str], query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Any:
        found = self._known(names[0])
        number = headers.get("requestid")
        if not number or headers.get("content-type") != "application/json":
            raise RefusedError(400, "400011", "Bad Request", "a RequestID and a JSON document are needed")
        if number in self.done:
            return 202, self._job_document(self.jobs[self.done[number]])
        payload, actions = self._take(query), json.loads(body)["actions"]

        def work() -> None:
            if self.failing_updates:
                raise tableau_files.RefusedFileError(self.failing_updates)
            found.content = tableau_files.updated(found.kind, found.content, payload, actions)
            found.updated = self.now()

        status, document = self._run("UpdateUploadedFile", work)
        self.done[number] = next(reversed(self.jobs))
        return status, document

    def _known(self, each: str) -> Published:
        if each not in self.sources:
            raise RefusedError(404, "404004", "Resource Not Found", "Data source could not be found.")
        return self.sources[each]

    def _run(self, kind: str, work: Callable[[], None]) -> tuple[int, str]:
        job = _Job(str(uuid.uuid4()), kind)
        self.jobs[job.id] = job
        try:
            job.failure = self.failing
            if not job.failure:
                work()
        except (tableau_files.RefusedFileError, zipfile.BadZipFile, StopIteration, ET.ParseError) as error:
            job.failure = str(error)
        return 202, self._job_document(job)

    def _show_job(self, names: tuple[str], *_: Any) -> tuple[int, str]:
        if names[0] not in self.jobs:
            raise RefusedError(404, "404031", "Resource Not Found", "Job could not be found.")
        self.jobs[names[0]].polls += 1
        return 200, self._job_document(self.jobs[names[0]])

    def _job_document(self, job: _Job) -> str:
        told = f'<job id="{job.id}" mode="Asynchronous" type="{job.type}" createdAt="2026-01-01T00:00:00Z"'
        if job.polls < 1:
            return told + ' progress="0"/>'
        told += f' progress="100" completedAt="2026-01-01T00:00:01Z" finishCode="{int(bool(job.failure))}">'
        return told + f"<extractRefreshJob><notes>{job.failure}</notes></extractRefreshJob></job>"


def _multipart(headers: Mapping[str, str], body: bytes) -> dict[str, bytes]:
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/mixed;") or "boundary=" not in kind:
        raise RefusedError(415, "415000", "Unsupported Media Type", kind)
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found[str(name)] = content
    return found


class _Handler(BaseHTTPRequestHandler):
    tableau: TableauStub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.tableau.requests.append((self.command, parts.path))
        fault = self._fault(parts.path)
        length = int(self.headers.get("content-length") or 0)
        if fault is not None and fault.half:
            self.rfile.read(length // 2)
            self._drop()
            return
        body = self.rfile.read(length)
        if fault is None or fault.done:
            status, document = self._answer(parts, body)
            if fault is None:
                self._send(status, document)
                return
        assert fault is not None
        if fault.status:
            code = f"{fault.status}000"
            self._send(fault.status, _error(RefusedError(fault.status, code, "Fault")), fault)
        else:
            self._drop()

    do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815

    def _answer(self, parts: Any, body: bytes) -> tuple[int, str]:
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return self.tableau.answer(self.command, parts.path, query, headers, body)
        except RefusedError as refusal:
            return refusal.status, _error(refusal)

    def _fault(self, path: str) -> Fault | None:
        for fault in self.tableau.faults:
            if fault.method == self.command and fault.path in path and fault.times:
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _send(self, status: int, document: str, fault: Fault | None = None) -> None:
        content = b""
        if document:
            head = f"<?xml version='1.0' encoding='UTF-8'?><tsResponse xmlns=\"{NAMESPACE}\">"
            content = f"{head}{document}</tsResponse>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml;charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if fault is not None and fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        if fault is not None and fault.location:
            self.send_header("Location", fault.location)
        self.end_headers()
        self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()


def _error(of: RefusedError) -> str:
    return (
        f'<error code="{of.code}"><summary>{of.summary}</summary>'
        + (f"<detail>{of.detail}</detail>" if of.detail else "")
        + "</error>"
    )
