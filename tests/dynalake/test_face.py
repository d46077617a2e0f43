"""What people import, and the demo's world in which they try it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import dynalake
from dynalake.demo import live, start_world
from dynalake.demo.flights import KEY, TABLE, story
from dynalake.demo.live import World
from dynalake.errors import ConfigError, UserError
from expectations.parity import ParityResult
from queries.errors import EngineError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", "a-real-one")
        opened = start_world(tmp_path_factory.mktemp("world"), at="21:00")
        assert "AWS_PROFILE" not in os.environ
        yield opened
        opened.stop()
        assert os.environ["AWS_PROFILE"] == "a-real-one", "afterwards all is as before"


def source_items(world: World) -> dict[str, Any]:
    pages = world.source.get_paginator("scan").paginate(TableName=TABLE)
    return {"/".join(item[name]["S"] for name, _ in KEY): item for page in pages for item in page["Items"]}


def test_the_world_is_the_story_at_its_time_and_passes_it(world: World) -> None:
    """In the order of the file: the day passes here, and the tests below find it passed."""
    whole = story(1, 100)
    at = whole.from_moment(datetime(2013, 1, 1, 21, 0))
    assert source_items(world) == {"/".join(item[name]["S"] for name, _ in KEY): item for item in at.before}

    due = [write for write in at.live if write.at < datetime(2013, 1, 1, 21, 30)]
    played = world.play("21:30")
    assert played.replicated == len(due) == played.inserts + played.updates + played.deletes > 20
    later = story(1, 100).from_moment(datetime(2013, 1, 1, 21, 30))
    assert source_items(world) == {
        "/".join(item[name]["S"] for name, _ in KEY): item for item in later.before
    }
    assert dynalake.parity(TABLE, config=world.config).exact


def test_what_nothing_replicates_waits(world: World) -> None:
    down = world.play("21:40", replicate=False)
    assert down.replicated is None
    assert "nothing replicates them" in repr(down)
    assert world.replicate() == down.inserts + down.updates + down.deletes > 5
    assert world.replicate() == 0


def test_follow_tells_of_each_version_and_ends_with_the_loop(world: World) -> None:
    dynalake.refresh(TABLE, world.lake, config=world.config)
    seen = []
    with world.playing("22:00", seconds=3) as stretch:
        for version in dynalake.follow(TABLE, world.lake, every_s=0.5, for_s=30, config=world.config):
            seen.append(version)
            if sum(each.changes for each in seen) >= 5:
                break
    assert all(version.source == "stream" for version in seen)
    assert stretch.result is not None
    assert stretch.result.replicated is not None
    assert stretch.result.replicated > 5
    last = dynalake.refresh(TABLE, world.lake, config=world.config)
    with dynalake.open_lake(world.lake) as lake:
        assert lake.freshness(TABLE).rows == last.rows == len(source_items(world))
    assert list(dynalake.follow(TABLE, world.lake, for_s=0.0, config=world.config)) == []


def test_what_fails_in_the_background_is_raised(world: World, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no snapshot"):
        next(iter(dynalake.follow(TABLE, tmp_path / "nowhere.duckdb", config=world.config)))


def test_a_repair_asks_only_for_what_a_result_names(world: World) -> None:
    many = ParityResult(9, 9, 0, missing=3, extra=0, different=0, in_flight=0, differences=())
    with pytest.raises(UserError, match="run `dynalake repair flights`"):
        dynalake.repair(TABLE, many, config=world.config)
    (item,) = world.lake_account.scan(TableName=world.lake_table, Limit=1)["Items"]
    world.lake_account.delete_item(TableName=world.lake_table, Key={name: item[name] for name, _ in KEY})
    assert dynalake.repair(TABLE, config=world.config).written == 1
    assert dynalake.parity(TABLE, config=world.config).exact


def test_a_result_shows_itself_in_a_notebook(world: World) -> None:
    exact = dynalake.parity(TABLE, config=world.config)._repr_html_()
    assert "source and lake are the same" in exact
    assert f'<td style="text-align:left">{len(source_items(world)):,}</td>' in exact


@pytest.mark.parametrize(
    ("until", "says"),
    [("20:00", "it is"), ("late", "is not a time of the day"), ("25:00", "is not a time of the day")],
)
def test_a_time_that_is_none_or_past_is_refused(world: World, until: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        world.play(until)


def test_ddl_for_an_export_and_without_one(world: World, tmp_path: Path) -> None:
    report = dynalake.export(TABLE, tmp_path / "parquet", lake=world.lake)
    assert report.rows == len(source_items(world))
    text = dynalake.ddl(
        TABLE, "spark", parquet=tmp_path / "parquet", database="own", config=world.config
    ).text
    assert "`own`.`flights_parquet`" in text
    assert "STORED BY" in dynalake.ddl(TABLE, config=world.config).text
    with pytest.raises(UserError, match="needs an export"):
        dynalake.ddl(TABLE, "athena", config=world.config)


def test_another_world_takes_the_place_of_the_one_before(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last with a world here: it ends the module's."""

    class Another:
        def __init__(self, folder: Path, at: str) -> None:
            assert not world.is_open, "one at a time"
            self.at = at

        def stop(self) -> None:
            self.at = "stopped"

    with monkeypatch.context() as patch:
        patch.setattr(live, "World", Another)
        other = start_world(tmp_path, at="21:55")
        assert other.at == "21:55"  # type: ignore[attr-defined]
        other.stop()
        patch.setattr(live, "_open", None)
    assert "stopped" in repr(world)
    with pytest.raises(UserError, match="the demo's world is stopped"):
        world.play("22:00")


def test_a_url_needs_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9"):
        dynalake.run("late_flights", engine="hive", url="hive://me@127.0.0.1:9/lake")
    with pytest.raises(ConfigError, match="there is no such file"):
        dynalake.run("late_flights", engine="hive")
