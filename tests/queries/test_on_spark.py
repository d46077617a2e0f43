"""On Spark's Thrift server, through PyHive: the DDL runs, and the queries answer as they do on DuckDB.

One server serves all of it. Spark in local mode, through py4j, is the stand-in for a cluster's Spark.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dynalake
from dynalake.exports import open_export
from lake import open_lake
from queries.ddl import Generated, Partitions, difference, parquet_table
from queries.ddl.partitions import partitions_of
from queries.errors import EngineError
from queries.hive import HiveSettings, Progress, apply, open_session, standing
from queries.named import NamedQuery, load_query, named_queries, parse_query
from queries.run import run_on_duckdb
from queries.transpile import transpile
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.ingest_speed.certificates import make_certificates
from tests.queries import flights, hostile, lake_of_flights
from tests.queries.thrift import ThriftServer, behind_tls, thrift_server
from tests.waiting import PATIENCE_S, POLL_S, until

HEADER = "-- what: w\n-- grain: g\n"
ROOT = Path(dynalake.__file__).parent.parent


@dataclass
class World:
    """The demo's flights in a snapshot, their export, and a server whose database `lake` has both views of them.

    The database `hand` has the flights made by hand, whose answers are known.
    """

    server: ThriftServer
    snapshot: Path
    parquet: Path

    def config(self, folder: Path, database: str = "lake") -> Path:
        path = folder / "dynalake.toml"
        path.write_text(
            f'[hive]\nhost = "127.0.0.1"\nport = {self.server.port}\nusername = "tester"\ndatabase = "{database}"\n'
        )
        return path


def generated(parquet: Path, database: str, table: str = "flights", **more: Any) -> Generated:
    made = parquet_table(
        open_export(str(parquet), lambda: pytest.fail("not in S3")).schema,
        location=parquet.resolve().as_uri(),
        database=database,
        table=f"{table}_parquet",
        **{"flavour": "spark", **more},
    )
    return Generated.over(made, table)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("spark")
    snapshot, parquet = lake_of_flights.make(folder)
    hand = folder / "hand"
    hand.mkdir()
    pq.write_table(flights.table(), hand / "part-0.parquet")
    with thrift_server(folder) as server:
        with server.session() as session:
            apply(
                session,
                generated(parquet, "lake", observations=lake_of_flights.observations()).ddl().statements,
            )
            apply(session, generated(hand, "hand").ddl().statements)
        yield World(server, snapshot, parquet)


def on_spark(world: World, query: NamedQuery, database: str = "lake", **params: object) -> pa.Table:
    sql = transpile(query, "spark", params)
    with world.server.session(database) as session, session.stream(sql) as reader:
        return reader.read_all()


def on_duckdb(world: World, query: NamedQuery, **params: object) -> pa.Table:
    with open_lake(world.snapshot) as lake:
        return run_on_duckdb(query, lake.connection, params)


def rows(answer: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in answer.to_pylist()]


# The queries


@pytest.mark.parametrize("name", [query.name for query in named_queries()])
def test_a_shipped_query_gives_the_same_frame_on_both_engines(
    name: str, world: World, tmp_path: Path
) -> None:
    there = dynalake.run(name, engine="hive", config=world.config(tmp_path))
    here = dynalake.run(name, engine="duckdb", lake=world.snapshot)

    assert len(here) > 0
    assert list(there.columns) == list(here.columns)
    assert list(there.dtypes) == list(here.dtypes)
    assert there.equals(here)


@pytest.mark.parametrize("name", sorted(flights.ANSWERS))
def test_a_shipped_query_gives_the_right_answer(name: str, world: World) -> None:
    params, expected = flights.ANSWERS[name]

    assert rows(on_spark(world, load_query(name), "hand", **params)) == expected


@pytest.mark.parametrize("name", [query.name for query in named_queries()])
def test_spark_without_a_server_gives_the_same_answer(name: str, world: World) -> None:
    """Spark's local mode over the same files, as a cluster would run it: no Thrift, no PyHive."""
    world.server.spark.sql("USE lake")
    found = world.server.spark.sql(transpile(load_query(name), "spark")).toJSON().collectAsList()
    here = on_duckdb(world, load_query(name))

    assert [_plain(json.loads(line, parse_float=Decimal)) for line in found] == [
        _plain(row) for row in here.to_pylist()
    ]


