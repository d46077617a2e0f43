"""Scan pages sliced, not parsed; and the rows of exports."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.contract.exports import Folder, md5_of, open_export
from lake.encode import snapshot_items
from lake.errors import ContractError, DecodeError, SnapshotError
from lake.exports import export_chunks
from lake.pages import RawScan, split_page
from lake.snapshot import build_snapshot
from tests.lake.building import ABOUT, by_key, lake_row
from tests.lake.test_roundtrip import ITEMS, TEXTS, keyed
from tests.stubs.exports import full_export, incremental_export

ARN = "arn:aws:dynamodb:eu-west-1:999999999999:table/things"
HOSTILE = st.one_of(
    TEXTS, st.sampled_from(['"Items":[', '],"Count":5', "]}", 'x],"LastEvaluatedKey":{', "\\", '"'])
)


@settings(deadline=None)
@given(
    ITEMS,
    st.lists(HOSTILE, max_size=3),
    st.permutations(["Count", "Items", "ScannedCount", "LastEvaluatedKey", "ConsumedCapacity"]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
    st.booleans(),
)
def test_a_page_is_split_where_its_rows_are(
    items: list[dict[str, Any]],
    texts: list[str],
    order: list[str],
    separators: tuple[str, str],
    last: bool,
    ascii_only: bool,
) -> None:
    items += [{"pk": {"S": text}, text or "x": {"L": [{"S": text}]}} for text in texts]
    page = {
        "Items": items,
        "Count": len(items),
        "ScannedCount": len(items),
        "LastEvaluatedKey": {"pk": {"S": (texts or ["x"])[0]}},
        "ConsumedCapacity": {"TableName": "things", "CapacityUnits": 0.5},
    }
    written = {name: page[name] for name in order if name != "LastEvaluatedKey" or not last}
    body = json.dumps(written, separators=separators, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    split = split_page(body)
    assert split is not None
    rows, rest = split
    assert json.loads(b"[" + bytes(rows) + b"]") == items
    assert json.loads(rest) == {**written, "Items": []}


class Body:
    """What botocore reads a response's body from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._content


