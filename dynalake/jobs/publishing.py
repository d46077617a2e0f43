"""A table of a snapshot published to Tableau, in full or by what changed since it was published last.

What was published is remembered beside the snapshot, in `.lake.duckdb.published/`: a trail (`lake.export.trail`) for
each data source, with what the server calls the state that it then had. Only if the server still has that state can
rows be exchanged; where somebody else has published meanwhile, or anything else is in doubt, all is published, and
the reason is said. Before rows are exchanged the trail is removed, and it comes back when that is done: a run that is
cut off leaves none, and the next one publishes all.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from dynalake.errors import PublishError
from dynalake.tableau.server import (
    DataSource,
    Mode,
    Progress,
    Project,
    Session,
    UpdateRefusedError,
    signed_in,
)
from dynalake.tableau.token import Token
from lake.errors import ExportError
from lake.export import Increment, Layout, tableau
from lake.export.extract import extract_columns
from lake.export.hyper import SCHEMA
from lake.export.increment import GONE, ROWS, find_changes, key_names, write_changes
from lake.export.tableau import TableauFormat
from lake.export.target import local_target
from lake.export.trail import NoTrailError, Trail, read_trail, trail_of, write_trail
from lake.export.watch import watching
from lake.open import Lake, open_lake


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a table is published to.

    Attributes:
        server: the server's address, https.
        project: the project's name, or its path from the top (`Finance/Orders`).
        site: the site's name as its address has it; "" is the default site of a server.
        name: the data source's name; the table's if not given.
    """

    server: str
    project: str
    site: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What publishing did.

    Attributes:
        name: the data source's name.
        project: the path of its project.
        site: its site.
        server: the server's address.
        id: the server's identifier of the data source.
        url: its page; None where the server tells none.
        mode: "overwrite", "create" or "append".
        format: "hyper" or "tdsx".
        rows: rows of the table.
        bytes: bytes sent, once each.
        increment: how it was brought up to date; None where that was not asked for.
        complete: whether nothing was known to be missing in the snapshot.
        gaps: what may be missing, one sentence each.
        seconds: how long it took.
    """

    name: str
    project: str
    site: str
    server: str
    id: str
    url: str | None
    mode: Mode
    format: TableauFormat
    rows: int
    bytes: int
    increment: Increment | None
    complete: bool
    gaps: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Steps:
    """Whom to tell how far it is.

    Attributes:
        making: percent of the extract's making, and 100.
        sending: bytes sent, and all.
    """

    making: Progress = lambda _done, _total: None
    sending: Progress = lambda _done, _total: None


def publish_table(
    snapshot: Path,
    table: str,
    to: Destination,
    token: Token,
    *,
    mode: Mode = "overwrite",
    format: TableauFormat = "tdsx",  # noqa: A002
    incremental: bool = False,
    layout: Layout | None = None,
    steps: Steps | None = None,
    sign_in: Callable[[str, str, Token], Any] = signed_in,
) -> PublishReport:
    """Publishes a table of a snapshot as a data source.

    Args:
        snapshot: the snapshot file.
        table: the table's name in it.
        to: where to.
        token: the personal access token to sign in with.
        mode: "overwrite" what is there (or make it), "create" it where there is none, or "append" the rows to it.
        format: "tdsx", with captions, roles and number formats, or the bare "hyper", which alone can be appended.
        incremental: exchange only the rows that changed since this snapshot's table was published there last; all is
            published where that cannot be told, and the report says why.
        layout: as for an extract.
        steps: whom to tell how far it is.
        sign_in: opens a session, for tests.

    Raises:
        PublishError: the server cannot be reached or trusted, refuses, or has no such project.
        ExportError: there is no such table, or the extract cannot be made.
        SnapshotError: the snapshot cannot be opened.
    """
    began = time.monotonic()
    if mode == "append" and format != "hyper":
        raise PublishError("rows can be appended as a bare extract only", remedy="add --format hyper")
    if incremental and mode != "overwrite":
        raise PublishError(
            "--incremental updates the data source that exists, so it has no --mode",
            remedy="leave --mode out",
        )
    layout, steps = layout or Layout(), steps or Steps()
    with _explained(table), open_lake(snapshot, table, files=True) as lake:
        fresh = lake.freshness(table)
        name = to.name or table
        if incremental:
            _make_memory(snapshot)
        with sign_in(to.server, to.site, token) as session:
            project = session.project(to.project)
            job = _Publishing(lake, table, session, project, name, layout, steps)
            remembered = _remembered(snapshot, session.address, to.site, project, name)
            increment: Increment | None = None
            if incremental:
                increment, published, sent = job.incremental(remembered, format)
            else:
                published, sent = job.full(format, mode)
                trail_of(remembered).unlink(missing_ok=True)
    return PublishReport(
        name,
        project.path,
        to.site,
        session.address,
        published.id,
        published.url,
        mode,
        format,
        fresh.rows,
        sent,
        increment,
        fresh.complete,
        fresh.gaps,
        time.monotonic() - began,
    )


@contextmanager
def _explained(table: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise ExportError(f"{table} cannot be published: {error}") from error


class _Publishing:
    """One table on its way to one data source."""

    def __init__(
        self,
        lake: Lake,
        table: str,
        session: Session,
        project: Project,
        name: str,
        layout: Layout,
        steps: Steps,
    ) -> None:
        self._lake, self._table, self._session = lake, table, session
        self._project, self._name, self._layout, self._steps = project, name, layout, steps

    def full(self, format_: TableauFormat, mode: Mode) -> tuple[DataSource, int]:
        """Publishes all of it; gives the data source and the bytes sent."""
        with tempfile.TemporaryDirectory(prefix="dynalake-publish-") as folder:
            extract = Path(folder) / f"extract.{format_}"
            with watching(self._lake.connection, self._steps.making):
                tableau.write(self._lake, self._table, extract, format_, self._layout)
            published = self._session.publish(
                extract, self._project, self._name, mode, self._description(), self._steps.sending
            )
            return published, extract.stat().st_size

    def incremental(self, remembered: Path, format_: TableauFormat) -> tuple[Increment, DataSource, int]:
        """Exchanges what changed, or publishes all of it; remembers what is there then."""
        now = Trail.of(self._lake, self._table, extract_columns(self._lake, self._table, self._layout))
        try:
            increment, published, sent, replaced = self._exchange(remembered, now)
        except (NoTrailError, UpdateRefusedError) as error:
            trail_of(remembered).unlink(missing_ok=True)
            published, sent = self.full(format_, "overwrite")
            why = (
                str(error)
                if isinstance(error, NoTrailError)
                else f"the server would not exchange rows: {error}"
            )
            increment, replaced = Increment(why, 0, now.rows), 0
        with local_target(trail_of(remembered), directory=False) as part:
            write_trail(
                self._lake, self._table, part, replace(now, digest=published.state, replaced=replaced)
            )
        return increment, published, sent

    def _exchange(self, remembered: Path, now: Trail) -> tuple[Increment, DataSource, int, int]:
        if not self._session.updates:
            raise NoTrailError(
                f"this server (REST API {self._session.version}) does not update data sources row by row"
            )
        there = self._session.data_source(self._project, self._name)
        if there is None:
            raise NoTrailError("there was no such data source yet")
        if not trail_of(remembered).exists():
            raise NoTrailError("it was not published from this snapshot before, or a run was cut off")
        before = read_trail(remembered)
        before.require_same(now)
        if there.state != before.digest:
            raise NoTrailError("somebody has changed the data source since it was published")
        columns = extract_columns(self._lake, self._table, self._layout)
        changes = find_changes(self._lake, self._table, before, trail_of(remembered))
        if not changes.gone and not changes.come:
            return Increment(None, 0, 0), there, 0, before.replaced
        with tempfile.TemporaryDirectory(prefix="dynalake-publish-") as folder:
            payload = Path(folder) / "changes.hyper"
            write_changes(self._lake, self._table, columns, payload)
            trail_of(remembered).unlink()
            published = self._session.update(
                self._project,
                self._name,
                payload,
                actions(self._table, key_names(self._lake, self._table, columns)),
                str(uuid.uuid4()),
                self._description(),
                self._steps.sending,
            )
            sent = payload.stat().st_size
        return Increment(None, changes.gone, changes.come), published, sent, before.replaced + changes.gone

    def _description(self) -> str:
        """What people read of the data source in Tableau: how fresh it is, and whether anything may be missing."""
        fresh = self._lake.freshness(self._table)
        as_of = fresh.as_of or fresh.made_at
        text = f"{self._table} as of {as_of:%Y-%m-%d %H:%M:%S} UTC, {fresh.rows:,} rows, by dynalake."
        if not fresh.complete:
            text += f" INCOMPLETE: {'; '.join(fresh.gaps) or 'something may be missing'}."
        return text


def actions(table: str, key: list[str]) -> list[Mapping[str, Any]]:
    """What the server shall do with a file of changes: delete the rows of its keys, then insert its rows."""
    same = [{"op": "eq", "target-col": name, "source-col": name} for name in key]
    target = {"target-schema": SCHEMA, "target-table": table, "source-schema": SCHEMA}
    return [
        {
            "action": "delete",
            **target,
            "source-table": GONE,
            "condition": same[0] if len(same) == 1 else {"op": "and", "args": same},
        },
        {"action": "insert", **target, "source-table": ROWS},
    ]


def _memory(snapshot: Path) -> Path:
    """The folder in which is remembered what was published from a snapshot."""
    return snapshot.absolute().with_name(f".{snapshot.name}.published")


def _make_memory(snapshot: Path) -> None:
    try:
        _memory(snapshot).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise PublishError(
            f"{_memory(snapshot)}, where what was published is remembered, cannot be created ({error.strerror})",
            remedy="leave --incremental out, or keep the snapshot where you may write",
        ) from error


def _remembered(snapshot: Path, server: str, site: str, project: Project, name: str) -> Path:
    """The path whose trail is that of the data source."""
    where = "\n".join((server, site, project.id, name))
    return _memory(snapshot) / hashlib.blake2b(where.encode(), digest_size=8).hexdigest()
