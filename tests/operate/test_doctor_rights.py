"""The doctor compares what was deployed with what this version deploys: the function's code and the roles' policies."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.operate.land import LAKE, SOURCE, Land
from tests.waiting import until

NAME = "inspected"
FUNCTION = f"dynalake-{NAME}"
ROLES = [
    (SOURCE, "source", f"dynalake-{NAME}-function", "BecomeTheWriter"),
    (SOURCE, "source", f"dynalake-{NAME}-heartbeat", "InvokeTheFunction"),
    (LAKE, "lake", f"dynalake-{NAME}-writer", "NoteGaps"),
]


@pytest.fixture(scope="module")
def inspected(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    return land


def check(land: Land, side: str, what: str, *words: str) -> dict[str, str]:
    checks = land.run("doctor", NAME, "--json", *words).document["checks"]
    (found,) = [each for each in checks if (each["side"], each["what"]) == (side, what)]
    return dict(found)


def test_what_was_just_deployed_is_what_this_version_deploys(inspected: Land) -> None:
    for side, what in (
        ("source", "function's code"), ("source", "roles' policies"), ("lake", "roles' policies")
    ):  # fmt: skip
        found = check(inspected, side, what)
        assert found["verdict"] == "pass", found
    assert (
        hashlib.sha256(inspected.zip.read_bytes()).hexdigest()
        in check(inspected, "source", "function's code")["detail"]
    )


def test_code_of_another_version_is_named_with_what_to_do(inspected: Land, tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    other.write_bytes(inspected.zip.read_bytes() + b"\0")
    found = check(inspected, "source", "function's code", "--code", str(other))
    assert found["verdict"] == "warn"
    assert hashlib.sha256(other.read_bytes()).hexdigest() in found["detail"]
    assert hashlib.sha256(inspected.zip.read_bytes()).hexdigest() in found["detail"]
    assert f"dynalake deploy {NAME} --side source" in found["remedy"]


def test_code_that_was_replaced_behind_cloudformation_fails(inspected: Land) -> None:
    functions = inspected.client("lambda", SOURCE)
    before = inspected.zip.read_bytes()
    functions.update_function_code(FunctionName=FUNCTION, ZipFile=before + b"\0")
    try:
        found = check(inspected, "source", "function's code")
    finally:
        functions.update_function_code(FunctionName=FUNCTION, ZipFile=before)
        until(
            lambda: (
                functions.get_function_configuration(FunctionName=FUNCTION).get("LastUpdateStatus")
                == "Successful"
            ),
            inspected.aws.tail,
        )
    assert found["verdict"] == "fail"
    assert hashlib.sha256(before).hexdigest() in found["detail"]
    assert "lambda update-function-code" in found["remedy"]
    assert check(inspected, "source", "function's code")["verdict"] == "pass"


@contextmanager
def changed(land: Land, account: str, role: str, statements: Any) -> Iterator[None]:
    """The role's statements are what `statements` makes of them for as long as the context lasts."""
    iam = land.client("iam", account)
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    found = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    before = found if isinstance(found, dict) else json.loads(found)
    after = {**before, "Statement": statements(before["Statement"])}
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(after))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(before))


EVERYTHING = {"Sid": "Backdoor", "Effect": "Allow", "Action": "*", "Resource": "*"}


@pytest.mark.parametrize(("account", "side", "role", "sid"), ROLES)
def test_a_role_that_differs_from_its_template_is_named(
    inspected: Land, account: str, side: str, role: str, sid: str
) -> None:
    def widened(statements: list[Any]) -> list[Any]:
        return [{**each, "Resource": "*"} if each["Sid"] == sid else each for each in statements]

    for change, said in (
        (
            lambda found: [each for each in found if each["Sid"] != sid] + [EVERYTHING],
            f"lacks {sid}, also has Backdoor",
        ),
        (lambda found: [*found, EVERYTHING], "also has Backdoor"),
        (widened, f"has other rights in {sid}"),
    ):
        with changed(inspected, account, role, change):
            found = check(inspected, side, "roles' policies")
        assert found["verdict"] == "warn"
        assert f"{role} {said}" in found["detail"]
        assert f"dynalake deploy {NAME} --side {side}" in found["remedy"]


def test_the_remedy_repairs_what_was_changed_behind_cloudformation(inspected: Land) -> None:
    account, side, role, _ = ROLES[2]
    iam = inspected.client("iam", account)
    with changed(inspected, account, role, lambda found: [*found, EVERYTHING]):
        remedy = check(inspected, side, "roles' policies")["remedy"]
        words = shlex.split(remedy[remedy.index("aws iam put-role-policy") :])
        given = dict(zip(words[3::2], words[4::2], strict=True))
        iam.put_role_policy(
            RoleName=given["--role-name"],
            PolicyName=given["--policy-name"],
            PolicyDocument=given["--policy-document"],
        )
        assert check(inspected, side, "roles' policies")["verdict"] == "pass"


def test_policies_that_are_not_the_template_s_are_named(inspected: Land) -> None:
    account, side, role, _ = ROLES[0]
    iam = inspected.client("iam", account)
    document = json.dumps({"Version": "2012-10-17", "Statement": [EVERYTHING]})
    arn = iam.create_policy(PolicyName="managed", PolicyDocument=document)["Policy"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName="more", PolicyDocument=document)
    iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    found = check(inspected, side, "roles' policies")
    iam.delete_role_policy(RoleName=role, PolicyName="more")
    iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    assert found["verdict"] == "warn"
    assert "another policy, more" in found["detail"]
    assert "the managed policy managed" in found["detail"]
    assert "iam delete-role-policy" in found["remedy"]
    assert (
        f"iam detach-role-policy --profile shop --region eu-central-1 --role-name {role}" in found["remedy"]
    )
    assert check(inspected, side, "roles' policies")["verdict"] == "pass"


def test_without_a_zip_to_compare_with_the_rest_is_still_looked_at(
    inspected: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynalake.aws import open_account
    from dynalake.doctor import Patient, check_up
    from ingest.package import PackageError

    def cannot() -> bytes:
        raise PackageError("there is no network")

    pipeline = inspected.pipeline(NAME)
    patient = Patient(
        NAME,
        pipeline,
        open_account("source", pipeline.source),
        open_account("lake", pipeline.lake),
        {},
        code=cannot,
    )
    found = {each.what: each for each in check_up(patient)}
    assert found["function's code"].verdict == "skip"
    assert "there is no network" in found["function's code"].detail
    assert found["roles' policies"].verdict == "pass"
