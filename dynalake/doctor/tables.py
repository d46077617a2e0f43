"""The prerequisites of credentials and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from botocore.exceptions import ClientError

from dynalake.deploy.preflight import reserved_names
from dynalake.doctor.checkup import FailedError, Patient, Prerequisite, SkippedError, WarnedError
from dynalake.errors import UserError
from ingest.checkpoints import Checkpoints
from ingest.mapping import latest_stream, switch_on
from ingest.source import VIEW_TYPES
from lake.contract.rows import EXPIRES, RESERVED_PREFIX
from lake.tables import CATALOGUE_KEY, CHECKPOINT_KEY, check_lake_key, quota_warning

_SAMPLED: Final = "of the first 100 items"


def of_tables(patient: Patient) -> Sequence[Prerequisite]:
    """The prerequisites of credentials and tables."""
    return [
        Prerequisite("source", "credentials", lambda: _credentials(patient, "source")),
        Prerequisite("lake", "credentials", lambda: _credentials(patient, "lake")),
        Prerequisite("source", "table", lambda: _source_table(patient)),
        Prerequisite("source", "same table", lambda: _same_table(patient)),
        Prerequisite("source", "stream", lambda: _stream(patient)),
        Prerequisite("source", "attribute names", lambda: _names(patient)),
        Prerequisite("source", "policy", lambda: _policy(patient)),
        Prerequisite("lake", "shared tables", lambda: _shared_tables(patient)),
        Prerequisite("lake", "table", lambda: _lake_table(patient)),
        Prerequisite("lake", "table's indexes", lambda: _indexes(patient)),
        Prerequisite("lake", "table's stream", lambda: _lake_stream(patient)),
        Prerequisite("lake", "tombstones' expiry", lambda: _time_to_live(patient)),
        Prerequisite("lake", "recovery", lambda: _recovery(patient)),
        Prerequisite("lake", "deletion protection", lambda: _protection(patient)),
        Prerequisite("lake", "capacity", lambda: _capacity(patient)),
        Prerequisite("lake", "table quota", lambda: _quota(patient)),
        Prerequisite("lake", "pipeline is noted", lambda: _noted(patient)),
    ]


def _credentials(patient: Patient, side: Literal["source", "lake"]) -> str:
    account = patient.source if side == "source" else patient.lake
    config = patient.config.source if side == "source" else patient.config.lake
    if isinstance(account, UserError):
        raise account
    sts = account.session.client("sts", region_name=config.region, endpoint_url=config.endpoint_url)
    try:
        identity = sts.get_caller_identity()
    except ClientError as error:
        raise FailedError(
            f"are refused ({error.response['Error']['Code']})", f"log in again, or check {side}.profile"
        ) from None
    if identity["Account"] != config.account:
        raise FailedError(
            f"are of account {identity['Account']}, not {config.account}", f"check {side}.profile"
        )
    return str(identity["Arn"])


def _source_table(patient: Patient) -> str:
    table = patient.config.source.table
    try:
        description = patient.account("source").dynamodb().describe_table(TableName=table)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise FailedError(
            f"{table!r} does not exist in {patient.config.source.region}",
            "check source.table and source.region",
        ) from None
    if description["TableStatus"] not in ("ACTIVE", "UPDATING"):
        raise FailedError(f"{table!r} is {description['TableStatus']}", "wait until it is ACTIVE")
    return f"{table}, about {description.get('ItemCount', 0):,} items"


def _same_table(patient: Patient) -> str:
    _ = patient.source_description
    _ = patient.account("lake")
    if patient.pipeline.noted_stream() is None:
        raise SkippedError("needs the pipeline to be set up")
    patient.pipeline.check_source()
    return "the one that the pipeline was set up for"


def _stream(patient: Patient) -> str:
    description = patient.source_description
    if latest_stream(description) is None:
        raise FailedError(
            "is off: no change reaches the lake",
            f"{switch_on(description['TableArn'], patient.config.source.profile)}; then "
            + (f"dynalake deploy {patient.name} --side source; then " if patient.is_deployed else "")
            + f"dynalake repair {patient.name}, for what changed meanwhile",
        )
    view_type = description["StreamSpecification"]["StreamViewType"]
    if view_type not in VIEW_TYPES:
        off = patient.aws("source", "dynamodb update-table") + (
            f" --table-name {patient.config.source.table} --stream-specification StreamEnabled=false"
        )
        raise FailedError(
            f"carries {view_type}, not the new images",
            f"{off}; once that is done: {switch_on(description['TableArn'], patient.config.source.profile)}",
        )
    return f"{patient.pipeline.described_source.stream_arn.rpartition('/')[2]}, with new images"


def _names(patient: Patient) -> str:
    _ = patient.source_description
    for finding in reserved_names(patient.account("source").dynamodb(), patient.config.source.table):
        raise FailedError(finding.text, finding.remedy)
    return f"none {_SAMPLED} begins with _lake_"


def _policy(patient: Patient) -> str:
    if not patient.config.policy:
        return "keeps everything"
    _ = patient.source_description
    _ = patient.pipeline.lake_key
    return f"{len(patient.config.policy)} attributes are kept from the lake or changed"


def _shared_tables(patient: Patient) -> str:
    dynamodb = patient.account("lake").dynamodb()
    remedy = f"dynalake deploy {patient.name} --side lake, or dynalake setup {patient.name}"
    for table, key in (
        (patient.config.catalogue_table, CATALOGUE_KEY),
        (patient.config.checkpoint_table, CHECKPOINT_KEY),
    ):
        if not check_lake_key(dynamodb, table, key):
            raise FailedError(f"{table} is missing", remedy)
    return f"{patient.config.catalogue_table}, {patient.config.checkpoint_table}"


def _lake_table(patient: Patient) -> str:
    dynamodb, table = patient.account("lake").dynamodb(), patient.config.lake_table
    _ = patient.source_description
    if not check_lake_key(dynamodb, table, patient.pipeline.lake_key):
        raise FailedError(
            f"{table} is missing",
            f"dynalake deploy {patient.name} --side lake, or dynalake setup {patient.name}",
        )
    return f"{table}, the source's key"


def _indexes(patient: Patient) -> str:
    """A table refuses an item that one of its indexes cannot hold; the source does so only if it has such an index."""
    found = _index_keys(patient.lake_description)
    if not found:
        return "none"
    sources = {each[1:] for each in _index_keys(patient.source_description)}
    risky = sorted({each for each in found if each[1:] not in sources or patient.config.policy})
    if not risky:
        return f"{len({index for index, *_ in found})}, the source has the same"
    keys = ", ".join(f"{index} by {key!r} ({type_})" for index, key, type_, _ in risky)
    raise WarnedError(
        f"{keys}: an item goes to quarantine whose value there is empty, of another type, or longer than 2,048 bytes "
        "(a sort key: 1,024)",
        "make sure that the source never writes such values, or delete the index and query a snapshot instead",
    )


def _index_keys(description: Mapping[str, Any]) -> set[tuple[str, str, str, str]]:
    """(index, attribute, type, role) of each key attribute of a table's indexes that a row may not fit."""
    types = {each["AttributeName"]: each["AttributeType"] for each in description["AttributeDefinitions"]}
    own = {part["AttributeName"]: part["KeyType"] for part in description["KeySchema"]}
    return {
        (index["IndexName"], part["AttributeName"], types[part["AttributeName"]], part["KeyType"])
        for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes")
        for index in description.get(kind) or ()
        for part in index["KeySchema"]
        if own.get(part["AttributeName"]) not in ("RANGE", part["KeyType"])
        and not part["AttributeName"].startswith(RESERVED_PREFIX)
    }


