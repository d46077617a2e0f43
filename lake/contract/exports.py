"""DynamoDB's exports to S3: their manifest, their checksums and their lines.

DynamoDB developer guide, "DynamoDB table export output format". Below the prefix that was asked for:

    AWSDynamoDB/<export id>/_started                   the export has begun
    AWSDynamoDB/<export id>/manifest-summary.json      written last: with it the export is complete
    AWSDynamoDB/<export id>/manifest-files.json        one JSON line for each data file
    AWSDynamoDB/<export id>/manifest-….md5             the base64 MD5 of each manifest (the guide: `.checksum`)
    AWSDynamoDB/<export id>/data/<name>.json.gz        of a full export
    AWSDynamoDB/data/<name>.json.gz                    of an incremental export

    {"Item": {…}}                                      a line of a full export
    {"Metadata": {"WriteTimestampMicros": {"N": "…"}}, "Keys": {…}, "NewImage": {…}, "OldImage": {…}}
                                                       a line of an incremental one: what became of one item
                                                       within the window; no NewImage where it was deleted

Nothing here knows where the files are: `Files` reads them, from a bucket or from a folder that they were copied to.
An export's lines are old reads of the table; what may be done with them is for their reader to say.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from lake.contract.files import is_within
from lake.contract.rows import Item
from lake.errors import ContractError

SUMMARY: Final = "manifest-summary.json"
FILES: Final = "manifest-files.json"
_ROOT: Final = "AWSDynamoDB/"
_CHECKSUMS: Final = (".md5", ".checksum")

BLOCK_BYTES: Final = 4 << 20
"""Unpacked at a time."""

MAX_LINE_BYTES: Final = 16 << 20
"""More than any line of an export has. An item has 400 KB at most, as DynamoDB counts them, and an incremental export
writes two images to a line. JSON takes up to 7 bytes for one that DynamoDB counts (`{"NULL":true}` in a list is 2)."""

Kind = Literal["full", "incremental"]


class Files(Protocol):
    """Where an export's files are. A key is that of the bucket, or a path below the folder."""

    def read(self, key: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def below(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`."""
        ...


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file as the manifest lists it.

    Attributes:
        key: its key, see `find_data`.
        items: its lines.
        md5: the base64 MD5 of its (compressed) bytes; empty where the manifest has none.
        etag: its ETag in S3; empty likewise.
    """

    key: str
    items: int
    md5: str
    etag: str


@dataclass(frozen=True, slots=True)
class Export:
    """A complete export.

    Attributes:
        arn: the export's ARN.
        kind: "full" or "incremental".
        table_arn: the ARN of the table it was taken of.
        table_id: that table's id, which a table that was made anew under the same name does not share.
        shows_ms: epoch milliseconds of the moment that its images show: exportTime, or exportToTime.
        from_ms: of an incremental export: the beginning of its window.
        items: its lines.
        billed_bytes: the billed size: of a full export the table's, of an incremental one that of the changes.
        files: its data files.
        folder: the key of the folder that holds its manifest, with a slash at its end unless it is empty.
    """

    arn: str
    kind: Kind
    table_arn: str
    table_id: str
    shows_ms: int
    from_ms: int | None
    items: int
    billed_bytes: int
    files: tuple[DataFile, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an export.

    Attributes:
        image: the item as it was; None where it was deleted within the window.
        key: the item's key attributes; None in a full export, whose lines do not tell them apart.
        written_us: epoch microseconds of the write, by DynamoDB's clock; None in a full export.
    """

    image: Item | None
    key: Item | None = None
    written_us: int | None = None


class Folder:
    """Files below a folder of this machine, such as `aws s3 sync` leaves."""

    def __init__(self, root: Path) -> None:
        """Read below `root`."""
        self._root = root

    def read(self, key: str) -> bytes:
        """The whole file.

        Raises:
            FileNotFoundError: there is none.
            ContractError: it cannot be read.
        """
        path = self._root / key
        try:
            self._check(path)
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ContractError(f"{path} cannot be read: {error.strerror}") from error

    def _check(self, path: Path) -> None:
        """Refuse what a manifest from elsewhere could name to have other files read: `../`, links out, devices."""
        if not is_within(path, self._root):
            raise ContractError(
                f"the export names {path}, which is outside of its folder {self._root}",
                remedy="copy the whole export into one folder, without links that lead out of it",
            )
        if path.exists() and not path.is_file():
            raise ContractError(f"{path} cannot be read: it is not a file")

    def below(self, prefix: str) -> Iterator[str]:
        """The paths, relative to the root, that begin with `prefix`."""
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            if path.is_file() and name.startswith(prefix):
                yield name


def open_export(files: Files, where: str = "") -> Export:
    """Find the one export at a place and read its manifest.

    Args:
        files: reads the files.
        where: the key of the export's folder or of its `manifest-summary.json`, or the prefix that was asked for
            if there is one export below it.

    Raises:
        ContractError: there is no export, or more than one; it is not complete; or a manifest is not what DynamoDB
            writes, or does not agree with its checksum.
    """
    summary_key = _find_summary(files, where.strip("/"))
    folder = summary_key.removesuffix(SUMMARY)
    summary = _json(_checked(files, summary_key), summary_key)
    try:
        return _export(files, summary, folder)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ContractError(
            f"the export's manifest {summary_key} is not what DynamoDB writes ({type(error).__name__}: {error})"
        ) from error


def read_data(files: Files, export: Export, file: DataFile) -> bytes:
    """A data file's bytes, compressed, once their checksum was found to be right.

    Raises:
        ContractError: the file is missing, or is not the one that DynamoDB wrote.
    """
    for key in _places(export, file.key):
        try:
            content = files.read(key)
        except FileNotFoundError:
            continue
        _check_data(file, content)
        return content
    raise ContractError(f"the export's data file {file.key} is missing", remedy="copy the whole export")


def lines_of(export: Export, file: DataFile, content: bytes) -> Iterator[Line]:
    """The lines of a data file.

    Args:
        export: the export.
        file: the data file.
        content: its bytes, from `read_data`.

    Raises:
        ContractError: it is no gzip file, a line is none of an export, or there are more or fewer lines than the
            manifest says; lines before the mistake have been given by then.
    """
    for number, line in enumerate(chain.from_iterable(pages_of_lines(file, content)), 1):
        yield _line(export.kind, line, f"{file.key}, line {number}")


def pages_of_lines(file: DataFile, content: bytes) -> Iterator[list[bytes]]:
    """The lines of a data file as they are, without their ends, some megabytes at a time.

    Memory stays bounded whatever the file holds: a small one may unpack to far more than an export's.

    Args:
        file: the data file.
        content: its bytes, from `read_data`.

    Raises:
        ContractError: it is no gzip file, a line is longer than any item, or there are more or fewer lines than the
            manifest says; pages before the mistake have been given by then.
    """
    count, rest = 0, b""
    try:
        with gzip.open(io.BytesIO(content)) as text:
            while block := text.read(BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                refuse_long(file, len(rest))
                count += len(lines)
                refuse_many(file, count)
                if lines:
                    yield lines
    except (OSError, EOFError, zlib.error) as error:
        raise ContractError(f"the export's data file {file.key} cannot be unpacked: {error}") from error
    if rest:
        count += 1
        refuse_many(file, count)
        yield [rest]
    check_count(file, count)


def refuse_long(file: DataFile, size: int) -> None:
    """Refuse a line that is longer than any item can be.

    Raises:
        ContractError: it is longer than `MAX_LINE_BYTES`.
    """
    if size > MAX_LINE_BYTES:
        raise ContractError(
            f"the export's data file {file.key} has a line of more than {MAX_LINE_BYTES:,} bytes"
        )


def refuse_many(file: DataFile, count: int) -> None:
    """Refuse more lines than the manifest says, as soon as they are seen.

    Raises:
        ContractError: there are more.
    """
    if count > file.items:
        raise _other_count(file, f"more than {file.items:,}")


def check_count(file: DataFile, count: int) -> None:
    """Refuse another number of lines than the manifest says.

    Raises:
        ContractError: there are more or fewer.
    """
    if count != file.items:
        raise _other_count(file, f"{count:,}")


def _other_count(file: DataFile, count: str) -> ContractError:
    return ContractError(
        f"the export's data file {file.key} has {count} lines, and its manifest says {file.items:,}",
        remedy="copy or export it again",
    )


def md5_of(content: bytes) -> str:
    """The base64 MD5 of some bytes, as manifests have it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _find_summary(files: Files, where: str) -> str:
    if where.endswith(SUMMARY):
        return where
    folder = f"{where}/" if where else ""
    found = [key for key in files.below(folder) if _is_summary(key, folder)]
    if len(found) == 1:
        return found[0]
    place = where or "the place that was named"
    if found:
        names = ", ".join(key.removesuffix(f"/{SUMMARY}") for key in found)
        raise ContractError(f"{place} holds {len(found)} exports", remedy=f"name one of them: {names}")
    if any(key.endswith(("_started", FILES)) for key in files.below(folder)):
        raise ContractError(
            f"the export in {place} is not complete: its {SUMMARY} is missing",
            remedy="wait until its status is COMPLETED",
        )
    raise ContractError(f"there is no export in {place}: no {SUMMARY}")


def _is_summary(key: str, folder: str) -> bool:
    """Whether this is the manifest of an export that is here, or directly below the prefix that was asked for."""
    rest = key.removeprefix(folder)
    parts = rest.removeprefix(_ROOT).split("/")
    return parts[-1] == SUMMARY and len(parts) <= 2


def _export(files: Files, summary: Mapping[str, Any], folder: str) -> Export:
    format_ = summary["outputFormat"]
    if format_ != "DYNAMODB_JSON":
        raise ContractError(f"the export's format is {format_}", remedy="export again with DYNAMODB_JSON")
    incremental = summary.get("exportType") == "INCREMENTAL_EXPORT" or "exportFromTime" in summary
    listed = tuple(
        DataFile(
            key=_text(line["dataFileS3Key"]),
            items=int(line["itemCount"]),
            md5=_text(line.get("md5Checksum") or ""),
            etag=_text(line.get("etag") or "").strip('"'),
        )
        for line in _json_lines(_checked(files, folder + FILES), folder + FILES)
    )
    items = int(summary["itemCount"])
    if sum(file.items for file in listed) != items:
        raise ContractError(
            f"the export's summary says {items:,} items, and its list of files "
            f"{sum(file.items for file in listed):,}: it is not complete"
        )
    return Export(
        arn=_text(summary["exportArn"]),
        kind="incremental" if incremental else "full",
        table_arn=_text(summary["tableArn"]),
        table_id=_text(summary.get("tableId") or ""),
        shows_ms=_milliseconds(summary["exportToTime" if incremental else "exportTime"]),
        from_ms=_milliseconds(summary["exportFromTime"]) if incremental else None,
        items=items,
        billed_bytes=int(summary.get("billedSizeBytes") or 0),
        files=listed,
        folder=folder,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value


def _places(export: Export, key: str) -> list[str]:
    """Where a data file may be: where the manifest says, or beside the manifest if it was copied elsewhere."""
    from_root = key[key.rfind(_ROOT) + len(_ROOT) :] if _ROOT in key else key
    parent = export.folder.rstrip("/").rpartition("/")[0]
    beside = f"{parent}/{from_root}" if parent else from_root
    return list(dict.fromkeys((key, beside, f"{export.folder}data/{key.rpartition('/')[2]}")))


def _check_data(file: DataFile, content: bytes) -> None:
    digest = hashlib.md5(content, usedforsecurity=False)
    if file.md5:
        right = md5_of(content) == file.md5
    elif file.etag.endswith("-1"):  # one part: the ETag is the MD5 of the part's MD5
        again = hashlib.md5(digest.digest(), usedforsecurity=False)
        right = file.etag == f"{again.hexdigest()}-1"
    elif file.etag and "-" not in file.etag:
        right = file.etag == digest.hexdigest()
    else:
        raise ContractError(f"the export's manifest has no checksum for {file.key}", remedy="export again")
    if not right:
        raise ContractError(
            f"the export's data file {file.key} does not agree with its checksum",
            remedy="copy or export it again",
        )


def _checked(files: Files, key: str) -> bytes:
    """A manifest, once it agrees with its checksum file, where there is one."""
    try:
        content = files.read(key)
    except FileNotFoundError:
        raise ContractError(f"the export is not complete: {key} is missing") from None
    for ending in _CHECKSUMS:
        try:
            said = files.read(key.removesuffix(".json") + ending).decode().strip()
        except FileNotFoundError:
            continue
        if said and said != md5_of(content):
            raise ContractError(
                f"the export's manifest {key} does not agree with its checksum", remedy="copy it again"
            )
    return content


def _line(kind: Kind, text: bytes, where: str) -> Line:
    try:
        content = json.loads(text)
        key = None if kind == "full" else content["Keys"]
        image = content["Item"] if kind == "full" else content.get("NewImage")
        written = content.get("Metadata", {}).get("WriteTimestampMicros")
        if isinstance(written, Mapping):
            written = written["N"]
        line = Line(image, key, None if written is None else int(written))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        line = Line(None)
    whole = line.image if kind == "full" else line.key
    if not (isinstance(whole, dict) and whole and isinstance(line.image, dict | None)):
        raise ContractError(f"{where}: is no line of a DYNAMODB_JSON export")
    return line


def _json(content: bytes, key: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ContractError(f"the export's manifest {key} is not JSON")
    return found


def _json_lines(content: bytes, key: str) -> Iterator[Mapping[str, Any]]:
    for line in content.splitlines():
        if line.strip():
            yield _json(line, key)


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
