"""A DynamoDB export as rows for a snapshot: its data files verified, unpacked and handed on in whole lines.

No line is parsed here: each is `{"Item": {…}}`, and DuckDB reads it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lake.contract.exports import DataFile, Export, Files, read_data
from lake.errors import ContractError
from lake.parts import Chunk

BLOCK_BYTES: Final = 4 << 20
"""Unpacked at a time."""


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
            yield Chunk(block, rows, "lines", "Item")
        if count != file.items:
            raise ContractError(
                f"the export's data file {file.key} has {count:,} lines, and its manifest says {file.items:,}"
            )


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
    except OSError as error:
        raise ContractError(f"the export's data file {file.key} cannot be unpacked: {error}") from error
    if rest:
        yield rest
