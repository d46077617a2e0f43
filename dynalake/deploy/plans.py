"""Which stacks a side of a pipeline has, and their parameters, from the configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import ClientError

from dynalake.config import PipelineConfig, SideConfig
from dynalake.deploy.names import (
    check_pipeline_name,
    checks_stack_name,
    code_bucket,
    function_role,
    role_arn,
    shared_stack_name,
    stack_name,
    writer_role,
)
from dynalake.deploy.templates import (
    MAX_ENVIRONMENT,
    Evaluated,
    environment_bytes,
    environment_of,
    template,
)
from dynalake.errors import DeployError
from ingest.policy import actions_from, hashes
from ingest.quarantine import bucket_of
from lake.contract.naming import DEFAULT_PREFIX

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from ingest.source import KeyAttribute
    from lake.tables import TableKey

Side = Literal["source", "lake"]

CODE_VERSION: Final = "CodeVersion"
"""The parameter of the source side's template for the version of the function's zip in its bucket."""

MIN_EXTERNAL_ID: Final = 16
"""Characters; the templates demand as many."""

WILDCARDS: Final = re.compile(r"[*?]|\$\{")
"""What IAM expands in an ARN or in a condition: `*`, `?`, and the beginning of a policy variable."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One stack as it shall be.

    Attributes:
        stack: the stack's name.
        template: the template's text.
        parameters: its parameters.
        what: what it is, for people.
        keeps: logical ids whose replacement would begin with an empty table or bucket.
        keeps_parameters: whether parameters that are not given keep the value that the stack has.
    """

    stack: str
    template: str
    parameters: Mapping[str, str]
    what: str
    keeps: frozenset[str] = field(default_factory=frozenset)
    keeps_parameters: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Where the function's zip is.

    Attributes:
        bucket: the bucket.
        key: the object's key.
        version: the object's version, from which the function is made whatever the key holds later; empty where the
            bucket keeps none, or where the zip is not stored yet.
    """

    bucket: str
    key: str
    version: str = ""


