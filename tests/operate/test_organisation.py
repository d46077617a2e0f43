"""What organisations demand of roles and stacks: a path, a boundary, tags, a service role."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.ministack import REGION
from tests.operate.land import LAKE, SOURCE, Land
from tests.waiting import until

NAME = "bounded"
PATH = "/teams/orders/"
ROLES = (
    (SOURCE, f"dynalake-{NAME}-function"),
    (SOURCE, f"dynalake-{NAME}-heartbeat"),
    (LAKE, f"dynalake-{NAME}-writer"),
)


def boundary(account: str) -> str:
    return f"arn:aws:iam::{account}:policy/boundary"


def service_role(account: str) -> str:
    return f"arn:aws:iam::{account}:role/cloudformation"


DEPLOY = f"""
source = {{ RolePath = "{PATH}", PermissionsBoundary = "{boundary(SOURCE)}" }}
lake = {{ RolePath = "{PATH}", PermissionsBoundary = "{boundary(LAKE)}" }}
shared = {{ MaxWriteUnits = 700 }}
tags = {{ cost-centre = "4711" }}
service_roles = {{ source = "{service_role(SOURCE)}", lake = "{service_role(LAKE)}" }}
"""


@pytest.fixture(scope="module")
def bounded(land: Land) -> Land:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudformation.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    for account in (SOURCE, LAKE):
        iam = land.client("iam", account)
        document = {"Version": "2012-10-17", "Statement": [everything]}
        iam.create_policy(PolicyName="boundary", PolicyDocument=json.dumps(document))
        iam.create_role(
            RoleName="cloudformation",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
        iam.put_role_policy(RoleName="cloudformation", PolicyName="all", PolicyDocument=json.dumps(document))
    land.make_source(NAME)
    land.write_config(NAME, deploy=DEPLOY)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    return land


def stack(land: Land, account: str, name: str) -> Any:
    return land.client("cloudformation", account).describe_stacks(StackName=name)["Stacks"][0]


def parameters(land: Land, account: str, name: str) -> dict[str, str]:
    return {each["ParameterKey"]: each["ParameterValue"] for each in stack(land, account, name)["Parameters"]}


@pytest.mark.parametrize(("account", "name"), ROLES)
def test_every_role_has_the_path(bounded: Land, account: str, name: str) -> None:
    role = bounded.client("iam", account).get_role(RoleName=name)["Role"]
    assert role["Path"] == PATH
    assert role["Arn"] == f"arn:aws:iam::{account}:role{PATH}{name}"


def test_a_record_goes_through_roles_with_a_path(bounded: Land) -> None:
    """The lake trusts the function's role by its ARN, of which the path is a part."""
    bounded.put(NAME, {"pk": {"S": "ann"}, "sk": {"N": "1"}})
    until(lambda: bounded.rows(bounded.pipeline(NAME).lake_table), bounded.aws.tail)
    checks = bounded.run("doctor", NAME, "--json").document["checks"]
    assert {check["what"]: check["verdict"] for check in checks}["writer's trust"] == "pass"


@pytest.mark.parametrize(("account", "side"), [(SOURCE, "source"), (LAKE, "lake")])
def test_every_stack_has_the_tags_and_the_boundary(bounded: Land, account: str, side: str) -> None:
    found = stack(bounded, account, f"dynalake-{NAME}-{side}")
    tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    assert parameters(bounded, account, f"dynalake-{NAME}-{side}")["PermissionsBoundary"] == boundary(account)
    assert tags == {"application": "dynalake", "cost-centre": "4711"}


def test_cloudformation_is_given_the_service_role(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynalake.deploy.plans import Plan
    from dynalake.deploy.stacks import Stacks

    calls: list[dict[str, Any]] = []

    class StopError(Exception):
        pass

    class CloudFormation:
        def validate_template(self, **_: Any) -> Any:
            return {"Parameters": []}

        def describe_stacks(self, **_: Any) -> Any:
            return {"Stacks": [{"StackStatus": "CREATE_COMPLETE", "StackId": "id"}]}

        def get_paginator(self, _: str) -> Any:
            class Pages:
                def paginate(self, **_: Any) -> Any:
                    return [{"StackEvents": []}]

            return Pages()

        def create_change_set(self, **request: Any) -> Any:
            calls.append(request)
            raise StopError

        def delete_stack(self, **request: Any) -> Any:
            calls.append(request)
            raise StopError

    client: Any = CloudFormation()
    stacks = Stacks(client, role_arn=service_role(SOURCE), tags={"a": "b"})
    with pytest.raises(StopError):
        stacks.propose(Plan("s", "{}", {}, "x"))
    with pytest.raises(StopError):
        stacks.delete("s")
    assert [call["RoleARN"] for call in calls] == [service_role(SOURCE)] * 2
    assert {"Key": "a", "Value": "b"} in calls[0]["Tags"]


def test_what_a_pipeline_did_not_set_of_the_shared_tables_stays(bounded: Land) -> None:
    shared = "dynalake-shared"
    assert parameters(bounded, LAKE, shared)["MaxWriteUnits"] == "700"
    bounded.write_config(NAME, deploy=DEPLOY.replace("MaxWriteUnits = 700", "MaxReadUnits = 3000"))
    assert bounded.deploy(NAME, "--side", "lake").code == 0
    found = parameters(bounded, LAKE, shared)
    assert (found["MaxReadUnits"], found["MaxWriteUnits"]) == ("3000", "700")
    bounded.write_config(NAME, deploy=DEPLOY.replace("shared = { MaxWriteUnits = 700 }", ""))
    assert bounded.deploy(NAME, "--side", "lake").code == 0
    assert parameters(bounded, LAKE, shared) == found, "another pipeline's settings are not reset"


def test_the_writer_learns_the_key_of_the_shared_tables(bounded: Land) -> None:
    key = f"arn:aws:kms:{REGION}:{LAKE}:key/11111111-2222-3333-4444-555555555555"
    bounded.write_config(NAME, deploy=DEPLOY.replace("MaxWriteUnits = 700", f'KmsKeyArn = "{key}"'))
    assert bounded.deploy(NAME, "--side", "lake").code == 0
    bounded.write_config(NAME, deploy=DEPLOY)
    assert bounded.deploy(NAME, "--side", "lake").code == 0, "a pipeline that does not name the key"
    assert parameters(bounded, LAKE, f"dynalake-{NAME}-lake")["SharedKmsKeyArn"] == key
    bounded.write_config(NAME, deploy=DEPLOY.replace("MaxWriteUnits = 700", 'KmsKeyArn = ""'))
    assert bounded.deploy(NAME, "--side", "lake").code == 0
    assert parameters(bounded, LAKE, f"dynalake-{NAME}-lake")["SharedKmsKeyArn"] == ""
    bounded.write_config(NAME, deploy=DEPLOY)


def test_an_unknown_shared_parameter_is_refused(bounded: Land) -> None:
    bounded.write_config(NAME, deploy=DEPLOY.replace("MaxWriteUnits", "MaxWriteUnitz"))
    answer = bounded.deploy(NAME, "--side", "lake")
    bounded.write_config(NAME, deploy=DEPLOY)
    assert answer.code == 2
    assert "'MaxWriteUnitz'" in answer.err
