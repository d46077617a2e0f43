"""Files from elsewhere: those that unpack to too much, lead out of their folder, or are nested without end."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dynalake.cli.check import _line
from dynalake.config import load_config
from dynalake.errors import ConfigError, UserError
from dynalake.exports import open_export as open_parquet
from ingest.documents import Reader
from ingest.errors import UnknownDocumentError
from ingest.shelves import FolderShelf
from lake.contract.exports import DataFile, Export, Folder, lines_of, open_export, pages_of_lines, read_data
from lake.errors import ContractError
from lake.export import tdsx
from lake.export.trail import NoTrailError
from lake.exports import export_chunks
from queries.ddl.generated import SavedState
from queries.errors import DdlError

ROOT = Path(__file__).parents[2]
DEEP = 200_000
NAME = "AWSDynamoDB/01693685827463-2d8752fd"
BOMB_BYTES = 1 << 30


def nested(open_: str, close: str) -> str:
    return open_ * DEEP + close * DEEP


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def write_export(root: Path, data: bytes, *, items: int = 1, key: str = f"{NAME}/data/one.json.gz") -> Path:
    """An export whose manifest names one data file."""
    folder = root / NAME
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "one.json.gz").write_bytes(data)
    summary = {
        "exportArn": "arn:aws:dynamodb:eu-west-1:111111111111:table/t/export/1",
        "tableArn": "arn:aws:dynamodb:eu-west-1:111111111111:table/t",
        "exportTime": "2026-11-24T04:00:00.000Z",
        "itemCount": items,
        "outputFormat": "DYNAMODB_JSON",
    }
    (folder / "manifest-summary.json").write_text(json.dumps(summary))
    listed = {"dataFileS3Key": key, "itemCount": items, "md5Checksum": md5(data)}
    (folder / "manifest-files.json").write_text(json.dumps(listed) + "\n")
    return root


def data_of(root: Path) -> tuple[Folder, Export, DataFile, bytes]:
    files = Folder(root)
    export = open_export(files)
    (file,) = export.files
    return files, export, file, read_data(files, export, file)


READ_A_BOMB = """
import resource, sys
from pathlib import Path
import pyarrow
from lake.contract.exports import Folder, lines_of, open_export, pages_of_lines, read_data
from lake.errors import ContractError
from lake.exports import export_chunks
files = Folder(Path(sys.argv[1]))
export = open_export(files)
(file,) = export.files
content = read_data(files, export, file)
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
for read in (lambda: lines_of(export, file, content), lambda: pages_of_lines(file, content),
             lambda: export_chunks(files, export)):
    try:
        for _ in read():
            pass
    except ContractError as error:
        print(error.message)
