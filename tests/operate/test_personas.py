"""The policies of `examples/policies`: each suffices for the commands of its persona, and each permission is needed.

`analyst.json` has a file of its own (`test_analyst`). A permission is needed if a command says, without it, that it
was denied: the command fails, or names what it could not look at.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import boto3
import pytest
from botocore.exceptions import ClientError

from dynalake.deploy.names import code_bucket, quarantine_bucket
from ingest.wire import to_boto3
from tests.end_to_end.ministack import REGION
from tests.environments import ROOT
from tests.operate.land import LAKE, SOURCE, Answer, Land

FOLDER: Final = ROOT / "examples" / "policies"
ALL: Final = os.environ.get("DYNALAKE_TEST_EVERY_PERMISSION")
"""Set to take every permission away in turn, which takes minutes, and not only some."""
SOME: Final = 5
"""Otherwise one in so many."""

Side = Literal["source", "lake"]
ACCOUNTS: Final[dict[Side, str]] = {"source": SOURCE, "lake": LAKE}
DENIED: Final = ("AccessDenied", "may not call", "are denied", "not allowed", "may not see it")


@dataclass(frozen=True)
class Persona:
    """Who works with a policy on each side, in a pipeline of its own.

    Attributes:
        name: the pipeline's name, and the user's.
        file: what the policies' names begin with.
        land: the accounts, with a configuration of its own.
    """

    name: str
    file: str
    land: Land

    def document(self, side: Side) -> dict[str, Any]:
        text = (FOLDER / f"{self.file}-{side}.json").read_text(encoding="utf-8")
        for placeholder, value in (
            ("SOURCE_ACCOUNT", SOURCE),
            ("LAKE_ACCOUNT", LAKE),
            ("SOURCE_TABLE", self.name),
            ("LAKE_TABLE", self.land.pipeline(self.name).lake_table),
            ("QUARANTINE_BUCKET", quarantine_bucket(self.name, SOURCE, REGION)),
            ("CODE_BUCKET", code_bucket(SOURCE, REGION)),
            ("SERVICE_ROLE", "cloudformation"),
            ("PIPELINE", self.name),
            ("REGION", REGION),
        ):
            text = text.replace(placeholder, value)
        return dict(json.loads(text))

    def allow(self, side: Side, document: dict[str, Any]) -> None:
        self.land.client("iam", ACCOUNTS[side]).put_user_policy(
            UserName=self.name, PolicyName=self.name, PolicyDocument=json.dumps(document)
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The configuration's profiles are the persona's."""
        before = self.land.config.read_text(encoding="utf-8")
        text = before.replace('profile = "shop"', f'profile = "{self.name}-source"')
        self.land.config.write_text(
            text.replace('profile = "lake"', f'profile = "{self.name}-lake"'), encoding="utf-8"
        )
        try:
            yield
        finally:
            self.land.config.write_text(before, encoding="utf-8")

    @contextmanager
    def without(self, side: Side, sid: str, action: str) -> Iterator[None]:
        whole = self.document(side)
        statements = []
        for statement in whole["Statement"]:
            kept = [each for each in actions(statement) if (statement["Sid"], each) != (sid, action)]
            statements += [{**statement, "Action": kept}] if kept else []
        self.allow(side, {**whole, "Statement": statements})
        try:
            yield
        finally:
            self.allow(side, whole)

    def run(self, *words: str) -> Answer:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.land.folder)
            return self.land.run(*words)


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def permissions(file: str) -> list[tuple[Side, str, str]]:
    sides: tuple[Side, ...] = ("source", "lake")
    return [
        (side, statement["Sid"], action)
        for side in sides
        for statement in json.loads((FOLDER / f"{file}-{side}.json").read_text(encoding="utf-8"))["Statement"]
        for action in actions(statement)
    ]


@contextmanager
def persona(land: Land, name: str, *made: str, file: str = "", deploy: str = "") -> Iterator[Persona]:
    """A user on each side with the persona's policy, and a pipeline that an administrator made by such a command."""
    land = replace(land, folder=land.folder / name)
    land.folder.mkdir()
    land.make_source(name)
    land.write_config(name, deploy=deploy)
    who = Persona(name, file or name, land)
    if made:
        answer = land.deploy(name) if made == ("deploy",) else land.run(*made, name)
        assert answer.code == 0, answer.err
    credentials = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    text = credentials.read_text(encoding="utf-8")
    sides: tuple[Side, ...] = ("source", "lake")
    for side in sides:
        iam = land.client("iam", ACCOUNTS[side])
        iam.create_user(UserName=name)
        who.allow(side, who.document(side))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        text += (
            f"[{name}-{side}]\naws_access_key_id = {key['AccessKeyId']}\n"
            f"aws_secret_access_key = {key['SecretAccessKey']}\n"
        )
    credentials.write_text(text, encoding="utf-8")
    with who.at_work():
        yield who


