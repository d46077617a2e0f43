"""Exports as DynamoDB writes them, into a dictionary of keys and bytes, or into a folder.

files = full_export(TABLE_ARN, items, shows_ms=…)                    # a dict, readable as `lake.contract.exports.Files`
files = incremental_export(TABLE_ARN, [(key, new, old), …], from_ms=…, to_ms=…)
files.save(tmp_path)                                                 # the same below a folder
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lake.contract.exports import md5_of

EXPORT_ID: Final = "01693685827463-2d8752fd"
TABLE_ID: Final = "12345a12-abcd-123a-ab12-1234abc12345"


class StubFiles(dict[str, bytes]):
    """Files in memory."""

    def read(self, key: str) -> bytes:
        try:
            return self[key]
        except KeyError:
            raise FileNotFoundError(key) from None

    def below(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self if key.startswith(prefix))

    def save(self, root: Path) -> Path:
        for key, content in self.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(content)
        return root


def full_export(
    table_arn: str, items: Sequence[Mapping[str, Any]], *, shows_ms: int, per_file: int = 3, **more: Any
) -> StubFiles:
    """A full export of these items; `more` replaces parts of the summary."""
    lines = [{"Item": item} for item in items]
    summary = {"exportTime": _moment(shows_ms)}
    return _export(table_arn, lines, f"{EXPORT_ID}/data", per_file, {**summary, **more})


def incremental_export(
    table_arn: str,
    changes: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None, Mapping[str, Any] | None]],
    *,
    from_ms: int,
    to_ms: int,
    per_file: int = 3,
    **more: Any,
) -> StubFiles:
    """An incremental export of changes (key, new image, old image), one an item."""
    lines = []
    for key, new, old in changes:
        line: dict[str, Any] = {
            "Metadata": {"WriteTimestampMicros": {"N": str((to_ms - 1) * 1000)}},
            "Keys": key,
        }
        line |= {} if old is None else {"OldImage": old}
        line |= {} if new is None else {"NewImage": new}
        lines.append(line)
    summary = {
        "exportFromTime": _moment(from_ms),
        "exportToTime": _moment(to_ms),
        "exportType": "INCREMENTAL_EXPORT",
        "outputView": "NEW_AND_OLD_IMAGES",
    }
    return _export(table_arn, lines, "data", per_file, {**summary, **more})


def _export(
    table_arn: str, lines: Sequence[Mapping[str, Any]], data: str, per_file: int, more: Mapping[str, Any]
) -> StubFiles:
    files = StubFiles()
    root = f"AWSDynamoDB/{EXPORT_ID}"
    files[f"{root}/_started"] = b""
    listed = []
    batches = [lines[start : start + per_file] for start in range(0, len(lines), per_file)]
    for number, batch in enumerate([*batches, []]):  # an empty partition's file is empty
        content = gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in batch), 1, mtime=0)
        key = f"AWSDynamoDB/{data}/part{number:04d}.json.gz"
        files[key] = content
        inner = hashlib.md5(content).digest()
        listed.append(
            {
                "itemCount": len(batch),
                "md5Checksum": md5_of(content),
                "etag": f"{hashlib.md5(inner).hexdigest()}-1",
                "dataFileS3Key": key,
            }
        )
    summary = {
        "version": "2023-08-01",
        "exportArn": f"{table_arn}/export/{EXPORT_ID}",
        "startTime": "2026-11-24T04:00:00.000Z",
        "endTime": "2026-11-24T04:05:00.000Z",
        "tableArn": table_arn,
        "tableId": TABLE_ID,
        "s3Bucket": "exports",
        "s3Prefix": None,
        "manifestFilesS3Key": f"{root}/manifest-files.json",
        "billedSizeBytes": 100 * len(lines),
        "itemCount": len(lines),
        "outputFormat": "DYNAMODB_JSON",
        **more,
    }
    _put_with_checksum(
        files, f"{root}/manifest-files", b"".join(json.dumps(each).encode() + b"\n" for each in listed)
    )
    _put_with_checksum(files, f"{root}/manifest-summary", json.dumps(summary).encode())
    return files


def _put_with_checksum(files: StubFiles, name: str, content: bytes) -> None:
    files[f"{name}.json"] = content
    files[f"{name}.md5"] = md5_of(content).encode()


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
