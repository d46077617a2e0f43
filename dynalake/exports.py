"""A Parquet export as DDL needs it: its schema, where its files are, and which folders partition it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from dynalake.errors import UserError
from lake.contract.files import is_within

if TYPE_CHECKING:
    from pyarrow import Schema
    from types_boto3_s3 import S3Client

_TAIL: Final = 64 * 1024
"""Read of a file's end at once; the footer of most files fits."""


@dataclass(frozen=True, slots=True)
class Export:
    """A Parquet export.

    Attributes:
        schema: the Arrow schema of its first file.
        location: the folder that holds the files, as a URI.
        files: the files' paths, relative to that folder.
        warning: where an engine would read other files along with it: what to do; else None.
    """

    schema: Schema
    location: str
    files: tuple[PurePosixPath, ...]
    warning: str | None = None


def open_export(place: str, s3: Callable[[], S3Client]) -> Export:
    """Look at an export.

    Args:
        place: a Parquet file, a folder of them, or s3://bucket/prefix.
        s3: gives the client for S3; asked only then.

    Raises:
        UserError: there is no Parquet there.
    """
    if place.startswith("s3://"):
        return _in_s3(place, s3())
    return _here(Path(place))


def _here(path: Path) -> Export:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path if path.is_dir() else path.resolve().parent
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no Parquet: there is no .parquet file in it")
    if outside := next((file for file in files if not is_within(file, folder)), None):
        raise UserError(f"{outside} is a link that leads out of the folder {folder}")
    try:
        schema = pq.read_schema(files[0])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} holds no Parquet: {error}") from None
    relative = tuple(PurePosixPath(file.resolve().relative_to(folder.resolve()).as_posix()) for file in files)
    return Export(
        schema, folder.resolve().as_uri(), relative, None if path.is_dir() else _neighbours(path.resolve())
    )


def _neighbours(file: Path) -> str | None:
    others = sorted(each.name for each in file.parent.iterdir() if each != file and each.name[0] not in "._")
    if not others:
        return None
    return (
        f"an engine reads every file of {file.parent}, and {others[0]} is there too: export into a folder of its own "
        "(--out orders, without .parquet), or say with --location where the file will be"
    )


def _in_s3(place: str, s3: S3Client) -> Export:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from botocore.exceptions import ClientError

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = sorted(
            each["Key"]
            for page in pages
            for each in page.get("Contents", ())
            if each["Key"].endswith(".parquet")
        )
        if not keys:
            raise UserError(f"s3://{bucket}/{prefix} holds no Parquet: there is no .parquet file in it")
        schema = pq.read_schema(pa.BufferReader(_footer(s3, bucket, keys[0])))
    except ClientError as error:
        raise UserError(f"{place} cannot be read: {error.response['Error']['Code']}") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"s3://{bucket}/{keys[0]} is not Parquet: {error}") from None
    return Export(
        schema, f"s3://{bucket}/{prefix}", tuple(PurePosixPath(key.removeprefix(prefix)) for key in keys)
    )


def _footer(s3: S3Client, bucket: str, key: str) -> bytes:
    """A file's end with its whole footer: all that a schema needs. The last 8 bytes are its length and a mark."""

    def end(length: int) -> bytes:
        return s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{length}")["Body"].read()

    tail = end(_TAIL)
    needed = struct.unpack("<I", tail[-8:-4])[0] + 8 if len(tail) >= 8 else 0
    return tail if needed <= len(tail) else end(needed)
