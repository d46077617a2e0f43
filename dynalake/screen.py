"""What people and scripts get to see: tables and progress for the one, a single JSON document for the other.

Progress goes to standard error, so that standard output holds the answer alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text


class Screen:
    """Where a command's words go."""

    def __init__(self, *, as_json: bool) -> None:
        """Speak JSON or to people."""
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False)
        # Not what rich believes: FORCE_COLOR, which build servers set, makes a log no terminal.
        self._shows_progress = not as_json and sys.stderr.isatty()

    def answer(self, document: Mapping[str, Any]) -> None:
        """Print the machine-readable answer; only with --json."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")

    def say(self, text: str) -> None:
        """Print a line for people; nothing with --json."""
        if not self.as_json:
            self._out.print(text, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line beside the answer, to standard error, with --json too."""
        self._err.print(text, markup=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print the name of what comes next."""
        if not self.as_json:
            self._out.print(f"\n[bold]{text}[/bold]")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None
    ) -> None:
        """Print rows; columns of numbers stand to the right."""
        if self.as_json:
            return
        table = Table(
            title=title,
            title_justify="left",
            box=None,
            pad_edge=False,
            header_style="bold",
            show_header=any(columns),
        )
        for number, name in enumerate(columns):
            values = [row[number] for row in rows if row[number] is not None]
            numeric = bool(values) and all(isinstance(value, int | float | Decimal) for value in values)
            # A space lets a long name break over two lines; --json keeps the name as it is.
            heading = name.replace("_", " ")
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._out.print(table)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[ProgressLine]:
        """A progress bar on standard error while the context lasts; only on a terminal."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
            disable=not self._shows_progress,
        ) as progress:
            yield ProgressLine(progress, progress.add_task(what, total=total))

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """A line on standard error while something of unknown length lasts; call it with how things stand."""
        if not self._shows_progress:
            yield lambda _text: None
            return
        with self._err.status(what) as status:
            yield lambda text: status.update(escape(f"{what}: {text}"))


class _RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed")


class ProgressLine:
    """One progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        """Wrap a task of a progress display."""
        self._progress = progress
        self._task = task

    def at(self, completed: int, total: int | None = None) -> None:
        """Show how much is done."""
        self._progress.update(self._task, completed=completed, total=total)

    def describe(self, what: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._task, description=what)


def when(milliseconds: int | None) -> str:
    """A moment for people, in UTC; "never" where there is none."""
    if milliseconds is None:
        return "never"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
