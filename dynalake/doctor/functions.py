"""The prerequisites of the function: role, mapping, quarantine, alarms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from dynalake.config import DeployConfig
from dynalake.deploy.deployer import SIDES
from dynalake.deploy.names import alarm_prefix, function_name, function_role, writer_role
from dynalake.deploy.plans import Deployment
from dynalake.doctor.checkup import FailedError, Patient, Prerequisite
from ingest.mapping import latest_stream, mappings_faults

ALARMS: Final = (
    "heartbeat",
    "checks-silent",
    "iterator-age",
    "errors",
    "throttles",
    "lake-throttled",
    "failed",
    "quarantine",
    "policy",
    "given-up",
    "dropped",
    "lag",
    "parity",
    "freshness",
    "checks-failed",
)
"""What the alarms of `ingest/templates/source.yaml` are called, behind the pipeline's name."""


def alarms_of(deploy: DeployConfig) -> list[str]:
    """The alarms that a deployment has."""
    left_out = {
        *(() if deploy.heartbeat else ("heartbeat",)),
        *(() if deploy.checks.enabled else ("checks-silent",)),
    }
    return [name for name in ALARMS if name not in left_out]


def of_functions(patient: Patient) -> Sequence[Prerequisite]:
    """The prerequisites of the function."""
    look = _Looks(patient)
    return [
        Prerequisite("lake", "writer's trust", look.trust),
        Prerequisite("source", "function's role", look.role),
        Prerequisite("source", "function", look.function),
        Prerequisite("source", "mapping", look.mapping),
        Prerequisite("source", "concurrency", look.concurrency),
        Prerequisite("source", "alarms", look.alarms),
        Prerequisite("source", "alarms' listeners", look.listeners),
    ]