def denied(answer: Answer) -> bool:
    """Whether a command says that it may not do something."""
    said = answer.out + answer.err
    return any(words in said for words in DENIED)


def chosen(
    name: str, is_meant: Callable[[tuple[Side, str, str]], bool] = lambda permission: True
) -> list[Any]:
    found = [each for each in permissions(name) if is_meant(each)]
    return [
        pytest.param(*each, id=f"{each[0]}-{each[1]}-{each[2]}") for each in (found if ALL else found[::SOME])
    ]


# The operator looks at a pipeline that was deployed


@pytest.fixture(scope="module")
def operator(land: Land) -> Iterator[Persona]:
    with persona(land, "operator", "deploy") as who:
        # Which a template on this emulator does not do.
        land.client("lambda", SOURCE).put_function_concurrency(
            FunctionName="dynalake-operator", ReservedConcurrentExecutions=20
        )
        topic = f"arn:aws:sns:{REGION}:{SOURCE}:dynalake-operator-alarms"
        land.client("sns", SOURCE).subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{SOURCE}:q"
        )
        answer = looks(who)
        assert answer.code == 0, answer.out + answer.err
        assert not denied(answer), answer.out + answer.err
        yield who


def looks(who: Persona) -> Answer:
    """Both commands of an operator, as one answer."""
    found = [who.run("doctor", who.name, "--json"), who.run("status", who.name, "--json")]
    return Answer(
        max(each.code for each in found),
        "".join(each.out for each in found),
        "".join(each.err for each in found),
    )


def test_the_operator_s_policies_suffice(operator: Persona) -> None:
    """The fixture asserts it, so that what fails without a permission fails for want of that one."""
    assert '"unseen": []' in looks(operator).out


@pytest.mark.parametrize(("side", "sid", "action"), chosen("operator"))
def test_the_operator_needs_each(operator: Persona, side: Side, sid: str, action: str) -> None:
    with operator.without(side, sid, action):
        assert denied(looks(operator))


def test_the_operator_writes_nothing_and_runs_nothing_else(operator: Persona) -> None:
    for words in (("backfill", "operator"), ("remove", "operator", "--yes"), ("deploy", "operator", "--yes")):
        answer = operator.run(*words)
        assert answer.code != 0
        assert denied(answer)


# Who repairs: the pipeline has no function, so that what differs stays different until it is repaired


@pytest.fixture(scope="module")
def repairer(land: Land) -> Iterator[Persona]:
    with persona(land, "repair", "setup") as who:
        bucket = quarantine_bucket("repair", SOURCE, REGION)
        land.client("s3", SOURCE).create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield who


def make_different(who: Persona) -> None:
    """A row that the lake lacks, one that it has too many, one that differs and has a forged version."""
    lake = who.land.client("dynamodb", LAKE)
    table = who.land.pipeline(who.name).lake_table
    for item in lake.scan(TableName=table)["Items"]:
        lake.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    for entry in lake.scan(TableName="dynalake.catalogue")["Items"]:
        if entry["table"]["S"] == table:
            key = {"table": entry["table"], "observation": entry["observation"]}
            lake.delete_item(TableName="dynalake.catalogue", Key=key)
    for entry in lake.scan(TableName="dynalake.checkpoints")["Items"]:
        if entry["pipeline"]["S"] == table and entry["entry"]["S"].startswith(("backfill", "repair")):
            key = {"pipeline": entry["pipeline"], "entry": entry["entry"]}
            lake.delete_item(TableName="dynalake.checkpoints", Key=key)
    who.land.put(who.name, {"pk": {"S": "a"}, "sk": {"N": "1"}, "total": {"N": "1"}})
    who.land.put(who.name, {"pk": {"S": "b"}, "sk": {"N": "1"}, "_lake_odd": {"S": "?"}})
    forged = {"pk": {"S": "c"}, "sk": {"N": "1"}, "_lake_version": {"S": "9999-x"}, "_lake_at": {"N": "1"}}
    lake.put_item(TableName=table, Item=to_boto3(forged))


COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "backfill": ("backfill", "repair", "--restart"),
    "parity": ("parity", "repair"),
    "since": ("parity", "repair", "--since", "1h"),
    "repair": ("repair", "repair", "--reset-version"),
    "redrive": ("redrive", "repair"),
    "snapshot": ("snapshot", "repair", "--out", "s.duckdb"),
    "check": ("check", "repair"),
}

NEEDED_BY: Final[dict[tuple[Side, str, str], str]] = {
    ("source", "ReadTheSourceTable", "dynamodb:BatchGetItem"): "parity",
    ("source", "ReadTheSourceTable", "dynamodb:DescribeTable"): "backfill",
    ("source", "ReadTheSourceTable", "dynamodb:GetItem"): "repair",
    ("source", "ReadTheSourceTable", "dynamodb:Scan"): "backfill",
    ("source", "ReadItsStream", "dynamodb:DescribeStream"): "since",
    ("source", "ReadItsStream", "dynamodb:GetRecords"): "since",
    ("source", "ReadItsStream", "dynamodb:GetShardIterator"): "since",
    ("source", "SeeMappingsAndMetrics", "cloudwatch:GetMetricData"): "parity",
    ("source", "SeeMappingsAndMetrics", "lambda:ListEventSourceMappings"): "backfill",
    ("source", "SeeThatTheFunctionExists", "lambda:GetFunctionConfiguration"): "backfill",
    ("source", "FindWhatWasPutAway", "s3:ListBucket"): "redrive",
    ("source", "SettleWhatWasPutAway", "s3:DeleteObject"): "redrive",
    ("source", "SettleWhatWasPutAway", "s3:GetObject"): "redrive",
    ("source", "SettleWhatWasPutAway", "s3:PutObject"): "backfill",
    ("source", "CountMismatches", "cloudwatch:PutMetricData"): "check",
    ("lake", "ReadAndRepairTheLakeTable", "dynamodb:BatchGetItem"): "parity",
    ("lake", "ReadAndRepairTheLakeTable", "dynamodb:DescribeTable"): "parity",
    ("lake", "ReadAndRepairTheLakeTable", "dynamodb:GetItem"): "repair",
    ("lake", "ReadAndRepairTheLakeTable", "dynamodb:PutItem"): "backfill",
    ("lake", "ReadAndRepairTheLakeTable", "dynamodb:Scan"): "parity",
    ("lake", "ReadItsStream", "dynamodb:DescribeStream"): "snapshot",
    ("lake", "ReadItsStream", "dynamodb:GetRecords"): "snapshot",
    ("lake", "ReadItsStream", "dynamodb:GetShardIterator"): "snapshot",
    ("lake", "NoteTheSchema", "dynamodb:PutItem"): "backfill",
    ("lake", "NoteTheSchema", "dynamodb:Query"): "backfill",
    ("lake", "KeepHealthAndProgress", "dynamodb:DeleteItem"): "repair",
    ("lake", "KeepHealthAndProgress", "dynamodb:GetItem"): "backfill",
    ("lake", "KeepHealthAndProgress", "dynamodb:PutItem"): "backfill",
    ("lake", "KeepHealthAndProgress", "dynamodb:Query"): "parity",
    ("lake", "KeepHealthAndProgress", "dynamodb:UpdateItem"): "backfill",
}


def repairs(who: Persona, *commands: str) -> Iterator[tuple[str, Answer]]:
    make_different(who)
    for name in commands:
        if name == "redrive":  # of the record that the backfill put away
            who.land.put(who.name, {"pk": {"S": "b"}, "sk": {"N": "1"}})
        yield name, who.run(*COMMANDS[name])


def test_the_repairer_s_policies_suffice(repairer: Persona) -> None:
    for name, answer in repairs(repairer, *COMMANDS):
        assert not denied(answer), (name, answer.out, answer.err)
        assert answer.code in ((0, 1, 2) if name == "check" else (0, 1)), (name, answer.out, answer.err)
    rows = repairer.land.rows(repairer.land.pipeline("repair").lake_table)
    assert [row["pk"]["S"] for row in rows if "_lake_deleted" not in row] == ["a", "b"]


def test_the_repairer_has_no_others() -> None:
    assert set(permissions("repair")) == NEEDED_BY.keys()


