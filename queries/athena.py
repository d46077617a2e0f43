"""A query on Athena, through boto3's client.

Athena runs Trino's SQL over the tables that `ddl --engine athena` makes. A query is started, looked at until it has
ended, and its answer is read page by page. The start carries a token, so that a retry of botocore's starts no
second query; interrupted, the query is stopped in Athena, which charges by what was read.

Athena answers in text. What has an exact Arrow type gets it; arrays, maps and rows stay the text that Athena makes
of them, which does not quote its parts: take them apart in the query.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from queries.errors import EngineError

if TYPE_CHECKING:
    from types_boto3_athena import AthenaClient

_POLL_FIRST_S: Final = 0.1
_POLL_MOST_S: Final = 2.0
_WAITING: Final = frozenset({"QUEUED", "RUNNING"})
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "real": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "varbinary": pa.binary(),
}


@dataclass(frozen=True, slots=True)
class AthenaSettings:
    """Where a query runs.

    Attributes:
        database: what table names mean.
        workgroup: the workgroup.
        output: where the answer is written, `s3://bucket/prefix`; the workgroup's place if None.
        catalog: the data catalogue.
        output_owner: the account that the output's bucket must belong to; not checked if None.
    """

    database: str = "lake"
    workgroup: str = "primary"
    output: str | None = None
    catalog: str = "AwsDataCatalog"
    output_owner: str | None = None


@dataclass(frozen=True, slots=True)
class AthenaProgress:
    """How far a query is.

    Attributes:
        seconds: since it was started.
        state: Athena's word for it, such as QUEUED.
        scanned: bytes read so far, which is what is charged for.
    """

    seconds: float
    state: str
    scanned: int


@contextlib.contextmanager
def stream_on_athena(
    client: AthenaClient,
    settings: AthenaSettings,
    sql: str,
    on_progress: Callable[[AthenaProgress], None] = lambda _: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[pa.RecordBatchReader]:
    """Run a query and read its answer page by page while the context lasts.

    Args:
        client: boto3's Athena client.
        settings: where it runs.
        sql: the query, in Trino's SQL.
        on_progress: called at every look at Athena.
        sleep: waits that many seconds.
        monotonic: a clock, seconds.

    Raises:
        EngineError: Athena refuses the query or fails; the text is Athena's reason.
    """
    try:
        query = _start(client, settings, sql)
        _wait(client, query, on_progress, sleep, monotonic)
        pages = client.get_paginator("get_query_results").paginate(QueryExecutionId=query)
        yield _reader(iter(pages))
    except ClientError as error:
        told = error.response["Error"]
        raise EngineError(f"Athena says: {told['Code']}: {told.get('Message', '')}") from error
    except BotoCoreError as error:
        raise EngineError(f"Athena cannot be asked: {error}") from error


def _start(client: AthenaClient, settings: AthenaSettings, sql: str) -> str:
    where: dict[str, Any] = {}
    if settings.output:
        owner = {"ExpectedBucketOwner": settings.output_owner} if settings.output_owner else {}
        where["ResultConfiguration"] = {"OutputLocation": settings.output, **owner}
    return client.start_query_execution(
        QueryString=sql,
        ClientRequestToken=uuid.uuid4().hex,
        QueryExecutionContext={"Database": settings.database, "Catalog": settings.catalog},
        WorkGroup=settings.workgroup,
        **where,
    )["QueryExecutionId"]


def _wait(
    client: AthenaClient,
    query: str,
    on_progress: Callable[[AthenaProgress], None],
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
) -> None:
    began, pause = monotonic(), _POLL_FIRST_S
    try:
        while True:
            told = client.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            state = told["Status"]["State"]
            scanned = told.get("Statistics", {}).get("DataScannedInBytes", 0)
            on_progress(AthenaProgress(monotonic() - began, state, scanned))
            if state not in _WAITING:
                break
            sleep(pause)
            pause = min(pause * 1.5, _POLL_MOST_S)
    except BaseException:
        with contextlib.suppress(ClientError, BotoCoreError):
            client.stop_query_execution(QueryExecutionId=query)
        raise
    if state != "SUCCEEDED":
        reason = " ".join(told["Status"].get("StateChangeReason", "no reason given").split())
        raise EngineError(f"Athena says: {state.lower()}: {reason}")


def _reader(pages: Iterator[Any]) -> pa.RecordBatchReader:
    first = next(pages)
    columns = first["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    schema = pa.schema([(column["Name"], _arrow_type(column)) for column in columns])
    # The first row of a SELECT's answer is the columns' names.
    head = first["ResultSet"]["Rows"]
    names = [cell.get("VarCharValue") for cell in head[0]["Data"]] if head else []
    skipped = head[1:] if names == schema.names else head

    def batches() -> Iterator[pa.RecordBatch]:
        yield _batch(skipped, schema)
        for page in pages:
            yield _batch(page["ResultSet"]["Rows"], schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _arrow_type(column: Mapping[str, Any]) -> pa.DataType:
    kind = str(column["Type"]).lower()
    if kind.startswith("decimal"):
        found = re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", kind)
        precision, scale = (found[1], found[2]) if found else (column["Precision"], column["Scale"])
        return pa.decimal128(int(precision), int(scale))
    return _TYPES.get(kind, pa.string())


def _batch(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for at, field in enumerate(schema):
        texts = [row["Data"][at].get("VarCharValue") for row in rows]
        if pa.types.is_binary(field.type):
            arrays.append(pa.array([None if t is None else bytes.fromhex(t) for t in texts], field.type))
            continue
        try:
            arrays.append(pa.array(texts, pa.string()).cast(field.type))
        except pa.ArrowInvalid as error:
            raise EngineError(f"Athena sent a value that is no {field.type}: {error}") from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
