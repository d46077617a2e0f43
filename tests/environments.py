"""Environments of their own, for what cannot share ours: made from a lock file when first needed, and kept in
pytest's cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
LOCKS: Final = ROOT / "requirements"
INSTALL_S: Final = 900


class UnavailableError(Exception):
    """The environment could not be made, or what runs in it did not start."""


def unavailable(reason: str) -> NoReturn:
    """Skip for a user who is offline; in CI it is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def environment(name: str, cache: Path) -> Path:
    """The Python of an environment with what `requirements/<name>.txt` locks, made below `cache` where it is missing.

    Raises:
        UnavailableError: it cannot be made.
    """
    lock_file = LOCKS / f"{name}.txt"
    # The path is part of it: the programs of an environment do not work where a checkout was moved to.
    digest = hashlib.sha256(lock_file.read_bytes() + f"{sys.version} {cache}".encode()).hexdigest()[:12]
    home = cache / digest
    python, made = home / "bin" / "python", home / "made"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _run(name, [sys.executable, "-m", "venv", "--clear", str(home)])
            pip = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
            ]
            # The lock has all of it: nothing is left to resolve, at which pip stumbles over extras.
            exactly = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
            _run(name, [*pip, *exactly, "--requirement", str(lock_file)])
            made.touch()
    return python


def _run(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{name} could not be installed: {error.stderr or error.stdout}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{name} could not be installed in time") from error