def _plain(row: dict[str, Any]) -> dict[str, str]:
    """As texts; Spark's JSON leaves out what is NULL, and writes a decimal's scale or not."""
    return {
        name: str(value.normalize() if isinstance(value, Decimal) else value)
        .removesuffix(".000Z")
        .replace("T", " ")
        .removesuffix(".000")
        for name, value in row.items()
        if value is not None
    }


TYPES = """SELECT
    carrier_flight,
    history,
    history[1] AS first_entry,
    CASE WHEN status = 'departed' THEN NULL ELSE [dep_delay, arr_delay, NULL] END AS delays,
    [history, NULL] AS deeper,
    CAST('he said "no", \\ it''s é😀' AS VARCHAR) AS said,
    [CAST('he said "no", \\ it''s é😀' AS VARCHAR), ''] AS said_often,
    speed_mph,
    [speed_mph] AS speeds,
    CAST('12345678901234567890.123456789' AS DECIMAL(38, 9)) AS many_digits,
    CAST('-0.000000000000000000000000000000000001' AS DECIMAL(38, 36)) AS tiny,
    CAST('2013-01-01 05:15:00.123456' AS TIMESTAMP) AS moment,
    CAST('0001-01-01 00:00:00' AS TIMESTAMP) AS long_ago,
    CAST('9999-12-31 23:59:59.999999' AS TIMESTAMP) AS far_off,
    [CAST('2013-01-01 05:15:00.123456' AS TIMESTAMP)] AS moments,
    CAST(day AS DATE) AS on_day,
    dep_delay > 0 AS late,
    CAST(dep_delay AS DOUBLE) / 3 AS third,
    CAST(NULL AS VARCHAR) AS nothing
FROM flights
ORDER BY arr_delay ASC NULLS FIRST, carrier_flight DESC NULLS LAST, departs ASC NULLS LAST
LIMIT 3000"""


def test_nested_types_decimals_and_timestamps_are_the_same(world: World) -> None:
    query = parse_query("types", HEADER + TYPES)
    there, here = on_spark(world, query), on_duckdb(world, query)

    assert here.num_rows == 3000
    for name in here.column_names:
        assert there[name].to_pylist() == here[name].to_pylist(), name
        assert there.schema.field(name).type == here.schema.field(name).type, name
    assert pa.types.is_struct(there.schema.field("first_entry").type)


@pytest.mark.parametrize("nulls", ["FIRST", "LAST", ""])
@pytest.mark.parametrize("direction", ["ASC", "DESC", ""])
def test_nulls_stand_where_they_stand_on_duckdb(direction: str, nulls: str, world: World) -> None:
    nulls = f"NULLS {nulls}" if nulls else ""
    query = parse_query(
        "q",
        f"{HEADER}SELECT DISTINCT dep_delay, row_number() OVER (ORDER BY dep_delay {direction} {nulls}) = 1 AS first "
        f"FROM (SELECT DISTINCT dep_delay FROM flights) AS d ORDER BY dep_delay {direction} {nulls}",
    )
    there, here = on_spark(world, query), on_duckdb(world, query)

    assert None in here["dep_delay"].to_pylist()
    assert there.to_pylist() == here.to_pylist()


def test_places_of_a_list_count_from_one_on_both(world: World) -> None:
    query = parse_query(
        "q",
        f"{HEADER}SELECT e.n, n + 1 AS next, e.x FROM (SELECT ['a', 'b'] AS l) AS t "
        "CROSS JOIN unnest(t.l) WITH ORDINALITY AS e (x, n) WHERE e.n > 1",
    )
    assert (
        on_spark(world, query).to_pylist()
        == on_duckdb(world, query).to_pylist()
        == [{"n": 2, "next": 3, "x": "b"}]
    )


