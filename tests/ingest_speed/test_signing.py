from __future__ import annotations

import time

import pytest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from ingest.signing import Signer
from tests.ingest_speed.signatures import is_signed

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=",/"), min_size=1)
REGIONS = st.sampled_from(["us-east-1", "eu-west-1", "ap-southeast-3", "us-gov-west-1", "cn-north-1"])
HOSTS = st.sampled_from(["dynamodb.eu-west-1.amazonaws.com", "127.0.0.1:8000", "localhost", "[::1]:8000"])
MOMENTS = st.floats(min_value=0, max_value=4e9)


def headers_of(head: bytes) -> dict[str, str]:
    line, *rest = head.decode().split("\r\n")
    assert line == "POST / HTTP/1.1"
    assert rest[-2:] == ["", ""]
    pairs = (header.partition(": ") for header in rest[:-2])
    return {name.lower(): value for name, _, value in pairs}


@given(
    body=st.binary(max_size=3000),
    access_key=VISIBLE,
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    token=st.none() | VISIBLE,
    region=REGIONS,
    host=HOSTS,
    at=MOMENTS,
)
def test_the_signature_is_botocores(
    body: bytes, access_key: str, secret: str, token: str | None, region: str, host: str, at: float
) -> None:
    signer = Signer(region, host, "PutItem", "test")
    headers = headers_of(signer.head(body, ReadOnlyCredentials(access_key, secret, token), at))
    assert is_signed(headers, body, secret)
    assert headers["x-amz-date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    assert f"/{region}/dynamodb/" in headers["authorization"]
    assert headers["host"] == host
    assert headers.get("x-amz-security-token") == token
    assert headers["x-amz-target"] == "DynamoDB_20120810.PutItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["content-length"] == str(len(body))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.9, 1.0, 86_399.99, 86_400.0, 1e9]),
            st.sampled_from([None, "token-1", "token-2"]),
            st.sampled_from([SECRET, "another"]),
            st.binary(max_size=20),
        ),
        min_size=2,
        max_size=12,
    )
)
def test_what_is_kept_between_requests_never_outlives_its_second_or_its_credentials(
    requests: list[tuple[float, str | None, str, bytes]],
) -> None:
    signer = Signer("eu-west-1", "localhost", "PutItem", "test")
    for at, token, secret, body in requests:
        headers = headers_of(signer.head(body, ReadOnlyCredentials("AKID", secret, token), at))
        assert is_signed(headers, body, secret)
        assert headers["x-amz-date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        assert headers.get("x-amz-security-token") == token


@pytest.mark.parametrize(
    "changed", ["body", "secret", "x-amz-date", "x-amz-target", "x-amz-security-token", "host"]
)
def test_a_signature_holds_for_its_own_request_only(changed: str) -> None:
    signer = Signer("eu-west-1", "localhost", "PutItem", "test")
    headers = headers_of(signer.head(b"body", ReadOnlyCredentials("AKID", SECRET, "token"), 1e9))
    body, secret = b"body", SECRET
    match changed:
        case "body":
            body = b"b0dy"
        case "secret":
            secret += "0"
        case _:
            headers[changed] = headers[changed][:-1] + "0"
    assert not is_signed(headers, body, secret)
