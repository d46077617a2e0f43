"""The CloudFormation templates: sound by AWS's own schemas, and as the code and the contract say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode.cfn_yaml import loads

from dynalake.deploy import names
from ingest import lambda_function
from lake.contract.naming import catalogue_table_name, checkpoint_table_name
from lake.contract.rows import EXPIRES
from lake.tables import CATALOGUE_KEY, CHECKPOINT_KEY
from tests.operate.alarms import alarms

FOLDER = Path(lambda_function.__file__).with_name("templates")
TEMPLATES = sorted(FOLDER.glob("*.yaml"))
MAX_BODY_BYTES = 51_200
"""What CreateChangeSet takes as text (CloudFormation quotas); larger ones would need a bucket."""


def resources(name: str) -> dict[str, Any]:
    return dict(loads((FOLDER / name).read_text(encoding="utf-8"))["Resources"])


def test_cfn_lint_has_nothing_to_say() -> None:
    assert len(TEMPLATES) == 5
    done = subprocess.run(
        [
            Path(sys.executable).with_name("cfn-lint"),
            "--include-checks",
            "I",
            "--regions",
            "eu-central-1,us-east-1",
            "--",
            *TEMPLATES,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stdout.splitlines() if line[:1] in "EWI" and line[1:5].isdigit()]
    assert not complaints, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_can_be_sent_as_text(path: Path) -> None:
    assert len(path.read_bytes()) < MAX_BODY_BYTES


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_what_holds_data_is_kept(path: Path) -> None:
    kept = ("AWS::DynamoDB::Table", "AWS::S3::Bucket")
    for name, resource in resources(path.name).items():
        if resource["Type"] in kept:
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate", name
            assert resource["UpdateReplacePolicy"] == "Retain", name


def test_the_shared_tables_are_the_code_s() -> None:
    shared = resources("lake-shared.yaml")
    for name, key in (("Catalogue", CATALOGUE_KEY), ("Checkpoints", CHECKPOINT_KEY)):
        properties = shared[name]["Properties"]
        assert {part: properties[part] for part in key.request()} == key.request()
    called = {
        name: table["Properties"]["TableName"]["Fn::Sub"].replace("${Prefix}", "x.")
        for name, table in shared.items()
    }
    assert called == {"Catalogue": catalogue_table_name("x."), "Checkpoints": checkpoint_table_name("x.")}


def test_the_lake_table_is_the_contract_s() -> None:
    table = resources("lake.yaml")["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": EXPIRES, "Enabled": True}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_tables_on_demand_have_a_ceiling() -> None:
    """Leaked credentials of the writer cannot run up any bill. No emulator passes it on from a template."""
    for name in ("lake.yaml", "lake-shared.yaml"):
        template = loads((FOLDER / name).read_text(encoding="utf-8"))
        assert 1 <= template["Parameters"]["MaxWriteUnits"]["Default"] <= 10_000
        for table in template["Resources"].values():
            if table["Type"] == "AWS::DynamoDB::Table":
                ceiling = table["Properties"]["OnDemandThroughput"]
                ceiling = ceiling["Fn::If"][2] if "Fn::If" in ceiling else ceiling
                assert ceiling["MaxWriteRequestUnits"] == {"Ref": "MaxWriteUnits"}
                assert ceiling["MaxReadRequestUnits"] == {"Ref": "MaxReadUnits"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_role_takes_a_path_and_a_boundary(path: Path) -> None:
    for name, resource in resources(path.name).items():
        if resource["Type"] == "AWS::IAM::Role":
            assert resource["Properties"]["Path"] == {"Ref": "RolePath"}, name
            boundary = resource["Properties"]["PermissionsBoundary"]["Fn::If"]
            assert boundary[:2] == ["HasBoundary", {"Ref": "PermissionsBoundary"}], name


def test_names_are_those_which_the_commands_look_for() -> None:
    source, lake = resources("source.yaml"), resources("lake.yaml")

    def of(resource: dict[str, Any], key: str) -> str:
        return str(resource["Properties"][key]["Fn::Sub"]).replace("${PipelineName}", "x")

    assert of(source["Function"], "FunctionName") == names.function_name("x")
    assert of(source["FunctionRole"], "RoleName") == names.function_role("x")
    assert of(lake["Writer"], "RoleName") == names.writer_role("x")
    assert source["Function"]["Properties"]["Handler"] == "ingest.lambda_function.handler"


def test_the_function_s_environment_is_that_which_it_reads() -> None:
    variables = resources("source.yaml")["Function"]["Properties"]["Environment"]["Variables"]
    read = Path(lambda_function.__file__).read_text(encoding="utf-8")
    for variable in variables:
        assert f'"{variable}"' in read, variable
    needed = {
        line.split()[0]
        for line in (lambda_function.__doc__ or "").splitlines()
        if line.startswith("DYNALAKE_")
    }
    optional = {"DYNALAKE_HASH_KEY", "DYNALAKE_WRITER"}
    assert needed - optional <= variables.keys()


def test_every_alarm_tells_somebody_and_has_a_runbook() -> None:
    made = alarms()
    assert len(made) == 15
    for name, alarm in made.items():
        assert alarm["AlarmActions"], name
        runbook = alarm["AlarmDescription"].partition("Runbook: ")[2]
        assert (FOLDER.parents[1] / runbook).is_file(), runbook
        assert Path(runbook).stem == name


def test_every_parameter_says_what_it_is() -> None:
    for path in TEMPLATES:
        for name, parameter in loads(path.read_text(encoding="utf-8"))["Parameters"].items():
            assert parameter.get("Description"), f"{path.name}: {name}"