def test_parameters_of_every_type_mean_the_same(world: World) -> None:
    query = parse_query(
        "q",
        f"{HEADER}-- param: i integer = -7\n-- param: d decimal = -12.50\n-- param: t text = 'it''s'\n"
        "-- param: on_day date = 2013-01-31\n-- param: at timestamp = 2013-01-31T05:15:00\n-- param: b boolean = true\n"
        "SELECT CAST(:i AS BIGINT) AS i, :d AS d, :t AS t, :on_day AS on_day, :at AS moment, :b AS b",
    )
    there, here = on_spark(world, query), on_duckdb(world, query)

    assert there.to_pylist() == here.to_pylist()
    assert there.schema.field("moment").type == here.schema.field("moment").type


def test_hostile_parameters_stay_data(world: World) -> None:
    rng = random.Random(11)
    query = parse_query("q", f"{HEADER}-- param: who text\nSELECT :who AS who")
    with world.server.session() as session:
        for _ in range(30):
            text = hostile.name(rng).replace("\x00", "")
            with session.stream(transpile(query, "spark", {"who": text})) as reader:
                assert reader.read_all().to_pylist() == [{"who": text}]


# The DDL


def test_what_was_applied_is_what_stands(world: World) -> None:
    with world.server.session() as session:
        wanted = generated(world.parquet, "lake", observations=lake_of_flights.observations())
        found = standing(session, wanted)

        assert found.views == wanted.state.views
        assert difference(found, wanted).statements == ()
        (comment,) = (
            row["comment"] for row in session.rows("DESCRIBE lake.flights") if row["col_name"] == "dest"
        )
        assert comment == 'attribute "dest" | S since 1970-01-01'


def test_a_table_grows_in_place_and_keeps_its_rows(world: World, tmp_path: Path) -> None:
    old, new = tmp_path / "a", tmp_path / "b"
    for folder, columns in ((old, {"id": ["1"]}), (new, {"id": ["1", "2"], "Added Later": ["x", None]})):
        folder.mkdir()
        pq.write_table(pa.table(columns), folder / "part-0.parquet")
    for flavour in ("spark", "hive"):
        before = generated(old, "grows", f"t_{flavour}", flavour=flavour)
        after = generated(new, "grows", f"t_{flavour}", flavour=flavour)
        with world.server.session() as session:
            apply(session, before.ddl().statements)
            found = difference(standing(session, before), after)
            assert [statement.split(" (")[0].split("\n")[0] for statement in found.statements] == [
                f"ALTER TABLE `grows`.`t_{flavour}_parquet` SET LOCATION '{new.resolve().as_uri()}'",
                f"ALTER TABLE `grows`.`t_{flavour}_parquet` ADD COLUMNS",
                f"CREATE OR REPLACE VIEW `grows`.`t_{flavour}`",
            ]
            apply(session, found.statements)
            assert session.rows(f"SELECT * FROM grows.t_{flavour} ORDER BY id") == [
                {"id": "1", "added_later": "x"},
                {"id": "2", "added_later": None},
            ]
            assert difference(standing(session, after), after).statements == ()


