"""What `dynalake init` finds out about a source table, and what it proposes for the pipeline because of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from dynalake.aws import Account, open_account
from dynalake.config import PipelineConfig
from dynalake.costs import HOURS_PER_MONTH, Monthly, estimate, watching
from dynalake.deploy import Finding, preflight
from dynalake.deploy.deployer import SIDES, Deployer
from dynalake.deploy.names import partition_of
from dynalake.deploy.plans import Deployment
from dynalake.deploy.preflight import look_at_buckets
from dynalake.doctor.functions import alarms_of
from dynalake.errors import AccountError, DeployError
from ingest.mapping import switch_on
from ingest.source import VIEW_TYPES
from lake.errors import ExplainedError, aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

LEAST_READ_UNITS: Final = 5


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source table as it is.

    Attributes:
        key: (name, type) of each key attribute, the partition key first.
        stream: the stream's view type; None where it is off.
        rows: DynamoDB's own count, up to six hours old.
        table_bytes: likewise.
        provisioned: (read, write) units a second; None on demand.
        kms_key: the customer key of its encryption; None where it is DynamoDB's own.
    """

    key: tuple[tuple[str, str], ...]
    stream: str | None
    rows: int
    table_bytes: int
    provisioned: tuple[int, int] | None
    kms_key: str | None

    def sentences(self, table: str) -> list[str]:
        """The facts in words."""
        key = " + ".join(f"{name} ({type_})" for name, type_ in self.key)
        capacity = (
            f"{self.provisioned[0]:,} read and {self.provisioned[1]:,} write units a second"
            if self.provisioned
            else "on demand"
        )
        cost = estimate(self.rows, self.table_bytes, scans=1, writes=True)
        return [
            f"{table}: key {key}; about {self.rows:,} items, {self.table_bytes / 1e6:,.1f} MB; {capacity}; "
            f"encrypted by {self.kms_key or 'a key of AWS'}",
            f"stream: {self.stream or 'OFF'}",
            f"a backfill takes {cost.sentence()}",
        ]

    @property
    def has_images(self) -> bool:
        """Whether the stream is on and carries new images."""
        return self.stream in VIEW_TYPES


def look_at(dynamodb: DynamoDBClient, table: str) -> SourceFacts:
    """The facts of a table.

    Raises:
        botocore.exceptions.ClientError: there is no such table, or these credentials may not see it.
    """
    description: Mapping[str, Any] = dynamodb.describe_table(TableName=table)["Table"]
    types = {each["AttributeName"]: each["AttributeType"] for each in description["AttributeDefinitions"]}
    stream = description.get("StreamSpecification") or {}
    throughput = description.get("ProvisionedThroughput", {})
    encryption = description.get("SSEDescription") or {}
    on_demand = description.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST"
    return SourceFacts(
        key=tuple(
            (part["AttributeName"], types[part["AttributeName"]])
            for part in sorted(description["KeySchema"], key=lambda part: str(part["KeyType"]))
        ),
        stream=stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
        rows=int(description.get("ItemCount", 0)),
        table_bytes=int(description.get("TableSizeBytes", 0)),
        provisioned=None
        if on_demand
        else (int(throughput.get("ReadCapacityUnits", 0)), int(throughput.get("WriteCapacityUnits", 0))),
        kms_key=encryption.get("KMSMasterKeyArn") if encryption.get("SSEType") == "KMS" else None,
    )


def watching_of(config: PipelineConfig, facts: SourceFacts | None) -> Monthly:
    """What watching a deployed pipeline costs a month, its checks included if they are wanted."""
    deploy = config.deploy
    return watching(
        alarms=len(alarms_of(deploy)),
        heartbeat=deploy.heartbeat,
        checks_per_month=HOURS_PER_MONTH / deploy.checks.hours_between if deploy.checks.enabled else 0.0,
        table_bytes=facts.table_bytes if facts else 0,
    )


