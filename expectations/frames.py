"""The frames that Great Expectations judges, computed by DuckDB from what was read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from lake.contract.catalogue import Observation
from lake.contract.rows import DELETED, SOURCE_AT, WRITTEN_AT
from lake.types import identifier, literal

if TYPE_CHECKING:
    import pandas as pd

    from expectations.freshness import Freshness
    from expectations.parity import ParityResult

LAG_STEPS_MS: Final = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000)
"""Upper bounds of the lag's histogram; what is beyond the last is in one more."""

LAG_WINDOW_MS: Final = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Lags:
    """How long the changes of the last day took from the source to the lake, in a sample of rows.

    Attributes:
        rows: rows of the sample that tell.
        p50_ms: the median, milliseconds; None without rows.
        p99_ms: the 99th percentile.
        counts: rows by `LAG_STEPS_MS`, and one more for what is beyond.
        newest_source_at: epoch milliseconds of the newest change in the sample.
    """

    rows: int
    p50_ms: float | None
    p99_ms: float | None
    counts: tuple[int, ...]
    newest_source_at: int | None


def percent(share: float) -> str:
    """A share as people read it: 0.000001 is "0.0001 %"."""
    return f"{share * 100:.6f}".rstrip("0").rstrip(".") + " %"


def parity_frame(result: ParityResult) -> pd.DataFrame:
    """One row: what a comparison found, as counts and as shares of the larger side."""
    rows = max(result.source_rows, result.lake_rows, 1)
    return _frame(
        [
            {
                "source_rows": result.source_rows,
                "lake_rows": result.lake_rows,
                "parity_ratio": result.wrong / rows,
                "missing_ratio": result.missing / rows,
                "extra_ratio": result.extra / rows,
                "different_ratio": result.different / rows,
            }
        ]
    )


def freshness_frame(fresh: Freshness, lags: Lags, open_gaps: int) -> pd.DataFrame:
    """One row: how far the lake is behind, its lag and its gaps."""
    return _frame(
        [
            {
                "behind_s": fresh.behind_s,
                "newest_change_age_s": fresh.newest_change_age_s,
                "lag_p50_ms": lags.p50_ms,
                "lag_p99_ms": lags.p99_ms,
                "open_gaps": open_gaps,
            }
        ]
    )


def drift_frame(
    history: Sequence[Observation], accepted_at: int, expected: Iterable[str] | None = None
) -> pd.DataFrame:
    """A row for each attribute, with `unexpected` and `changed_type` as NULL or as a text that says what is new.

    Args:
        history: what the catalogue knows.
        accepted_at: epoch milliseconds; what was seen until then is accepted.
        expected: the attributes that may be there, whenever they came; those accepted if None.
    """
    named = None if expected is None else set(expected)
    rows = []
    for attribute in dict.fromkeys(seen.attribute for seen in history):
        seen = sorted(
            (each for each in history if each.attribute == attribute), key=lambda each: each.first_seen
        )
        tags = list(dict.fromkeys(each.tag for each in seen if each.tag != "NULL"))
        late = [each.tag for each in seen if each.first_seen > accepted_at and each.tag != "NULL"]
        is_new = seen[0].first_seen > accepted_at if named is None else attribute not in named
        changed = any(tag in late for tag in tags[1:])
        rows.append(
            {
                "attribute": attribute,
                "types": ", ".join(tags) or "NULL",
                "first_seen": seen[0].first_seen,
                "unexpected": attribute if is_new else None,
                "changed_type": f"{attribute}: {' then '.join(tags)}" if changed else None,
            }
        )
    return _frame(rows or [dict.fromkeys(("attribute", "types", "first_seen", "unexpected", "changed_type"))])


def rows_frame(lines: Sequence[bytes], attributes: Mapping[str, str]) -> pd.DataFrame:
    """A sample of lake rows with a column for each attribute: text, a number, a truth value, or JSON for the rest.

    Args:
        lines: lake rows as lines of DynamoDB JSON; tombstones are left out.
        attributes: attribute -> its DynamoDB type tag, or "" where it has several.
    """
    columns = [
        f"{_column(attribute, tag)} AS {identifier(name)}"
        for name, (attribute, tag) in zip(_distinct(attributes), attributes.items(), strict=True)
    ]
    with _rows(lines) as database:
        frame: pd.DataFrame = database.sql(f"SELECT {', '.join(columns) or '1 AS nothing'} FROM live").df()
        return frame


def lags_of(lines: Sequence[bytes], now_ms: int) -> Lags:
    """The lags that lake rows tell; rows that were read (backfill, repair) tell none."""
    with _rows(lines) as database:
        database.execute(f"""
            CREATE TEMP TABLE lags AS
            SELECT greatest(0, times.written - times.made) AS lag, times.made FROM (
                SELECT json_extract_string(live.line, '$.{WRITTEN_AT}.N')::BIGINT AS written,
                       json_extract_string(live.line, '$.{SOURCE_AT}.N')::BIGINT AS made
                FROM live) AS times
            WHERE times.made IS NOT NULL
        """)
        recent = f"FROM lags WHERE made > {now_ms - LAG_WINDOW_MS}"
        (row,) = database.sql(
            f"SELECT count(*), quantile_cont(lag, 0.5), quantile_cont(lag, 0.99) {recent}"
        ).fetchall()
        (newest,) = database.sql("SELECT max(made) FROM lags").fetchall()[0]
        steps = [0, *LAG_STEPS_MS]
        parts = [
            f"count(*) FILTER (lag > {low or -1} AND lag <= {high})"
            for low, high in itertools.pairwise(steps)
        ]
        counts = database.sql(
            f"SELECT {', '.join(parts)}, count(*) FILTER (lag > {steps[-1]}) {recent}"
        ).fetchall()[0]
    return Lags(row[0], row[1], row[2], tuple(counts), newest)


def _rows(lines: Sequence[bytes]) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(":memory:", config={"threads": 1})
    database.register("lines", pa.table({"line": pa.array([line.decode() for line in lines], pa.string())}))
    database.execute(
        f"CREATE TEMP TABLE live AS SELECT line::JSON AS line FROM lines "
        f"WHERE json_extract(line, '$.{DELETED}') IS NULL"
    )
    return database


def _column(attribute: str, tag: str) -> str:
    pointer = "/" + attribute.replace("~", "~0").replace("/", "~1")
    if tag in ("S", "N", "BOOL"):
        text = f"json_extract_string(live.line, {literal(f'{pointer}/{tag}')})"
        return {"S": text, "N": f"{text}::DOUBLE", "BOOL": f"{text}::BOOLEAN"}[tag]
    return f"json_extract(live.line, {literal(pointer)})::VARCHAR"


def _distinct(names: Iterable[str]) -> list[str]:
    """Column names that differ in more than case, as DuckDB wants them."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, count = name or "(empty)", 1
        while candidate.casefold() in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate.casefold())
        found.append(candidate)
    return found


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame, by way of DuckDB, so that every frame has DuckDB's types."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    with duckdb.connect(":memory:") as database:
        database.register("rows", table)
        frame: pd.DataFrame = database.sql("FROM rows").df()
        return frame