def _lake_stream(patient: Patient) -> str:
    stream: Mapping[str, Any] = patient.lake_description.get("StreamSpecification") or {}
    if not stream.get("StreamEnabled") or stream.get("StreamViewType") != "NEW_AND_OLD_IMAGES":
        raise FailedError(
            "is off, or has no new and old images: snapshots are rolled forward from it",
            patient.aws("lake", "dynamodb update-table")
            + f" --table-name {patient.config.lake_table} --stream-specification "
            "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES",
        )
    return "on, with new and old images"


def _time_to_live(patient: Patient) -> str:
    _ = patient.lake_description
    dynamodb, table = patient.account("lake").dynamodb(), patient.config.lake_table
    found = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    attribute = found.get("AttributeName")
    if found.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        raise FailedError(
            f"is off: tombstones would stay for good (attribute {EXPIRES})", f"dynalake setup {patient.name}"
        )
    if attribute != EXPIRES:
        raise FailedError(
            f"is by {attribute!r}: rows would vanish that the source still has",
            patient.aws("lake", "dynamodb update-time-to-live")
            + f" --table-name {table} --time-to-live-specification AttributeName={attribute},Enabled=false; an hour "
            f"later dynalake setup {patient.name}, which sets it to {EXPIRES}; then dynalake repair {patient.name}",
        )
    return f"by {EXPIRES}"


