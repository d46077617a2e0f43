from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.package import Package
from tests.end_to_end.conftest import ministack_python, package
from tests.end_to_end.ministack import Ministack, serving
from tests.environments import UnavailableError, unavailable
from tests.operate.land import Land, profiles

__all__ = ["ministack_python", "package"]

STRICT = Path(__file__).with_name("strict_ministack.py")


def strict_python(folder: Path, ministack_python: Path) -> Path:
    """What `serving` takes for the Python of ministack's environment, and starts what makes it strict."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(str(ministack_python))} {shlex.quote(str(STRICT))}\n")
    python.chmod(0o755)
    return python


@pytest.fixture(scope="session")
def strict_ministack(ministack_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """A server that evaluates the conditions of our policies as AWS does."""
    folder = tmp_path_factory.mktemp("strict")
    try:
        with serving(strict_python(folder, ministack_python), folder) as running:
            yield running
    except UnavailableError as error:
        unavailable(str(error))


@pytest.fixture(scope="module")
def land(
    strict_ministack: Ministack, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Land]:
    """Two accounts, and a folder with a configuration of its own for each module of tests."""
    folder = tmp_path_factory.mktemp("land")
    with profiles(folder):
        yield Land(strict_ministack, folder, package.path)
