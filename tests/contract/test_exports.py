"""Reading the manifests and lines of DynamoDB's exports, and refusing what is not whole."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lake.contract.exports import Export, Folder, Line, lines_of, open_export, read_data
from lake.errors import ContractError
from tests.stubs.exports import EXPORT_ID, TABLE_ID, StubFiles, full_export, incremental_export

ARN = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"
AT_MS = 1_795_500_000_123
ITEMS = [{"pk": {"S": f"k{n}"}, "n": {"N": str(n)}} for n in range(7)]
LINE = b'{"Item": {"pk": {"S": "a"}}}\n'
ROOT = f"AWSDynamoDB/{EXPORT_ID}"


def all_lines(files: StubFiles | Folder, export: Export) -> list[Line]:
    return [line for file in export.files for line in lines_of(export, file, read_data(files, export, file))]


def test_the_documented_etag_is_that_of_the_documented_md5() -> None:
    """The developer guide's example: it shows that md5Checksum is of the object's bytes, the ETag of one part."""
    digest = base64.b64decode("sQMSpEILNgoQmarvDFonGQ==")
    assert hashlib.md5(digest).hexdigest() == "af83d6f217c19b8b0fff8023d8ca4716"


def test_a_full_export_is_read_whole() -> None:
    files = full_export(ARN, ITEMS, shows_ms=AT_MS)
    export = open_export(files)
    assert (export.kind, export.table_arn, export.table_id) == ("full", ARN, TABLE_ID)
    assert (export.shows_ms, export.from_ms, export.items) == (AT_MS, None, 7)
    assert [file.items for file in export.files] == [3, 3, 1, 0]
    assert [line.image for line in all_lines(files, export)] == ITEMS


def test_an_incremental_export_tells_what_became_of_each_item() -> None:
    key = {"pk": {"S": "a"}}
    changes = [
        (key, {**key, "n": {"N": "1"}}, None),
        (key, None, {**key, "n": {"N": "0"}}),
        (key, None, None),
    ]
    files = incremental_export(ARN, changes, from_ms=AT_MS - 900_000, to_ms=AT_MS)
    export = open_export(files)
    assert (export.kind, export.from_ms, export.shows_ms) == ("incremental", AT_MS - 900_000, AT_MS)
    lines = all_lines(files, export)
    assert [line.image for line in lines] == [{**key, "n": {"N": "1"}}, None, None]
    assert {line.written_us for line in lines} == {(AT_MS - 1) * 1000}
    assert all(line.key == key for line in lines)


@pytest.mark.parametrize("where", ["", "AWSDynamoDB", ROOT, f"/{ROOT}/", f"{ROOT}/manifest-summary.json"])
def test_an_export_is_found_from_its_prefix_its_folder_or_its_manifest(where: str) -> None:
    assert open_export(full_export(ARN, ITEMS, shows_ms=AT_MS), where).items == 7


@pytest.mark.parametrize("make", ["full", "incremental"])
@pytest.mark.parametrize("part", ["", "AWSDynamoDB"])
def test_a_copy_in_a_folder_will_do(tmp_path: Path, make: str, part: str) -> None:
    key = {"pk": {"S": "a"}}
    files = (
        full_export(ARN, ITEMS, shows_ms=AT_MS)
        if make == "full"
        else incremental_export(ARN, [(key, key, None)] * 4, from_ms=0, to_ms=AT_MS)
    )
    folder = Folder(files.save(tmp_path) / part)
    export = open_export(folder)
    assert len(all_lines(folder, export)) == export.items


def test_a_copy_of_the_export_s_own_folder_will_do(tmp_path: Path) -> None:
    folder = Folder(full_export(ARN, ITEMS, shows_ms=AT_MS).save(tmp_path) / ROOT)
    assert len(all_lines(folder, open_export(folder))) == 7


def test_keys_with_the_prefix_that_was_asked_for() -> None:
    plain = full_export(ARN, ITEMS, shows_ms=AT_MS)
    files = StubFiles({f"2026-Nov/{key}": content for key, content in plain.items()})
    assert len(all_lines(files, open_export(files, "2026-Nov"))) == 7


def test_the_checksum_of_the_guide_s_name_is_looked_at_too() -> None:
    files = full_export(ARN, ITEMS, shows_ms=AT_MS)
    del files[f"{ROOT}/manifest-files.md5"]
    files[f"{ROOT}/manifest-files.checksum"] = b"AAAA"
    with pytest.raises(ContractError, match="does not agree with its checksum"):
        open_export(files)


def drop(key: str) -> Callable[[StubFiles], object]:
    return lambda files: files.pop(key)


def change_summary(**more: object) -> Callable[[StubFiles], object]:
    def change(files: StubFiles) -> None:
        summary = json.loads(files[f"{ROOT}/manifest-summary.json"]) | more
        files[f"{ROOT}/manifest-summary.json"] = json.dumps(
            {name: value for name, value in summary.items() if value is not None}
        ).encode()
        del files[f"{ROOT}/manifest-summary.md5"]

    return change


def write(key: str, content: bytes) -> Callable[[StubFiles], object]:
    return lambda files: files.__setitem__(key, content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (drop(f"{ROOT}/manifest-summary.json"), "is not complete"),
        (drop(f"{ROOT}/manifest-files.json"), "not complete"),
        (write(f"{ROOT}/manifest-summary.json", b"{}"), "does not agree with its checksum"),
        (change_summary(itemCount=8), "the summary says 8|summary says 8 items"),
        (change_summary(outputFormat="ION"), "export again with DYNAMODB_JSON"),
        (change_summary(exportTime=None), "is not what DynamoDB writes"),
        (change_summary(exportTime="yesterday"), "is not what DynamoDB writes"),
        (write("AWSDynamoDB/01700000000000-aaaaaaaa/manifest-summary.json", b"{}"), "holds 2 exports: name one"),
        (StubFiles.clear, "there is no export"),
    ],
)  # fmt: skip
def test_what_is_not_a_whole_export_is_refused(spoil: Callable[[StubFiles], object], said: str) -> None:
    files = full_export(ARN, ITEMS, shows_ms=AT_MS)
    spoil(files)
    with pytest.raises(ContractError, match=said):
        open_export(files)


PART = f"{ROOT}/data/part0000.json.gz"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (drop(PART), "is missing"),
        (write(PART, gzip.compress(b"{}")), "does not agree with its checksum"),
        (lambda files: files.__setitem__(PART, files[PART][:-9]), "does not agree with its checksum"),
    ],
)
def test_a_data_file_that_is_not_the_one_written_is_refused(
    spoil: Callable[[StubFiles], object], said: str
) -> None:
    files = full_export(ARN, ITEMS, shows_ms=AT_MS)
    export = open_export(files)
    spoil(files)
    with pytest.raises(ContractError, match=said):
        all_lines(files, export)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not gzip", "cannot be unpacked"),
        (gzip.compress(LINE)[:-4], "cannot be unpacked"),
        (gzip.compress(LINE), "has 1 lines"),
        (gzip.compress(LINE + b"\n"), "line 2: is no line"),
        (gzip.compress(b'{"NewImage": {}}\n'), "line 1: is no line"),
        (gzip.compress(b'{"Item": [1]}\n'), "line 1: is no line"),
        (gzip.compress(b"[]\n"), "line 1: is no line"),
    ],
    ids=["bytes", "cut off", "too few", "empty line", "other kind", "no item", "no object"],
)
def test_lines_that_are_none_are_refused(content: bytes, said: str) -> None:
    export = open_export(full_export(ARN, ITEMS, shows_ms=AT_MS))
    with pytest.raises(ContractError, match=said):
        list(lines_of(export, export.files[0], content))


def test_an_etag_will_do_where_there_is_no_md5() -> None:
    files = full_export(ARN, ITEMS, shows_ms=AT_MS)
    text = files[f"{ROOT}/manifest-files.json"].replace(b"md5Checksum", b"ignored")
    files[f"{ROOT}/manifest-files.json"] = text
    del files[f"{ROOT}/manifest-files.md5"]
    export = open_export(files)
    assert len(all_lines(files, export)) == 7
    files[PART] = gzip.compress(b"{}")
    with pytest.raises(ContractError, match="does not agree with its checksum"):
        all_lines(files, export)
    files[f"{ROOT}/manifest-files.json"] = text.replace(b"etag", b"unknown")
    with pytest.raises(ContractError, match="has no checksum"):
        all_lines(files, open_export(files))