"""


@pytest.mark.parametrize(
    ("unit", "said"),
    [(b"x", "a line of more than"), (b'{"Item": {"pk": {"S": "a"}}}\n', "lines, and its manifest")],
)
def test_a_small_file_that_unpacks_to_a_gigabyte_is_refused_within_little_memory(
    tmp_path: Path, unit: bytes, said: str
) -> None:
    block = unit * ((1 << 20) // len(unit))
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        for _ in range(BOMB_BYTES >> 20):
            file.write(block)
    write_export(tmp_path / "export", (tmp_path / "bomb").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", READ_A_BOMB, str(tmp_path / "export")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    assert len(done.stdout.splitlines()) == 3
    assert all(said in line for line in done.stdout.splitlines()), done.stdout


def test_a_package_that_unpacks_to_far_more_than_an_extract_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tdsx, "_SMALL", 1 << 20)
    package, extract = tmp_path / "bomb.tdsx", tmp_path / "extract.hyper"
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Data/t.hyper", bytes(64 << 20))
    with pytest.raises(NoTrailError, match="unpacks to far more"):
        tdsx.unpack(package, extract)
    assert not extract.exists()


@pytest.mark.parametrize(
    ("manifest", "name", "value"),
    [
        ("files", "dataFileS3Key", ["a"]),
        ("files", "md5Checksum", {"a": 1}),
        ("files", "etag", 7),
        ("files", "itemCount", 1e308 * 10),
        ("summary", "tableArn", None),
        ("summary", "exportArn", 5),
        ("summary", "tableId", [1]),
    ],
)
def test_a_manifest_whose_values_have_another_type_is_refused(
    tmp_path: Path, manifest: str, name: str, value: object
) -> None:
    root = write_export(tmp_path / "export", gzip.compress(b'{"Item": {"pk": {"S": "a"}}}\n'))
    path = root / NAME / f"manifest-{manifest}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}) + "\n")
    with pytest.raises(ContractError, match="is not what DynamoDB writes"):
        data_of(root)


@pytest.mark.parametrize(
    "key", ["../secret.gz", "AWSDynamoDB/../../secret.gz", "/{secret}", "a/../../secret.gz"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    secret = tmp_path / "secret.gz"
    secret.write_bytes(gzip.compress(b'{"Item": {"pk": {"S": "secret"}}}\n'))
    root = write_export(
        tmp_path / "export", secret.read_bytes(), key=key.format(secret=str(secret).removeprefix("/"))
    )
    (root / NAME / "data" / "one.json.gz").unlink()
    with pytest.raises(ContractError, match=r"outside of its folder|is missing"):
        data_of(root)


def test_a_link_that_leads_out_of_the_folder_is_refused_and_one_within_is_read(tmp_path: Path) -> None:
    data = gzip.compress(b'{"Item": {"pk": {"S": "a"}}}\n')
    root = write_export(tmp_path / "export", data)
    file = root / NAME / "data" / "one.json.gz"
    file.rename(root / "moved.gz")
    file.symlink_to(root / "moved.gz")
    assert data_of(root)[-1] == data
    (tmp_path / "secret.gz").write_bytes(data)
    file.unlink()
    file.symlink_to(tmp_path / "secret.gz")
    with pytest.raises(ContractError, match="outside of its folder") as raised:
        data_of(root)
    assert raised.value.remedy
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ContractError, match="is not a file"):
        data_of(root)


def test_links_out_of_folders_of_parquet_and_of_documents_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "secret.parquet").write_bytes(b"PAR1")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.json").symlink_to(tmp_path / "secret.json")
    (folder / "a.parquet").symlink_to(tmp_path / "secret.parquet")
    assert list(FolderShelf(folder).stored()) == []
    with pytest.raises(UserError, match="leads out of the folder"):
        open_parquet(str(folder), lambda: pytest.fail("no bucket is asked"))


def test_what_is_nested_without_end_is_refused_by_its_reader(tmp_path: Path) -> None:
    def refused(error: type[Exception], read: Callable[[], object]) -> None:
        with pytest.raises(error):
            read()

    line = f'{{"Item": {{"pk": {nested("[", "]")}}}}}\n'.encode()
    root = write_export(tmp_path / "export", gzip.compress(line))
    _, export, file, content = data_of(root)
    refused(ContractError, lambda: list(lines_of(export, file, content)))
    assert len(list(pages_of_lines(file, content))) == 1, "who does not parse it passes it on"
    assert len(list(export_chunks(Folder(root), export))) == 1
    (root / NAME / "manifest-summary.json").write_text(nested('{"a":[', "]}"))
    refused(ContractError, lambda: open_export(Folder(root)))
    (tmp_path / "deep.toml").write_text(f"a = {nested('[', ']')}")
    refused(ConfigError, lambda: load_config(tmp_path / "deep.toml"))
    refused(UserError, lambda: _line(nested('{"source_key":', "}"), "line 1"))
    refused(DdlError, lambda: SavedState.from_json(nested("[", "]"), "the file"))
    body = f'{{"format": "dynalake.quarantine/1", "record": {nested("[", "]")}}}'.encode()
    refused(UnknownDocumentError, lambda: Reader("orders", "arn", ["pk"]).understand(body))
