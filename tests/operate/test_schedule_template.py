"""examples/eventbridge: the template of docs/scheduling.md, by AWS's schemas and on a CloudFormation that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.ministack import REGION, Ministack
from tests.environments import ROOT
from tests.waiting import until

TEMPLATE = ROOT / "examples" / "eventbridge" / "schedule.yaml"
ACCOUNT = "999999999999"
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/lake"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/orders"


def test_cfn_lint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    words = ["--include-checks", "I", "--regions", f"{REGION},us-east-1", "--", str(TEMPLATE)]
    done = subprocess.run([linter, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(strict_ministack: Ministack) -> Ministack:
    """The stack, made by CloudFormation."""
    parameters = {
        "PipelineName": "orders",
        "Name": "check",
        "Image": "registry.example/dynalake:1",
        "Command": "check,orders,--json",
        "Schedule": "rate(1 hour)",
        "ClusterArn": CLUSTER,
        "Subnets": "subnet-1,subnet-2",
        "SecurityGroups": "sg-1",
        "TaskRoleArn": ROLE,
        "AlarmTopicArn": TOPIC,
    }
    stacks = strict_ministack.client("cloudformation", ACCOUNT)
    stacks.create_stack(
        StackName="check",
        TemplateBody=TEMPLATE.read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )

    def stack() -> Any:
        return stacks.describe_stacks(StackName="check")["Stacks"][0]

    until(lambda: not stack()["StackStatus"].endswith("PROGRESS"), strict_ministack.tail)
    assert stack()["StackStatus"] == "CREATE_COMPLETE", stacks.describe_stack_events(StackName="check")
    return strict_ministack


def test_the_schedule_starts_the_command_in_the_cluster(made: Ministack) -> None:
    schedule = made.client("scheduler", ACCOUNT).get_schedule(Name="dynalake-orders-check")
    assert schedule["ScheduleExpression"] == "rate(1 hour)"
    assert schedule["Target"]["Arn"] == CLUSTER
    tasks = made.client("ecs", ACCOUNT)
    told = schedule["Target"]["EcsParameters"]
    task: Any = tasks.describe_task_definition(taskDefinition=told["TaskDefinitionArn"])["taskDefinition"]
    (container,) = task["containerDefinitions"]
    assert container["command"] == ["check", "orders", "--json"]
    assert task["taskRoleArn"] == ROLE
    starter = made.client("iam", ACCOUNT).get_role(RoleName=schedule["Target"]["RoleArn"].rpartition("/")[2])
    trusted = json.dumps(starter["Role"]["AssumeRolePolicyDocument"])
    assert "scheduler.amazonaws.com" in trusted


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"containers": [{"exitCode": 0}], "stopCode": "EssentialContainerExited"}, False),
        ({"containers": [{"exitCode": 1}], "stopCode": "EssentialContainerExited"}, True),
        ({"containers": [{"exitCode": 143}], "stopCode": "UserInitiated"}, True),
        ({"containers": [{}], "stopCode": "TaskFailedToStart"}, True),
        ({"containers": [{"exitCode": 2}], "lastStatus": "RUNNING"}, False),
        ({"containers": [{"exitCode": 2}], "group": "dynalake-customers-check"}, False),
    ],
)
def test_a_run_that_fails_or_does_not_start_is_told(made: Ministack, detail: Any, told: bool) -> None:
    events = made.client("events", ACCOUNT)
    rule = events.describe_rule(Name="dynalake-orders-check-failed")
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == TOPIC
    event = {
        "id": "1",
        "account": ACCOUNT,
        "source": "aws.ecs",
        "time": "2026-11-24T12:00:00Z",
        "region": REGION,
        "resources": [],
        "detail-type": "ECS Task State Change",
        "detail": {"lastStatus": "STOPPED", "group": "dynalake-orders-check", **detail},
    }
    found = events.test_event_pattern(EventPattern=rule["EventPattern"], Event=json.dumps(event))["Result"]
    assert found is told
