"""A packaged data source (.tdsx): a .zip of a .tds and the .hyper that it describes."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lake.export.extract import ExtractColumn
from lake.export.tds import FOLDER, data_source
from lake.export.trail import NoTrailError
from lake.open import Lake

_LEVEL: Final = 1
"""Hyper's blocks are packed already: more takes long and gains little."""

MAX_RATIO: Final = 100
_SMALL: Final = 64 << 20
"""What a package may unpack to: an extract of Hyper compresses to a tenth at best, beside its empty blocks. Deflate can
reach a thousandth, so that a small file fills a disk."""


def pack(lake: Lake, table: str, columns: Sequence[ExtractColumn], extract: Path, part: Path) -> None:
    """Writes the package of an extract to the file `part`."""
    stem = re.sub(r"[^\w.-]", "_", table)
    inner = f"{FOLDER}/{stem}.hyper"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as package:
        package.writestr(f"{stem}.tds", data_source(table, columns, inner, _described(lake, table)))
        package.write(extract, inner)


def unpack(package: Path, extract: Path) -> None:
    """Takes the extract out of a package.

    Raises:
        NoTrailError: there is none in it.
    """
    try:
        with zipfile.ZipFile(package) as opened:
            inner = next(name for name in opened.namelist() if name.endswith(".hyper"))
            if opened.getinfo(inner).file_size > MAX_RATIO * package.stat().st_size + _SMALL:
                raise NoTrailError("the package there unpacks to far more than an extract does")
            with opened.open(inner) as source, extract.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise NoTrailError("the package there holds no extract") from error


def _described(lake: Lake, table: str) -> dict[str, str]:
    """Attribute -> its DynamoDB types with how many rows have them."""
    return {
        one.column.attribute: f"DynamoDB attribute {one.column.attribute}: "
        + ", ".join(f"{tag} in {rows:,} {'row' if rows == 1 else 'rows'}" for tag, rows in one.rows.items())
        + (", part of the key" if one.is_key else "")
        for one in lake.schema(table)
    }
