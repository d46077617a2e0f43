"""`dynalake.toml`: the pipelines, and where each of their two sides is.

One `[pipelines.NAME]` for each source table. An unknown key is an error, so that a misspelt one is not
silently without effect.
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from dynalake.errors import ConfigError
from lake.contract.naming import (
    DEFAULT_PREFIX,
    catalogue_table_name,
    checkpoint_table_name,
    lake_table_name,
)
from lake.errors import ContractError

DEFAULT_PATH: Final = Path("dynalake.toml")

AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[^*?\s]+$")]
PipelineName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SideConfig(_Strict):
    """How to reach one of the two accounts; what is not given is left to boto3's own defaults.

    Attributes:
        account: the account's id, 12 digits; credentials of another account are refused.
        region: the AWS region.
        profile: a profile of the AWS configuration files.
        role_arn: a role to assume.
        external_id: that role's ExternalId.
        endpoint_url: an endpoint other than AWS's own, for every service of this side.
        bucket_owners: the account that a bucket must belong to, by the bucket's name; `*` for every other bucket.
            Buckets of quarantine, failures and code belong to the side's account if not given; other buckets are
            checked only if given.
    """

    account: AccountId
    region: str = Field(min_length=1)
    profile: str | None = None
    role_arn: RoleArn | None = None
    external_id: Annotated[str, StringConstraints(min_length=2, max_length=1224)] | None = None
    endpoint_url: str | None = None
    bucket_owners: dict[str, AccountId] = Field(default_factory=dict)

    def __hash__(self) -> int:
        """Of what tells accounts apart: a mapping such as `bucket_owners` has no hash."""
        return hash((self.account, self.region, self.profile, self.role_arn, self.endpoint_url))

    def owner_of_bucket(self, bucket: str) -> str | None:
        """The account that a bucket must belong to, where the configuration says one."""
        return self.bucket_owners.get(bucket) or self.bucket_owners.get("*")

    @model_validator(mode="after")
    def _external_id_needs_a_role(self) -> SideConfig:
        if self.external_id and not self.role_arn:
            raise ValueError("external_id is given without role_arn: an ExternalId belongs to a role")
        return self


class SourceConfig(SideConfig):
    """The source side.

    Attributes:
        table: the source table's name.
        alias: what the account is called in the lake table's name; its id if not given.
    """

    table: str = Field(min_length=1)
    alias: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]+$")] | None = None


class LakeConfig(SideConfig):
    """The lake side.

    Attributes:
        table: the lake table's name, where it shall not be the naming rule's.
        prefix: what the lake's table names begin with.
    """

    table: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")] | None = None
    prefix: str = DEFAULT_PREFIX


class SegmentsConfig(_Strict):
    """What becomes of single segments of a text, such as a composite key's; see `ingest.segments`.

    Attributes:
        split: what separates the segments.
        after: action for the segment that follows a segment of this text.
        at: action for the segment at this position, from 0, or from the end with -1 for the last.
        others: action for a segment that neither names.
        mismatch: what becomes of a value that has not this form; the pipeline's `policy_mismatch` if not given.
    """

    split: str = Field(min_length=1)
    after: dict[str, Literal["keep", "hash", "mask"]] = Field(default_factory=dict)
    at: dict[int, Literal["keep", "hash", "mask"]] = Field(default_factory=dict)
    others: Literal["keep", "hash", "mask"] | None = None
    mismatch: Literal["quarantine", "drop"] | None = None


class RuleConfig(_Strict):
    """What becomes of the value at a path, with its own answer to a value that the path cannot follow.

    Attributes:
        action: keep, drop, hash or mask.
        mismatch: what becomes of such a value; the pipeline's `policy_mismatch` if not given.
    """

    action: Literal["keep", "drop", "hash", "mask"]
    mismatch: Literal["quarantine", "drop"] | None = None


class ScheduledChecksConfig(_Strict):
    """How `dynalake deploy` schedules `dynalake check`.

    Attributes:
        enabled: False neither schedules the checks nor raises an alarm when none runs.
        target: the ARN of what runs them: an ECS cluster, or a Lambda function that runs the command it is given, in
            one of the two accounts. Nothing schedules them if None.
        schedule: when: EventBridge Scheduler's `rate(...)` or `cron(...)`, in UTC.
        silent_hours: hours without a check after which an alarm is raised; from `schedule` if None.
        arguments: words added to `check NAME --json`.
        task_definition: of a cluster: the ARN of the task definition.
        container: of a cluster: the name of the container in it whose entry point is dynalake.
        task_roles: of a cluster: the ARNs of the task definition's task role and execution role.
        subnets: of a cluster: the task's subnets.
        security_groups: of a cluster: the task's security groups.
        public_ip: of a cluster: whether the task has a public address.
    """

    enabled: bool = True
    target: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^arn:aws[a-z-]*:(ecs:[a-z0-9-]+:\d{12}:cluster/|lambda:[a-z0-9-]+:\d{12}:function:)\S+$"
            ),
        ]
        | None
    ) = None
    schedule: Annotated[str, StringConstraints(pattern=r"^(rate|cron)\(.+\)$")] = "rate(1 day)"
    silent_hours: int | None = Field(default=None, ge=1, le=168)
    arguments: tuple[str, ...] = ()
    task_definition: (
        Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:ecs:\S+:task-definition/\S+$")] | None
    ) = None
    container: str = "dynalake"
    task_roles: tuple[RoleArn, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    public_ip: bool = False

    @model_validator(mode="after")
    def _a_cluster_needs_a_task(self) -> ScheduledChecksConfig:
        of_a_task = {
            "task_definition": self.task_definition,
            "task_roles": self.task_roles,
            "subnets": self.subnets,
            "security_groups": self.security_groups,
        }
        if self.runs_task:
            missing = [name for name, value in of_a_task.items() if not value]
            if missing:
                raise ValueError(f"target is an ECS cluster, which needs {' and '.join(missing)}")
        else:
            given = [name for name, value in of_a_task.items() if value]
            if given:
                raise ValueError(f"{given[0]} is given, and target is not an ECS cluster")
        return self

    @property
    def runs_task(self) -> bool:
        """Whether a task of a cluster runs the checks, and not a function."""
        return self.target is not None and ":cluster/" in self.target

    @property
    def hours_until_silent(self) -> int:
        """Hours without a check after which an alarm is raised: one and a half times what lies between two."""
        if self.silent_hours is not None:
            return self.silent_hours
        return min(168, math.ceil(1.5 * self.hours_between) + 1)

    @property
    def hours_between(self) -> float:
        """Hours from one check to the next; a `cron(...)` is taken for once a day."""
        rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", self.schedule)
        return int(rate[1]) * {"minute": 1 / 60, "hour": 1, "day": 24}[rate[2]] if rate else 24


class DeployConfig(_Strict):
    """What `dynalake deploy` needs beyond the rest.

    Attributes:
        external_id: what the function says to become the lake's writer.
        alarm_email: where alarms are mailed to.
        code_bucket: a bucket of the source account for the function's code; one is made if not given.
        source: parameters of the source side's template, `ingest/templates/source.yaml`.
        lake: parameters of the lake side's template, `ingest/templates/lake.yaml`.
        shared: parameters of the shared tables' template, `ingest/templates/lake-shared.yaml`; what is not given stays
            as it is, since other pipelines share these tables.
        tags: tags of the stacks, which CloudFormation passes on to what they make.
        service_roles: the role in which CloudFormation works, for each side; the caller's own rights if not given.
        heartbeat: whether the function is invoked every five minutes to report on its stream and its mapping.
        checks: how `dynalake check` is scheduled.
    """

    external_id: Annotated[str, StringConstraints(min_length=16, max_length=1224)] | None = None
    alarm_email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    code_bucket: str | None = None
    source: dict[str, str | int | float] = Field(default_factory=dict)
    lake: dict[str, str | int | float] = Field(default_factory=dict)
    shared: dict[str, str | int | float] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    service_roles: dict[Literal["source", "lake"], RoleArn] = Field(default_factory=dict)
    heartbeat: bool = True
    checks: ScheduledChecksConfig = Field(default_factory=ScheduledChecksConfig)


def _form_of(action: Any) -> str:
    if isinstance(action, RuleConfig) or (isinstance(action, dict) and "action" in action):
        return "rule"
    return "segments" if isinstance(action, dict | SegmentsConfig) else "whole"


ActionConfig = Annotated[
    Annotated[Literal["keep", "drop", "hash", "mask"], Tag("whole")]
    | Annotated[RuleConfig, Tag("rule")]
    | Annotated[SegmentsConfig, Tag("segments")],
    Discriminator(_form_of),  # so that an error speaks of the form that was meant, and of no other
]


class ChecksConfig(_Strict):
    """What `dynalake check` expects of a pipeline. Each limit comes twice: as a warning and as a failure.

    Attributes:
        parity_warn_percent: rows that may disagree, in percent of all, before it is a warning.
        parity_fail_percent: before it is a failure.
        fresh_warn_s: seconds that a change may wait for the lake before it is a warning.
        fresh_fail_s: before it is a failure.
        lag_p99_warn_s: seconds within which 99 of 100 changes reach the lake, else it is a warning.
        lag_p99_fail_s: else it is a failure.
        drift: what a new attribute, or an attribute's new type, is.
        attributes: the attributes that may be there; if None, those that were there when the schema was accepted.
        custom: a file of the team's own expectations; `expectations/custom/NAME.py` beside the configuration if None.
    """

    parity_warn_percent: float = Field(default=0.0001, ge=0, le=100)
    parity_fail_percent: float = Field(default=1.0, ge=0, le=100)
    fresh_warn_s: float = Field(default=300.0, gt=0)
    fresh_fail_s: float = Field(default=3600.0, gt=0)
    lag_p99_warn_s: float = Field(default=5.0, gt=0)
    lag_p99_fail_s: float = Field(default=60.0, gt=0)
    drift: Literal["warn", "fail", "ignore"] = "warn"
    attributes: tuple[str, ...] | None = None
    custom: Path | None = None

    @model_validator(mode="after")
    def _a_warning_comes_first(self) -> ChecksConfig:
        for name in ("parity_{}_percent", "fresh_{}_s", "lag_p99_{}_s"):
            if getattr(self, name.format("warn")) > getattr(self, name.format("fail")):
                raise ValueError(
                    f"{name.format('warn')} is above {name.format('fail')}: a warning comes before a failure"
                )
        return self


class PipelineConfig(_Strict):
    """One pipeline: one source table and its lake table.

    Attributes:
        source: the source side.
        lake: the lake side.
        max_wcu: write units a second that the lake table may be asked for; no cap if None.
        max_rcu: read units a second that a backfill, parity or snapshot may take from a table; likewise.
        leave_out_expired: whether rows whose time-to-live has passed, and which DynamoDB has not deleted yet, are left
            out of backfills, comparisons and snapshots.
        policy: path -> keep, drop, hash or mask, or what becomes of a text's segments.
        policy_mismatch: what becomes of a value that a path cannot follow: its row is quarantined, or it is dropped.
        hash_key: where the secret of the keyed hash is: `env:NAME` or `secretsmanager:ARN`.
        quarantine: `s3://bucket/prefix` or `sqs:<queue URL>` in the source account, or a folder; for records that
            can never apply and those given up.
        failures: where else a redrive finds records that were given up: the on-failure destination of an event
            source mapping of one's own, in the same forms.
        deploy: what `dynalake deploy` needs beyond the rest.
    """

    source: SourceConfig
    lake: LakeConfig
    max_wcu: float | None = Field(default=None, gt=0)
    max_rcu: float | None = Field(default=None, gt=0)
    leave_out_expired: bool = False
    policy: dict[str, ActionConfig] = Field(default_factory=dict)
    policy_mismatch: Literal["quarantine", "drop"] = "quarantine"
    hash_key: Annotated[str, StringConstraints(pattern=r"^(env|secretsmanager):\S+$")] = (
        "env:DYNALAKE_HASH_KEY"
    )
    quarantine: str = "dynalake-quarantine"
    failures: str | None = None
    checks: ChecksConfig = Field(default_factory=ChecksConfig)
    deploy: DeployConfig = Field(default_factory=DeployConfig)

    @model_validator(mode="after")
    def _names_are_sound(self) -> PipelineConfig:
        try:
            names = (self.lake_table, self.catalogue_table, self.checkpoint_table)
        except ContractError as error:
            raise ValueError(str(error)) from None
        if len(set(names)) < len(names):
            raise ValueError(f"lake.table is {self.lake_table!r}, which is one of the lake's own tables")
        return self

    @model_validator(mode="after")
    def _places_are_places(self) -> PipelineConfig:
        for key, address in (("quarantine", self.quarantine), ("failures", self.failures)):
            if address is not None and (wrong := _no_place(address)):
                raise ValueError(f"{key}: {wrong}")
        return self

    @model_validator(mode="after")
    def _policy_is_sound(self) -> PipelineConfig:
        from ingest.errors import PolicyError
        from ingest.policy import MIN_KEY_BYTES, Policy, actions_from

        try:  # the key attributes and the hash key are not known yet; they are checked when the policy is used
            Policy(actions_from(self.policy_document()), hash_key=bytes(MIN_KEY_BYTES))
        except PolicyError as error:
            raise ValueError(f"policy: {error}") from None
        return self

    def policy_document(self) -> dict[str, Any]:
        """The policy as `ingest.policy.actions_from` reads it, and as the function's environment holds it."""
        document: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)["policy"]
        return document

    @property
    def lake_table(self) -> str:
        """The lake table's name."""
        alias = self.source.alias or self.source.account
        return self.lake.table or lake_table_name(alias, self.source.table, self.lake.prefix)

    @property
    def catalogue_table(self) -> str:
        """The schema catalogue's table name."""
        return catalogue_table_name(self.lake.prefix)

    @property
    def checkpoint_table(self) -> str:
        """The checkpoint table's name."""
        return checkpoint_table_name(self.lake.prefix)


