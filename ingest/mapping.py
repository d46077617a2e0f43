"""What is wrong with an event source mapping: everything that stops it, or lets it skip records.

One pure function over what boto3 returns, so that the function itself, `dynalake status` and `dynalake doctor`
judge a mapping alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Effect = Literal["stops reading", "may skip records", "slows reading"]
"""What a fault does: no record is read; records may be passed over without being applied, or are given up while
they could still be applied; or replication works, but not as intended."""

STARTING_POSITION: Final = "TRIM_HORIZON"
REPORT_FAILURES: Final = "ReportBatchItemFailures"

NO_LIMIT: Final = -1
"""MaximumRetryAttempts and MaximumRecordAgeInSeconds: unlimited (Lambda API reference, CreateEventSourceMapping)."""

MIN_RECORD_AGE_S: Final = 12 * 3600
"""A shorter MaximumRecordAgeInSeconds gives records up in an outage of the lake that one night could last."""

MAX_RECORD_AGE_S: Final = 23 * 3600
"""A longer one leaves no margin before the stream itself drops records, which nothing records: after 24 hours."""

_UNTIL_ENABLED: Final = frozenset({"Creating", "Enabling", "Updating"})


@dataclass(frozen=True, slots=True)
class MappingFault:
    """One fault of an event source mapping.

    Attributes:
        effect: what it does to replication.
        message: what is wrong, in one clause.
        remedy: what to do: a command where there is one.
        unrecorded: nothing records which records it skips, so that only a comparison of both tables finds them.
    """

    effect: Effect
    message: str
    remedy: str
    unrecorded: bool = False

    @property
    def loses_records(self) -> bool:
        """Whether "caught up" cannot be claimed while it lasts."""
        return self.effect != "slows reading"


def latest_stream(description: Mapping[str, Any]) -> str | None:
    """The ARN of a table's enabled stream; None where the stream is off.

    Args:
        description: the table, as DescribeTable returns it. LatestStreamArn remains there for a day after a stream
            was switched off, so it alone says nothing.
    """
    specification = description.get("StreamSpecification") or {}
    return description.get("LatestStreamArn") if specification.get("StreamEnabled") else None


def mappings_faults(
    mappings: Sequence[Mapping[str, Any]],
    stream_arn: str | None,
    *,
    pipeline: str = "NAME",
    profile: str | None = None,
) -> list[MappingFault]:
    """The faults of all mappings of a pipeline's function: one is wanted, on the table's stream.

    Args:
        mappings: as ListEventSourceMappings returns them for the function.
        stream_arn: the source table's LatestStreamArn; None where its stream is off (`latest_stream`).
        pipeline: the pipeline's name, for the remedies.
        profile: the AWS profile of the source account, for the remedies.
    """
    deploy = f"dynalake deploy {pipeline} --side source"
    if not mappings:
        return [MappingFault("stops reading", "none: nothing reads the stream", deploy)]
    own = next((each for each in mappings if each.get("EventSourceArn") == stream_arn), mappings[0])
    faults = mapping_faults(own, stream_arn, pipeline=pipeline, profile=profile)
    for other in mappings:
        if other is not own:
            faults.append(
                MappingFault(
                    "slows reading",
                    f"the function has a second trigger, {other.get('EventSourceArn')}: its records are not this "
                    "table's and go to quarantine",
                    _aws(other, "delete-event-source-mapping", profile),
                )
            )
    return faults


def mapping_faults(
    mapping: Mapping[str, Any],
    stream_arn: str | None,
    *,
    pipeline: str = "NAME",
    profile: str | None = None,
) -> list[MappingFault]:
    """Everything about one mapping that stops replication or lets records be skipped.

    Args:
        mapping: as ListEventSourceMappings or GetEventSourceMapping returns it.
        stream_arn: the source table's LatestStreamArn; None where its stream is off (`latest_stream`).
        pipeline: the pipeline's name, for the remedies.
        profile: the AWS profile of the source account, for the remedies.

    Returns:
        The faults, the gravest first; empty if there are none.
    """
    faults = [
        *_of_stream(mapping, stream_arn, pipeline, profile),
        *_of_state(mapping, profile),
        *_of_selection(mapping, pipeline, profile),
        *_of_giving_up(mapping, profile),
    ]
    order: tuple[Effect, ...] = ("stops reading", "may skip records", "slows reading")
    return sorted(faults, key=lambda fault: order.index(fault.effect))


def _of_stream(
    mapping: Mapping[str, Any], stream_arn: str | None, pipeline: str, profile: str | None
) -> list[MappingFault]:
    found = str(mapping.get("EventSourceArn"))
    again = f"dynalake deploy {pipeline} --side source, then dynalake repair {pipeline}"
    if stream_arn is None:
        return [
            MappingFault(
                "stops reading",
                "the source table's stream is off",
                f"{switch_on(found, profile)}; then {again}",
            )
        ]
    if found == stream_arn:
        return []
    return [MappingFault("stops reading", f"reads {found}, and the table's stream is {stream_arn}", again)]


def switch_on(arn: str, profile: str | None = None) -> str:
    """The command that switches a table's stream on.

    Args:
        arn: the ARN of the table or of one of its streams.
        profile: the AWS profile of the source account.
    """
    table = arn.partition(":table/")[2].partition("/")[0]
    return (
        f"aws dynamodb update-table{_options(arn, profile)} --table-name {table} "
        "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
    )


def _of_state(mapping: Mapping[str, Any], profile: str | None) -> list[MappingFault]:
    faults = []
    state = mapping.get("State")
    if state in _UNTIL_ENABLED:
        faults.append(MappingFault("stops reading", f"is {state}, not yet Enabled", "look again in a minute"))
    elif state != "Enabled":
        faults.append(
            MappingFault(
                "stops reading",
                f"is {state}; records are lost after 24 hours",
                _update(mapping, profile, "--enabled")
                + "; where the configuration says deploy.source.Replicate = false, take that out",
            )
        )
    result = str(mapping.get("LastProcessingResult") or "")
    if result.upper().startswith("PROBLEM"):
        faults.append(
            MappingFault(
                "stops reading",
                f"Lambda reports: {result}",
                "see the function's log; it reads on by itself once the cause is gone",
            )
        )
    return faults


def _of_selection(mapping: Mapping[str, Any], pipeline: str, profile: str | None) -> list[MappingFault]:
    """Which records reach the function at all."""
    faults = []
    filters = (mapping.get("FilterCriteria") or {}).get("Filters")
    if filters or mapping.get("FilterCriteriaError"):
        faults.append(
            MappingFault(
                "may skip records",
                "has FilterCriteria: records that do not match are discarded",
                _update(mapping, profile, "--filter-criteria '{}'") + f"; then dynalake repair {pipeline}",
                unrecorded=True,
            )
        )
    position = mapping.get("StartingPosition")
    if position != STARTING_POSITION:
        create = (
            _aws(mapping, "create-event-source-mapping", profile).partition(" --uuid ")[0]
            + " "
            + _settings(mapping)
        )
        faults.append(
            MappingFault(
                "may skip records",
                f"started at {position}, not at {STARTING_POSITION}: earlier records were passed over",
                f"{_aws(mapping, 'delete-event-source-mapping', profile)}; once it is gone: {create}; "
                f"then dynalake repair {pipeline}",
                unrecorded=True,
            )
        )
    if REPORT_FAILURES not in (mapping.get("FunctionResponseTypes") or ()):
        faults.append(
            MappingFault(
                "may skip records",
                f"is without partial batch responses ({REPORT_FAILURES}): records that the function could not "
                "apply count as applied",
                _update(mapping, profile, f"--function-response-types {REPORT_FAILURES}")
                + f"; then dynalake repair {pipeline}",
                unrecorded=True,
            )
        )
    if mapping.get("TumblingWindowInSeconds"):
        faults.append(
            MappingFault(
                "may skip records",
                "has a tumbling window, whose events and answers have another form",
                _update(mapping, profile, "--tumbling-window-in-seconds 0"),
                unrecorded=True,
            )
        )
    return faults


def _of_giving_up(mapping: Mapping[str, Any], profile: str | None) -> list[MappingFault]:
    """When a record that could not be applied is given up, and what becomes of it then."""
    faults = []
    attempts = mapping.get("MaximumRetryAttempts")
    if attempts is not None and attempts != NO_LIMIT:
        faults.append(
            MappingFault(
                "may skip records",
                f"gives records up after {attempts} retries, which an outage of the lake uses up in minutes",
                _update(mapping, profile, f"--maximum-retry-attempts {NO_LIMIT}"),
            )
        )
    age_s = mapping.get("MaximumRecordAgeInSeconds")
    if age_s is None or age_s == NO_LIMIT or age_s > MAX_RECORD_AGE_S:
        faults.append(
            MappingFault(
                "may skip records",
                "keeps trying a record until the stream drops it, after 24 hours, and nothing records the loss",
                _update(mapping, profile, "--maximum-record-age-in-seconds 72000"),
            )
        )
    elif age_s < MIN_RECORD_AGE_S:
        faults.append(
            MappingFault(
                "may skip records",
                f"gives records up at an age of {age_s} s, where an outage of {MIN_RECORD_AGE_S // 3600} hours "
                "should be bridged",
                _update(mapping, profile, "--maximum-record-age-in-seconds 72000"),
            )
        )
    if not ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination"):
        faults.append(
            MappingFault(
                "may skip records",
                "is without a failure destination: records that are given up are lost",
                _update(
                    mapping,
                    profile,
                    "--destination-config '"
                    + json.dumps({"OnFailure": {"Destination": "arn:aws:s3:::QUARANTINE_BUCKET"}})
                    + "'",
                ),
                unrecorded=True,
            )
        )
    if not mapping.get("BisectBatchOnFunctionError"):
        faults.append(
            MappingFault(
                "may skip records",
                "is without bisecting: a record that cannot be applied takes its whole batch with it",
                _update(mapping, profile, "--bisect-batch-on-function-error"),
            )
        )
    return faults


def _settings(mapping: Mapping[str, Any]) -> str:
    """The options that create a mapping anew as it should be, for the same function and stream."""
    destination = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
    config = json.dumps({"OnFailure": {"Destination": destination or "arn:aws:s3:::QUARANTINE_BUCKET"}})
    return (
        f"--function-name {mapping.get('FunctionArn')} --event-source-arn {mapping.get('EventSourceArn')} "
        f"--starting-position {STARTING_POSITION} --batch-size {mapping.get('BatchSize', 1000)} "
        f"--bisect-batch-on-function-error --maximum-retry-attempts {NO_LIMIT} "
        f"--maximum-record-age-in-seconds 72000 --function-response-types {REPORT_FAILURES} "
        f"--destination-config '{config}'"
    )


def _update(mapping: Mapping[str, Any], profile: str | None, options: str) -> str:
    return f"{_aws(mapping, 'update-event-source-mapping', profile)} {options}"


def _aws(mapping: Mapping[str, Any], call: str, profile: str | None) -> str:
    where = _options(str(mapping.get("EventSourceArn") or ""), profile)
    return f"aws lambda {call}{where} --uuid {mapping.get('UUID')}"


def _options(arn: str, profile: str | None) -> str:
    """The AWS CLI's options that name the account and the Region."""
    region = arn.split(":")[3] if arn.count(":") >= 5 else ""
    return (f" --profile {profile}" if profile else "") + (f" --region {region}" if region else "")
