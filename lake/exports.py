"""A DynamoDB export as rows for a snapshot: its data files verified, unpacked and handed on in whole lines.

No line is parsed here: each is `{"Item": {…}}`, and DuckDB reads it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from lake.contract.exports import (
    BLOCK_BYTES,
    DataFile,
    Export,
    Files,
    check_count,
    read_data,
    refuse_long,
    refuse_many,
)
from lake.errors import ContractError
from lake.parts import Chunk


def export_chunks(files: Files, export: Export) -> Iterator[Chunk]:
    """The rows of a full export.

    Args:
        files: reads the files.
        export: the export, from `lake.contract.exports.open_export`.

    Raises:
        ContractError: the export is an incremental one; a data file is missing, is not the one that DynamoDB wrote,
            or has more or fewer lines than the manifest says. Rows have been given by then.
    """
    if export.kind != "full":
        raise ContractError("the export is an incremental one: a snapshot needs a full export")
    for file in export.files:
        content = read_data(files, export, file)
        count = 0
        for block in _blocks(file, content):
            rows = block.count(b"\n") + (not block.endswith(b"\n"))
            count += rows
            refuse_many(file, count)
            yield Chunk(block, rows, "lines", "Item")
        check_count(file, count)


def _blocks(file: DataFile, content: bytes) -> Iterator[bytes]:
    """The unpacked text in blocks of whole lines."""
    import pyarrow as pa

    rest = b""
    try:
        with pa.CompressedInputStream(pa.BufferReader(content), "gzip") as text:
            while block := text.read(BLOCK_BYTES):
                end = block.rfind(b"\n") + 1
                if end:
                    yield rest + block[:end] if rest else block[:end]
                    rest = block[end:]
                else:
                    rest += block
                refuse_long(file, len(rest))
    except OSError as error:
        raise ContractError(f"the export's data file {file.key} cannot be unpacked: {error}") from error
    if rest:
        yield rest
