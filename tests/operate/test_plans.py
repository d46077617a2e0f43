"""What a deployment refuses before it asks CloudFormation: wildcards in roles, and an environment that is too large."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode.cfn_yaml import loads

from dynalake.config import PipelineConfig, parse_config
from dynalake.deploy.plans import Code, Deployment
from dynalake.deploy.templates import MAX_ENVIRONMENT, Evaluated, environment_of, template
from dynalake.errors import DeployError
from ingest import lambda_function
from ingest.source import KeyAttribute

FOLDER = Path(lambda_function.__file__).with_name("templates")
EXAMPLES = FOLDER.parents[1] / "examples" / "eventbridge"
TEMPLATES = sorted([*FOLDER.glob("*.yaml"), *EXAMPLES.glob("*.yaml")])

ACCOUNT = "111111111111"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/teams/orders/some-role"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/11111111-2222"
VALID = {
    "StreamArn": f"arn:aws:dynamodb:eu-central-1:{ACCOUNT}:table/orders/stream/2026-01-01T00:00:00.000",
    "LakeRoleArn": ROLE,
    "FunctionRoleArn": ROLE,
    "TaskRoleArn": ROLE,
    "TaskRoles": ROLE,
    "TaskDefinition": f"arn:aws:ecs:eu-central-1:{ACCOUNT}:task-definition/dynalake",
    "ClusterArn": f"arn:aws:ecs:eu-central-1:{ACCOUNT}:cluster/tools",
    "KmsKeyArn": KEY,
    "SharedKmsKeyArn": KEY,
    "SourceKmsKeyArn": KEY,
    "HashKeyKmsKeyArn": KEY,
    "HashKeySecretArn": f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:teams/orders@key-AbCdEf",
    "QuarantineBucketName": "bucket-of-orders",
    "QuarantinePrefix": "records/of orders",
    "PipelineName": "orders",
    "Name": "check",
    "LakeTableName": "dynalake.shop.orders",
    "CatalogueTableName": "dynalake.catalogue",
    "CheckpointTableName": "dynalake.checkpoints",
    "ExternalId": "orders-and-nothing-else",
    "RolePath": "/teams/orders/",
}
"""A valid value of each parameter that is part of a role."""

TARGETS = {
    "checks-task.yaml": VALID["ClusterArn"],
    "checks-function.yaml": f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:checks",
}


def parameters_in_roles(document: dict[str, Any]) -> set[str]:
    """The parameters that a role's path or policies name."""
    text = json.dumps(
        [each["Properties"] for each in document["Resources"].values() if each["Type"] == "AWS::IAM::Role"]
    )
    named = set(re.findall(r'"Ref": "(\w+)"', text)) | set(re.findall(r"\$\{(\w+)\}", text))
    return named & set(document["Parameters"]) - {"PermissionsBoundary"}


PARAMETERS = [
    (path.name, name, document["Parameters"][name])
    for path in TEMPLATES
    for document in [loads(path.read_text(encoding="utf-8"))]
    for name in sorted(parameters_in_roles(document))
]


def test_the_roles_have_parameters() -> None:
    assert len(PARAMETERS) > 20


@pytest.mark.parametrize(
    ("file", "name", "declared"), PARAMETERS, ids=[f"{file}-{name}" for file, name, _ in PARAMETERS]
)
def test_no_parameter_of_a_role_takes_a_wildcard(file: str, name: str, declared: dict[str, Any]) -> None:
    """`*`, `?` and policy variables would let a statement reach further than it says."""
    valid = TARGETS[file] if name == "Target" else VALID[name]
    pattern = re.compile(declared["AllowedPattern"], re.ASCII)
    assert pattern.fullmatch(valid)
    for place in range(len(valid) + 1):
        for wildcard in ("*", "?", "${aws:username}"):
            assert not pattern.fullmatch(valid[:place] + wildcard + valid[place:])
    assert not pattern.fullmatch("*")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_leading_keys_must_be_there_to_be_compared(path: Path) -> None:
    """`ForAllValues` is true of a request without the key (IAM user guide, "Multivalued context keys")."""
    statements = _statements(loads(path.read_text(encoding="utf-8")))
    found = [each["Condition"] for each in statements if "dynamodb:LeadingKeys" in json.dumps(each)]
    assert len(found) == (3 if path.name == "lake.yaml" else 0)
    for condition in found:
        assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}


@pytest.mark.parametrize(
    "path", sorted((EXAMPLES.parent / "policies").glob("*.json")), ids=lambda path: path.name
)
def test_leading_keys_of_a_policy_must_be_there_to_be_compared(path: Path) -> None:
    for statement in json.loads(path.read_text(encoding="utf-8"))["Statement"]:
        if "dynamodb:LeadingKeys" in json.dumps(statement):
            assert statement["Condition"]["Null"] == {"dynamodb:LeadingKeys": "false"}


