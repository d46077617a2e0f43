from __future__ import annotations

import base64
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError, SSLError
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import IngestError, MalformedRecordError
from ingest.lakewriter import (
    DirectWriter,
    LakeWriter,
    NotDirectError,
    PlainWriter,
    direct_writer,
    writer_for,
)
from ingest.pressure import UNREACHABLE, is_back_pressure
from tests.ingest_speed.certificates import make_certificates
from tests.ingest_speed.clients import REGION, SECRET, client_of, direct
from tests.ingest_speed.endpoint import (
    Endpoint,
    Play,
    Request,
    answer,
    hang_up,
    refusal,
    refused_with,
    sent,
    taken,
)
from tests.ingest_speed.signatures import is_signed

ROW = {"pk": {"S": "1"}, "_lake_version": {"S": "2026-01-01T00:00:00.000/0001"}}
CONDITION = {
    "ConditionExpression": "attribute_not_exists(#version)",
    "ExpressionAttributeNames": {"#version": "_lake_version"},
}
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def put(writer: LakeWriter, row: Any = ROW, **more: Any) -> float:
    return writer.put("lake.orders", row, CONDITION, **more)


# What is sent


def test_a_write_is_sent_and_signed(endpoint: Endpoint) -> None:
    assert put(direct(client_of(endpoint.url))) == 0.0
    (request,) = endpoint.requests
    assert request.line == "POST / HTTP/1.1"
    assert request.content == {"TableName": "lake.orders", "Item": ROW, **CONDITION}
    assert request.headers["host"] == f"127.0.0.1:{endpoint.port}"
    assert request.headers["x-amz-security-token"] == "a-token"
    assert is_signed(request.headers, request.body, SECRET)


@pytest.mark.parametrize("kind", [direct_writer, PlainWriter])
def test_units_are_told_if_they_are_asked_for(endpoint: Endpoint, kind: Callable[[Any], LakeWriter]) -> None:
    writer = kind(client_of(endpoint.url))
    endpoint.otherwise = taken(ConsumedCapacity={"TableName": "lake.orders", "CapacityUnits": 3.0})
    assert put(writer, return_units=True) == 3.0
    assert endpoint.requests[0].content["ReturnConsumedCapacity"] == "TOTAL"
    put(writer)
    assert "ReturnConsumedCapacity" not in endpoint.requests[1].content


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BASE64 = st.binary(max_size=20).map(lambda content: base64.b64encode(content).decode())
NUMBER = st.integers(-(10**40), 10**40).map(str) | st.decimals(allow_nan=False, allow_infinity=False).map(str)
SCALARS = st.one_of(
    st.fixed_dictionaries({"S": TEXT}),
    st.fixed_dictionaries({"N": NUMBER}),
    st.fixed_dictionaries({"B": BASE64}),
    st.fixed_dictionaries({"BOOL": st.booleans()}),
    st.fixed_dictionaries({"NULL": st.just(True)}),
    st.fixed_dictionaries({"SS": st.lists(TEXT, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"NS": st.lists(NUMBER, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"BS": st.lists(BASE64, min_size=1, max_size=3)}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.fixed_dictionaries({"L": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"M": st.dictionaries(TEXT, inner, max_size=3)})
    ),
    max_leaves=8,
)
DIGITS_40 = {"N": "1234567890123456789012345678901234567890"}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Endpoint, LakeWriter, LakeWriter]]:
    with Endpoint() as endpoint:
        client = client_of(endpoint.url)
        yield endpoint, direct(client), PlainWriter(client)


@given(row=st.dictionaries(TEXT, VALUES, max_size=6).map(lambda row: {**row, "digits": DIGITS_40}))
@settings(max_examples=60)
def test_any_content_arrives_as_boto3_sends_it(
    both: tuple[Endpoint, LakeWriter, LakeWriter], row: dict[str, Any]
) -> None:
    endpoint, ours, theirs = both
    endpoint.requests.clear()
    put(ours, row)
    put(theirs, row)
    mine, boto3s = endpoint.requests
    assert mine.content == boto3s.content
    assert mine.content["Item"] == row
    assert is_signed(mine.headers, mine.body, SECRET)
    assert is_signed(boto3s.headers, boto3s.body, SECRET)


def test_text_is_sent_as_it_is_and_not_blown_up_by_escapes(endpoint: Endpoint) -> None:
    """Six bytes for two would bring a 400 KB item near the limit of a request."""
    text = "é漢😀\u2028\x00"
    put(direct(client_of(endpoint.url)), {"pk": {"S": text}})
    (request,) = endpoint.requests
    assert request.content["Item"] == {"pk": {"S": text}}
    assert "é漢😀".encode() in request.body