class Table:
    """A table of a boto3 client that answers scans, a page an item, and books what it was asked."""

    def __init__(self, items: list[dict[str, Any]], fail_at: int | None = None) -> None:
        self.items, self.fail_at = items, fail_at
        self.asked: list[Mapping[str, Any]] = []
        self.client = boto3.Session("a", "b").client("dynamodb", region_name="eu-west-1")
        self.client.meta.events.register("before-send.dynamodb.Scan", self._answer)  # type: ignore[arg-type]

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        asked = json.loads(request.body)
        self.asked.append(asked)
        segment, total = asked["Segment"], asked["TotalSegments"]
        mine = self.items[segment::total]
        at = int(asked["ExclusiveStartKey"]["at"]["N"]) + 1 if "ExclusiveStartKey" in asked else 0
        status, page = 200, {
            "Items": mine[at : at + 1],
            "Count": len(mine[at : at + 1]),
            "ScannedCount": 1,
            "ConsumedCapacity": {"CapacityUnits": 128.5},
        }  # fmt: skip
        if at < len(mine) - 1:
            page["LastEvaluatedKey"] = {"at": {"N": str(at)}}
        if len(self.asked) == self.fail_at:
            status, page = 400, {"__type": "com.amazonaws#AccessDeniedException", "message": "no"}
        body = Body(json.dumps(page, separators=(",", ":")).encode())
        headers: Any = {"Content-Type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, status, headers, body)


class Limit:
    """Books what is spent."""

    def __init__(self) -> None:
        self.waits = 0
        self.spent = 0.0

    def wait(self) -> None:
        self.waits += 1

    def spend(self, units: float) -> None:
        self.spent += units


def test_a_scan_gives_every_row_of_every_segment_and_books_its_units(tmp_path: Path) -> None:
    items = [lake_row(item) for item in keyed([{"n": {"N": str(n)}, "b": {"B": "AA=="}} for n in range(13)])]
    table, limit = Table(items), Limit()
    pages = RawScan(table.client, "things", segments=5, threads=2, limit=limit).pages()
    build_snapshot(tmp_path / "l", "things", ["pk"], (page.rows for page in pages), list, lambda: ABOUT)
    assert by_key(snapshot_items(tmp_path / "l", "things", metadata=True)) == by_key(items)
    assert {each["Segment"] for each in table.asked} == set(range(5))
    assert (limit.waits, limit.spent) == (13, 13 * 128.5)
    table.asked.clear()
    list(RawScan(table.client, "things", segments=5, threads=1).pages())
    assert [each["Segment"] for each in table.asked[:7]] == [0, 1, 2, 3, 4, 0, 1], "segments take turns"
    assert table.client.scan(TableName="t", Segment=0, TotalSegments=1)["Items"][0]["b"] == {"B": b"\0"}


def test_a_scan_that_is_refused_says_so(tmp_path: Path) -> None:
    table = Table([lake_row({"pk": {"S": str(n)}}) for n in range(4)], fail_at=2)
    pages = RawScan(table.client, "things", segments=1).pages()
    with pytest.raises(SnapshotError, match=r"'things' cannot be scanned \(AccessDeniedException\)"):
        build_snapshot(tmp_path / "l", "t", ["pk"], (page.rows for page in pages), list, lambda: ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_an_export_becomes_a_snapshot(tmp_path: Path) -> None:
    items = keyed([{"n": {"N": str(n)}, "s": {"S": 'a"b\n'}} for n in range(10)])
    full_export(ARN, [lake_row(item) for item in items], shows_ms=1_767_225_600_000).save(tmp_path / "e")
    files = Folder(tmp_path / "e")
    chunks = export_chunks(files, open_export(files))
    report = build_snapshot(tmp_path / "l", "things", ["pk"], chunks, list, lambda: ABOUT)
    assert (report.rows, report.rows_read) == (10, 10)
    assert by_key(snapshot_items(tmp_path / "l", "things")) == by_key(items)


@pytest.mark.parametrize(
    "damage", ["missing", "changed", "truncated", "line too few", "incremental", "no item"]
)
def test_a_damaged_export_makes_no_snapshot(tmp_path: Path, damage: str) -> None:
    rows = [lake_row({"pk": {"S": str(n)}}) for n in range(6)]
    files = full_export(ARN, rows, shows_ms=1_767_225_600_000)
    first = next(key for key in files if key.endswith(".json.gz"))
    text = gzip.decompress(files[first])
    match damage:
        case "missing":
            del files[first]
        case "changed":
            files[first] = gzip.compress(text.replace(b'"0"', b'"9"'))
        case "truncated":
            files = _replaced(files, first, files[first][:-9])
        case "line too few":
            files = _replaced(files, first, gzip.compress(text[: text.index(b"\n") + 1]))
        case "no item":
            files = _replaced(files, first, gzip.compress(b'{"Other":{}}\n' * text.count(b"\n")))
        case "incremental":
            change = ({"pk": {"S": "1"}}, rows[0], None)
            files = incremental_export(ARN, [change], from_ms=1_767_225_000_000, to_ms=1_767_225_600_000)
    chunks = export_chunks(files, open_export(files))
    with pytest.raises((ContractError, DecodeError)):
        build_snapshot(tmp_path / "l", "things", ["pk"], chunks, list, lambda: ABOUT)
    assert list(tmp_path.iterdir()) == []


def _replaced(files: Any, key: str, content: bytes) -> Any:
    """The export with another data file, whose checksum agrees."""
    listing = next(name for name in files if name.endswith("manifest-files.json"))
    entries = [json.loads(line) for line in files[listing].splitlines()]
    for entry in entries:
        if entry["dataFileS3Key"] == key:
            entry["md5Checksum"] = md5_of(content)
    files[key] = content
    files[listing] = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
    files[listing.replace(".json", ".md5")] = md5_of(files[listing]).encode()
    return files