WHERE_A_FUNCTION_READS: Final = {"cloudwatch:GetMetricData"}
"""What the health needs only where a function reads the stream; the operator's tests show it."""


@pytest.mark.parametrize(
    ("side", "sid", "action"),
    [each for each in chosen("repair") if each.values[2] not in WHERE_A_FUNCTION_READS],
)
def test_the_repairer_needs_each(
    repairer: Persona, caplog: pytest.LogCaptureFixture, side: Side, sid: str, action: str
) -> None:
    last = NEEDED_BY[side, sid, action]
    commands = ("backfill", last) if last == "redrive" else (last,)
    with repairer.without(side, sid, action):
        *_, (_, answer) = repairs(repairer, *commands)
    assert denied(answer) or "AccessDenied" in caplog.text, answer.out + answer.err


# CI deploys through service roles that CloudFormation works in, after an administrator's first deployment


@pytest.fixture(scope="module")
def service_roles(land: Land, operator: Persona) -> str:
    """The option that names the service roles; the operator's deployment made the shared tables and the code bucket."""
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudformation.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    for account in ACCOUNTS.values():
        land.client("iam", account).create_role(
            RoleName="cloudformation",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
    roles = (f'{side} = "arn:aws:iam::{account}:role/cloudformation"' for side, account in ACCOUNTS.items())
    return f"service_roles = {{ {', '.join(roles)} }}"


@pytest.fixture(scope="module")
def ci_before(land: Land, service_roles: str) -> Iterator[Persona]:
    """CI, with a pipeline that is never deployed."""
    with persona(land, "proposed", file="ci", deploy=service_roles) as who:
        yield who


@pytest.fixture(scope="module")
def ci(land: Land, service_roles: str) -> Iterator[Persona]:
    """CI, with a pipeline that it has deployed."""
    with persona(land, "integrated", file="ci", deploy=service_roles) as who:
        answer = deploy_change(who)
        assert answer.code == 0, answer.out + answer.err
        assert not denied(answer), answer.out + answer.err
        land.client("dynamodb", SOURCE).update_table(
            TableName=who.name, ReplicaUpdates=[{"Create": {"RegionName": "eu-west-1"}}]
        )
        yield who


def dry_run(who: Persona) -> Answer:
    return who.run("deploy", who.name, "--dry-run", "--code", str(who.land.zip))


CHANGES: Final = count(1)


def undo_setup(who: Persona) -> None:
    """Make the lake forget the pipeline, and switch off what `setup` switches on."""
    dynamodb, table = who.land.client("dynamodb", LAKE), who.land.pipeline(who.name).lake_table
    key = {"pipeline": {"S": table}, "entry": {"S": "stream"}}
    dynamodb.delete_item(TableName="dynalake.checkpoints", Key=key)
    with suppress(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "_lake_expires"}
        )
    with suppress(dynamodb.exceptions.ResourceNotFoundException, dynamodb.exceptions.TableNotFoundException):
        dynamodb.update_continuous_backups(
            TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
        )


def deploy_change(who: Persona) -> Answer:
    """Deploy other code and another write ceiling, and what `setup` does for a pipeline that the lake does not know."""
    undo_setup(who)
    change = next(CHANGES)
    text = re.sub(r"\nlake = \{ MaxWriteUnits.*\n", "", who.land.config.read_text(encoding="utf-8"))
    who.land.config.write_text(f"{text}\nlake = {{ MaxWriteUnits = {100 + change} }}\n", encoding="utf-8")
    code = who.land.folder / "changed.zip"
    code.write_bytes(who.land.zip.read_bytes() + str(change).encode())
    return deploy_again(who)


def deploy_again(who: Persona) -> Answer:
    return who.run("deploy", who.name, "--yes", "--code", str(who.land.folder / "changed.zip"))


NEEDED_BEFORE: Final = {
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "iam:GetRole",
    "lambda:GetAccountSettings",
}
"""What only a pipeline needs that was not deployed before: its checks, and discarding what was proposed."""

DONE_WITHOUT: Final = {
    ("source", "UploadTheCode", "s3:GetObject"),
    ("source", "SeeTheSourceTable", "dynamodb:DescribeTimeToLive"),
}
"""Without these a deployment does something else, and does not say that it was denied; each has a test of its own."""