class Deployment:
    """The plans of one pipeline."""

    def __init__(self, pipeline: str, config: PipelineConfig) -> None:
        """Plan for this pipeline.

        Raises:
            DeployError: the pipeline's name is too long, or it has no ExternalId.
        """
        check_pipeline_name(pipeline)
        self.pipeline = pipeline
        self.config = config
        external_id = config.deploy.external_id or config.lake.external_id
        if external_id is None or len(external_id) < MIN_EXTERNAL_ID:
            raise DeployError(
                f"pipelines.{pipeline}.deploy.external_id must have {MIN_EXTERNAL_ID} characters or more, as the "
                "function uses it to assume the lake's writer role",
                remedy="let `dynalake init` generate one, or take the output of `openssl rand -hex 16`",
            )
        self.external_id = external_id
        self._refuse_wildcards()

    def _refuse_wildcards(self) -> None:
        """Refuse what would let an IAM statement of a template reach further than it says.

        Raises:
            DeployError: a value has a wildcard or a policy variable.
        """
        config, deploy = self.config, self.config.deploy
        given: dict[str, object] = {"quarantine": config.quarantine, "hash_key": config.hash_key}
        given |= {"deploy.external_id": self.external_id}
        given |= {"deploy.checks.target": deploy.checks.target}
        given |= {"deploy.checks.task_definition": deploy.checks.task_definition}
        for side in ("source", "lake", "shared"):
            given |= {f"deploy.{side}.{name}": value for name, value in getattr(deploy, side).items()}
        for name, value in given.items():
            if WILDCARDS.search(str(value)):
                raise DeployError(
                    f"pipelines.{self.pipeline}.{name} is {value!r}; a wildcard or a policy variable would widen what "
                    "the roles may do",
                    remedy="write the whole name or ARN, without *, ? and ${",
                )

    def function_role_arn(self) -> str:
        """The ARN of the function's role, whether it exists or not."""
        source = self.config.source
        return role_arn(source.account, function_role(self.pipeline), source.region, self._path("source"))

    def writer_role_arn(self) -> str:
        """The ARN of the role that the function assumes, whether it exists or not."""
        lake = self.config.lake
        return role_arn(lake.account, writer_role(self.pipeline), lake.region, self._path("lake"))

    def _path(self, side: Side) -> str:
        """The path of a side's roles."""
        deploy = self.config.deploy
        return str((deploy.source if side == "source" else deploy.lake).get("RolePath", "/"))

    def shared(self) -> Plan:
        """The stack of the tables that all pipelines of a lake share."""
        return Plan(
            shared_stack_name(self.config.lake.prefix, DEFAULT_PREFIX),
            template("lake-shared.yaml"),
            _with({"Prefix": self.config.lake.prefix}, self.config.deploy.shared, "deploy.shared"),
            "schema catalogue and checkpoints, shared by all pipelines of this lake",
            frozenset({"Catalogue", "Checkpoints"}),
            keeps_parameters=True,
        )

    def lake(self, key: TableKey, *, makes_table: bool, shared_key: str = "") -> Plan:
        """The lake side's stack.

        Args:
            key: the lake table's key.
            makes_table: whether the stack makes the lake table, or one is there.
            shared_key: the customer key of the shared tables; empty if they have none.
        """
        names = dict(
            zip(
                (("PartitionKeyName", "PartitionKeyType"), ("SortKeyName", "SortKeyType")),
                key.attributes,
                strict=False,
            )
        )
        parameters = {
            "PipelineName": self.pipeline,
            "LakeTableName": self.config.lake_table,
            "CatalogueTableName": self.config.catalogue_table,
            "CheckpointTableName": self.config.checkpoint_table,
            "FunctionRoleArn": self.function_role_arn(),
            "ExternalId": self.external_id,
            "LakeTable": "make" if makes_table else "existing",
            "SharedKmsKeyArn": shared_key,
        }
        for (name, type_), attribute in names.items():
            parameters[name], parameters[type_] = attribute
        return Plan(
            stack_name(self.pipeline, "lake"),
            template("lake.yaml"),
            _with(parameters, self.config.deploy.lake, f"pipelines.{self.pipeline}.deploy.lake"),
            f"lake table {self.config.lake_table} and the role that writes to it",
            frozenset({"Table"}),
        )

    def source(
        self,
        key: Sequence[KeyAttribute],
        stream_arn: str,
        code: Code,
        *,
        makes_bucket: bool,
        replicated_ttl: str | None = None,
    ) -> Plan:
        """The source side's stack.

        Args:
            key: the source table's key attributes, the partition key first.
            stream_arn: the source table's stream.
            code: where the function's zip is.
            makes_bucket: whether the stack makes the quarantine bucket, or one is there.
            replicated_ttl: see `ingest.records.Origin`.

        Raises:
            DeployError: the configuration asks for what a function cannot do.
        """
        bucket, prefix = self.quarantine()
        parameters: dict[str, str] = {
            "PipelineName": self.pipeline,
            "StreamArn": stream_arn,
            "KeyAttributes": json.dumps([part.name for part in key], ensure_ascii=False),
            "KeyTypes": "".join(part.type for part in key),
            "ReplicatedTtl": "-" if replicated_ttl is None else replicated_ttl,
            "Policy": self.policy(),
            "PolicyMismatch": self.config.policy_mismatch,
            "HashKeySecretArn": self._hash_key_secret(),
            "LakeTableName": self.config.lake_table,
            "CatalogueTableName": self.config.catalogue_table,
            "CheckpointTableName": self.config.checkpoint_table,
            "LakeRegion": self.config.lake.region,
            "LakeRoleArn": self.writer_role_arn(),
            "ExternalId": self.external_id,
            "MaxWcu": f"{self.config.max_wcu:g}" if self.config.max_wcu else "",
            "CodeBucket": code.bucket,
            "CodeKey": code.key,
            CODE_VERSION: code.version,
            "QuarantineBucket": "make" if makes_bucket else "existing",
            "QuarantineBucketName": bucket,
            "QuarantinePrefix": prefix,
            "AlarmEmail": self.config.deploy.alarm_email or "",
            "Heartbeat": "true" if self.config.deploy.heartbeat else "false",
            "Checks": self.checks_are,
            "ChecksSilentHours": str(self.config.deploy.checks.hours_until_silent),
        }
        plan = Plan(
            stack_name(self.pipeline, "source"),
            template("source.yaml"),
            _with(parameters, self.config.deploy.source, f"pipelines.{self.pipeline}.deploy.source"),
            f"the function that replicates {self.config.source.table}, its alarms and its quarantine",
            frozenset({"Quarantine"}),
        )
        self._refuse_large_environment(self.evaluated(plan, "source"))
        return plan

    def evaluated(self, plan: Plan, side: Side) -> Evaluated:
        """What a plan's template comes to with its parameters."""
        config = self.config.source if side == "source" else self.config.lake
        return Evaluated(plan.template, plan.parameters, account=config.account, region=config.region)

    def _refuse_large_environment(self, source: Evaluated) -> None:
        """Refuse variables that Lambda would refuse when half of the stack is made.

        Raises:
            DeployError: they are too long together.
        """
        variables = environment_of(source)
        size = environment_bytes(variables)
        if size <= MAX_ENVIRONMENT:
            return
        sizes = {name: environment_bytes({name: value}) - 2 for name, value in variables.items()}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        raise DeployError(
            f"the function's environment would have {size:,} bytes as JSON, and Lambda takes {MAX_ENVIRONMENT:,}; the "
            f"largest variables are {', '.join(f'{name} ({sizes[name]:,})' for name in largest)}",
            remedy="shorten the policy (one rule for a map instead of one for each member, or an allow-list with "
            '"*" = "drop"), or replicate with `dynalake run`, which has no such limit',
        )

    @property
    def checks_are(self) -> Literal["scheduled", "unscheduled", "off"]:
        """Whether the checks are scheduled, not scheduled although they should run, or not wanted."""
        checks = self.config.deploy.checks
        if not checks.enabled:
            return "off"
        return "scheduled" if checks.target else "unscheduled"

    @property
    def checks_side(self) -> Side | None:
        """The side in whose account the checks are scheduled: that of their target; None if they are not.

        Raises:
            DeployError: the target is in another account or Region.
        """
        checks = self.config.deploy.checks
        if self.checks_are != "scheduled" or checks.target is None:
            return None
        region, account = checks.target.split(":")[3:5]
        sides: tuple[tuple[Side, SideConfig], ...] = (
            ("lake", self.config.lake),
            ("source", self.config.source),
        )
        for side, config in sides:
            if (config.account, config.region) == (account, region):
                return side
        raise DeployError(
            f"deploy.checks.target is in account {account}, Region {region}, which is neither the lake's nor the "
            "source's",
            remedy="name a cluster or a function in the account and Region of one of the two sides",
        )

    def checks(self) -> Plan:
        """The stack that schedules the checks; only where they have a target."""
        checks = self.config.deploy.checks
        command = ["check", self.pipeline, "--json", *checks.arguments]
        given: dict[str, Any] = {"command": command}
        if checks.runs_task:
            given = {"containerOverrides": [{"name": checks.container, "command": command}]}
        parameters = {
            "PipelineName": self.pipeline,
            "Target": checks.target or "",
            "Input": json.dumps(given),
            "Schedule": checks.schedule,
        }
        if checks.runs_task:
            parameters |= {
                "TaskDefinition": checks.task_definition or "",
                "TaskRoles": ",".join(checks.task_roles),
                "Subnets": ",".join(checks.subnets),
                "SecurityGroups": ",".join(checks.security_groups),
                "AssignPublicIp": "ENABLED" if checks.public_ip else "DISABLED",
            }
        given_to_roles = (
            self.config.deploy.source if self.checks_side == "source" else self.config.deploy.lake
        )
        for name in ("RolePath", "PermissionsBoundary"):
            if name in given_to_roles:
                parameters[name] = str(given_to_roles[name])
        return Plan(
            checks_stack_name(self.pipeline),
            template("checks-task.yaml" if checks.runs_task else "checks-function.yaml"),
            parameters,
            f"the schedule of the checks, {checks.schedule}",
        )

    @property
    def code_bucket(self) -> str:
        """The bucket for the function's code."""
        source = self.config.source
        return self.config.deploy.code_bucket or code_bucket(source.account, source.region)

    def quarantine(self) -> tuple[str, str]:
        """Bucket and prefix of the quarantine.

        Raises:
            DeployError: the quarantine is no bucket, which a function needs.
        """
        from dynalake.deploy.names import quarantine_bucket

        if not self.config.quarantine.startswith("s3://"):
            source = self.config.source
            proposed = quarantine_bucket(self.pipeline, source.account, source.region)
            raise DeployError(
                f"pipelines.{self.pipeline}.quarantine is {self.config.quarantine!r}, but a function needs a bucket",
                remedy=f'write quarantine = "s3://{proposed}"; the stack creates it if it is missing',
            )
        bucket, prefix = bucket_of(self.config.quarantine)
        source = self.config.source
        if source.owner_of_bucket(bucket) not in (None, source.account):
            raise DeployError(
                f"source.bucket_owners says that the quarantine {bucket!r} belongs to another account, but the "
                "function's role writes to buckets of the source account only",
                remedy="choose a quarantine bucket of the source account",
            )
        return bucket, prefix.strip("/")

    def policy(self) -> str:
        """The policy as the function gets it."""
        return json.dumps(self.config.policy_document(), ensure_ascii=False, separators=(",", ":"))

    def _hash_key_secret(self) -> str:
        kind, _, name = self.config.hash_key.partition(":")
        if kind == "secretsmanager":
            return name
        if hashes(actions_from(self.config.policy_document()).values()):
            raise DeployError(
                f"the policy hashes, and hash_key is {self.config.hash_key!r}, but a function takes its key from "
                "Secrets Manager in the source account, so that no template contains it",
                remedy='write hash_key = "secretsmanager:<the secret\'s ARN>"',
            )
        return ""


def table_is_missing(dynamodb: DynamoDBClient, name: str) -> bool:
    """Whether a table is missing."""
    try:
        dynamodb.describe_table(TableName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return True
        raise
    return False


def _with(parameters: dict[str, str], more: Mapping[str, str | int | float], key: str) -> dict[str, str]:
    """The parameters, and those that the configuration adds.

    Raises:
        DeployError: one of those is not the configuration's to set.
    """
    ours = sorted(parameters.keys() & more.keys())
    if ours:
        raise DeployError(
            f"{key}.{ours[0]} is derived from the rest of the configuration", remedy="leave it out"
        )
    return {**parameters, **{name: str(value) for name, value in more.items()}}