@pytest.mark.parametrize(
    "value",
    [{"S": "\ud800"}, {"B": b"bytes"}, {"N": float("nan")}, {"S": {1, 2}}, {"M": {("a", "b"): {"S": "x"}}}],
    ids=["half a surrogate pair", "bytes", "NaN", "a set", "a name that is none"],
)
def test_what_is_no_json_is_malformed_and_never_sent(endpoint: Endpoint, value: Any) -> None:
    with pytest.raises(MalformedRecordError):
        put(direct(client_of(endpoint.url)), {"pk": value})
    assert not endpoint.requests


# What is answered

ERRORS = {
    "condition": refused_with("ConditionalCheckFailedException", "The conditional request failed"),
    "throttled": refused_with("ProvisionedThroughputExceededException", "slow down"),
    "too many": refused_with("ThrottlingException", "über", "429 Too Many Requests"),
    "internal": refused_with("InternalServerError", "sorry", "500 Internal Server Error"),
    "bare name": answer(b'{"__type":"ResourceNotFoundException","Message":"no table"}', "400 Bad Request"),
    "validation": refused_with("ValidationException", "Item size has exceeded the maximum allowed size"),
    "unavailable, in words": answer(b"<html>no</html>", "503 Service Unavailable", Content_Type="text/html"),
    "unavailable, in silence": answer(b"", "503 Service Unavailable"),
}


@pytest.mark.parametrize("said", ERRORS.values(), ids=ERRORS.keys())
def test_an_error_is_what_boto3_would_raise(endpoint: Endpoint, said: bytes) -> None:
    client = client_of(endpoint.url)
    endpoint.otherwise = sent(said)
    with pytest.raises(ClientError) as ours:
        put(direct(client))
    with pytest.raises(ClientError) as boto3s:
        put(PlainWriter(client))
    assert len(endpoint.requests) == 2
    assert ours.value.response["Error"] == boto3s.value.response["Error"]
    assert str(ours.value).startswith(str(boto3s.value).split(" (reached")[0])
    mine, theirs = ours.value.response["ResponseMetadata"], boto3s.value.response["ResponseMetadata"]
    assert mine["HTTPStatusCode"] == theirs["HTTPStatusCode"]
    assert mine["RetryAttempts"] == 0
    assert mine["RequestId"] == theirs.get("RequestId", "REQUESTID") == "REQUESTID"
    assert is_back_pressure(ours.value) == is_back_pressure(boto3s.value)


def test_an_error_has_its_own_class_of_answer(endpoint: Endpoint) -> None:
    endpoint.script = [refusal("ConditionalCheckFailedException")]
    with pytest.raises(ClientError) as error:
        put(direct(client_of(endpoint.url)))
    assert error.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error.value.operation_name == "PutItem"


def test_nothing_is_tried_again_but_by_the_caller(endpoint: Endpoint) -> None:
    writer = direct(client_of(endpoint.url))
    for play in (refusal("ThrottlingException"), sent(answer(b"{}", "500 Internal Server Error")), hang_up):
        endpoint.requests.clear()
        endpoint.script = [play]
        writer._connections.close()
        with pytest.raises((ClientError, *UNREACHABLE)):
            put(writer)
        assert len(endpoint.requests) == 1
        assert put(writer) == 0.0


def test_an_answer_that_lost_bits_is_no_answer(endpoint: Endpoint) -> None:
    endpoint.script = [sent(answer(b'{"a":1}', crc=1))]
    with pytest.raises(HTTPClientError, match="checksum"):
        put(direct(client_of(endpoint.url)))


def test_a_stale_connection_is_not_noticed(endpoint: Endpoint) -> None:
    writer = direct(client_of(endpoint.url))
    for _ in range(3):
        endpoint.script = [sent(answer(b"{}"), then_close=True)]
        put(writer)
    assert endpoint.connections == 3


def test_the_timeouts_are_the_clients(endpoint: Endpoint) -> None:
    def silent(_connection: socket.socket, _request: Request) -> bool:
        time.sleep(1.5)
        return False

    endpoint.script = [silent]
    with pytest.raises(ReadTimeoutError, match=endpoint.url):
        put(direct(client_of(endpoint.url, read_timeout=0.2)))


# Credentials and clocks


