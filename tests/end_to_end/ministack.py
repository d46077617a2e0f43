"""ministack: an AWS that really runs Lambda and enforces IAM, in an environment and a process of its own.

Of its own, because it pins botocore. Its boto3 is what the Lambda functions find, as in AWS's runtime.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from tests.environments import UnavailableError
from tests.waiting import PATIENCE_S

REGION: Final = "eu-central-1"
STOP_S: Final = 30
READ_S: Final = PATIENCE_S
LOG_TAIL: Final = 6000

ROOT_SECRET: Final = "test"
"""The secret key of an account's root in ministack; its access key id is the account's number."""


@functools.cache
def _session() -> Any:
    """One session for all clients: reading the services' models is what takes time."""
    return boto3.Session()


@dataclass(frozen=True, slots=True)
class Ministack:
    """A server that runs."""

    endpoint: str
    log: Path

    def client(
        self, service: str, access_key: str, secret: str = ROOT_SECRET, token: str | None = None
    ) -> Any:
        """A client with these credentials; an account's number as the access key is that account's root."""
        return _session().client(
            service,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            endpoint_url=self.endpoint,
            config=Config(proxies={}, retries={"total_max_attempts": 1}, read_timeout=READ_S),
        )

    def tail(self) -> str:
        """The end of the server's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]


@contextmanager
def serving(python: Path, folder: Path) -> Iterator[Ministack]:
    """A server with an empty memory, with IAM enforced, for as long as the context lasts.

    Args:
        python: the Python of its environment.
        folder: where it may put its files.

    Raises:
        UnavailableError: it did not start.
    """
    port = _free_port()
    log = folder / "ministack.log"
    # Nothing of the caller's environment: credentials, profiles and certificates of a developer stay outside.
    variables = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [python, "-m", "ministack"], env=variables, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        running = Ministack(f"http://127.0.0.1:{port}", log)
        _wait_until_ready(running, server)
        yield running
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(running: Ministack, server: subprocess.Popen[bytes]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            with opener.open(f"{running.endpoint}/_ministack/health", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise UnavailableError(f"ministack did not start:\n{running.tail()}")