def _no_place(address: str) -> str:
    """Why an address names no place for documents; empty where it does."""
    from ingest.errors import QuarantineError
    from ingest.quarantine import bucket_of, is_queue, queue_of

    try:
        if is_queue(address):
            queue_of(address)
    except QuarantineError as error:
        return str(error)
    if address.startswith("s3://") and not bucket_of(address)[0]:
        return f"{address!r} names no bucket: write s3://bucket/prefix"
    if not address or address.startswith(("http://", "https://", "arn:")):
        return f"{address!r} is neither s3://bucket/prefix, nor sqs:<the queue's URL>, nor a folder"
    return ""


class HiveConfig(_Strict):
    """A HiveServer2, or Spark's Thrift server, and what the generated tables are called there.

    Attributes:
        host: the server's host.
        port: its port.
        auth: the server's `hive.server2.authentication`.
        username: who asks; the process's user if not given.
        password_env: the environment variable that holds the password for LDAP; a password never stands here.
        database: the database of the generated tables, and what queries' table names mean.
        kerberos_service_name: the first part of the server's principal, for KERBEROS.
        configuration: Hive settings for each session.
        tls: whether the connection is encrypted and the server's certificate verified.
        tls_ca: a PEM file with the certificate authorities to trust; the system's if not given.
        allow_plain_password: whether an LDAP password may travel without TLS.
    """

    host: str | None = Field(default=None, min_length=1)
    port: int = Field(default=10_000, gt=0, lt=65_536)
    auth: Literal["NONE", "NOSASL", "LDAP", "KERBEROS"] = "NONE"
    username: str | None = None
    password_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = (
        "DYNALAKE_HIVE_PASSWORD"  # noqa: S105 -- a variable's name
    )
    database: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,128}$")] = "lake"
    kerberos_service_name: str = "hive"
    configuration: dict[str, str] = Field(default_factory=dict)
    tls: bool = False
    tls_ca: str | None = None
    allow_plain_password: bool = False