def test_a_type_that_changed_is_said_and_recreating_mends_it(world: World, tmp_path: Path) -> None:
    for folder, values in (("a", pa.array([1])), ("b", pa.array([Decimal("1.5")], pa.decimal128(38, 1)))):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.table({"n": values}), tmp_path / folder / "part-0.parquet")
    before, after = generated(tmp_path / "a", "mends"), generated(tmp_path / "b", "mends")
    with world.server.session() as session:
        apply(session, before.ddl().statements)
        found = difference(standing(session, before), after)
        assert found.statements == ()
        assert "is of type bigint and must become decimal(38,1)" in found.impossible[0].what
        apply(session, difference(standing(session, before), after, recreate=True).statements)
        assert session.rows("SELECT n FROM mends.flights") == [{"n": Decimal("1.5")}]


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("flavour", ["spark", "hive"])
def test_partitions_are_found_and_read(flavour: str, explicit: bool, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    days = {"2013-01-01": ["1", "2"], "it's; 2": ["3"]}
    for day, ids in days.items():
        part = folder / f"day={day.replace(' ', '%20')}"
        part.mkdir(parents=True)
        pq.write_table(pa.table({"id": ids}), part / "part-0.parquet")
    files = [PurePosixPath(file.relative_to(folder)) for file in folder.rglob("*.parquet")]
    found = partitions_of(files, explicit=explicit)
    assert found is not None
    assert isinstance(found, Partitions)
    name = f"p_{flavour}_{'explicit' if explicit else 'msck'}"
    if explicit:  # a name like this one Hive writes with escapes of its own, which only it makes
        found = Partitions(found.columns, (("2013-01-01",),))
    made = generated(folder, "parts", name, flavour=flavour, partitions=found)
    with world.server.session() as session:
        apply(session, made.ddl().statements)
        counted = session.rows(f"SELECT day, count(*) AS n FROM parts.{name} GROUP BY day ORDER BY day")
        expected = [{"day": day, "n": len(ids)} for day, ids in days.items()]
        assert counted == (expected[:1] if explicit else expected)
        assert difference(standing(session, made), made).statements == made.table.partition_statements


def test_a_statement_that_fails_is_named_with_what_was_done(world: World) -> None:
    with world.server.session() as session, pytest.raises(EngineError) as refused:
        apply(session, ["CREATE DATABASE half", "CREATE TABLE half.t (\n  a nonsense)", "DROP DATABASE half"])
    said = str(refused.value)

    assert "statement 2 of 3, CREATE TABLE half.t, failed" in said
    assert "nonsense" in said.lower()
    assert "the 1 before it have run" in said
    assert "\n" not in said


def test_a_storage_handler_is_refused_before_anything_runs(world: World) -> None:
    with world.server.session() as session:
        with pytest.raises(EngineError, match="has no STORED BY"):
            apply(session, ["CREATE DATABASE never", "CREATE EXTERNAL TABLE t (a string)\nSTORED BY 'x'"])
        assert "never" not in {row["namespace"] for row in session.rows("SHOW DATABASES")}


# The runner


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM nowhere.nothing", "`nowhere`.`nothing` cannot be found"),
        ("SELECT missing FROM lake.flights", "`missing` cannot be resolved"),
        ("SELECT FROM lake.flights WHERE (", "Syntax error at or near"),
        ("SELECT raise_error('the \"inner\" reason')", 'the "inner" reason'),
        ("SELECT CAST('x' AS INT)", "The value 'x' of the type"),
        ("SELECT 1 DIV 0 FROM lake.flights", "Division by zero"),
    ],
)
def test_a_servers_error_is_one_clear_line(statement: str, says: str, world: World) -> None:
    with world.server.session() as session, pytest.raises(EngineError) as refused:
        session.rows(statement)
    said = str(refused.value)

    assert says in said
    assert said.startswith(f"127.0.0.1:{world.server.port} says: ")
    assert "\n" not in said
    assert "Exception" not in said
    assert "org.apache" not in said


def test_a_session_survives_an_error(world: World) -> None:
    with world.server.session() as session:
        with pytest.raises(EngineError):
            session.execute("SELECT nonsense")
        assert session.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_large_answer_arrives_in_batches(world: World) -> None:
    seen: list[Progress] = []
    with (
        world.server.session() as session,
        session.stream("SELECT id FROM range(45000)", seen.append) as reader,
    ):
        sizes = [batch.num_rows for batch in reader]

    assert sum(sizes) == 45_000
    assert len(sizes) >= 5
    assert seen[-1].rows == 45_000


