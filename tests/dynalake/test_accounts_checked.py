"""Credentials of another account are refused on either side and by every command, whatever the endpoint."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dynalake.aws import open_account
from dynalake.config import SideConfig
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT
from dynalake.errors import AccountError
from tests.dynalake.accounts import ROLE, command
from tests.dynalake.held import serving
from tests.environments import ROOT

Capture = pytest.CaptureFixture[str]

OF_NO_ROLE = "123456789012"
"""The account that the server takes an unknown access key for."""

OF_THE_SOURCE = (
    ("setup", "orders"),
    ("deploy", "orders", "--yes"),
    ("deploy", "orders", "--dry-run"),
    ("backfill", "orders"),
    ("backfill", "orders", "--dry-run"),
    ("run", "orders", "--until-caught-up"),
    ("repair", "orders"),
    ("redrive", "orders"),
    ("parity", "orders"),
    ("remove", "orders", "--yes"),
)
OF_THE_LAKE = (
    *OF_THE_SOURCE,
    ("snapshot", "orders"),
    ("refresh", "orders"),
    ("follow", "orders"),
    ("export", "orders", "--out", "orders.parquet"),
    ("ddl", "orders"),
    ("dictionary", "orders"),
    ("status", "orders"),
    ("report", "orders"),
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving() as gate:
        yield gate.url


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "someone")
    return tmp_path


def write(folder: Path, endpoint: str, wrong: str) -> Path:
    """A configuration in which the side `wrong` has credentials of another account."""

    def side(name: str, account: str) -> str:
        role = "" if name == wrong else f', role_arn = "{ROLE.format(account)}"'
        return f'account = "{account}", region = "{REGION}", endpoint_url = "{endpoint}"{role}'

    path = folder / "dynalake.toml"
    path.write_text(
        f'[pipelines.orders]\nsource = {{ table = "orders", {side("source", SOURCE_ACCOUNT)} }}\n'
        f"lake = {{ {side('lake', LAKE_ACCOUNT)} }}\n"
        'quarantine = "s3://a-quarantine"\n[pipelines.orders.deploy]\nexternal_id = "orders-and-nothing-else"\n'
    )
    return path


@pytest.mark.parametrize("words", OF_THE_LAKE, ids=" ".join)
def test_credentials_of_another_account_are_refused_on_the_lake_side(
    folder: Path, endpoint: str, capsys: Capture, words: tuple[str, ...]
) -> None:
    config = write(folder, endpoint, "lake")
    code, _, err = command(capsys, *words, "--config", config)
    assert code == 2, err
    assert f"the lake side's credentials are of account {OF_NO_ROLE}" in " ".join(err.split())


@pytest.mark.parametrize("words", OF_THE_SOURCE, ids=" ".join)
def test_credentials_of_another_account_are_refused_on_the_source_side(
    folder: Path, endpoint: str, capsys: Capture, words: tuple[str, ...]
) -> None:
    """The lake need not be set up: the account is the first thing that is looked at."""
    config = write(folder, endpoint, "source")
    code, _, err = command(capsys, *words, "--config", config)
    assert code == 2, err
    assert f"the source side's credentials are of account {OF_NO_ROLE}" in " ".join(err.split())


def test_doctor_fails_on_either_side(folder: Path, endpoint: str, capsys: Capture) -> None:
    for side in ("source", "lake"):
        code, out, _ = command(capsys, "doctor", "orders", "--config", write(folder, endpoint, side))
        assert code == 1
        assert f"the {side} side's credentials are of account {OF_NO_ROLE}" in " ".join(out.split())


class _NoSts(BaseHTTPRequestHandler):
    """Answers everything as DynamoDB Local does what it does not know."""

    def do_POST(self) -> None:
        body = b'{"__type":"com.amazonaws.dynamodb.v20120810#MissingAction","Message":"Missing Action"}'
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_an_endpoint_without_sts_is_no_reason_to_skip_the_check(folder: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _NoSts)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(AccountError, match="source"):
            open_account("source", SideConfig(account=SOURCE_ACCOUNT, region=REGION, endpoint_url=url))
    finally:
        server.shutdown()
        server.server_close()


def test_a_session_is_named_after_its_pipeline_so_that_cloudtrail_tells_them_apart(
    folder: Path, endpoint: str
) -> None:
    for pipeline, name in (
        ("orders", "dynalake-orders"),
        ("p" * 64, "p" * 64),
        ("", "dynalake"),
    ):
        config = SideConfig(
            account=LAKE_ACCOUNT, region=REGION, endpoint_url=endpoint, role_arn=ROLE.format(LAKE_ACCOUNT)
        )
        session = open_account("lake", config, pipeline).session
        sts = session.client("sts", region_name=REGION, endpoint_url=endpoint)
        assert sts.get_caller_identity()["Arn"].endswith(f":assumed-role/dynalake/{name}")


@pytest.mark.parametrize("role", ["*", "dynalake-*", "team/dynalake-?-writer"])
def test_a_role_is_named_without_wildcards(role: str) -> None:
    """IAM's ArnEquals would match them, so a trust policy would trust other roles too."""
    arn = f"arn:aws:iam::{LAKE_ACCOUNT}:role/{role}"
    with pytest.raises(ValueError, match="role_arn"):
        SideConfig(account=LAKE_ACCOUNT, region=REGION, role_arn=arn)
    for template, parameter in (("lake.yaml", "FunctionRoleArn"), ("source.yaml", "LakeRoleArn")):
        text = (ROOT / "ingest" / "templates" / template).read_text(encoding="utf-8")
        found = re.search(
            rf'  {parameter}:\n    Type: String\n    AllowedPattern: ("[^\n]*?")(?: #|\n)', text
        )
        assert found
        pattern = json.loads(found[1])
        assert not re.fullmatch(pattern, arn)
        assert re.fullmatch(pattern, f"arn:aws:iam::{LAKE_ACCOUNT}:role/team/dynalake-orders-function")
