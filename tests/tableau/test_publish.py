"""Publishing to a server that checks what Tableau Server checks, and that fails as networks and servers do."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

import dynalake
from dynalake.errors import PublishError
from dynalake.jobs.publishing import Destination, PublishReport, publish_table
from dynalake.tableau.server import LONGEST_PAUSE_S, signed_in
from dynalake.tableau.token import Token
from tests.dynalake.accounts import command
from tests.ingest_speed.certificates import make_certificates
from tests.lake.building import build
from tests.stubs.tableau import Fault, TableauStub
from tests.tableau.extracts import EVERY_TYPE, content
from tests.tableau.test_increment import full, things

PART = 24 << 10
"""Small parts, so that a small extract has several."""


@pytest.fixture
def tableau() -> Iterator[TableauStub]:
    with TableauStub() as stub:
        yield stub


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", things(40, **EVERY_TYPE))
    return tmp_path / "lake.duckdb"


def publish(tableau: TableauStub, snapshot: Path, project: str = "Finance", **more: Any) -> PublishReport:
    return publish_table(
        snapshot,
        "things",
        Destination(tableau.url, project, tableau.site),
        Token(*tableau.token),
        sign_in=partial(signed_in, pause_s=0.01, chunk_bytes=PART),
        **more,
    )


@pytest.mark.parametrize("format_", ["hyper", "tdsx"])
def test_what_arrives_is_the_snapshot_row_for_row(
    tableau: TableauStub, snapshot: Path, tmp_path: Path, format_: Any
) -> None:
    report = publish(tableau, snapshot, format=format_)
    assert content(tableau.extract("things")) == content(full(snapshot, tmp_path, format_))
    assert (report.rows, report.project, report.id) == (40, "Finance", tableau.source("things").id)
    assert report.bytes == len(tableau.source("things").content) == sum(tableau.parts)
    assert all(size == PART for size in tableau.parts[:-1])
    assert "40 rows" in tableau.source("things").description
    assert not tableau.sessions, "signed out"


TO_UPLOAD = ("PUT", "fileUploads/")
TO_PUBLISH = ("POST", "/datasources")


@pytest.mark.parametrize(
    ("fault", "uploads"),
    [
        (Fault(*TO_UPLOAD, status=503, skip=1), 1),
        (Fault(*TO_UPLOAD, status=429, retry_after="0", skip=1, times=3), 1),
        (Fault(*TO_UPLOAD, half=True, skip=1), 2),
        (Fault(*TO_UPLOAD, done=True, skip=1), 2),
        (Fault(*TO_UPLOAD, done=True, skip=1, times=2), 3),
        (Fault(*TO_UPLOAD, status=500, done=True, skip=1), 2),
        (Fault("POST", "fileUploads"), 1),
        (Fault("POST", "fileUploads", done=True), 2),
        (Fault(*TO_PUBLISH, status=503), 1),
        (Fault(*TO_PUBLISH, done=True), 2),
        (Fault(*TO_PUBLISH, status=504, done=True), 2),
        (Fault("GET", "jobs/", times=2), 1),
        (Fault("GET", "jobs/", status=503, times=2), 1),
        (Fault("GET", "projects", status=429), 1),
        (Fault("GET", "projects", done=True), 1),
        (Fault("GET", "serverInfo"), 1),
        (Fault("POST", "signin"), 1),
        (Fault("POST", "signin", done=True), 1),
    ],
    ids=lambda each: (
        f"{each.method} {each.path} {each.status} {each.done}" if isinstance(each, Fault) else ""
    ),
)
def test_what_fails_on_the_way_is_sent_again_and_nothing_arrives_twice(
    tableau: TableauStub, snapshot: Path, tmp_path: Path, fault: Fault, uploads: int
) -> None:
    tableau.faults.append(fault)
    report = publish(tableau, snapshot, format="hyper")
    assert not fault.times, "it has happened"
    assert len(tableau.source("things").content) == report.bytes > 2 * PART
    assert content(tableau.extract("things")) == content(full(snapshot, tmp_path))
    assert len(tableau.sources) == 1
    assert tableau.begun == uploads


@pytest.mark.parametrize(
    "at", ["GET projects", "POST fileUploads", "PUT fileUploads/", "POST /datasources", "GET jobs/"]
)
def test_a_session_that_expires_is_renewed(
    tableau: TableauStub, snapshot: Path, tmp_path: Path, at: str
) -> None:
    tableau.expire_at = at
    publish(tableau, snapshot, format="hyper")
    assert not tableau.expire_at
    assert content(tableau.extract("things")) == content(full(snapshot, tmp_path))


def test_a_server_that_never_has_time_is_told_of(tableau: TableauStub, snapshot: Path) -> None:
    tableau.faults.append(Fault(*TO_UPLOAD, status=503, times=1_000))
    with pytest.raises(PublishError, match=r"HTTP 503.*while publishing things to Finance"):
        publish(tableau, snapshot)
    tableau.faults[:] = [Fault(*TO_UPLOAD, times=1_000)]
    with pytest.raises(PublishError, match=r"127\.0\.0\.1:\d+ cannot be reached, while publishing"):
        publish(tableau, snapshot)
    assert not tableau.sources


def test_a_pause_that_a_busy_server_asks_for_is_kept_within_reason(
    tableau: TableauStub, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(**{**vars(time), "sleep": slept.append})
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    tableau.faults.append(Fault(*TO_UPLOAD, status=429, retry_after="3600"))
    publish(tableau, snapshot)
    assert slept == [LONGEST_PAUSE_S]
    assert tableau.begun == 1


def test_create_makes_and_does_not_replace(tableau: TableauStub, snapshot: Path) -> None:
    # The answer is lost; that it is there now is told from that it was not before.
    tableau.faults.append(Fault(*TO_PUBLISH, done=True))
    publish(tableau, snapshot, mode="create")
    assert tableau.begun == 1
    with pytest.raises(PublishError, match=r"there is a data source 'things' in Finance: --mode overwrite"):
        publish(tableau, snapshot, mode="create")


def test_append_adds_rows_and_is_never_repeated_in_doubt(
    tableau: TableauStub, snapshot: Path, tmp_path: Path
) -> None:
    publish(tableau, snapshot, format="hyper")
    publish(tableau, snapshot, format="hyper", mode="append")
    columns, rows = content(full(snapshot, tmp_path))
    assert content(tableau.extract("things")) == (columns, sorted([*rows, *rows], key=repr))
    # How far it is cannot be asked for a long time; that is no reason to send it again.
    tableau.faults.append(Fault("GET", "jobs/", times=8))
    publish(tableau, snapshot, format="hyper", mode="append")
    assert not tableau.faults[-1].times
    assert len(content(tableau.extract("things"))[1]) == 3 * len(rows)
    tableau.faults.append(Fault(*TO_PUBLISH, done=True))
    with pytest.raises(PublishError, match="may or may not have taken the rows"):
        publish(tableau, snapshot, format="hyper", mode="append")
    assert len(content(tableau.extract("things"))[1]) == 4 * len(rows)
    with pytest.raises(PublishError, match="--format hyper"):
        publish(tableau, snapshot, mode="append")
    with pytest.raises(PublishError, match="leave --mode out"):
        publish(tableau, snapshot, mode="append", format="hyper", incremental=True)


def test_projects_are_found_by_name_and_by_path(tableau: TableauStub, snapshot: Path) -> None:
    tableau.projects |= {"p4": ("Sales", None), "p5": ("Orders", "p4"), "p6": ("Returns", "p4")}
    assert publish(tableau, snapshot, "Sales/Orders").project == "Sales/Orders"
    assert publish(tableau, snapshot, "Returns").project == "Sales/Returns"
    assert {each.project for each in tableau.sources.values()} == {"p5", "p6"}
    with pytest.raises(PublishError, match=r"several projects 'Orders': .* of Finance/Orders, Sales/Orders"):
        publish(tableau, snapshot, "Orders")
    with pytest.raises(PublishError, match=r"no project 'Finanse'.*near it are Finance"):
        publish(tableau, snapshot, "Finanse")
    tableau.projects.clear()
    with pytest.raises(PublishError, match="the token's user sees none"):
        publish(tableau, snapshot, "Finance")


def test_refusals_are_one_line_that_says_what_to_do(tableau: TableauStub, snapshot: Path) -> None:
    def said(**more: Any) -> str:
        with pytest.raises(PublishError) as error:
            publish(tableau, snapshot, **more)
        assert "\n" not in str(error.value)
        assert tableau.token[1] not in repr(error.getrepr(style="long"))
        return str(error.value)

    tableau.forbidden.add("p2")
    assert "the token's user may not do this: publishing things to Finance" in said()
    tableau.forbidden.clear()
    tableau.failing = "The extract is too large for the site."
    assert (
        said() == "Tableau failed, while publishing things to Finance: The extract is too large for the site."
    )
    tableau.failing = ""
    tableau.site = "shop"
    tableau.token = ("ci", "new")
    assert publish(tableau, snapshot).site == "shop"
    with pytest.raises(PublishError, match=r"does not take the token 'ci' for the site 'sjop'.*expired"):
        publish_table(snapshot, "things", Destination(tableau.url, "Finance", "sjop"), Token("ci", "new"))
    with pytest.raises(PublishError, match=r"does not take the token 'ci' for the default site \(--site"):
        publish_table(snapshot, "things", Destination(tableau.url, "Finance"), Token("ci", "new"))


def test_what_is_no_tableau_is_told_from_one_that_cannot_be_reached(tmp_path: Path) -> None:
    def said(url: str) -> str:
        with pytest.raises(PublishError) as error, signed_in(url, "", Token("a", "b"), pause_s=0.01):
            pass
        return str(error.value)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "cannot be reached, while looking for Tableau there: Connection refused" in said(nobody)
    assert "cannot be reached" in said("https://tableau.invalid")
    assert (
        said("ftp://tableau.example") == "ftp://tableau.example is no address of a server: give https://host"
    )
    assert "would carry the token in clear text: give https://tableau.example" in said(
        "http://tableau.example/"
    )
    with _web_page() as url:
        assert "does not answer as Tableau does" in said(url)
    _, certificate = make_certificates(tmp_path, "127.0.0.1")
    with _web_page(certificate) as url:
        told = said(url)
    assert "cannot be trusted" in told
    assert "REQUESTS_CA_BUNDLE" in told


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "at",
    [
        ("GET", "serverInfo"),
        ("POST", "signin"),
        ("GET", "projects"),
        ("POST", "fileUploads"),
        TO_UPLOAD,
        TO_PUBLISH,
    ],
)
def test_no_redirect_takes_the_token_elsewhere(
    tableau: TableauStub, snapshot: Path, at: tuple[str, str], status: int
) -> None:
    with TableauStub() as eavesdropper:
        port = urlsplit(eavesdropper.url).port
        for place in (f"http://localhost:{port}", f"http://127.0.0.1:{port}"):
            tableau.faults[:] = [Fault(*at, status=status, location=f"{place}/api")]
            with pytest.raises(PublishError, match=rf"redirects to {place}, which would receive the token"):
                publish(tableau, snapshot)
        assert eavesdropper.requests == []


def test_a_redirect_on_the_same_host_is_followed(tableau: TableauStub, snapshot: Path) -> None:
    tableau.faults.append(Fault("GET", "serverInfo", status=307, location="/api/2.4/serverInfo"))
    publish(tableau, snapshot)
    assert tableau.faults[0].times == 0
    assert len(tableau.sources) == 1


def test_an_incomplete_snapshot_is_published_as_one(
    tableau: TableauStub, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.lake.building as building

    about = building.ABOUT
    monkeypatch.setattr(
        building, "ABOUT", type(about)(about.lake_table, "things", "x", False, ("a shard is gone",), "", 0)
    )
    build(snapshot, things(3))
    report = publish(tableau, snapshot)
    assert (report.complete, report.gaps) == (False, ("a shard is gone",))
    assert "INCOMPLETE: a shard is gone" in tableau.source("things").description


@contextmanager
def _web_page(certificate: Path | None = None) -> Iterator[str]:
    """A server that is no Tableau; with a certificate it speaks TLS."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_token_s_value_is_nowhere(
    tableau: TableauStub, snapshot: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tableau.environment.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG):
        report = dynalake.publish("things", server=tableau.url, project="Finance", lake=snapshot)
    assert caplog.records
    for text in (caplog.text, repr(report), repr(Token(*tableau.token)), *map(repr, tableau.requests)):
        assert tableau.token[1] not in text
    assert not any(tableau.token[1] in path for _, path in tableau.requests)


