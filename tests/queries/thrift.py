"""Spark's Thrift server, which speaks HiveServer2's protocol, in a Java process of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queries.hive import HiveSession, HiveSettings, open_session
from tests.queries.jvm import SPARK_JVM, SPARK_OPTIONS, java


@dataclass
class ThriftServer:
    """The server, and Spark behind it: pyspark's local mode without its Python launcher.

    Attributes:
        port: where it listens, on this machine alone.
        spark: the SparkSession, through py4j.
        jvm: its Java process.
        log: what it says of its work.
    """

    port: int
    spark: Any
    jvm: Any
    log: Path

    def settings(self, database: str = "default", **more: Any) -> HiveSettings:
        return HiveSettings("127.0.0.1", self.port, username="tester", database=database, **more)

    def session(self, database: str = "default") -> HiveSession:
        return open_session(self.settings(database))

    def url(self, database: str) -> str:
        return f"hive://tester@127.0.0.1:{self.port}/{database}"

    def running_jobs(self) -> int:
        """Spark's jobs that run."""
        listed = self.spark.sparkContext().statusStore().jobsList(None)
        return sum(listed.apply(at).status().toString() == "RUNNING" for at in range(listed.size()))


@contextmanager
def thrift_server(folder: Path) -> Iterator[ThriftServer]:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    options = {
        **SPARK_OPTIONS,
        "spark.master": "local[2]",
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder / 'metastore'};create=true",
        "spark.hadoop.hive.server2.thrift.port": str(port),
        "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        "spark.hadoop.hive.server2.authentication": "NONE",
        "derby.system.home": str(folder),
        "java.io.tmpdir": str(folder),
    }
    with (
        (folder / "server.log").open("wb") as log,
        java(
            *SPARK_JVM,
            *(f"-D{key}={value}" for key, value in options.items()),
            log=log,
        ) as jvm,
    ):
        spark = jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate()
        server = jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2.startWithSparkSession(
            spark, False
        )
        yield ThriftServer(port, spark, jvm, folder / "server.log")
        server.stop()
        spark.stop()
