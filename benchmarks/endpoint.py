"""A DynamoDB endpoint that takes every write at once, in a process of its own, and remembers what it got.

It does as little as it can while it is asked, and looks at what it received only when a report is wanted. One
port for each contender; over its standard input and output it takes one command and gives one JSON line each:

    forget           what was received so far does not count
    report <port>    the fingerprints of the writes received at that port, and a sample of them whole
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import sys
import zlib
from collections.abc import Mapping
from typing import Any, Final

SAMPLE_EVERY: Final = 97
_EMPTY: Final = b"{}"
_NOTHING_FOUND: Final = b'{"Count":0,"Items":[],"ScannedCount":0}'


def fingerprint(request: Mapping[str, Any]) -> str:
    """One text for writes that are the same but for the time of writing."""
    item = {name: value for name, value in request["Item"].items() if name != "_lake_at"}
    return hashlib.sha256(json.dumps({**request, "Item": item}, sort_keys=True).encode()).hexdigest()


class Connection(asyncio.Protocol):
    """One connection of a contender."""

    def __init__(self, received: list[tuple[bytes, bytes]]) -> None:
        self._received = received
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            at = head.lower().index(b"\r\ncontent-length:") + 17
            whole = end + 4 + int(head[at : at + 10].split(b"\r\n")[0])
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            if b"DynamoDB_20120810.PutItem" in head:
                self._received.append((head, body))
                self._transport.write(_ANSWERS[_EMPTY])
            else:
                self._transport.write(_ANSWERS[_NOTHING_FOUND])


def _answer(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nServer: Server\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n"
        f"x-amzn-RequestId: {'A' * 52}\r\nx-amz-crc32: {zlib.crc32(body)}\r\n\r\n"
    )
    return head.encode() + body


_ANSWERS: Final = {body: _answer(body) for body in (_EMPTY, _NOTHING_FOUND)}


def _report(received: list[tuple[bytes, bytes]], table: str) -> dict[str, Any]:
    writes = [(head, body, json.loads(body)) for head, body in received]
    writes = [write for write in writes if write[2]["TableName"] == table]
    return {
        "fingerprints": [fingerprint(request) for _, _, request in writes],
        "sample": [
            {"headers": _headers(head), "body": base64.b64encode(body).decode()}
            for head, body, _ in writes[::SAMPLE_EVERY]
        ],
    }


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines}


async def serve(ports: int, table: str, certificate: str | None) -> None:
    """Serve until the standard input ends."""
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    received: dict[int, list[tuple[bytes, bytes]]] = {}
    for _ in range(ports):
        mine: list[tuple[bytes, bytes]] = []
        server = await loop.create_server(
            lambda mine=mine: Connection(mine),
            "127.0.0.1",
            ssl=tls,
        )
        received[server.sockets[0].getsockname()[1]] = mine
    print(json.dumps(list(received)), flush=True)
    while command := await loop.run_in_executor(None, sys.stdin.readline):
        match command.split():
            case ["forget"]:
                for mine in received.values():
                    mine.clear()
                print("null", flush=True)
            case ["report", port]:
                print(json.dumps(_report(received[int(port)], table)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
