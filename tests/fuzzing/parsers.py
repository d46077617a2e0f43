"""The parsers of foreign bytes, each with valid inputs to begin with.

A parser may accept an input or refuse it with an error of dynalake's. Any other exception is a fault.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb

from dynalake.cli.check import _line as read_difference
from dynalake.config import load_config
from ingest.documents import Reader
from lake.contract.exports import Folder, lines_of, open_export, pages_of_lines, read_data
from lake.errors import ExplainedError
from lake.exports import export_chunks
from lake.open import open_lake
from queries.ddl.generated import SavedState
from tests.fuzzing.inputs import changed_bytes, changed_json
from tests.ingest.building import ARN, TABLE_ARN, LakeSide, item, record
from tests.lake.building import build, lake_row

Parser = Callable[[Random], None]
"""Parses one input that it draws; raises only what is a fault."""

Making = Callable[[Path], Parser]
"""Makes a parser, which may use the folder."""

ITEM: Final[dict[str, Any]] = item(
    "a", 1, m={"M": {"l": {"L": [{"S": "x"}, {"BOOL": True}, {"NULL": True}]}}}, b={"B": "AA=="}, s={"SS": ["a"]},
    n={"NS": ["1", "2.5"]}, z={"BS": ["AA=="]},
)  # fmt: skip


def records(_: Path) -> Parser:
    """The function's event, from Lambda, through the handler."""
    logging.disable(logging.CRITICAL)
    valid = {
        "Records": [
            {**record(number, "a", event, **{image: ITEM}), "eventSource": "aws:dynamodb"}
            for number, event, image in ((7, "MODIFY", "NewImage"), (8, "REMOVE", "OldImage"))
        ]
    }

    def parse(random: Random) -> None:
        side = LakeSide()
        event = changed_json(valid, random)
        report = side.replicator().process(event)
        put_away = report.outcomes["quarantined"]
        if report.failed_from is None:
            done = sum(report.outcomes[kind] for kind in ("applied", "stale", "superseded"))
            assert put_away + done == report.records, "a record is neither applied nor kept"

    return parse


def dead_letters(_: Path) -> Parser:
    """Documents of a quarantine or of a failure destination, as `redrive` reads them."""
    delivered = {**record(7, "a", NewImage=ITEM), "eventSource": "aws:dynamodb"}
    info = {"streamArn": ARN, "shardId": "shardId-1", "startSequenceNumber": "7", "endSequenceNumber": "8"}
    valid = [
        {"format": 1, "pipeline": "orders", "reason": "too large", "record": delivered},
        {"format": 1, "pipeline": "orders", "reason": "too large", "item": ITEM},
        {"DDBStreamBatchInfo": info, "payload": json.dumps({"Records": [delivered]})},
        {"Type": "Notification", "Message": json.dumps({"DDBStreamBatchInfo": info})},
    ]
    reader = Reader("orders", TABLE_ARN, ["pk"])

    def parse(random: Random) -> None:
        document = random.choice(valid)
        if random.random() < 0.5:
            body = changed_bytes(json.dumps(document).encode(), random)
        else:
            body = _text(changed_json(document, random))
        meaning = reader.understand(body)
        meaning.with_reason(meaning.reason)

    return parse


def s3_exports(folder: Path) -> Parser:
    """DynamoDB's exports: both manifests, and the data files, packed and unpacked."""
    root = folder / "export"
    at = root / "AWSDynamoDB" / "01693685827463-2d8752fd"
    (at / "data").mkdir(parents=True)
    arn = "arn:aws:dynamodb:eu-west-1:111111111111:table/t"
    summary = {
        "version": "2023-08-01", "exportArn": f"{arn}/export/1", "startTime": "2026-11-24T04:00:00.000Z",
        "endTime": "2026-11-24T04:09:00.000Z", "tableArn": arn, "tableId": "t-1", "s3Bucket": "b", "itemCount": 3,
        "exportTime": "2026-11-24T04:00:00.000Z", "billedSizeBytes": 100, "outputFormat": "DYNAMODB_JSON",
        "manifestFilesS3Key": "AWSDynamoDB/01693685827463-2d8752fd/manifest-files.json", "exportType": "FULL_EXPORT",
    }  # fmt: skip
    changes = {
        **summary, "exportType": "INCREMENTAL_EXPORT", "exportFromTime": "2026-11-24T03:00:00.000Z",
        "exportToTime": "2026-11-24T04:00:00.000Z", "outputView": "NEW_AND_OLD_IMAGES",
    }  # fmt: skip
    full = b"".join(json.dumps({"Item": {**ITEM, "pk": {"S": pk}}}).encode() + b"\n" for pk in "abc")
    line = {"Metadata": {"WriteTimestampMicros": {"N": "1"}}, "Keys": {"pk": {"S": "a"}}, "NewImage": ITEM}
    changed = (json.dumps(line).encode() + b"\n") * 3

    def parse(random: Random) -> None:
        is_full = random.random() < 0.7
        told, text = (summary, full) if is_full else (changes, changed)
        where = random.randrange(5)
        if where == 0:
            text = changed_bytes(text, random)
        packed = gzip.compress(text, 1)
        if where == 1:
            packed = changed_bytes(packed, random)
        listed = {
            "itemCount": 3, "md5Checksum": base64.b64encode(hashlib.md5(packed).digest()).decode(), "etag": "",
            "dataFileS3Key": "AWSDynamoDB/01693685827463-2d8752fd/data/one.json.gz",
        }  # fmt: skip
        (at / "data" / "one.json.gz").write_bytes(packed)
        summary_text, files_text = _text(told), _text(listed)
        if where == 2:
            summary_text = _text(changed_json(told, random))
        elif where == 3:
            files_text = _text(changed_json(listed, random))
        elif where == 4:
            summary_text, files_text = changed_bytes(summary_text, random), changed_bytes(files_text, random)
        (at / "manifest-summary.json").write_bytes(summary_text)
        (at / "manifest-files.json").write_bytes(files_text + b"\n")
        files = Folder(root)
        export = open_export(files)
        for file in export.files:
            content = read_data(files, export, file)
            list(pages_of_lines(file, content))
            list(lines_of(export, file, content))
        list(export_chunks(files, export))

    return parse


