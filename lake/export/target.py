"""Where an export goes, and how it gets there in one step.

On this machine, `lake.contract.files` replaces the file or the folder.

In S3 nothing can be renamed. The export is written to a local temporary folder first; then each file is sent as a
multipart upload, which S3 shows to nobody until it is completed. Once all are sent they are completed, one request
each, and then the files of the export before, which have other names, are deleted. So a run that fails leaves what
was there: its uploads are aborted, and what it had completed is deleted again. For the moment between the first
completion and the last deletion (some requests) a reader of a folder may see both; a run that is killed in it leaves
both, and the next export to the same place makes it right. A single file has no such moment. Uploads of killed runs
cost room until they are aborted: the next run aborts those older than a day, and a lifecycle rule does it for good.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from lake.contract import files
from lake.errors import ExportError, aws_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES: Final = 16 << 20
"""S3 takes parts of 5 MB to 5 GB, 10,000 of them at most."""

THREADS: Final = 4
STALE: Final = timedelta(days=1)
_DELETE_AT_ONCE: Final = 1_000

Progress = Callable[[int, int], None]


@contextmanager
def local_target(out: Path, *, directory: bool, mode: int = files.PRIVATE) -> Iterator[Path]:
    """A place to write to, put in place of `out` when the block ends well and removed when not.

    Args:
        out: the file, or the folder.
        directory: whether it is a folder.
        mode: of a new file.

    Raises:
        ExportError: `out` is not a place for an export.
    """
    _check_replaceable(out, directory)
    with files.replacing(out, error=ExportError, directory=directory, mode=mode) as place:
        yield place.file


@contextmanager
def workplace(part: Path) -> Iterator[Path]:
    """A folder for temporary files beside what is being written."""
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        yield Path(folder)


@contextmanager
def s3_target(uri: str, s3: S3Client, *, directory: bool, on_progress: Progress) -> Iterator[Path]:
    """A local place to write to, sent to S3 when the block ends well.

    Raises:
        ExportError: the bucket is missing, or may not be written.
    """
    bucket, key = _bucket_and_key(uri, directory=directory)
    upload = _Upload(s3, bucket, key, on_progress)
    try:
        upload.check(directory=directory)
        with tempfile.TemporaryDirectory(prefix="dynalake-export-") as folder:
            part = Path(folder) / "export"
            if directory:
                part.mkdir()
            yield part
            upload.send(part)
    except (ClientError, BotoCoreError) as error:
        raise _explained(uri, bucket, error) from error


def files_of(part: Path) -> list[Path]:
    """The files of an export: the file itself, or all below the folder, in order of name."""
    return sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]


def _check_replaceable(out: Path, directory: bool) -> None:
    if not directory:
        if out.is_dir():
            raise ExportError(f"{out} is a directory", remedy="give the path of a file")
        return
    if not out.exists():
        return
    if not out.is_dir():
        raise ExportError(
            f"{out} is a file", remedy="let it end in .parquet, or give the path of a directory"
        )
    strange = next((file for file in files_of(out) if file.suffix != ".parquet"), None)
    if strange is not None:
        raise ExportError(
            f"{out} holds {strange.relative_to(out)}, which no export wrote",
            remedy="give a directory for this export alone",
        )


def _bucket_and_key(uri: str, *, directory: bool) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket or not key.strip("/"):
        raise ExportError(f"{uri} names no place in a bucket", remedy="give s3://bucket/some/path")
    return bucket, f"{key.strip('/')}/" if directory else key


@dataclass(slots=True)
class _Sending:
    """One file on its way."""

    key: str
    upload_id: str
    parts: list[CompletedPartTypeDef] = field(default_factory=list)
    completed: bool = False


class _Upload:
    """One export on its way to S3."""

    def __init__(self, s3: S3Client, bucket: str, key: str, on_progress: Progress) -> None:
        self._s3, self._bucket, self._key, self._on_progress = s3, bucket, key, on_progress
        self._before: list[str] = []

    def check(self, *, directory: bool) -> None:
        """Says what can be said before anything is written; aborts uploads that were left long ago."""
        self._s3.head_bucket(Bucket=self._bucket)
        if directory:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key)
            self._before = [found["Key"] for page in pages for found in page.get("Contents", ())]
            strange = next((k for k in self._before if not k.endswith((".parquet", "/"))), None)
            if strange is not None:
                raise ExportError(
                    f"s3://{self._bucket}/{self._key} holds {strange.removeprefix(self._key)}, which no export "
                    "wrote",
                    remedy="give a folder for this export alone",
                )
        # Not everybody may list uploads; then a lifecycle rule must see to it.
        with suppress(ClientError):
            found = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=self._key)
            for each in found.get("Uploads", ()):
                if each["Initiated"] < datetime.now(UTC) - STALE:
                    self._abort(each["Key"], each["UploadId"])

    def send(self, part: Path) -> None:
        """Sends all files, then shows them all, then removes those of the export before."""
        files = files_of(part)
        total = sum(file.stat().st_size for file in files)
        keys = [
            f"{self._key}{file.relative_to(part).as_posix()}" if part.is_dir() else self._key
            for file in files
        ]
        sending: list[_Sending] = []
        done = 0
        try:
            for file, key in zip(files, keys, strict=True):
                begun = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)
                sending.append(_Sending(key, begun["UploadId"]))
                for size in self._send_file(file, sending[-1]):
                    done += size
                    self._on_progress(done, total)
            for each in sending:
                self._s3.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=each.key,
                    UploadId=each.upload_id,
                    MultipartUpload={"Parts": each.parts},
                )
                each.completed = True
        except BaseException:
            self._take_back(sending)
            raise
        self._delete([key for key in self._before if key not in set(keys)])

    def _send_file(self, file: Path, sending: _Sending) -> Iterator[int]:
        size = file.stat().st_size
        # Files of more than 156 GB need larger parts, since S3 takes 10,000.
        step = max(PART_BYTES, -(-size // 9_999))

        def send(number: int) -> CompletedPartTypeDef:
            with file.open("rb") as opened:
                opened.seek((number - 1) * step)
                answer = self._s3.upload_part(
                    Bucket=self._bucket,
                    Key=sending.key,
                    UploadId=sending.upload_id,
                    PartNumber=number,
                    Body=opened.read(step),
                )
            return {"ETag": answer["ETag"], "PartNumber": number}

        with ThreadPoolExecutor(THREADS, thread_name_prefix="upload") as pool:
            for part in pool.map(send, range(1, max(1, -(-size // step)) + 1)):
                sending.parts.append(part)
                yield min(step, size)

    def _take_back(self, sending: Sequence[_Sending]) -> None:
        for each in sending:
            if not each.completed:
                self._abort(each.key, each.upload_id)
        # A single file that was completed has taken the old one's place: that is the whole export.
        completed = [each.key for each in sending if each.completed]
        if len(completed) < len(sending):
            with suppress(ClientError, BotoCoreError):
                self._delete(completed)

    def _abort(self, key: str, upload_id: str) -> None:
        with suppress(ClientError, BotoCoreError):
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            some = keys[start : start + _DELETE_AT_ONCE]
            answer = self._s3.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
            )
            if answer.get("Errors"):
                raise ExportError(
                    f"the files of the export before cannot be deleted from s3://{self._bucket}/{self._key}: "
                    f"{answer['Errors'][0].get('Message', 'no permission')}; readers see both until they are"
                )


def _explained(uri: str, bucket: str, error: ClientError | BotoCoreError) -> ExportError:
    if isinstance(error, ClientError):
        details: Any = error.response["Error"]
        match details["Code"]:
            case "404" | "NoSuchBucket":
                return ExportError(
                    f"the bucket {bucket!r} does not exist", remedy="create it, or give another"
                )
            case "403" | "AccessDenied":
                return ExportError(
                    f"{uri} may not be written with the lake side's credentials",
                    remedy="allow them s3:ListBucket, s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject there",
                )
    shown = aws_error(error, side="lake")
    return ExportError(f"{uri} cannot be written ({shown.message})", remedy=shown.remedy)
