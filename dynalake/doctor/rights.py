"""What was deployed, compared with what this version deploys: the function's code, and what the roles may do."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dynalake.deploy.deployer import Deployer
from dynalake.deploy.names import function_name, stack_name
from dynalake.deploy.plans import CODE_VERSION, Side
from dynalake.deploy.stacks import stacks_of
from dynalake.doctor.checkup import FailedError, Patient, Prerequisite, SkippedError, WarnedError
from ingest.package import PackageError
from lake.tables import TableKey

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

Statement = str
"""A statement in canonical form: its JSON, in which a text and a list of that text are the same."""


def of_rights(patient: Patient) -> Sequence[Prerequisite]:
    """The prerequisites of being what this version deploys."""
    return [
        Prerequisite("source", "function's code", lambda: _code(patient)),
        Prerequisite("source", "roles' policies", lambda: _roles(patient, "source")),
        Prerequisite("lake", "roles' policies", lambda: _roles(patient, "lake")),
    ]


def _code(patient: Patient) -> str:
    patient.require_deployed()
    account = patient.account("source")
    functions, name = account.functions(), function_name(patient.name)
    try:
        found = functions.get_function_configuration(FunctionName=name)["CodeSha256"]
    except functions.exceptions.ResourceNotFoundException:
        raise SkippedError("needs the function") from None
    deployed = base64.b64decode(found).hex()
    stack = stacks_of("source", patient.config, account).parameters(stack_name(patient.name, "source"))
    bucket, key = stack.get("CodeBucket", ""), stack.get("CodeKey", "")
    version = f" --s3-object-version {stack[CODE_VERSION]}" if stack.get(CODE_VERSION) else ""
    named = key.rpartition("/")[2].removesuffix(".zip")  # `dynalake deploy` names it by its SHA-256
    if len(named) == len(deployed) and named != deployed:
        raise FailedError(
            f"was replaced outside CloudFormation: its SHA-256 is {deployed}, and {named} was deployed",
            f"find out who called lambda:UpdateFunctionCode (CloudTrail), then "
            f"{patient.aws('source', 'lambda update-function-code')} --function-name {name} --s3-bucket {bucket} "
            f"--s3-key {key}{version}",
        )
    try:
        ours = patient.code()
    except PackageError as error:
        raise SkippedError(f"the zip to compare with cannot be built here: {error.message}") from None
    expected = hashlib.sha256(ours).hexdigest()
    if expected != deployed:
        raise WarnedError(
            f"is of another version of dynalake: its SHA-256 is {deployed}, and this version builds {expected}",
            f"deploy again: {patient.redeploy('source')}",
        )
    return f"SHA-256 {deployed}, as this version builds it"


def _roles(patient: Patient, side: Side) -> str:
    patient.require_deployed()
    account = patient.account(side)
    iam = account.iam()
    problems: list[str] = []
    remedies: list[str] = []
    names = []
    for role, wanted in _wanted(patient, side):
        names.append(role)
        for problem, remedy in _differences(patient, side, iam, role, wanted):
            problems.append(problem)
            remedies.append(remedy)
    if problems:
        raise WarnedError("; ".join(problems), "; ".join(dict.fromkeys(remedies)))
    return f"{', '.join(names)}: as the templates say"


def _wanted(patient: Patient, side: Side) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The roles of a side, and their inline policies by name, as this version would deploy them."""
    if side == "source":
        _ = patient.source_description
        deployer = Deployer(patient.name, patient.config, patient.account("source"), None)
    else:  # which needs no credentials of the source
        key = _key_of(patient.lake_description)
        deployer = Deployer(patient.name, patient.config, None, patient.account("lake"), key=key)
    for plan in deployer.plans(side):
        for role in deployer.deployment.evaluated(plan, side).resources("AWS::IAM::Role"):
            policies = {each["PolicyName"]: each["PolicyDocument"] for each in role["Policies"]}
            yield role["RoleName"], policies


def _differences(
    patient: Patient, side: Side, iam: IAMClient, role: str, wanted: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """What a role's policies are beside what they should be, and what to do about each."""
    try:
        names = [name for page in iam.get_paginator("list_role_policies").paginate(RoleName=role)
                 for name in page["PolicyNames"]]  # fmt: skip
    except iam.exceptions.NoSuchEntityException:
        yield f"{role} is missing", patient.redeploy(side)
        return
    for name in names:
        if name not in wanted:
            yield (
                f"{role} has another policy, {name}",
                f"{patient.aws(side, 'iam delete-role-policy')} --role-name {role} --policy-name {name}",
            )
    for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=role):
        for attached in page["AttachedPolicies"]:
            yield (
                f"{role} has the managed policy {attached['PolicyName']}",
                f"{patient.aws(side, 'iam detach-role-policy')} --role-name {role} "
                f"--policy-arn {attached['PolicyArn']}",
            )
    for name, document in wanted.items():
        found: Any = (
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] if name in names else {}
        )
        says = _compared(_statements(document), _statements(found))
        if says:
            # CloudFormation repairs nothing that was changed behind its back while its template is the same.
            yield (
                f"{role} {says}",
                f"deploy again: {patient.redeploy(side)}; if that finds nothing to change, "
                f"{patient.aws(side, 'iam put-role-policy')} --role-name {role} --policy-name {name} "
                f"--policy-document '{json.dumps(document)}'",
            )


def _compared(wanted: Mapping[Statement, str], found: Mapping[Statement, str]) -> str:
    """What differs, by the statements' names; empty if nothing does."""
    lacks = sorted({name for text, name in wanted.items() if text not in found})
    has = sorted({name for text, name in found.items() if text not in wanted})
    parts = {
        "lacks": [name for name in lacks if name not in has],
        "also has": [name for name in has if name not in lacks],
        "has other rights in": [name for name in lacks if name in has],
    }
    return ", ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names)


def _statements(document: Any) -> dict[Statement, str]:
    """The statements of a policy in canonical form, and their names."""
    if isinstance(document, str):
        document = json.loads(document)
    found = document.get("Statement", [])
    return {
        json.dumps(_canonical(each), sort_keys=True): str(each.get("Sid", "a statement without a name"))
        for each in (found if isinstance(found, list) else [found])
    }


def _canonical(node: Any) -> Any:
    """A part of a statement: lists sorted, and a list of one as that one; their order means nothing to IAM."""
    if isinstance(node, dict):
        return {name: _canonical(each) for name, each in node.items()}
    if isinstance(node, list):
        members = sorted((_canonical(each) for each in node), key=str)
        return members[0] if len(members) == 1 else members
    return node


def _key_of(table: Mapping[str, Any]) -> TableKey:
    """A table's key, from its description."""
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    return TableKey(
        tuple((part["AttributeName"], types[part["AttributeName"]]) for part in table["KeySchema"])
    )