def _statements(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        found = [node] if "Effect" in node else []
        return found + [each for value in node.values() for each in _statements(value)]
    return [each for value in node for each in _statements(value)] if isinstance(node, list) else []


def config(
    *, policy: dict[str, str] | None = None, deploy: dict[str, Any] | None = None, **more: Any
) -> PipelineConfig:
    pipeline = {
        "source": {"table": "orders", "account": ACCOUNT, "region": "eu-central-1"},
        "lake": {"account": "999999999999", "region": "eu-central-1"},
        "quarantine": "s3://bucket-of-orders",
        "policy": policy or {},
        "deploy": {"external_id": "orders-and-nothing-else", **(deploy or {})},
        **more,
    }
    return parse_config({"pipelines": {"orders": pipeline}}, "test").pipelines["orders"]


@pytest.mark.parametrize(
    "deploy",
    [
        {"source": {"RolePath": "/teams/*/"}},
        {"lake": {"RolePath": "/team?/"}},
        {"source": {"KmsKeyArn": "arn:aws:kms:eu-central-1:111111111111:key/*"}},
        {"source": {"SourceKmsKeyArn": "*"}},
        {"lake": {"KmsKeyArn": "arn:aws:kms:*:111111111111:key/x"}},
        {"shared": {"KmsKeyArn": "*"}},
        {"external_id": "${sts:ExternalId}"},
        {"checks": {"target": "arn:aws:lambda:eu-central-1:111111111111:function:*"}},
    ],
    ids=json.dumps,
)
def test_a_deployment_takes_no_wildcard(deploy: dict[str, Any]) -> None:
    with pytest.raises(DeployError, match="wildcard") as refused:
        Deployment("orders", config(deploy=deploy))
    assert refused.value.remedy


@pytest.mark.parametrize(
    "more", [{"quarantine": "s3://bucket/*"}, {"hash_key": "secretsmanager:*"}], ids=json.dumps
)
def test_nor_does_the_rest_of_a_configuration(more: dict[str, Any]) -> None:
    with pytest.raises(DeployError, match="wildcard"):
        Deployment("orders", config(**more))


# The function's environment

KEYS = [KeyAttribute("pk", "S", "HASH"), KeyAttribute("sk", "S", "RANGE")]
STREAM = VALID["StreamArn"]


def source_of(policy: dict[str, str]) -> dict[str, str]:
    deployment = Deployment("orders", config(policy=policy))
    plan = deployment.source(KEYS, STREAM, Code("bucket", "key"), makes_bucket=True, replicated_ttl="expires")
    return environment_of(Evaluated(plan.template, plan.parameters, account=ACCOUNT, region="eu-central-1"))


def measured(variables: dict[str, str]) -> int:
    """As Lambda's error message shows the "String measured"."""
    return len(json.dumps(variables, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("letter", ["a", "é", "語", '"', "\\"], ids=ascii)
def test_an_environment_is_taken_up_to_the_limit_and_no_byte_more(letter: str) -> None:
    """Names that are longer in JSON, or in UTF-8, than they have characters count as what Lambda measures."""

    def policy(fill: int) -> dict[str, str]:
        """A policy that takes so many bytes more: a rule has 14 beside its name, `\\"\\":\\"drop\\",`."""
        names = [f"{number:02}".ljust(186, "x") for number in range(fill // 200)]
        return dict.fromkeys([letter * 100, *names, "y" * (2 + fill % 200)], "drop")

    fill = MAX_ENVIRONMENT - measured(source_of(policy(0)))
    assert measured(source_of(policy(fill))) == MAX_ENVIRONMENT
    with pytest.raises(DeployError, match="4,097") as refused:
        source_of(policy(fill + 1))
    assert "DYNALAKE_POLICY (" in refused.value.message
    assert refused.value.remedy


def test_a_template_comes_to_what_cloudformation_makes_of_it() -> None:
    text = template("source.yaml")
    parameters = {name: value for name, value in VALID.items() if f"  {name}:\n" in text} | {
        "KeyAttributes": "[]",
        "LakeRegion": "eu-central-1",
        "QuarantinePrefix": "",
        "Heartbeat": "false",
    }
    evaluated = Evaluated(text, parameters, account=ACCOUNT, region="cn-north-1")
    (role,) = evaluated.resources("AWS::IAM::Role")
    statements = {each["Sid"]: each for each in role["Policies"][0]["PolicyDocument"]["Statement"]}
    assert statements["PutRecordsAway"]["Resource"] == "arn:aws-cn:s3:::bucket-of-orders/quarantine/*"
    assert statements["WriteLogs"]["Resource"] == (
        f"arn:aws-cn:logs:cn-north-1:{ACCOUNT}:log-group:/aws/lambda/dynalake-orders:*"
    )
    via = statements["ReadTheEncryptedStream"]["Condition"]["StringEquals"]["kms:ViaService"]
    assert via == "dynamodb.cn-north-1.amazonaws.com.cn"
    assert "SeeThatItExists" not in statements
    assert "DYNALAKE_MAX_WCU" not in environment_of(evaluated)
