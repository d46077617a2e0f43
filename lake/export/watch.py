"""How far DuckDB is with a statement that another thread runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import duckdb

EVERY_S: Final = 0.2
WHOLE: Final = 100


@contextmanager
def watching(con: duckdb.DuckDBPyConnection, on_progress: Callable[[int, int], None]) -> Iterator[None]:
    """Calls `on_progress` with the percent done and 100, now and then, while the block lasts."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            percent = con.query_progress()
            if percent >= 0:
                on_progress(min(WHOLE, round(percent)), WHOLE)

    try:
        con.execute("SET enable_progress_bar = true")
        con.execute("SET enable_progress_bar_print = false")
    except duckdb.InvalidInputException:
        # In a notebook without ipywidgets DuckDB refuses both, even not to print: the work needs no percent.
        yield
        return
    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