def test_credentials_that_renew_themselves_are_taken_anew(endpoint: Endpoint) -> None:
    issued: list[int] = []

    def renew() -> dict[str, str]:
        issued.append(len(issued) + 1)
        return {
            "access_key": f"AKID{issued[-1]}",
            "secret_key": f"secret-{issued[-1]}",
            "token": f"token-{issued[-1]}",
            "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }

    credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")
    session = botocore.session.get_session()
    session._credentials = credentials  # type: ignore[attr-defined]
    client = boto3.Session(botocore_session=session, region_name=REGION).client(
        "dynamodb", endpoint_url=endpoint.url
    )
    writer = direct(client)
    put(writer)
    put(writer)
    credentials._expiry_time = datetime.now(UTC)  # type: ignore[attr-defined]
    put(writer)
    assert [request.headers["x-amz-security-token"] for request in endpoint.requests] == [
        "token-1",
        "token-1",
        "token-2",
    ]
    for request, secret in zip(endpoint.requests, ("secret-1", "secret-1", "secret-2"), strict=True):
        assert is_signed(request.headers, request.body, secret)
    assert "AKID2/" in endpoint.requests[-1].headers["authorization"]


def strict(secret: str = SECRET, code: str = "InvalidSignatureException") -> Play:
    """Takes a write as DynamoDB does: rightly signed, and no more than five minutes ago or ahead."""

    def play(connection: socket.socket, request: Request) -> bool:
        signed_at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        late = abs(signed_at.timestamp() - time.time()) > 300
        if late or not is_signed(request.headers, request.body, secret):
            connection.sendall(refused_with(code, "Signature expired"))
        else:
            connection.sendall(answer(b"{}"))
        return True

    return play


@pytest.mark.parametrize("wrong_by", [-86_400 * 40, -3600, -301, 301, 3600])
@pytest.mark.parametrize("code", ["InvalidSignatureException", "RequestTimeTooSkewed"])
def test_a_wrong_clock_is_set_right_by_the_services(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, wrong_by: float, code: str
) -> None:
    endpoint.otherwise = strict(code=code)
    writer = direct(client_of(endpoint.url), lambda: time.time() + wrong_by)
    with caplog.at_level(logging.WARNING):
        put(writer)
        put(writer)
    assert len(endpoint.requests) == 3
    assert caplog.text.count("clock is wrong") == 1


def test_a_clock_that_was_set_right_meanwhile_is_followed_again(endpoint: Endpoint) -> None:
    endpoint.otherwise = strict()
    wrong_by = [3600.0]
    writer = direct(client_of(endpoint.url), lambda: time.time() + wrong_by[0])
    put(writer)
    wrong_by[0] = 0.0
    put(writer)
    assert len(endpoint.requests) == 4


def test_a_wrong_secret_is_not_taken_for_a_wrong_clock(endpoint: Endpoint) -> None:
    endpoint.otherwise = strict()
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        put(direct(client_of(endpoint.url, secret="not the secret")))
    assert len(endpoint.requests) == 1


def test_a_clock_is_set_right_once_a_call(endpoint: Endpoint) -> None:
    endpoint.otherwise = strict("another secret")
    with pytest.raises(ClientError) as error:
        put(direct(client_of(endpoint.url), lambda: time.time() - 3600))
    assert len(endpoint.requests) == 2
    assert error.value.response["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_service_that_tells_no_time_is_not_followed(endpoint: Endpoint, date: str) -> None:
    said = refused_with("InvalidSignatureException").replace(
        f"Date: {formatdate(usegmt=True)}".encode(), f"Date: {date}".encode()
    )
    head, _, body = said.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Date")]
    endpoint.otherwise = sent(b"\r\n".join([*lines, b"Date: " + date.encode()]) + b"\r\n\r\n" + body)
    with pytest.raises(ClientError):
        put(direct(client_of(endpoint.url), lambda: time.time() - 3600))
    assert len(endpoint.requests) == 1


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("authority"), "127.0.0.1")[0]


@pytest.fixture
def secure(authority: Path) -> Iterator[Endpoint]:
    with _secure(authority.parent / "server.pem") as endpoint:
        yield endpoint


def _secure(certificate: Path) -> Endpoint:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return Endpoint(context)


def test_an_untrusted_certificate_is_refused(secure: Endpoint) -> None:
    with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        put(direct(client_of(secure.url)))
    assert not secure.requests


def test_a_bundle_given_to_the_client_is_trusted(secure: Endpoint, authority: Path) -> None:
    writer = direct(client_of(secure.url, verify=str(authority)))
    put(writer)
    put(writer)
    assert secure.connections == 1
    assert is_signed(secure.requests[0].headers, secure.requests[0].body, SECRET)


def test_a_bundle_of_the_environment_is_trusted(
    secure: Endpoint, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    put(direct(client_of(secure.url)))
    assert len(secure.requests) == 1


def test_a_trusted_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    authority, certificate = make_certificates(tmp_path, "dynamodb.example")
    with _secure(certificate) as endpoint, pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        put(direct(client_of(endpoint.url, verify=str(authority))))
    assert not endpoint.requests


def test_a_stale_tls_connection_is_not_noticed(secure: Endpoint, authority: Path) -> None:
    writer = direct(client_of(secure.url, verify=str(authority)))
    for _ in range(3):
        secure.script = [sent(answer(b"{}"), then_close=True)]
        put(writer)
    assert len(secure.requests) == 3


def test_a_service_that_speaks_no_tls(endpoint: Endpoint) -> None:
    with pytest.raises(UNREACHABLE):
        put(direct(client_of(f"https://127.0.0.1:{endpoint.port}")))


# Which writer


def test_the_direct_writer_is_the_default_and_one_setting_chooses_the_plain_one(endpoint: Endpoint) -> None:
    client = client_of(endpoint.url)
    assert isinstance(writer_for(client, {}), DirectWriter)
    assert isinstance(writer_for(client, {"DYNALAKE_WRITER": ""}), DirectWriter)
    assert isinstance(writer_for(client, {"DYNALAKE_WRITER": "direct"}), DirectWriter)
    assert isinstance(writer_for(client, {"DYNALAKE_WRITER": "plain"}), PlainWriter)
    with pytest.raises(IngestError, match=r"DYNALAKE_WRITER.*Plain"):
        writer_for(client, {"DYNALAKE_WRITER": "Plain"})


def test_aws_itself_is_written_directly() -> None:
    session = boto3.Session("AKID", SECRET, region_name="eu-central-1")
    writer = writer_for(session.client("dynamodb"), {})
    assert isinstance(writer, DirectWriter)
    assert writer._connections._address == ("dynamodb.eu-central-1.amazonaws.com", 443)
    assert writer._signer._host == "dynamodb.eu-central-1.amazonaws.com"
    assert writer._connections._tls is not None
    assert writer._connections._tls.verify_mode is ssl.CERT_REQUIRED
    assert writer._connections._tls.check_hostname


def not_direct(client: Any, reason: str) -> None:
    with pytest.raises(NotDirectError, match=reason):
        direct_writer(client)
    assert isinstance(writer_for(client, {}), PlainWriter)


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
def test_behind_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    not_direct(client_of("https://dynamodb.eu-west-1.amazonaws.com"), "proxy")
    assert isinstance(writer_for(client_of("http://127.0.0.1:8000"), {}), DirectWriter)
    monkeypatch.setenv("no_proxy", ".amazonaws.com")
    assert isinstance(writer_for(client_of("https://dynamodb.eu-west-1.amazonaws.com"), {}), DirectWriter)


def test_behind_a_proxy_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = {"https": "http://proxy.example:3128"}
    not_direct(client_of("https://dynamodb.eu-west-1.amazonaws.com", proxies=proxies), "proxy")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    client = client_of("https://dynamodb.eu-west-1.amazonaws.com", proxies={})
    assert isinstance(writer_for(client, {}), DirectWriter)


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("verification", {"verify": False}),
        ("client certificate", {"client_cert": "/client.pem"}),
        ("signs nothing", {"signature_version": UNSIGNED}),
        ("more than a host", {"url": "https://gateway.example/dynamodb"}),
    ],
)
def test_what_only_botocore_can_do(reason: str, arguments: dict[str, Any]) -> None:
    not_direct(client_of(**{"url": "https://dynamodb.eu-west-1.amazonaws.com", **arguments}), reason)


def test_a_client_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    session = botocore.session.get_session()
    session._credentials = None  # type: ignore[attr-defined]
    monkeypatch.setattr(session, "get_credentials", lambda: None)
    client = session.create_client("dynamodb", region_name=REGION, config=Config())
    not_direct(client, "signs nothing")


def test_another_release_of_botocore(endpoint: Endpoint) -> None:
    client = client_of(endpoint.url)
    del cast(Any, client)._endpoint.http_session._verify
    not_direct(client, "botocore")


def test_what_is_not_boto3s_client_is_asked_as_one() -> None:
    asked: list[dict[str, Any]] = []
    stub = SimpleNamespace(put_item=lambda **request: asked.append(request))
    writer = writer_for(cast(Any, stub), {})
    put(writer, {"pk": {"B": "AAE="}})
    assert asked == [{"TableName": "lake.orders", "Item": {"pk": {"B": b"\x00\x01"}}, **CONDITION}]