class _Looks:
    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._name = patient.name
        self._redeploy = {side: patient.redeploy(side) for side in SIDES}

    def trust(self) -> str:
        self._patient.require_deployed()
        deployment = Deployment(self._name, self._patient.config)
        iam = self._patient.account("lake").iam()
        role = writer_role(self._name)
        try:
            found: Any = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            raise FailedError(f"the role {role} is missing", self._redeploy["lake"]) from None
        document = json.loads(unquote(found)) if isinstance(found, str) else found
        wanted = {
            "ArnEquals": {"aws:PrincipalArn": deployment.function_role_arn()},
            "StringEquals": {"sts:ExternalId": deployment.external_id},
        }
        conditions = [_plain(statement.get("Condition", {})) for statement in document["Statement"]]
        if conditions != [wanted]:
            raise FailedError(
                f"the role {role} does not trust the function's role alone, with the configuration's ExternalId",
                self._redeploy["lake"],
            )
        return "the function's role alone, with the ExternalId"

    def role(self) -> str:
        self._patient.require_deployed()
        iam = self._patient.account("source").iam()
        role = function_role(self._name)
        try:
            policies = iam.list_role_policies(RoleName=role)["PolicyNames"]
        except iam.exceptions.NoSuchEntityException:
            raise FailedError(f"{role} is missing", self._redeploy["source"]) from None
        if not policies:
            raise FailedError(f"{role} may do nothing", self._redeploy["source"])
        return role

    @cached_property
    def _function(self) -> Mapping[str, Any]:
        self._patient.require_deployed()
        functions = self._patient.account("source").functions()
        try:
            return functions.get_function_configuration(FunctionName=function_name(self._name))
        except functions.exceptions.ResourceNotFoundException:
            raise FailedError(f"{function_name(self._name)} is missing", self._redeploy["source"]) from None

    def function(self) -> str:
        found = self._function
        if found.get("State", "Active") != "Active":
            raise FailedError(
                f"is {found['State']}: {found.get('StateReason', '')}", self._redeploy["source"]
            )
        deployment = Deployment(self._name, self._patient.config)
        variables = found.get("Environment", {}).get("Variables", {})
        wanted = {
            "DYNALAKE_LAKE_TABLE": self._patient.config.lake_table,
            "DYNALAKE_LAKE_REGION": self._patient.config.lake.region,
            "DYNALAKE_LAKE_ROLE_ARN": deployment.writer_role_arn(),
            "DYNALAKE_EXTERNAL_ID": deployment.external_id,
            "DYNALAKE_POLICY": deployment.policy(),
            "DYNALAKE_POLICY_MISMATCH": self._patient.config.policy_mismatch,
        }
        other = [name for name, value in wanted.items() if variables.get(name) != value]
        if other:
            raise FailedError(
                f"is set up otherwise than the configuration says ({', '.join(other)})",
                self._redeploy["source"],
            )
        return f"{found['FunctionName']}, {found.get('MemorySize')} MB"

    def _mappings(self) -> list[Mapping[str, Any]]:
        functions = self._patient.account("source").functions()
        pages = functions.get_paginator("list_event_source_mappings").paginate(
            FunctionName=self._function["FunctionName"]
        )
        return [mapping for page in pages for mapping in page["EventSourceMappings"]]

    def mapping(self) -> str:
        mappings = self._mappings()
        faults = mappings_faults(
            mappings,
            latest_stream(self._patient.source_description),
            pipeline=self._name,
            profile=self._patient.config.source.profile,
        )
        if faults:
            raise FailedError(
                "; ".join(fault.message for fault in faults),
                "; ".join(dict.fromkeys(fault.remedy for fault in faults)),
            )
        return f"Enabled, on the table's stream, {mappings[0].get('BatchSize')} records at most"

    def concurrency(self) -> str:
        name = self._function["FunctionName"]
        functions = self._patient.account("source").functions()
        answer: Mapping[str, Any] = functions.get_function_concurrency(FunctionName=name)
        reserved: int | None = answer.get("ReservedConcurrentExecutions")
        if reserved is None:
            return "not reserved"
        _ = self._patient.source_description
        stream = self._patient.pipeline.described_source.stream_arn
        pages = (
            self._patient.account("source").streams().describe_stream(StreamArn=stream)["StreamDescription"]
        )
        shards = sum("EndingSequenceNumber" not in shard["SequenceNumberRange"] for shard in pages["Shards"])
        factor = max((int(each.get("ParallelizationFactor", 1)) for each in self._mappings()), default=1)
        if shards * factor > reserved:
            raise FailedError(
                f"{reserved} reserved, and {shards} open shards ask for {shards * factor}",
                f"raise deploy.source.ReservedConcurrency to {shards * factor} or more",
            )
        return f"{reserved} reserved, {shards * factor} asked for"

    @cached_property
    def _alarms(self) -> list[Mapping[str, Any]]:
        self._patient.require_deployed()
        pages = (
            self._patient.account("source")
            .cloudwatch()
            .get_paginator("describe_alarms")
            .paginate(AlarmNamePrefix=alarm_prefix(self._name))
        )
        return [alarm for page in pages for alarm in page["MetricAlarms"]]

    def alarms(self) -> str:
        found = {alarm["AlarmName"].removeprefix(alarm_prefix(self._name)): alarm for alarm in self._alarms}
        wanted = alarms_of(self._patient.config.deploy)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise FailedError(f"missing: {', '.join(missing)}", self._redeploy["source"])
        off = [name for name in wanted if not found[name].get("ActionsEnabled", True)]
        if off:
            raise FailedError(
                f"switched off: {', '.join(off)}",
                self._patient.aws("source", "cloudwatch enable-alarm-actions")
                + " --alarm-names "
                + " ".join(f"{alarm_prefix(self._name)}{name}" for name in off),
            )
        return f"{len(wanted)}, all on"

    def listeners(self) -> str:
        topics = sorted({action for alarm in self._alarms for action in alarm.get("AlarmActions", ())})
        if not topics:
            raise FailedError("no alarm tells anybody", self._redeploy["source"])
        client = self._patient.account("source").topics()
        for topic in topics:
            subscriptions = client.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
            if any(each["SubscriptionArn"].startswith("arn:") for each in subscriptions):
                return f"{len(subscriptions)} at {topic.rpartition(':')[2]}"
            if subscriptions:
                raise FailedError(
                    f"{subscriptions[0].get('Endpoint')} has not confirmed yet",
                    "follow the link in the mail that came",
                )
        raise FailedError(
            f"nobody listens to {topics[0].rpartition(':')[2]}",
            f"write deploy.alarm_email, then {self._redeploy['source']}; or subscribe to the topic",
        )


def _plain(condition: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A condition with lists of one as that one."""
    return {
        operator: {
            key: value[0] if isinstance(value, list) and len(value) == 1 else value
            for key, value in keys.items()
        }
        for operator, keys in condition.items()
    }