NOT_SHOWN: Final = {"iam:PassRole", "cloudformation:DescribeEvents"}
"""The emulator does not check that a service role may be passed (CloudFormation user guide, "CloudFormation service
role"), and fails no change set for a validation error, whose details DescribeEvents gives."""


def is_needed_to_deploy(permission: tuple[Side, str, str]) -> bool:
    return permission not in DONE_WITHOUT and permission[2] not in NOT_SHOWN | NEEDED_BEFORE


def test_ci_s_policies_suffice_for_a_dry_run(ci_before: Persona) -> None:
    answer = dry_run(ci_before)
    assert answer.code == 0, answer.err
    assert not denied(answer), answer.err


@pytest.mark.parametrize(
    ("side", "sid", "action"), chosen("ci", lambda permission: permission[2] in NEEDED_BEFORE)
)
def test_ci_needs_each_for_a_dry_run(ci_before: Persona, side: Side, sid: str, action: str) -> None:
    with ci_before.without(side, sid, action):
        assert denied(dry_run(ci_before))
    dry_run(ci_before)  # discards what could not be discarded


def test_ci_s_policies_suffice_to_deploy_and_to_change(ci: Persona) -> None:
    """The fixture has deployed the pipeline."""
    for answer in (deploy_change(ci), deploy_again(ci), ci.run("setup", ci.name)):
        assert answer.code == 0, answer.err
        assert not denied(answer), answer.err


@pytest.mark.parametrize(("side", "sid", "action"), chosen("ci", is_needed_to_deploy))
def test_ci_needs_each_to_deploy(ci: Persona, side: Side, sid: str, action: str) -> None:
    with ci.without(side, sid, action):
        assert denied(deploy_change(ci))


def test_ci_reads_the_code_to_leave_it_as_it_is(ci: Persona) -> None:
    assert deploy_change(ci).code == 0
    unchanged = "dynalake-integrated-source: nothing to change"
    with ci.without("source", "UploadTheCode", "s3:GetObject"):
        assert unchanged not in deploy_again(ci).out
    assert unchanged in deploy_again(ci).out


def test_ci_sees_how_a_global_table_expires(ci: Persona) -> None:
    """Which the function needs, to tell what expired from what was deleted."""
    cloudformation = ci.land.client("cloudformation", SOURCE)

    def deployed() -> str:
        assert deploy_change(ci).code == 0
        stack = cloudformation.describe_stacks(StackName="dynalake-integrated-source")["Stacks"][0]
        return next(
            str(each["ParameterValue"])
            for each in stack["Parameters"]
            if each["ParameterKey"] == "ReplicatedTtl"
        )

    with ci.without("source", "SeeTheSourceTable", "dynamodb:DescribeTimeToLive"):
        assert deployed() == "-"  # not known
    assert deployed() == ""  # none


def test_ci_touches_no_row_of_the_lake_and_makes_no_role_or_bucket(ci: Persona) -> None:
    """Asked directly, so that no check of a command's own is in the way."""

    def refused(service: str, side: Side, operation: str, **request: Any) -> bool:
        session = boto3.Session(profile_name=f"{ci.name}-{side}")
        client: Any = session.client(service, region_name=REGION, endpoint_url=ci.land.aws.endpoint)  # type: ignore[call-overload]
        with pytest.raises(ClientError) as error:
            getattr(client, operation)(**request)
        return error.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")

    table, key = ci.land.pipeline(ci.name).lake_table, {"pk": {"S": "a"}, "sk": {"N": "1"}}
    other = {"pipeline": {"S": "another"}, "entry": {"S": "stream"}}
    assert refused("dynamodb", "lake", "scan", TableName=table)
    assert refused("dynamodb", "lake", "get_item", TableName=table, Key=key)
    assert refused("dynamodb", "lake", "put_item", TableName=table, Item=key)
    assert refused("dynamodb", "lake", "delete_item", TableName=table, Key=key)
    assert refused("dynamodb", "lake", "put_item", TableName="dynalake.checkpoints", Item=other)
    assert refused("dynamodb", "source", "put_item", TableName=ci.name, Item=key)
    assert refused("iam", "source", "create_role", RoleName="any", AssumeRolePolicyDocument="{}")
    bucket = code_bucket(SOURCE, REGION)
    assert refused("s3", "source", "create_bucket", Bucket="any-other-bucket")
    assert refused("s3", "source", "put_bucket_policy", Bucket=bucket, Policy="{}")
