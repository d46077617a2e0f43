from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynalake.config import load_config, parse_config, pipeline_of
from dynalake.configfile import add_pipeline
from dynalake.errors import ConfigError
from ingest.policy import Rule, Segments, actions_from

SOURCE = {"table": "orders", "account": "111111111111", "region": "us-east-1"}
LAKE = {"account": "999999999999", "region": "us-east-1"}


def config(
    source: dict[str, Any] | None = None, lake: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"pipelines": {"orders": {"source": source or SOURCE, "lake": lake or LAKE, **more}}}


def test_the_names_follow_the_naming_rule() -> None:
    pipeline = parse_config(config(), "c").pipelines["orders"]
    assert pipeline.lake_table == "dynalake.111111111111.orders"
    assert pipeline.catalogue_table == "dynalake.catalogue"
    assert pipeline.checkpoint_table == "dynalake.checkpoints"
    named = parse_config(config({**SOURCE, "alias": "shop"}, {**LAKE, "prefix": "lake-"}), "c").pipelines[
        "orders"
    ]
    assert named.lake_table == "lake-shop.orders"


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dynalake.toml"
    path.write_text("""
[pipelines.orders]
source = { table = "orders", account = "111111111111", region = "us-east-1", profile = "src" }
lake.account = "999999999999"
lake.region = "us-east-1"
lake.role_arn = "arn:aws:iam::999999999999:role/dynalake-orders"
lake.external_id = "xyz"
max_wcu = 100
policy = { ssn = "drop", email = "hash" }
""")
    pipeline = load_config(path).pipelines["orders"]
    assert pipeline.max_wcu == 100
    assert pipeline.policy == {"ssn": "drop", "email": "hash"}


def test_a_policy_is_written_for_the_function_as_it_was_given() -> None:
    policy: dict[str, Any] = {
        "*": "drop",
        "pk": {"split": "#", "after": {"C": "hash"}, "at": {"-1": "hash"}, "others": "hash"},
        "a.b": {"action": "hash", "mismatch": "drop"},
    }
    pipeline = parse_config(config(policy=policy), "dynalake.toml").pipelines["orders"]
    assert pipeline.policy_mismatch == "quarantine"
    assert pipeline.policy_document() == policy
    rules = actions_from(pipeline.policy_document())
    assert rules["a.b"] == Rule("hash", "drop")
    assert rules["pk"].action == Segments("#", after={"C": "hash"}, at={-1: "hash"}, others="hash")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            config({"table": "orders", "region": "us-east-1"}),
            r"pipelines\.orders\.source\.account is missing",
        ),
        (config({**SOURCE, "account": "12"}), r"source\.account is '12', which does not have the form"),
        (config({**SOURCE, "tabel": "x"}), r"source\.tabel is not a key that dynalake knows"),
        (config(max_wcu=0), r"max_wcu must be greater than 0"),
        (config(policy={"ssn": "burn"}), r"policy\.ssn must be one of 'keep', 'drop', 'hash' or 'mask'"),
        (config(policy={"a": {"action": "hide"}}), r"policy\.a\.action must be one of"),
        (config(policy={"a": {"action": "drop", "mismatch": "no"}}), r"policy\.a\.mismatch must be one of"),
        (config(policy={"a": {"split": "#", "others": "drop"}}), r"policy\.a\.others must be one of"),
        (config(policy={"a.*.b": "drop"}), "'a.*.b' cannot be read at character 4"),
        (config(policy={"a": "drop", "a.b": "keep"}), "keeps a part of 'a'"),
        (config(policy_mismatch="ignore"), "policy_mismatch must be one of 'quarantine' or 'drop'"),
        (config(lake={**LAKE, "external_id": "xyz"}), "external_id is given without role_arn"),
        (config(lake={**LAKE, "table": "dynalake.catalogue"}), "one of the lake's own tables"),
        (config({**SOURCE, "table": "o" * 255}), "a DynamoDB table name has 3 to 255"),
        (config({**SOURCE, "table": "or ders"}), "is no DynamoDB table name"),
        ({"pipelines": {"a b": {}}}, "a b"),
        ({"pipeline": {}}, "pipeline is not a key that dynalake knows"),
    ],
)
def test_an_error_names_the_file_the_key_and_the_remedy(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config(content, "dynalake.toml")
    assert str(caught.value).startswith("dynalake.toml: ")
    assert "\n" not in str(caught.value)


def test_two_pipelines_cannot_share_a_lake_table() -> None:
    both = {name: {"source": SOURCE, "lake": LAKE} for name in ("a", "b")}
    with pytest.raises(ConfigError, match="'a' and 'b' would share the lake table"):
        parse_config({"pipelines": both}, "c")


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file: write one with `dynalake init`"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("[pipelines")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "broken.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_an_unknown_pipeline_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no pipeline 'order' in the configuration; it has: orders"):
        pipeline_of(parse_config(config(), "c"), "order")


def test_adding_a_pipeline_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "dynalake.toml"
    add_pipeline(path, "orders", SOURCE, LAKE)
    before = path.read_text() + "# a comment of the team's\n"
    path.write_text(before)
    add_pipeline(path, "users", {**SOURCE, "table": 'us"ers'.replace('"', "_")}, LAKE)
    assert path.read_text().startswith(before)
    assert set(load_config(path).pipelines) == {"orders", "users"}
    with pytest.raises(ConfigError, match="is there already"):
        add_pipeline(path, "users", SOURCE, LAKE)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dynalake.toml"]