def test_an_answer_that_is_not_read_to_its_end_is_let_go(world: World) -> None:
    with world.server.session() as session:
        with session.stream("SELECT id, 'left alone' AS x FROM range(45000)") as reader:
            next(iter(reader))
        assert session.rows("SELECT 1 AS one") == [{"one": 1}]


def test_no_server_is_one_line_after_some_attempts() -> None:
    from queries.hive import HiveSettings, open_session

    pauses: list[float] = []
    with pytest.raises(EngineError, match=r"no HiveServer2 answers at 127\.0\.0\.1:1 \(3 attempts\)"):
        open_session(HiveSettings("127.0.0.1", 1), sleep=pauses.append)
    assert len(pauses) == 2


def test_a_connection_that_breaks_says_what_is_not_known(world: World) -> None:
    session = world.server.session()
    session._connection._transport.close()
    with pytest.raises(EngineError, match="whether the statement has run is not known"):
        session.execute("SELECT 1")


def test_over_tls_a_query_gives_the_same_answer(world: World, tmp_path: Path) -> None:
    authority, certificate = make_certificates(tmp_path, "127.0.0.1")
    with behind_tls(world.server.port, certificate) as port:
        settings = HiveSettings("127.0.0.1", port, username="tester", tls=True, tls_ca=str(authority))
        with open_session(settings) as session:
            assert session.rows("SELECT 1 AS one, 'a' AS a") == [{"one": 1, "a": "a"}]


# The command line


