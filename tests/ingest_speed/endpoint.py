"""An HTTP endpoint that plays a script: one play for each request, then it takes every write.

with Endpoint() as endpoint:
    endpoint.script = [refusal("ThrottlingException"), hang_up, taken()]
    …
    endpoint.requests        # what came, in order
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """A request as received; headers by name in lower case; connections counted from 0."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def content(self) -> Any:
        return json.loads(self.body)


Play = Callable[[socket.socket, Request], bool]
"""Answers a request; says whether the connection stays open."""


def answer(
    body: bytes, status: str = "200 OK", *, at: float | None = None, crc: int | None = None, **headers: str
) -> bytes:
    """An answer's bytes, as DynamoDB writes them."""
    head = {
        "Server": "Server",
        "Date": formatdate(time.time() if at is None else at, usegmt=True),
        "Content-Type": "application/x-amz-json-1.0",
        "Content-Length": str(len(body)),
        "Connection": "keep-alive",
        "x-amzn-RequestId": "REQUESTID",
        "x-amz-crc32": str(zlib.crc32(body) if crc is None else crc),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def sent(data: bytes, *, then_close: bool = False) -> Play:
    """Send these bytes."""

    def play(connection: socket.socket, _request: Request) -> bool:
        connection.sendall(data)
        return not then_close

    return play


def taken(**content: Any) -> Play:
    """The write took effect."""
    return sent(answer(json.dumps(content).encode()))


def refused_with(code: str, message: str = "no", status: str = "400 Bad Request") -> bytes:
    said = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return answer(json.dumps(said).encode(), status)


def refusal(code: str, message: str = "no", status: str = "400 Bad Request") -> Play:
    """The service refuses the write."""
    return sent(refused_with(code, message, status))


def hang_up(_connection: socket.socket, _request: Request) -> bool:
    """Close the connection without an answer."""
    return False


class Endpoint:
    """The endpoint, serving in threads of this process."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: list[Play] = []
        self.otherwise: Play = taken()
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                number, self.connections = self.connections, self.connections + 1
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while (request := _read(stream, number)) is not None:
                    with self._lock:
                        self.requests.append(request)
                        play = self.script.pop(0) if self.script else self.otherwise
                    if not play(connection, request):
                        connection.shutdown(socket.SHUT_RDWR)
                        return


def _read(stream: Any, number: int) -> Request | None:
    line = stream.readline().decode("latin-1").strip()
    if not line.endswith("HTTP/1.1"):  # the end, or what is no HTTP
        return None
    headers = {}
    while (header := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Request(line, headers, stream.read(int(headers["content-length"])), number)
