"""A pipeline between two accounts of an embedded AWS, and the command line called as a user calls it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dynalake.cli import main
from dynalake.config import load_config
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT
from dynalake.pipeline import Pipeline
from ingest.wire import to_boto3

ROLE = "arn:aws:iam::{}:role/dynalake"


def write_config(folder: Path, name: str = "orders", **more: Any) -> Path:
    """A configuration of one pipeline, in `folder`; `more` as TOML values of the pipeline."""
    path = folder / "dynalake.toml"
    extra = "".join(f"{key} = {value}\n" for key, value in more.items())
    path.write_text(
        f"""[pipelines.{name}]
source = {{ table = "{name}", {_side(SOURCE_ACCOUNT)} }}
lake = {{ {_side(LAKE_ACCOUNT)}, external_id = "secret" }}
quarantine = "{folder / "quarantine"}"
{extra}"""
    )
    return path


def _side(account: str) -> str:
    return f'account = "{account}", region = "{REGION}", role_arn = "{ROLE.format(account)}"'


def open_pipeline(config: Path, name: str = "orders") -> Pipeline:
    return Pipeline.open(name, load_config(config).pipelines[name], in_flight=1)


def make_source(
    pipeline: Pipeline, key: Mapping[str, str] | None = None, stream: str | None = "NEW_AND_OLD_IMAGES"
) -> None:
    """The pipeline's source table; `stream` is its view type, None for no stream."""
    key = key or {"pk": "S"}
    specification: dict[str, Any] = {"StreamEnabled": False}
    if stream:
        specification = {"StreamEnabled": True, "StreamViewType": stream}
    pipeline.source_dynamodb().create_table(
        TableName=pipeline.config.source.table,
        KeySchema=[
            {"AttributeName": name, "KeyType": role}  # type: ignore[typeddict-item]
            for name, role in zip(key, ("HASH", "RANGE"), strict=False)
        ],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": type_}  # type: ignore[typeddict-item]
            for name, type_ in key.items()
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=specification,  # type: ignore[arg-type]
    )


def put(pipeline: Pipeline, *items: Mapping[str, Any]) -> None:
    """Write items in wire form to the source table."""
    for item in items:
        pipeline.source_dynamodb().put_item(TableName=pipeline.config.source.table, Item=to_boto3(item))


def command(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Call `dynalake` with these words; gives exit code, standard output and standard error."""
    before = sys.argv
    sys.argv = ["dynalake", *map(str, words)]
    try:
        main()
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err
