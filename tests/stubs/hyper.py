"""Tableau's Hyper as a judge of extracts: one process for all tests of a run, since each costs a moment to start."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tableauhyperapi import Connection, HyperProcess, Telemetry


@contextmanager
def opened(file: Path, **more: Path) -> Iterator[Any]:
    """A connection to an extract, under the name `extract`, and to others under theirs."""
    with Connection(_process().endpoint) as connection:
        for name, path in {"extract": file, **more}.items():
            connection.catalog.attach_database(str(path), name)
        yield connection


@cache
def _process() -> Any:
    process = HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""})
    atexit.register(process.close)
    return process
