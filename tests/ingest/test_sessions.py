"""Sessions in an assumed role: CloudTrail shows which pipeline one belongs to."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.sessions import assumed_session

NAMES = ["a", "orders", "_x-Y_9", "p" * 55, "p" * 56, "p" * 63 + "a", "p" * 63 + "b"]
"""A pipeline's name has 1 to 64 characters of `[A-Za-z0-9_-]` (`dynalake.config.PipelineName`)."""

ALLOWED = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
"""STS API reference, AssumeRole, `RoleSessionName`."""


class Sts:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def assume_role(self, **request: Any) -> Any:
        self.asked.append(request)
        until = datetime.now(UTC) + timedelta(hours=1)
        return {
            "Credentials": {
                "AccessKeyId": "k", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": until,
            }
        }  # fmt: skip


def name_of(pipeline: str) -> str:
    sts = Sts()
    base: Any = SimpleNamespace(region_name="eu-central-1", client=lambda *_, **__: sts)
    assumed_session(base, "arn:aws:iam::111111111111:role/r", None, pipeline=pipeline)
    return str(sts.asked[0]["RoleSessionName"])


@pytest.mark.parametrize("pipeline", NAMES)
def test_a_session_s_name_contains_the_whole_name_of_its_pipeline(pipeline: str) -> None:
    name = name_of(pipeline)
    assert ALLOWED.fullmatch(name)
    assert pipeline in name


def test_no_two_pipelines_share_a_session_s_name() -> None:
    assert len(set(map(name_of, NAMES))) == len(NAMES)


def test_without_a_pipeline_it_is_dynalake_s() -> None:
    assert name_of("") == "dynalake"
