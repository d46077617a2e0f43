from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from ingest.connection import MAX_HEAD_BYTES, Connections
from tests.ingest_speed.endpoint import Endpoint, Request, answer, hang_up, sent
from tests.waiting import PATIENCE_S

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-One: 1\r\n\r\n"
    b"5\r\nhello\r\n6;more=1\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def connect(endpoint: Endpoint, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> Connections:
    return Connections(
        endpoint.url,
        ("127.0.0.1", endpoint.port),
        tls,
        connect_timeout_s=timeout_s,
        read_timeout_s=timeout_s,
    )


def test_answers_come_back_whole_over_one_connection(endpoint: Endpoint) -> None:
    connections = connect(endpoint)
    endpoint.script = [
        sent(answer(b"one")),
        sent(answer(b"", "400 Bad Request")),
        sent(answer(b"x" * 200_000)),
    ]
    assert connections.exchange(REQUEST).body == b"one"
    second = connections.exchange(REQUEST)
    assert (second.status, second.body, second.headers["x-amzn-requestid"]) == (400, b"", "REQUESTID")
    assert connections.exchange(REQUEST).body == b"x" * 200_000
    assert endpoint.connections == 1


def test_an_answer_in_many_pieces(endpoint: Endpoint) -> None:
    def in_pieces(connection: socket.socket, _request: Request) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in answer(b"slowly"):
            connection.sendall(bytes([byte]))
        return True

    endpoint.script = [in_pieces, in_pieces]
    connections = connect(endpoint)
    assert [connections.exchange(REQUEST).body for _ in range(2)] == [b"slowly", b"slowly"]
    assert endpoint.connections == 1


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (CHUNKED, b"hello world"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"after all"), b"after all"),
        (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:2\r\nCONNECTION: Close\r\n\r\n{}", b"{}"),
        (answer(b"{}") + b"what nobody asked for", b"{}"),
    ],
    ids=["chunked", "no length", "HTTP/1.0", "interim", "to be closed", "too much"],
)
def test_other_forms_of_answers_are_understood_and_their_connections_not_used_again(
    endpoint: Endpoint, data: bytes, body: bytes
) -> None:
    endpoint.script = [sent(data, then_close=True)]
    connections = connect(endpoint)
    found = connections.exchange(REQUEST)
    assert (found.status, found.body) == (200, body)
    assert connections.exchange(REQUEST).body == b"{}"
    assert [request.connection for request in endpoint.requests] == [0, 1]


def test_a_kept_connection_that_was_closed_is_replaced_in_silence(endpoint: Endpoint) -> None:
    endpoint.script = [sent(answer(b"1"), then_close=True), sent(answer(b"2"))]
    connections = connect(endpoint)
    assert connections.exchange(REQUEST).body == b"1"
    assert connections.exchange(REQUEST).body == b"2"
    assert endpoint.connections == 2


def test_a_kept_connection_that_is_closed_on_the_request_is_replaced_once(endpoint: Endpoint) -> None:
    connections = connect(endpoint)
    connections.exchange(REQUEST)
    endpoint.script = [hang_up, hang_up]
    with pytest.raises(ConnectionClosedError):
        connections.exchange(REQUEST)
    assert [request.connection for request in endpoint.requests] == [0, 0, 1]


def test_after_one_was_closed_the_new_one_is_really_new(endpoint: Endpoint) -> None:
    """A frozen container wakes with all of its connections dead: one try must not go to the next dead one."""
    connections = connect(endpoint)
    barrier = threading.Barrier(4)

    def together(connection: socket.socket, _request: Request) -> bool:
        barrier.wait(PATIENCE_S)
        connection.sendall(answer(b"{}"))
        return True

    endpoint.script = [together] * 4
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(connections.exchange, [REQUEST] * 4))
    assert endpoint.connections == 4
    endpoint.script = [hang_up]
    assert connections.exchange(REQUEST).status == 200
    assert endpoint.requests[-1].connection == 4


def test_a_new_connection_that_is_closed_is_an_error(endpoint: Endpoint) -> None:
    endpoint.script = [hang_up]
    with pytest.raises(ConnectionClosedError, match=endpoint.url):
        connect(endpoint).exchange(REQUEST)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("kept", [0, 10, 120, len(answer(b"0123456789")) - 1])
def test_half_an_answer_is_an_error_and_not_sent_again_in_silence(endpoint: Endpoint, kept: int) -> None:
    connections = connect(endpoint)
    if kept:
        connections.exchange(REQUEST)
    before = len(endpoint.requests)
    endpoint.script = [sent(answer(b"0123456789")[:kept], then_close=True)]
    with pytest.raises(ConnectionClosedError):
        connections.exchange(REQUEST)
    assert len(endpoint.requests) == before + 1
    assert connections.exchange(REQUEST).status == 200


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n", b"x" * (MAX_HEAD_BYTES + 100)],
    ids=["no HTTP", "no status", "endless head"],
)
def test_what_is_no_answer_is_an_error(endpoint: Endpoint, data: bytes) -> None:
    endpoint.script = [sent(data, then_close=True)]
    with pytest.raises(ConnectionClosedError):
        connect(endpoint).exchange(REQUEST)


def test_a_service_that_does_not_answer_in_time(endpoint: Endpoint) -> None:
    over = threading.Event()

    def silent(_connection: socket.socket, _request: Request) -> bool:
        return over.wait(PATIENCE_S) and False

    connections = connect(endpoint, timeout_s=2.0)
    connections.exchange(REQUEST)
    endpoint.script = [silent]
    with pytest.raises(ReadTimeoutError):
        connections.exchange(REQUEST)
    assert len(endpoint.requests) == 2
    assert connections.exchange(REQUEST).status == 200
    assert endpoint.requests[-1].connection == 1
    over.set()


def test_nobody_listens() -> None:
    with Endpoint() as endpoint:
        connections = connect(endpoint)
    with pytest.raises(EndpointConnectionError, match=str(connections._address[1])):
        connections.exchange(REQUEST)


def test_a_name_that_does_not_resolve() -> None:
    connections = Connections(
        "https://nowhere.invalid", ("nowhere.invalid", 443), None, connect_timeout_s=3, read_timeout_s=3
    )
    with pytest.raises(EndpointConnectionError):
        connections.exchange(REQUEST)


def test_a_handshake_that_is_not_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = Connections(
            "https://127.0.0.1",
            ("127.0.0.1", listener.getsockname()[1]),
            ssl.create_default_context(),
            connect_timeout_s=0.2,
            read_timeout_s=10,
        )
        with pytest.raises(ConnectTimeoutError):
            connections.exchange(REQUEST)


def test_threads_get_their_own_answers(endpoint: Endpoint) -> None:
    def echo(connection: socket.socket, request: Request) -> bool:
        connection.sendall(answer(request.body))
        return not request.body.endswith(b"7")  # some connections are closed on the way

    endpoint.otherwise = echo
    connections = connect(endpoint)

    def ask(number: int) -> bool:
        body = b"%d" % number
        request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        return connections.exchange(request + body).body == body

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(500)))
    assert {request.body for request in endpoint.requests} == {b"%d" % number for number in range(500)}
