"""A source account and a lake account on ministack, reached by profiles, and the command line between them."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from dynalake.cli import main
from dynalake.config import PipelineConfig, load_config
from dynalake.deploy.names import quarantine_bucket
from ingest.wire import to_boto3
from tests.end_to_end.ministack import REGION, ROOT_SECRET, Ministack

SOURCE: Final = "111111111111"
LAKE: Final = "999999999999"
STRANGER: Final = "222222222222"
EXTERNAL_ID: Final = "orders-and-nothing-else"

PROFILES: Final = {"shop": SOURCE, "lake": LAKE, "stranger": STRANGER}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Land:
    """The accounts, and a folder with a configuration."""

    aws: Ministack
    folder: Path
    zip: Path

    def client(self, service: str, account: str) -> Any:
        return self.aws.client(service, account)

    @property
    def config(self) -> Path:
        return self.folder / "dynalake.toml"

    def pipeline(self, name: str) -> PipelineConfig:
        return load_config(self.config).pipelines[name]

    def make_source(self, table: str, stream: str | None = "NEW_AND_OLD_IMAGES") -> None:
        specification: dict[str, Any] = {"StreamEnabled": False}
        if stream:
            specification = {"StreamEnabled": True, "StreamViewType": stream}
        self.client("dynamodb", SOURCE).create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            StreamSpecification=specification,
        )

    def write_config(self, name: str, *, deploy: str = "", more: str = "", lake: str = "") -> None:
        """The configuration, with this one pipeline; TOML in all three."""
        endpoint = f'region = "{REGION}", endpoint_url = "{self.aws.endpoint}"'
        self.config.write_text(
            f"""[pipelines.{name}]
source = {{ table = "{name}", account = "{SOURCE}", profile = "shop", {endpoint} }}
lake = {{ account = "{LAKE}", profile = "lake", {endpoint} {lake} }}
quarantine = "s3://{quarantine_bucket(name, SOURCE, REGION)}"
{more}
[pipelines.{name}.deploy]
external_id = "{EXTERNAL_ID}"
{deploy}
""",
            encoding="utf-8",
        )

    def run(self, *words: str) -> Answer:
        """Call `dynalake` with these words."""
        before, out, err = sys.argv, io.StringIO(), io.StringIO()
        if words[0] == "doctor":  # it need not build again what was deployed
            words = (words[0], "--code", str(self.zip), *words[1:])
        sys.argv = ["dynalake", *words, "--config", str(self.config)]
        code = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            sys.argv = before
        return Answer(code, out.getvalue(), err.getvalue())

    def deploy(self, name: str, *words: str) -> Answer:
        return self.run("deploy", name, "--yes", "--json", "--code", str(self.zip), *words)

    def put(self, table: str, item: Mapping[str, Any]) -> None:
        self.client("dynamodb", SOURCE).put_item(TableName=table, Item=to_boto3(item))

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        """The rows of a table of the lake account; none where there is no such table."""
        dynamodb = self.client("dynamodb", LAKE)
        try:
            items: list[Mapping[str, Any]] = dynamodb.scan(TableName=table)["Items"]
        except dynamodb.exceptions.ResourceNotFoundException:
            return []
        return items


@contextlib.contextmanager
def profiles(folder: Path) -> Iterator[None]:
    """AWS profiles of the accounts' administrators, and nothing else of the machine's configuration."""
    config, credentials = folder / "aws-config", folder / "aws-credentials"
    config.write_text(
        "".join(f"[profile {name}]\nregion = {REGION}\n" for name in PROFILES), encoding="utf-8"
    )
    credentials.write_text(
        "".join(
            f"[{name}]\naws_access_key_id = {account}\naws_secret_access_key = {ROOT_SECRET}\n"
            for name, account in PROFILES.items()
        ),
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "AWS_PROFILE",
            "AWS_DEFAULT_PROFILE",
            "AWS_CA_BUNDLE",
            "AWS_ENDPOINT_URL",
            "DYNALAKE_CONFIG",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", str(config))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        yield