def _recovery(patient: Patient) -> str:
    _ = patient.lake_description
    dynamodb, table = patient.account("lake").dynamodb(), patient.config.lake_table
    found = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    if found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") != "ENABLED":
        raise FailedError("to a point in time is off", f"dynalake setup {patient.name}")
    return "to a point in time is on"


def _protection(patient: Patient) -> str:
    if patient.lake_description.get("DeletionProtectionEnabled"):
        return "on"
    if not patient.is_deployed:
        raise SkippedError("off; `dynalake deploy` switches it on")
    raise FailedError(
        "is off",
        patient.aws("lake", "dynamodb update-table")
        + f" --table-name {patient.config.lake_table} --deletion-protection-enabled",
    )


def _capacity(patient: Patient) -> str:
    units = _write_units(patient.lake_description)
    if units is None:
        return "on demand"
    source = _write_units(patient.source_description)
    if source is not None and source > units:
        raise FailedError(
            f"{units:,} write units a second, the source has {source:,}",
            "raise deploy.lake.WriteCapacity to as many, or make the lake table on-demand",
        )
    if patient.config.max_wcu and patient.config.max_wcu > units:
        raise FailedError(
            f"{units:,} write units a second, and max_wcu is {patient.config.max_wcu:g}", "lower max_wcu"
        )
    return f"{units:,} write units a second" + (
        "" if source else "; the source is on demand and may exceed it"
    )


def _write_units(description: Mapping[str, Any]) -> int | None:
    """Provisioned write units a second; None on demand."""
    if description.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return None
    return int(description.get("ProvisionedThroughput", {}).get("WriteCapacityUnits", 0)) or None


def _quota(patient: Patient) -> str:
    warning = quota_warning(patient.account("lake").dynamodb())
    if warning:
        raise FailedError(warning, "ask for a higher quota before more pipelines come")
    return "far off"


def _noted(patient: Patient) -> str:
    if isinstance(patient.source, UserError):
        raise SkippedError("needs the source account's credentials")
    if isinstance(patient.lake, UserError):
        raise SkippedError("needs the lake account's credentials")
    _ = patient.source_description
    table = patient.pipeline.described_source
    checkpoints = Checkpoints(
        patient.account("lake").dynamodb(), patient.config.checkpoint_table, patient.config.lake_table
    )
    try:
        noted = checkpoints.stream()
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        noted = None
    if noted is None:
        raise FailedError("the lake does not know of it", f"dynalake setup {patient.name}")
    if noted.arn != table.stream_arn:
        raise FailedError(
            "the source's stream was switched off and on: changes between may be missing",
            f"dynalake deploy {patient.name} --side source, then dynalake repair {patient.name}",
        )
    return "on this stream"
