"""Spark's Thrift server, which speaks HiveServer2's protocol, in a Java process of the test's own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
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
def behind_tls(port: int, certificate: Path) -> Iterator[int]:
    """A port that speaks TLS with this certificate and key, in front of one that does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = context.wrap_socket(listening.accept()[0], server_side=True)
                server = socket.create_connection(("127.0.0.1", port))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()


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
