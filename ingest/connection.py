"""Connections to one HTTP endpoint that are kept open: a request's bytes go out, its answer comes back.

Why not `http.client`: it spends several times as much on an answer of 300 bytes as the sockets do. The common
case, one answer that says its length, is read here; any other (chunked, without a length, interim answers) is
left to `http.client`, from its first byte on. Failures are botocore's exceptions, so that callers treat both
writers alike.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)

MAX_HEAD_BYTES: Final = 64 << 10
"""Of an answer; DynamoDB's have about 300."""

_RECEIVED_AT_ONCE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered.

    Attributes:
        status: the HTTP status.
        headers: by name in lower case.
        body: as it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """The open connections to one endpoint; threads may share it, one request uses one connection."""

    def __init__(
        self,
        url: str,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        """Connect when it is first needed.

        Args:
            url: the endpoint, for errors.
            address: host and port.
            tls: how the server is verified; None where the endpoint is plain HTTP.
            connect_timeout_s: for the connection and its handshake.
            read_timeout_s: for each wait for the service.
        """
        self._url = url
        self._address = address
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._idle: deque[socket.socket] = deque()

    def exchange(self, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        A connection that was kept open may have been closed by the service meanwhile (in a Lambda that was
        frozen it has). Where it turns out so before a byte of the answer came, the request is sent once more
        on a new connection. It must be one that may be sent twice.

        Raises:
            botocore.exceptions.ConnectionError: the endpoint cannot be reached, or its certificate is not trusted.
            botocore.exceptions.HTTPClientError: there is no whole answer in time.
        """
        try:
            kept = self._idle.pop()  # the one used last: what a quiet hour does not need is used no more
        except IndexError:
            pass
        else:
            try:
                return self._on(kept, request)
            except _NoAnswerError:
                self.close()  # the others have been idle for longer
        try:
            return self._on(self._connect(), request)
        except _NoAnswerError as error:
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error

    def close(self) -> None:
        """Close what is idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _on(self, connection: socket.socket, request: bytes) -> Answer:
        reusable = False
        try:
            answer, reusable = _exchange(connection, request)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except (OSError, HTTPException) as error:
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error
        finally:
            if reusable:
                self._idle.append(connection)
            else:
                connection.close()
        return answer

    def _connect(self) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, self._connect_timeout_s)
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_hostname=self._address[0])
        except TimeoutError as error:
            connection.close()
            raise ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except ssl.SSLError as error:
            connection.close()
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            connection.close()
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        connection.settimeout(self._read_timeout_s)
        return connection


class _NoAnswerError(Exception):
    """The service closed the connection before a byte of the answer came."""


def _exchange(connection: socket.socket, request: bytes) -> tuple[Answer, bool]:
    """Send, receive, and say whether the connection can be used again."""
    try:
        connection.sendall(request)
        received = connection.recv(_RECEIVED_AT_ONCE)
    except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise _NoAnswerError(str(error)) from error
    if not received:
        raise _NoAnswerError("closed")
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > MAX_HEAD_BYTES:
            raise HTTPException("the answer's head does not end")
        received += _more(connection)
    status_line, *lines = received[:end].decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = headers.get("content-length", "")
    protocol, _, status = status_line[:12].partition(" ")
    plain = length.isdecimal() and "transfer-encoding" not in headers
    if not (plain and protocol == "HTTP/1.1" and status.isdecimal() and int(status) >= 200):
        return _read_any(connection, received)
    begin, end = end + 4, end + 4 + int(length)
    while len(received) < end:
        received += _more(connection)
    reusable = len(received) == end and headers.get("connection", "").lower() != "close"
    return Answer(int(status), headers, received[begin:end]), reusable


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(_RECEIVED_AT_ONCE)
    if not received:
        raise HTTPException("the answer ends before its end")
    return received


def _read_any(connection: socket.socket, received: bytes) -> tuple[Answer, bool]:
    """Read any HTTP answer, of which the first bytes were received already."""
    response = HTTPResponse(_Continued(received, connection), method="POST")  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body), False


class _Continued(io.RawIOBase):
    """A connection some bytes of which were received already, as `HTTPResponse` reads it."""

    def __init__(self, received: bytes, connection: socket.socket) -> None:
        self._received = received
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._received:
            return self._connection.recv_into(buffer)
        part, self._received = self._received[: len(buffer)], self._received[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
