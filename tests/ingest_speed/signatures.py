"""Checks the signature of a request that was received, by botocore's own signer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/dynamodb/aws4_request, "
    r"SignedHeaders=(?P<signed>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def is_signed(headers: Mapping[str, str], body: bytes, secret_key: str) -> bool:
    """Whether botocore would sign this request to "/" in the same way.

    Args:
        headers: as received, by name in lower case.
        body: as received.
        secret_key: of the access key that signed.
    """
    said = _AUTHORIZATION.fullmatch(headers["authorization"])
    if said is None or said["day"] != headers["x-amz-date"][:8]:
        return False
    names = said["signed"].split(";")
    must = {"host", *(name for name in headers if name.startswith("x-amz-")), "content-type"}
    if not must <= set(names):
        return False
    request = AWSRequest(
        "POST",
        f"http://{headers['host']}/",
        headers={name: headers[name] for name in names},
        data=body,
    )
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(said["access_key"], secret_key), "dynamodb", said["region"])
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return bool(signer.signature(to_sign, request) == said["signature"])
