"""An AWS (moto, over HTTP) that holds a call back until told otherwise, so that a process is met in the midst of it;
and `dynalake` as a process on a terminal of 80 columns, or in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_S, until


@dataclass
class Gate:
    """Holds one call back.

    Attributes:
        url: where the server is.
        arrived: set once the call is there.
    """

    url: str = ""
    arrived: threading.Event = field(default_factory=threading.Event)
    _operation: str = ""
    _passes: int = 0
    _open: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, operation: str, passes: int = 0) -> None:
        """Hold the call of this name that comes after so many that pass."""
        self.arrived.clear()
        self._open.clear()
        self._operation, self._passes = operation, passes

    def release(self) -> None:
        """Let the call go on, and hold no other."""
        self._operation = ""
        self._open.set()

    def let(self, operation: str) -> None:
        """A call has come."""
        with self._lock:
            if operation != self._operation:
                return
            if self._passes:
                self._passes -= 1
                return
        self.arrived.set()
        assert self._open.wait(PATIENCE_S)


@contextlib.contextmanager
def serving() -> Iterator[Gate]:
    """A server with an empty memory, for as long as the context lasts."""
    from moto.moto_api._internal.models import moto_api_backend
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    moto_api_backend.reset()
    gate = Gate()
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        gate.let(_operation(environ))
        answer: Iterable[bytes] = moto(environ, start)
        return answer

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    gate.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gate
    finally:
        gate.release()
        server.shutdown()
        thread.join()
        moto_api_backend.reset()


def _operation(environ: dict[str, Any]) -> str:
    """DynamoDB names it in a header, CloudFormation in the body."""
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return str(target).rpartition(".")[2]
    if "form" not in environ.get("CONTENT_TYPE", ""):
        return ""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return str(urllib.parse.parse_qs(body.decode()).get("Action", [""])[0])


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a process, without what a developer's own may say about AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DYNALAKE_"))}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "DYNALAKE_CONFIG": str(folder / "dynalake.toml"),
        "TERM": "xterm",
    }


def _hears_interrupts() -> None:
    """What runs in the background of a shell ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class OnATerminal:
    """One `dynalake` process whose standard output and error are a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dynalake", *words],
            env=surroundings(folder),
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_hears_interrupts,
        )
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while block := os.read(self._mine, 4096):
                self._seen += block

    @property
    def seen(self) -> str:
        """Everything that went to the terminal, as it went."""
        return bytes(self._seen).decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What stands there in the end, without what was wiped away again."""
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen.replace("\r\n", "\n"))
        return [line.rpartition("\r")[2] for line in plain.split("\n") if line.strip()]

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds, while the process lives."""

        def holds_and_lives() -> bool:
            found = bool(holds())
            assert found or self._process.poll() is None, f"the process has ended:\n{self.seen}"
            return found

        until(holds_and_lives, lambda: self.seen)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; gives the exit code."""
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"it did not end:\n{self.seen}") from None
        self._reader.join(PATIENCE_S)
        os.close(self._mine)
        return code


def in_a_pipe(
    folder: Path, *words: str, environment: Mapping[str, str] | None = None
) -> tuple[int, Any, str]:
    """Run `dynalake … --json` on a build server; gives the exit code, the one document, and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "dynalake", *words, "--json"],
        env={**surroundings(folder), "FORCE_COLOR": "1", **(environment or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr
