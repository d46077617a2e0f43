"""Heartbeat and checks as `deploy` schedules them, on a CloudFormation that makes them and with IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynalake.config import ScheduledChecksConfig
from dynalake.deploy.plans import Deployment
from dynalake.errors import DeployError
from tests.end_to_end.ministack import REGION
from tests.operate.land import LAKE, SOURCE, STRANGER, Land
from tests.operate.test_deployed_permissions import administrator

NAME = "watched"
FUNCTION = f"arn:aws:lambda:{REGION}:{SOURCE}:function:dynalake-{NAME}"
CLUSTER = f"arn:aws:ecs:{REGION}:{LAKE}:cluster/lake"
TASK = f"arn:aws:ecs:{REGION}:{LAKE}:task-definition/dynalake"
ROLES = [f"arn:aws:iam::{LAKE}:role/task", f"arn:aws:iam::{LAKE}:role/execution"]
BY_TASK = f"""
checks = {{ target = "{CLUSTER}", task_definition = "{TASK}", task_roles = {json.dumps(ROLES)}, \
subnets = ["subnet-0123456789abcdef0"], security_groups = ["sg-0123456789abcdef0"], schedule = "rate(6 hours)", \
arguments = ["--suite", "parity"] }}"""
CHECKER = f"arn:aws:lambda:{REGION}:{SOURCE}:function:checker"
BY_FUNCTION = f'checks = {{ target = "{CHECKER}" }}'
CHECKS_STACK = f"dynalake-{NAME}-checks"


@pytest.fixture(scope="module")
def watched(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    assert answer.document["heartbeat"] is True
    assert answer.document["checks"] == "unscheduled"
    return land


def doctor(land: Land, what: str) -> Mapping[str, str]:
    (found,) = [
        check for check in land.run("doctor", NAME, "--json").document["checks"] if check["what"] == what
    ]
    return dict(found)


def schedule(land: Land, account: str, name: str) -> Any:
    return land.client("scheduler", account).get_schedule(Name=name)


@contextmanager
def assumed(land: Land, account: str, role: str) -> Iterator[Any]:
    """Clients in a schedule's role, which only EventBridge Scheduler may assume."""
    iam = land.client("iam", account)
    before = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    assert [each["Principal"] for each in before["Statement"]] == [{"Service": "scheduler.amazonaws.com"}]
    assert before["Statement"][0]["Condition"] == {"StringEquals": {"aws:SourceAccount": account}}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "sts:AssumeRole",
    }
    opened = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=opened)
    try:
        key, secret = administrator(land, account)
        credentials = land.aws.client("sts", key, secret).assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName="schedule"
        )["Credentials"]
        yield lambda service: land.aws.client(
            service,
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )
    finally:
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(before))


def statements(land: Land, account: str, role: str) -> list[dict[str, Any]]:
    iam = land.client("iam", account)
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    return list((document if isinstance(document, dict) else json.loads(document))["Statement"])


def test_the_heartbeat_is_scheduled_and_its_role_may_invoke_this_function_alone(watched: Land) -> None:
    found = schedule(watched, SOURCE, f"dynalake-{NAME}-heartbeat")
    assert found["ScheduleExpression"] == "rate(5 minutes)"
    assert found["Target"]["Arn"] == FUNCTION
    assert json.loads(found["Target"]["Input"]) == {"dynalake": "heartbeat"}
    role = f"dynalake-{NAME}-heartbeat"
    assert found["Target"]["RoleArn"] == f"arn:aws:iam::{SOURCE}:role/{role}"
    (statement,) = statements(watched, SOURCE, role)
    assert (statement["Action"], statement["Resource"]) == ("lambda:InvokeFunction", FUNCTION)
    with assumed(watched, SOURCE, role) as client:
        functions = client("lambda")
        call = {"InvocationType": "Event", "Payload": found["Target"]["Input"].encode()}
        assert functions.invoke(FunctionName=FUNCTION, **call)["StatusCode"] == 202
        refusals: list[Callable[[], Any]] = [
            lambda: functions.invoke(FunctionName=f"{FUNCTION}-other", **call),
            lambda: functions.get_function_configuration(FunctionName=FUNCTION),
            lambda: client("dynamodb").scan(TableName=NAME),
        ]
        for refused in refusals:
            with pytest.raises(ClientError, match="AccessDenied"):
                refused()
        iam = watched.client("iam", SOURCE)
        before = iam.get_role_policy(RoleName=role, PolicyName="invoke")["PolicyDocument"]
        iam.delete_role_policy(RoleName=role, PolicyName="invoke")
        with pytest.raises(ClientError, match="AccessDenied"):
            functions.invoke(FunctionName=FUNCTION, **call)
        iam.put_role_policy(RoleName=role, PolicyName="invoke", PolicyDocument=json.dumps(before))


def test_where_nothing_schedules_the_checks_deploy_the_doctor_and_the_alarm_say_so(watched: Land) -> None:
    answer = watched.run("deploy", NAME, "--yes", "--code", str(watched.zip))
    assert answer.code == 0, answer.err
    assert "NO CHECK IS SCHEDULED" in answer.out
    found = doctor(watched, "checks")
    assert found["verdict"] == "skip", "a pipeline that was just deployed has not failed"
    assert "NO CHECK IS SCHEDULED" in found["detail"]
    (alarm,) = watched.client("cloudwatch", SOURCE).describe_alarms(
        AlarmNames=[f"dynalake-{NAME}-checks-silent"]
    )["MetricAlarms"]
    assert "NOTHING SCHEDULES ONE" in alarm["AlarmDescription"]
    assert alarm["TreatMissingData"] == "breaching"


def test_a_schedule_that_is_gone_or_switched_off_fails(watched: Land) -> None:
    scheduler, name = watched.client("scheduler", SOURCE), f"dynalake-{NAME}-heartbeat"
    assert doctor(watched, "heartbeat")["verdict"] == "pass"
    whole = {
        key: value
        for key, value in schedule(watched, SOURCE, name).items()
        if key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    }
    scheduler.update_schedule(**whole, State="DISABLED")
    found = doctor(watched, "heartbeat")
    assert found["verdict"] == "fail"
    assert "DISABLED" in found["detail"]
    assert f"--profile shop --region {REGION}" in found["remedy"]
    scheduler.delete_schedule(Name=name)
    found = doctor(watched, "heartbeat")
    assert found["verdict"] == "fail"
    assert "missing" in found["detail"]
    assert found["remedy"] == f"dynalake deploy {NAME} --side source"
    scheduler.create_schedule(**whole)


def test_checks_run_by_a_task_are_scheduled_in_the_account_of_the_cluster(watched: Land) -> None:
    watched.write_config(NAME, deploy=BY_TASK)
    answer = watched.deploy(NAME)
    assert answer.code == 0, answer.err
    assert answer.document["checks"] == "scheduled"
    found = schedule(watched, LAKE, f"dynalake-{NAME}-checks")
    assert found["ScheduleExpression"] == "rate(6 hours)"
    assert found["Target"]["Arn"] == CLUSTER
    assert found["Target"]["EcsParameters"]["TaskDefinitionArn"] == TASK
    command = ["check", NAME, "--json", "--suite", "parity"]
    given = {"containerOverrides": [{"name": "dynalake", "command": command}]}
    assert json.loads(found["Target"]["Input"]) == given
    run, passed = statements(watched, LAKE, f"dynalake-{NAME}-checks")
    assert (run["Action"], run["Resource"]) == ("ecs:RunTask", [TASK, f"{TASK}:*"])
    assert run["Condition"] == {"ArnEquals": {"ecs:cluster": CLUSTER}}
    assert (passed["Action"], passed["Resource"]) == ("iam:PassRole", ROLES)
    (alarm,) = watched.client("cloudwatch", SOURCE).describe_alarms(
        AlarmNames=[f"dynalake-{NAME}-checks-silent"]
    )["MetricAlarms"]
    assert "NOTHING" not in alarm["AlarmDescription"]
    assert alarm["EvaluationPeriods"] == 10


def test_a_check_long_ago_fails_the_doctor_and_a_recent_one_passes(watched: Land) -> None:
    checkpoints = watched.client("dynamodb", LAKE)
    key = {"pipeline": {"S": watched.pipeline(NAME).lake_table}, "entry": {"S": "check/000000000000001"}}
    nothing = {"parity": None, "freshness": None, "lag": None}
    document: dict[str, Any] = {"pipeline": NAME, "at": 1, "outcomes": [], "mend": [], **nothing}
    checkpoints.put_item(
        TableName="dynalake.checkpoints",
        Item={**key, "verdict": {"S": "pass"}, "document": {"S": json.dumps(document)}},
    )
    found = doctor(watched, "checks")
    checkpoints.delete_item(TableName="dynalake.checkpoints", Key=key)
    assert found["verdict"] == "fail", found
    assert "none has run for" in found["detail"]
    assert f"dynalake check {NAME}" in found["remedy"]


def test_a_target_elsewhere_moves_the_schedule_and_none_takes_it_away(watched: Land) -> None:
    watched.write_config(NAME, deploy=BY_FUNCTION)
    answer = watched.deploy(NAME)
    assert answer.code == 0, answer.err
    removed = [stack for side in answer.document["sides"] for stack in side["stacks"] if stack.get("removed")]
    assert [stack["stack"] for stack in removed] == [CHECKS_STACK]
    with pytest.raises(ClientError, match="ResourceNotFound"):
        schedule(watched, LAKE, f"dynalake-{NAME}-checks")
    found = schedule(watched, SOURCE, f"dynalake-{NAME}-checks")
    assert json.loads(found["Target"]["Input"]) == {"command": ["check", NAME, "--json"]}
    (statement,) = statements(watched, SOURCE, f"dynalake-{NAME}-checks")
    assert (statement["Action"], statement["Resource"]) == ("lambda:InvokeFunction", CHECKER)
    assert watched.run("remove", NAME, "--side", "lake", "--yes", "--json").code == 0
    schedule(watched, SOURCE, f"dynalake-{NAME}-checks")
    answer = watched.run("remove", NAME, "--yes", "--json")
    assert answer.code == 0, answer.err
    with pytest.raises(ClientError, match="ResourceNotFound"):
        schedule(watched, SOURCE, f"dynalake-{NAME}-checks")


def test_both_can_be_left_out_and_that_is_said(watched: Land) -> None:
    watched.write_config(NAME, deploy="heartbeat = false\nchecks = { enabled = false }")
    answer = watched.run("deploy", NAME, "--yes", "--code", str(watched.zip))
    assert answer.code == 0, answer.err
    assert "the heartbeat is switched off" in answer.out
    assert "the checks are switched off" in answer.out
    assert (
        watched.client("scheduler", SOURCE).list_schedules(NamePrefix=f"dynalake-{NAME}")["Schedules"] == []
    )
    names = {
        alarm["AlarmName"] for alarm in watched.client("cloudwatch", SOURCE).describe_alarms()["MetricAlarms"]
    }
    assert not {f"dynalake-{NAME}-heartbeat", f"dynalake-{NAME}-checks-silent"} & names
    assert f"dynalake-{NAME}-iterator-age" in names
    sids = {statement["Sid"] for statement in statements(watched, SOURCE, f"dynalake-{NAME}-function")}
    assert not any(sid.startswith("See") for sid in sids)
    assert doctor(watched, "alarms")["verdict"] == "pass"
    for what in ("heartbeat", "checks"):
        assert doctor(watched, what)["verdict"] == "skip"


# What the configuration may say


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": CLUSTER}, "task_definition and task_roles and subnets and security_groups"),
        ({"target": CHECKER, "subnets": ["subnet-1"]}, "not an ECS cluster"),
        ({"subnets": ["subnet-1"]}, "not an ECS cluster"),
        ({"target": "arn:aws:sqs:eu-central-1:111111111111:q"}, "target"),
        ({"schedule": "hourly"}, "schedule"),
        ({"silent_hours": 169}, "168"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ScheduledChecksConfig.model_validate(settings)


@pytest.mark.parametrize(("account", "region"), [(STRANGER, REGION), (SOURCE, "us-east-1")])
def test_a_target_of_neither_side_is_refused_before_anything_is_made(
    watched: Land, account: str, region: str
) -> None:
    target = f"arn:aws:lambda:{region}:{account}:function:checker"
    watched.write_config(NAME, deploy=f'checks = {{ target = "{target}" }}')
    with pytest.raises(DeployError, match="neither the lake's nor the source's"):
        _ = Deployment(NAME, watched.pipeline(NAME)).checks_side
    answer = watched.deploy(NAME)
    watched.write_config(NAME)
    assert answer.code == 2
    assert account in answer.err
