"""The two sides deployed, updated and taken away, in two accounts of an AWS that enforces permissions."""

from __future__ import annotations

import json
import signal

import pytest

from dynalake.aws import open_account
from dynalake.cli.endings import STAYS
from dynalake.deploy.deployer import Deployer
from dynalake.deploy.names import quarantine_bucket
from dynalake.deploy.stacks import Stacks
from dynalake.errors import DeployError
from tests.end_to_end.ministack import REGION
from tests.operate.land import LAKE, SOURCE, Land
from tests.waiting import until

NAME = "parcels"
ROW = {"pk": {"S": "ann"}, "sk": {"N": "1"}, "total": {"N": "12.50"}}
BUCKET = quarantine_bucket(NAME, SOURCE, REGION)


@pytest.fixture(scope="module")
def orders(land: Land) -> Land:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    return land


def lake_table(land: Land) -> str:
    return land.pipeline(NAME).lake_table


def test_from_nothing_to_the_first_row(orders: Land) -> None:
    orders.put(NAME, ROW)
    until(lambda: orders.rows(lake_table(orders)), orders.aws.tail)
    (row,) = orders.rows(lake_table(orders))
    assert float(row["total"]["N"]) == 12.5
    assert row["_lake_version"]["S"]


def test_what_is_there_is_left_alone(orders: Land) -> None:
    answer = orders.deploy(NAME)
    assert answer.code == 0
    stacks = [stack for side in answer.document["sides"] for stack in side["stacks"]]
    assert len(stacks) >= 2
    assert not any(stack["changes"] for stack in stacks)


def test_a_dry_run_shows_and_makes_nothing(orders: Land) -> None:
    orders.write_config(NAME, deploy="source = { BatchSize = 77 }")
    answer = orders.run("deploy", NAME, "--dry-run", "--json", "--code", str(orders.zip))
    assert answer.code == 0, answer.err
    (changed,) = [stack for side in answer.document["sides"] for stack in side["stacks"] if stack["changes"]]
    touched = {change["logical_id"]: change["action"] for change in changed["changes"]}
    assert touched["Mapping"] == "Modify"
    assert "Function" not in touched
    assert batch_size(orders) == 1000
    stack = orders.client("cloudformation", SOURCE).list_change_sets(StackName="dynalake-parcels-source")
    assert [each for each in stack["Summaries"] if each["ExecutionStatus"] == "AVAILABLE"] == []


def test_an_update_is_carried_out(orders: Land) -> None:
    orders.write_config(NAME, deploy="source = { BatchSize = 78 }")
    answer = orders.deploy(NAME, "--side", "source")
    assert answer.code == 0, answer.err
    assert batch_size(orders) == 78
    orders.write_config(NAME)
    assert orders.deploy(NAME, "--side", "source").code == 0
    assert batch_size(orders) == 1000