def watching_in_words(config: PipelineConfig, cost: Monthly) -> str:
    """That cost, and how to do without."""
    parts = ", ".join(f"{name} ${usd:,.2f}" for name, usd in cost.parts.items())
    return (
        f"watching it costs about ${cost.usd:,.2f} a month: {parts} (us-east-1 prices of {cost.priced}; an estimate). "
        f"The checks ({config.deploy.checks.schedule}) read both tables whole; deploy.checks.target names what runs "
        "them, and until it does nothing schedules them. deploy.heartbeat = false and deploy.checks.enabled = false "
        "do without either, and without being told of silence"
    )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for a pipeline.

    Attributes:
        facts: the source table's; None where it could not be looked at.
        max_wcu: write units a second that the lake table may be asked for.
        source: parameters of the source side's template.
        lake: parameters of the lake side's template.
        findings: what is in the way.
    """

    facts: SourceFacts | None
    max_wcu: int | None
    source: dict[str, str | int]
    lake: dict[str, str | int]
    findings: list[Finding]


def propose(name: str, config: PipelineConfig) -> Proposal:
    """Look at the source table, and at what is in the way in both accounts.

    Args:
        name: the pipeline's name.
        config: the pipeline as far as it is known, with an ExternalId.

    Raises:
        DeployError: the table is not there.
    """
    findings: list[Finding] = []
    source, lake = _open("source", config, findings), _open("lake", config, findings)
    facts = _facts(source, config, findings) if source else None
    if facts and not facts.has_images:
        findings.append(
            Finding(
                False,
                f"the stream of {config.source.table} is {'off' if facts.stream is None else facts.stream}",
                f"`{switch_on(_table_arn(config), config.source.profile)}` switches it on"
                + ("" if facts.stream is None else ", once it was switched off"),
            )
        )
    if source:
        try:
            findings += look_at_buckets(Deployment(name, config), source.s3())
        except (ClientError, BotoCoreError) as error:
            findings.append(_not_checked("the buckets", error, "source"))
    if facts and facts.has_images and source and lake:
        deployer = Deployer(name, config, source, lake)
        for side in SIDES:
            try:
                findings += [each for each in preflight(deployer.findings(side)) if each not in findings]
            except (ExplainedError, ClientError, BotoCoreError) as error:
                findings.append(_not_checked(f"the {side} side", error, side))
    if facts is None or facts.provisioned is None:
        return Proposal(facts, None, _key_of(facts), {}, findings)
    read, write = facts.provisioned
    return Proposal(
        facts,
        write,
        _key_of(facts),
        {
            "BillingMode": "PROVISIONED",
            "ReadCapacity": max(read, LEAST_READ_UNITS),
            "WriteCapacity": write,
        },
        findings,
    )


def _open(side: str, config: PipelineConfig, findings: list[Finding]) -> Account | None:
    try:
        return open_account(side, config.source if side == "source" else config.lake)
    except AccountError as error:
        findings.append(_not_checked(f"the {side} side", error, side))
        return None


def _not_checked(what: str, error: Exception, side: str) -> Finding:
    shown = error if isinstance(error, ExplainedError) else aws_error(error, side=side)
    return Finding(False, f"{what} could not be checked: {shown.message}", shown.remedy)


def _facts(source: Account, config: PipelineConfig, findings: list[Finding]) -> SourceFacts | None:
    try:
        return look_at(source.dynamodb(), config.source.table)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise DeployError(
                f"there is no table {config.source.table!r} in {config.source.region} of account "
                f"{config.source.account}",
                remedy="check the table's name, source.region and source.profile",
            ) from None
        findings.append(_not_checked("the source table", error, "source"))
    except BotoCoreError as error:
        findings.append(_not_checked("the source table", error, "source"))
    return None


def _key_of(facts: SourceFacts | None) -> dict[str, str | int]:
    return {"SourceKmsKeyArn": facts.kms_key} if facts and facts.kms_key else {}


def _table_arn(config: PipelineConfig) -> str:
    source = config.source
    return f"arn:{partition_of(source.region)}:dynamodb:{source.region}:{source.account}:table/{source.table}"
