"""Great Expectations, imported when it is needed and not before, and kept from calling anybody."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from types import ModuleType
from typing import Any

from expectations.errors import CheckError


def load() -> Any:
    """The module `great_expectations`, its analytics off. The first call takes seconds.

    Raises:
        CheckError: it is not installed.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    spark = sys.modules.get("pyspark")
    try:
        # It would import Spark where that is installed, for frames that nobody here has; and Spark ends the process
        # where it takes it for its own tests (pyspark.sql.connect.utils.check_dependencies).
        sys.modules["pyspark"] = None  # type: ignore[assignment]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: ModuleType = importlib.import_module("great_expectations")
    except ImportError as missing:
        if missing.name and missing.name.partition(".")[0] != "great_expectations":
            raise
        raise CheckError(
            "the checks need Great Expectations", remedy="run `pip install 'dynalake[checks]'`"
        ) from None
    finally:
        if spark is None:
            del sys.modules["pyspark"]
        else:
            sys.modules["pyspark"] = spark
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return module
