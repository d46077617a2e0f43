"""The partitions that an export's folders make: `day=2013-01-01/carrier=UA/part-0.parquet`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

from lake.contract.catalogue import Observation
from queries.ddl.parquet import Partitions
from queries.errors import DdlError

_NAME: Final = re.compile(r"[a-z0-9_]+")
_INT64: Final = re.compile(r"-?[0-9]{1,18}")
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(
    files: Sequence[PurePosixPath], observations: Sequence[Observation] = (), *, explicit: bool = False
) -> Partitions | None:
    """How these files are partitioned; None where no folder says `name=value`.

    A partition's column is a bigint where every value is an integer and the catalogue has seen the attribute as
    64-bit integers only, else a string: folder names are text, and a string loses none of it.

    Args:
        files: the files' paths, relative to the export's folder.
        observations: what the schema catalogue holds.
        explicit: name each partition, instead of having them found by MSCK REPAIR TABLE.

    Raises:
        DdlError: the files are not all partitioned alike, or a column's name is none that Hive finds.
    """
    rows = {tuple(_pair(part) for part in file.parts[:-1] if "=" in part) for file in files}
    shapes = {tuple(name for name, _ in row) for row in rows}
    if shapes <= {()}:
        return None
    if len(shapes) > 1:
        said = "; ".join(sorted("/".join(shape) or "none" for shape in shapes))
        raise DdlError(f"the export's files are not partitioned alike: {said}")
    (names,) = shapes
    for name in names:
        if not _NAME.fullmatch(name):
            raise DdlError(
                f"the folders {name}=... partition the export: Hive finds names of a-z, 0-9 and _ only"
            )
    values = sorted(tuple(value for _, value in row) for row in rows)
    kinds = {each: {seen.kind for seen in observations if seen.attribute == each} for each in names}
    columns = tuple((name, _type([row[at] for row in values], kinds[name])) for at, name in enumerate(names))
    if explicit and any(_NULL in row for row in values):
        raise DdlError(
            f"a partition is {_NULL}, which cannot be named", remedy="let MSCK REPAIR TABLE find it"
        )
    return Partitions(columns, tuple(values) if explicit else None)


def _type(values: Sequence[str], kinds: set[str]) -> str:
    whole = all(_INT64.fullmatch(value) for value in values if value != _NULL)
    return "bigint" if whole and kinds <= {"N.int64", "NULL"} and kinds else "string"


def _pair(folder: str) -> tuple[str, str]:
    name, _, value = folder.partition("=")
    return name, unquote(value)