def snapshots(folder: Path) -> Parser:
    """A snapshot from somebody else: its bytes, and what its own tables say."""
    sound = folder / "sound.duckdb"
    build(sound, [lake_row({**ITEM, "pk": {"S": pk}}) for pk in "abc"])
    content = sound.read_bytes()
    with duckdb.connect(str(sound), read_only=True) as con:
        places = con.sql(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = '_lake' AND NOT internal "
            "AND table_name IN (SELECT table_name FROM duckdb_tables() WHERE schema_name = '_lake')"
        ).fetchall()
    path = folder / "fuzzed.duckdb"

    def parse(random: Random) -> None:
        if random.random() < 0.5:
            path.write_bytes(changed_bytes(content, random))
        else:
            shutil.copy(sound, path)
            with duckdb.connect(str(path)) as con:
                table, column = random.choice(places)
                held = con.sql(f'SELECT "{column}"::VARCHAR FROM _lake."{table}" LIMIT 1').fetchall()
                text = held[0][0] if held and held[0][0] is not None else ""
                odd = random.choice(
                    (None, "", "{}", changed_bytes(text.encode(), random).decode(errors="replace"))
                )
                try:
                    con.execute(f'UPDATE _lake."{table}" SET "{column}" = $1', [odd])
                except duckdb.Error:
                    return  # the column cannot hold it
        try:
            with open_lake(path) as lake:
                for table in lake.tables():
                    lake.freshness(table)
                    lake.schema(table)
                    lake.sql(f'FROM "{table}"').fetchall()
        except duckdb.Error:
            pass  # a query of the user's over damaged blocks

    return parse


def configuration(folder: Path) -> Parser:
    """`dynalake.toml`, the state that `ddl --save` writes, and a line of parity's difference file."""
    valid = b"""[pipelines.orders]
source = { table = "orders", account = "111111111111", region = "eu-central-1", profile = "shop" }
lake = { account = "999999999999", region = "eu-central-1", external_id = "secret" }
quarantine = "s3://bucket/prefix"
max_wcu = 100
policy = { "email" = "hash", "address.street" = "drop", "contacts[].email" = "mask", "*" = "keep" }
[pipelines.orders.checks]
parity = 0.01
[hive]
host = "emr.example"
"""
    state = SavedState(None, {"orders": "SELECT 1"}).to_json().encode()
    difference = b'{"kind": "missing", "source_key": {"pk": {"S": "a"}}, "lake_key": {"pk": {"S": "a"}}}'
    path = folder / "dynalake.toml"

    def parse(random: Random) -> None:
        match random.randrange(4):
            case 0:
                SavedState.from_json(
                    changed_bytes(state, random).decode(errors="surrogateescape"), "the file"
                )
            case 1:
                read_difference(changed_bytes(difference, random).decode(errors="surrogateescape"), "line 1")
            case _:
                path.write_bytes(changed_bytes(valid, random))
                load_config(path)

    return parse


PARSERS: Final[dict[str, Making]] = {
    "records": records,
    "dead-letters": dead_letters,
    "s3-exports": s3_exports,
    "snapshots": snapshots,
    "configuration": configuration,
}


def refused(parse: Parser, seed: int) -> bool:
    """Whether the input of this seed is refused; raises what is a fault."""
    try:
        parse(Random(seed))
    except ExplainedError:
        return True
    return False


def _text(document: Any) -> bytes:
    """JSON, also where the document is nested too deeply for the encoder; surrogates stay."""
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return _nested(document)


def _nested(document: Any) -> bytes:
    parts: list[str] = []
    waiting: list[Any] = [document]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, _Piece):
            parts.append(inner)
        elif isinstance(inner, dict):
            pieces: list[Any] = [_Piece("{")]
            for index, (name, child) in enumerate(inner.items()):
                pieces += [_Piece("," if index else ""), _Piece(json.dumps(name) + ":"), child]
            waiting += reversed([*pieces, _Piece("}")])
        elif isinstance(inner, list):
            pieces = [_Piece("[")]
            for index, child in enumerate(inner):
                pieces += [_Piece("," if index else ""), child]
            waiting += reversed([*pieces, _Piece("]")])
        else:
            parts.append(json.dumps(inner))
    return "".join(parts).encode()


class _Piece(str):
    """Text that is JSON already."""