def test_the_command_for_people_and_for_scripts(
    tableau: TableauStub, snapshot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asked = ("publish", "things", "--from", snapshot, "--project", "Finance/Orders")
    code, _, error = command(capsys, *asked, "--server", tableau.url)
    assert (code, error.count("\n")) == (2, 1)
    assert "TABLEAU_TOKEN_NAME and TABLEAU_TOKEN_VALUE are not set" in error
    for name, value in {**tableau.environment, "TABLEAU_SERVER": tableau.url}.items():
        monkeypatch.setenv(name, value)
    code, out, _ = command(capsys, *asked, "--as", "Things of today", "--incremental", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["name"], told["project"], told["rows"], told["mode"]) == (
        "Things of today", "Finance/Orders", 40, "overwrite",
    )  # fmt: skip
    assert told["increment"] == {"full": "there was no such data source yet", "deleted": 0, "inserted": 40}
    code, out, _ = command(capsys, *asked, "--as", "Things of today", "--incremental")
    assert code == 0
    assert out.splitlines()[0].startswith("Finance/Orders/Things of today: 40 rows, 0 bytes sent, ")
    assert out.splitlines()[1] == "nothing has changed since the last time"
    code, _, error = command(capsys, "publish", "things", "--project", "Finance", "--incremental")
    assert (code, error.count("\n")) == (2, 1)
    assert "name it with --from" in error
    code, _, error = command(capsys, "publish", "other", "--from", snapshot, "--project", "Finance")
    assert (code, error.count("\n")) == (2, 1)
    assert "no table 'other'" in error


def test_a_table_without_rows_is_published(tableau: TableauStub, tmp_path: Path) -> None:
    build(tmp_path / "lake.duckdb", [], key_types={"pk": "S"})
    for _ in range(2):
        report = publish(tableau, tmp_path / "lake.duckdb", incremental=True)
        assert report.rows == 0
        assert content(tableau.extract("things")) == ([("pk", "TEXT")], [])
    build(tmp_path / "lake.duckdb", things(3))
    publish(tableau, tmp_path / "lake.duckdb", incremental=True)
    assert len(content(tableau.extract("things"))[1]) == 3