class AthenaConfig(_Strict):
    """Athena, in the lake account or another.

    Attributes:
        region: the AWS region.
        profile: a profile of the AWS configuration files.
        workgroup: the workgroup that queries run in.
        output: where answers are written; the workgroup's own place if not given.
        output_owner: the account that the output's bucket must belong to; not checked if not given.
        catalog: the data catalogue.
        database: what queries' table names mean.
        endpoint_url: an endpoint other than AWS's own.
    """

    region: str = Field(min_length=1)
    profile: str | None = None
    workgroup: str = "primary"
    output: Annotated[str, StringConstraints(pattern=r"^s3://[^/]+(/.*)?$")] | None = None
    output_owner: AccountId | None = None
    catalog: str = "AwsDataCatalog"
    database: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,128}$")] = "lake"
    endpoint_url: str | None = None


class Config(_Strict):
    """The whole file."""

    pipelines: dict[PipelineName, PipelineConfig] = Field(default_factory=dict)
    hive: HiveConfig = Field(default_factory=HiveConfig)
    athena: AthenaConfig | None = None

    @model_validator(mode="after")
    def _lake_tables_are_distinct(self) -> Config:
        owners: dict[tuple[str, str, str], str] = {}
        for name, pipeline in self.pipelines.items():
            place = (pipeline.lake.account, pipeline.lake.region, pipeline.lake_table)
            if place in owners:
                raise ValueError(
                    f"the pipelines {owners[place]!r} and {name!r} would share the lake table {pipeline.lake_table!r}"
                )
            owners[place] = name
        return self


