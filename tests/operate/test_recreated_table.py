"""A source table that was recreated, on an AWS that gives each table a TableId and runs CloudFormation."""

from __future__ import annotations

from tests.operate.land import LAKE, SOURCE, Land

NAME = "recreated"


def recreate(land: Land) -> tuple[str, str]:
    """The TableId before and after."""
    source = land.client("dynamodb", SOURCE)
    before = source.describe_table(TableName=NAME)["Table"]["TableId"]
    source.delete_table(TableName=NAME)
    land.make_source(NAME)
    return before, source.describe_table(TableName=NAME)["Table"]["TableId"]


def test_the_table_id_decides_and_deploy_and_setup_accept_it_when_told_to(land: Land) -> None:
    land.make_source(NAME)
    land.write_config(NAME)
    answer = land.deploy(NAME)
    assert answer.code == 0, answer.err
    land.put(NAME, {"pk": {"S": "old"}, "sk": {"N": "1"}})
    assert land.run("backfill", NAME).code == 0
    key = {"pipeline": {"S": land.pipeline(NAME).lake_table}, "entry": {"S": "facts"}}
    stored = land.client("dynamodb", LAKE).get_item(TableName="dynalake.checkpoints", Key=key)["Item"]
    before, after = recreate(land)
    assert stored["table_id"]["S"] == before != after

    for words in (("setup", NAME), ("run", NAME, "--until-caught-up"), ("backfill", NAME), ("repair", NAME)):
        answer = land.run(*words)
        assert answer.code == 2, words
        assert "--accept-recreated-table" in answer.err
    answer = land.deploy(NAME)
    assert answer.code == 2
    assert "--accept-recreated-table" in answer.err
    assert len(land.rows(land.pipeline(NAME).lake_table)) == 1

    answer = land.deploy(NAME, "--accept-recreated-table")
    assert answer.code == 0, answer.err
    mappings = land.client("lambda", SOURCE).list_event_source_mappings(FunctionName=f"dynalake-{NAME}")
    latest = land.client("dynamodb", SOURCE).describe_table(TableName=NAME)["Table"]["LatestStreamArn"]
    assert [each["EventSourceArn"] for each in mappings["EventSourceMappings"]] == [latest]
    assert land.run("repair", NAME).code == 0
    (row,) = land.rows(land.pipeline(NAME).lake_table)
    assert "_lake_deleted" in row, "the new table lacks it"