LONG = "SELECT sum(a.distance * b.distance % 7) AS n FROM flights AS a CROSS JOIN flights AS b CROSS JOIN flights AS c"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What runs in the background of a shell ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_cancels_on_the_server(world: World, tmp_path: Path, interruptible: None) -> None:
    (tmp_path / "long.sql").write_text(HEADER + LONG)
    words = ["query", str(tmp_path / "long.sql"), "--engine", "hive", "--config", str(world.config(tmp_path))]
    running = subprocess.Popen(
        [sys.executable, "-m", "dynalake", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # Not while it is planned: Spark interrupts the thread that plans, and an embedded Derby, the test's
        # metastore, does not survive that.
        until(lambda: _busy_for(world.server, 2.0))
        began = len(world.server.log.read_text(errors="replace"))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()

    assert running.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    said = world.server.log.read_text(errors="replace")[began:]
    assert "Cancel query with" in said
    assert "[SPARK_JOB_CANCELLED]" in said
    until(lambda: world.server.running_jobs() == 0)


def _busy_for(server: ThriftServer, seconds: float) -> bool:
    began = time.monotonic()
    while server.running_jobs() > 0:
        if time.monotonic() > began + seconds:
            return True
        time.sleep(POLL_S)
    return False


INTERRUPTED = """
import os, signal, sys, threading
from contextlib import suppress
from queries.errors import EngineError
from queries.hive import HiveSettings, open_session

signal.signal(signal.SIGINT, signal.default_int_handler)
with open_session(HiveSettings("127.0.0.1", int(sys.argv[1]), username="tester")) as session:
    for delay in (0.01, 0.05, 0.2):
        alarm = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT))
        with suppress(KeyboardInterrupt):
            alarm.start()
            with suppress(EngineError):  # the sum overflows in the end: it may be quicker than the interrupt
                session.execute("SELECT sum(id * id % 7) AS n FROM range(100000000000)")
            alarm.join()
        print("whole", session.rows("SELECT 1 AS one"))
"""


def test_an_interrupt_within_a_call_leaves_the_connection_whole(world: World) -> None:
    """The interrupt comes when it likes, also while a message is on its way."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(world.server.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["whole [{'one': 1}]"] * 3, done.stderr


def test_a_query_writes_its_answer_to_a_file(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = world.config(tmp_path)
    for suffix in ("parquet", "csv", "arrow"):
        out = tmp_path / f"answer.{suffix}"
        words = ("query", "late_flights", "--engine", "hive", "--config", config, "--out", out, "--json")
        code, printed, _ = command(capsys, *words)
        assert code == 0
        assert json.loads(printed)["count"] == 20
    whole = pq.read_table(tmp_path / "answer.parquet")
    assert whole.schema.field("dep_delay").type == pa.int64()
    with pa.ipc.open_file(tmp_path / "answer.arrow") as reader:
        assert reader.read_all() == whole
    assert len((tmp_path / "answer.csv").read_text().splitlines()) == 21


def test_a_mistake_on_the_server_is_one_line_and_exit_code_2(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.sql").write_text(f"{HEADER}SELECT a FROM nowhere")
    words = ("query", tmp_path / "wrong.sql", "--engine", "hive", "--config", world.config(tmp_path))
    code, out, err = command(capsys, *words)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "`nowhere` cannot be found" in err


def test_ddl_from_the_catalogue_to_the_server_and_its_changes(
    world: World, tmp_path: Path, aws: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    at, url = ("--config", config, "--json"), world.server.url("shop")

    def publish(*items: dict[str, Any]) -> Path:
        put(pipeline, *items)
        for words in (
            ("run", "orders", "--until-caught-up"),
            ("snapshot", "orders", "--out", tmp_path / "l.duckdb"),
        ):
            assert command(capsys, *words, *at)[0] == 0
        export = ("export", "orders", "--out", tmp_path / "orders", "--lake", tmp_path / "l.duckdb")
        assert command(capsys, *export, *at)[0] == 0
        return tmp_path / "orders"

    def ddl(*words: str | Path) -> tuple[int, Any]:
        code, out, err = command(capsys, "ddl", "orders", *words, *at)
        return code, json.loads(out) if out else err

    assert command(capsys, "setup", "orders", *at)[0] == 0
    spark = ("--engine", "spark", "--parquet", publish({"pk": {"S": "1"}, "n": {"N": "1"}}))
    code, first = ddl(*spark, "--apply", url, "--save", tmp_path / "state.json")
    assert (code, first["applied"]) == (0, len(first["statements"]))
    assert ddl(*spark, "--diff", "--apply", url)[1]["statements"] == []
    here = ("--diff", "--since", tmp_path / "state.json", "--database", "shop")
    assert ddl(*spark, *here)[1]["statements"] == []
    code, said = ddl(*spark, "--apply", url)
    assert code == 2
    assert "orders_parquet" in said["error"]
    assert "already exists" in said["error"]

    publish({"pk": {"S": "2"}, "n": {"N": "2"}, "later": {"S": "x"}})
    _, from_file = ddl(*spark, *here, "--save", tmp_path / "state.json")
    _, from_server = ddl(*spark, "--diff", "--apply", url)
    assert from_file["statements"] == from_server["statements"]
    assert any("ADD COLUMNS" in statement for statement in from_server["statements"])
    with world.server.session("shop") as session:
        assert session.rows("SELECT pk, n, later FROM orders ORDER BY pk") == [
            {"pk": "1", "n": 1, "later": None},
            {"pk": "2", "n": 2, "later": "x"},
        ]
        assert session.rows("SELECT count(_lake_version) AS n FROM _lake_orders") == [{"n": 2}]

    publish({"pk": {"S": "3"}, "n": {"N": "1.5"}})
    code, refused = ddl(*spark, "--diff", "--apply", url)
    assert code == 1
    assert "n is of type bigint and must become decimal(38,1)" in refused["impossible"][0]["what"]
    assert (refused["statements"], refused["applied"]) == ([], 0)
    assert ddl(*spark, "--diff", "--apply", url, "--recreate")[0] == 0
    assert ddl(*spark, "--diff", "--apply", url)[1]["statements"] == []

    code, said = ddl("--apply", url)
    assert code == 2
    assert "has no STORED BY" in said["error"]
    assert ddl(*spark, *here)[0] == 1