def load_config(path: Path = DEFAULT_PATH) -> Config:
    """Read and check the configuration.

    Raises:
        ConfigError: the file is missing, not TOML, or says something that cannot be; the text names the file,
            the key and the remedy.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            remedy="write one with `dynalake init`, or name another with --config",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    return parse_config(content, str(path))


def parse_config(content: dict[str, Any], name: str) -> Config:
    """Check a configuration that was read already; `name` is what errors call it.

    Raises:
        ConfigError: as for `load_config`.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{name}: {'; '.join(_explained(each) for each in error.errors())}") from None


def pipeline_of(config: Config, name: str) -> PipelineConfig:
    """The pipeline of this name.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        return config.pipelines[name]
    except KeyError:
        known = ", ".join(sorted(config.pipelines)) or "none"
        raise ConfigError(f"there is no pipeline {name!r} in the configuration; it has: {known}") from None


_REMEDIES: Final = {
    "missing": "is missing: add it",
    "extra_forbidden": "is not a key that dynalake knows: is it misspelt?",
    "literal_error": "must be one of {expected}",
    "string_pattern_mismatch": "is {input!r}, which does not have the form {pattern}",
    "greater_than": "must be greater than {gt}",
}


_NOT_IN_THE_FILE: Final = frozenset({"[key]", "whole", "rule", "segments"})
"""Of the place of an error: what pydantic adds to the keys of the file."""


def _explained(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in _NOT_IN_THE_FILE)
    remedy = _REMEDIES.get(error["type"])
    if remedy is None:
        message = str(error["msg"]).removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    return f"{key} {remedy.format(input=error.get('input'), **error.get('ctx', {}))}"