@pytest.mark.parametrize(
    ("where", "method", "changed"),
    [
        (Stacks, "_wait_for_change_set", False),
        (Deployer, "bring", False),
        (Stacks, "_follow", True),
    ],
)
def test_ended_by_a_scheduler_it_leaves_no_change_set_and_says_how_to_go_on(
    orders: Land, monkeypatch: pytest.MonkeyPatch, where: type, method: str, changed: bool
) -> None:
    """What CloudFormation was told to do it does; what was only proposed is thrown away."""
    orders.write_config(NAME, deploy="source = { BatchSize = 80 }")
    monkeypatch.setattr(where, method, lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    answer = orders.deploy(NAME, "--side", "source")
    monkeypatch.undo()
    assert (answer.code, answer.out) == (143, "")
    assert answer.err.splitlines()[-1] == f"dynalake: ended by SIGTERM: {STAYS['deploy']}"
    stack = orders.client("cloudformation", SOURCE).list_change_sets(StackName="dynalake-parcels-source")
    assert [each for each in stack["Summaries"] if each["ExecutionStatus"] == "AVAILABLE"] == []
    if changed:
        until(lambda: batch_size(orders) == 80, orders.aws.tail)
    else:
        assert batch_size(orders) == 1000
    orders.write_config(NAME)
    until(lambda: orders.deploy(NAME, "--side", "source").code == 0, orders.aws.tail)
    assert batch_size(orders) == 1000


def batch_size(land: Land) -> int:
    (mapping,) = land.client("lambda", SOURCE).list_event_source_mappings(FunctionName=f"dynalake-{NAME}")[
        "EventSourceMappings"
    ]
    return int(mapping["BatchSize"])


def test_nobody_is_asked_where_nobody_is(orders: Land) -> None:
    orders.write_config(NAME, deploy="source = { BatchSize = 79 }")
    answer = orders.run("deploy", NAME, "--side", "source", "--code", str(orders.zip))
    orders.write_config(NAME)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert batch_size(orders) == 1000


def test_an_unknown_parameter_is_refused_with_those_there_are(orders: Land) -> None:
    orders.write_config(NAME, deploy="source = { BatchSiez = 79 }")
    answer = orders.deploy(NAME, "--side", "source")
    orders.write_config(NAME)
    assert answer.code == 2
    assert "'BatchSiez'" in answer.err
    assert "BatchSize" in answer.err


def test_a_table_that_would_begin_anew_is_not_touched(orders: Land) -> None:
    orders.write_config(NAME, lake=', table = "another.name"')
    answer = orders.deploy(NAME, "--side", "lake")
    orders.write_config(NAME)
    assert answer.code == 2
    assert "would begin anew with an empty Table" in answer.err
    assert orders.rows("another.name") == []
    assert len(orders.rows(lake_table(orders))) == 1


def test_a_failure_is_undone_and_its_first_cause_said(land: Land) -> None:
    """Somebody takes the bucket's name between the look and the leap."""
    land.make_source("failing")
    land.write_config("failing")
    config = land.pipeline("failing")
    deployer = Deployer(
        "failing", config, open_account("source", config.source), open_account("lake", config.lake)
    )
    stacks = deployer.stacks("source")
    (plan,) = deployer.plans("source", land.zip.read_bytes())
    change_set = stacks.propose(plan)
    assert change_set is not None
    deployer.bring(land.zip.read_bytes())
    bucket = quarantine_bucket("failing", SOURCE, REGION)
    land.client("s3", SOURCE).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    with pytest.raises(DeployError, match=r"failed at Quarantine \(AWS::S3::Bucket\).*taken away again"):
        stacks.carry_out(change_set)
    assert stacks.find("dynalake-failing-source") is None
    functions = land.client("lambda", SOURCE).list_functions()["Functions"]
    assert "dynalake-failing" not in [function["FunctionName"] for function in functions]
    with pytest.raises(Exception, match="NoSuchEntity"):
        land.client("iam", SOURCE).get_role(RoleName="dynalake-failing-function")
    assert land.deploy("failing").code == 0, "and it can be tried again"
    land.write_config(NAME)


def test_a_stream_that_was_switched_off_and_on_is_read_and_what_it_lost_is_a_gap(orders: Land) -> None:
    dynamodb = orders.client("dynamodb", SOURCE)
    before = dynamodb.describe_table(TableName=NAME)["Table"]["LatestStreamArn"]
    dynamodb.update_table(TableName=NAME, StreamSpecification={"StreamEnabled": False})
    dynamodb.update_table(
        TableName=NAME, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    )
    after = dynamodb.describe_table(TableName=NAME)["Table"]["LatestStreamArn"]
    assert after != before
    failing = {
        check["what"]
        for check in orders.run("doctor", NAME, "--json").document["checks"]
        if check["verdict"] == "fail"
    }
    assert {"mapping", "pipeline is noted"} <= failing
    answer = orders.deploy(NAME)
    assert answer.code == 0, answer.err
    checks = orders.run("doctor", NAME, "--json").document["checks"]
    assert not {"mapping", "pipeline is noted"} & {
        check["what"] for check in checks if check["verdict"] == "fail"
    }
    orders.put(NAME, {**ROW, "sk": {"N": "77"}})
    until(lambda: "77" in [row["sk"]["N"] for row in orders.rows(lake_table(orders))], orders.aws.tail)
    kinds = [
        row["kind"]["S"]
        for row in orders.rows("dynalake.checkpoints")
        if row["pipeline"]["S"] == lake_table(orders) and row["entry"]["S"].startswith("gap/")
    ]
    assert "stream changed" in kinds
    dynamodb.delete_item(TableName=NAME, Key={"pk": ROW["pk"], "sk": {"N": "77"}})


def test_removed_and_brought_back_the_data_are_kept_and_the_gap_is_known(orders: Land) -> None:
    kept = len(orders.rows(lake_table(orders)))
    assert kept >= 1
    answer = orders.run("remove", NAME, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert len(orders.rows(lake_table(orders))) == kept
    gaps = [
        row
        for row in orders.rows("dynalake.checkpoints")
        if (row["pipeline"]["S"], row["entry"]["S"]) == (lake_table(orders), "gap/removed")
    ]
    assert len(gaps) == 1
    functions = orders.client("lambda", SOURCE).list_functions()["Functions"]
    assert f"dynalake-{NAME}" not in [function["FunctionName"] for function in functions]
    with pytest.raises(Exception, match="NoSuchEntity"):
        orders.client("iam", LAKE).get_role(RoleName=f"dynalake-{NAME}-writer")
    orders.client("s3", SOURCE).head_bucket(Bucket=BUCKET)

    answer = orders.deploy(NAME)
    assert answer.code == 0, answer.err
    orders.put(NAME, {**ROW, "sk": {"N": "2"}})
    until(lambda: len(orders.rows(lake_table(orders))) == kept + 1, orders.aws.tail)


def test_removed_with_its_data_nothing_is_left(orders: Land) -> None:
    orders.client("s3", SOURCE).put_object(Bucket=BUCKET, Key="quarantine/parcels/x.json", Body=b"{}")
    answer = orders.run("remove", NAME, "--delete-data", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert orders.rows(lake_table(orders)) == []
    for shared, partition in (("dynalake.checkpoints", "pipeline"), ("dynalake.catalogue", "table")):
        assert lake_table(orders) not in [row[partition]["S"] for row in orders.rows(shared)]
    (bucket,) = [step for step in json.loads(answer.out)["steps"] if BUCKET in step["what"]]
    assert bucket["done"] == "deleted"
    with pytest.raises(Exception, match="404"):
        orders.client("s3", SOURCE).head_bucket(Bucket=BUCKET)
    source = orders.client("dynamodb", SOURCE).describe_table(TableName=NAME)["Table"]
    assert source["TableStatus"] == "ACTIVE"
    assert source["StreamSpecification"]["StreamEnabled"]
