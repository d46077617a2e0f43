"""A team's own expectations: copy this beside your dynalake.toml as `expectations/custom/NAME.py`, and edit it.

`dynalake check NAME` calls `expectations` and has what it gives judged on a sample of the lake table's rows, with a
column for each attribute: text for S, a number for N, a truth value for BOOL, DynamoDB JSON for anything else. All
of Great Expectations' column expectations can be used, and classes of your own. `severity` says whether it is a
warning or a failure; `description` is what people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import great_expectations.expectations as gxe


def expectations(pipeline: str) -> Iterator[Any]:
    """What the pipeline's rows must be like."""
    yield gxe.ExpectColumnValuesToBeBetween(
        column="total",
        min_value=0,
        severity="critical",
        description=f"{pipeline}: no order has a negative total",
    )
    yield gxe.ExpectColumnValuesToBeInSet(
        column="status",
        value_set=["PLACED", "PAID", "PACKED", "SHIPPED", "RETURNED"],
        severity="warning",
        description=f"{pipeline}: every status is one that the warehouse knows",
    )
