"""One prerequisite, and running them all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from botocore.exceptions import ClientError

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.deploy.code import built_zip
from dynalake.errors import UserError
from dynalake.pipeline import Pipeline
from lake.errors import DENIED, explained

Verdict = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one prerequisite.

    Attributes:
        side: "source" or "lake".
        what: the prerequisite.
        verdict: "warn" where it is met, but may cause trouble; "skip" where it could not be looked at, or does not
            apply.
        detail: what was found.
        remedy: what to do, where it failed or may cause trouble.
    """

    side: str
    what: str
    verdict: Verdict
    detail: str
    remedy: str = ""


class FailedError(UserError):
    """A prerequisite is not met; it states what was found, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        """State both; a prerequisite always has a remedy."""
        super().__init__(message, remedy=remedy)


class WarnedError(FailedError):
    """A prerequisite is met, but what was found may cause trouble."""


class SkippedError(Exception):
    """A prerequisite cannot be looked at, or does not apply."""


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """One prerequisite.

    Attributes:
        side: whose account is asked.
        what: what it is called.
        look: gives what was found; raises FailedError, WarnedError or SkippedError.
    """

    side: Literal["source", "lake"]
    what: str
    look: Callable[[], str]


@dataclass
class Patient:
    """The pipeline that is looked at.

    Attributes:
        name: the pipeline's name.
        config: its configuration.
        source: the source account, or why it cannot be opened.
        lake: the lake account, likewise.
        environment: the process's environment, where the policy's hash key may be.
        now_ms: the time of day, epoch milliseconds.
        code: the function's zip as this version builds it; raises PackageError where it cannot be built.
    """

    name: str
    config: PipelineConfig
    source: Account | UserError
    lake: Account | UserError
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    code: Callable[[], bytes] = built_zip

    def account(self, side: str) -> Account:
        """A side's account.

        Raises:
            SkippedError: it cannot be opened.
        """
        account = self.source if side == "source" else self.lake
        if isinstance(account, UserError):
            raise SkippedError(f"needs the {side} account's credentials")
        return account

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline over the accounts that are at hand."""
        source = self.account("source")
        lake = Account("lake", self.config.lake, self.name) if isinstance(self.lake, UserError) else self.lake
        return Pipeline(self.name, self.config, source, lake, environment=self.environment)

    @cached_property
    def source_description(self) -> Mapping[str, Any]:
        """The source table, as DescribeTable gives it.

        Raises:
            SkippedError: it cannot be described; its own check says why.
        """
        try:
            answer = self.account("source").dynamodb().describe_table(TableName=self.config.source.table)
        except ClientError:
            raise SkippedError("needs the source table") from None
        return answer["Table"]

    @cached_property
    def lake_description(self) -> Mapping[str, Any]:
        """The lake table, likewise."""
        try:
            answer = self.account("lake").dynamodb().describe_table(TableName=self.config.lake_table)
        except ClientError:
            raise SkippedError("needs the lake table") from None
        return answer["Table"]

    def aws(self, side: Literal["source", "lake"], call: str) -> str:
        """The beginning of an AWS CLI command for a side's account and Region; `call` is its service and operation."""
        config = self.config.source if side == "source" else self.config.lake
        profile = f" --profile {config.profile}" if config.profile else ""
        return f"aws {call}{profile} --region {config.region}"

    def redeploy(self, side: Literal["source", "lake"]) -> str:
        """The command that makes a side as the configuration says."""
        return f"dynalake deploy {self.name} --side {side}"

    @property
    def is_deployed(self) -> bool:
        """Whether a function shall replicate it, and not a worker."""
        return self.config.deploy.external_id is not None

    def require_deployed(self) -> None:
        """Skip a prerequisite of the function where a worker replicates.

        Raises:
            SkippedError: no function shall replicate it.
        """
        if not self.is_deployed:
            raise SkippedError("replicated by `dynalake run`, not by a function")


def check_up(patient: Patient) -> Iterator[Check]:
    """Look at each prerequisite, in the order in which they build on one another."""
    from dynalake.doctor.buckets import of_buckets
    from dynalake.doctor.functions import of_functions
    from dynalake.doctor.rights import of_rights
    from dynalake.doctor.schedules import of_schedules
    from dynalake.doctor.tables import of_tables

    for prerequisite in (
        *of_tables(patient),
        *of_functions(patient),
        *of_rights(patient),
        *of_buckets(patient),
        *of_schedules(patient),
    ):
        yield _look(prerequisite)


def _look(prerequisite: Prerequisite) -> Check:
    side, what = prerequisite.side, prerequisite.what
    try:
        return Check(side, what, "pass", prerequisite.look())
    except WarnedError as warned:
        return Check(side, what, "warn", warned.message, warned.remedy)
    except SkippedError as skipped:
        return Check(side, what, "skip", str(skipped))
    except Exception as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in DENIED:
            return Check(side, what, "skip", f"these credentials may not call {error.operation_name}")
        shown = explained(error, side=side)
        if shown is None:
            raise
        return Check(side, what, "fail", shown.message, shown.remedy)
