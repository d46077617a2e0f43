"""How far a long cell of a notebook has come: one line that renews itself and stays as a record of what was done.

On the command line `dynalake.screen` does the same. In a script, and wherever else nobody looks, nothing is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final

RENEWED_EVERY_S: Final = 0.25


class Progress:
    """What work tells of itself; this one shows nothing."""

    def at(self, done: int, total: int | None = None) -> None:
        """So much is done, of so much if that is known."""

    def step(self, doing: str) -> None:
        """This is being done now."""


@contextmanager
def progress(what: str, units: str = "rows", total: int | None = None) -> Iterator[Progress]:
    """Show how long work goes on, in a notebook, while the context lasts.

    Args:
        what: the work, such as "parity of orders".
        units: what is counted, in the plural.
        total: how many there will be, if that is known.
    """
    if not in_a_notebook():
        yield Progress()
        return
    line = _Line(what, units, total)
    try:
        yield line
    except BaseException:
        line.end("stopped")
        raise
    line.end("")


def in_a_notebook() -> bool:
    """Whether this is the kernel of a notebook: IPython is here already, and it has a front end to show things."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class _Line(Progress):
    """Shown at once, renewed now and then."""

    def __init__(self, what: str, units: str, total: int | None) -> None:
        from IPython.display import display

        self._what, self._units, self._total = what, units, total
        self._done, self._step = 0, ""
        self._began = self._shown_at = time.monotonic()
        self._handle: Any = display(self._bundle(running=True), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def at(self, done: int, total: int | None = None) -> None:
        self._done, self._total = done, total or self._total
        self._renew()

    def step(self, doing: str) -> None:
        self._step = doing
        self._renew()

    def end(self, step: str) -> None:
        self._step = step
        self._handle.update(self._bundle(running=False), raw=True)

    def _renew(self) -> None:
        if time.monotonic() - self._shown_at >= RENEWED_EVERY_S:
            self._shown_at = time.monotonic()
            self._handle.update(self._bundle(running=True), raw=True)

    def _bundle(self, *, running: bool) -> dict[str, str]:
        seconds = time.monotonic() - self._began
        of = f" of {self._total:,}" if self._total and running else ""
        counted = f"{self._done:,}{of} {self._units}" if self._done or of else ""
        rate = f"{self._done / seconds:,.0f}/s" if self._done and seconds >= 1 else ""
        parts = [part for part in (self._step, counted, f"{seconds:.1f} s", rate) if part]
        text = f"{self._what}: {', '.join(parts)}"
        bar = ""
        if running:
            share = f' value="{min(1.0, self._done / self._total):.3f}"' if self._total else ""
            bar = f'<progress{share} style="vertical-align:middle"></progress> '
        return {"text/plain": text, "text/html": f"<div>{bar}{escape(text)}</div>"}
