"""What Tableau Server does with the files that it takes in, by Hyper itself."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tableauhyperapi import HyperException

from tests.stubs.hyper import opened as hyper_opened


class RefusedFileError(Exception):
    """A file is no data source, or cannot be changed as asked."""


def check(kind: str, content: bytes) -> None:
    """Opens a data source's file: a .tdsx has a description, and its extract has one table.

    Raises:
        RefusedFileError, zipfile.BadZipFile, StopIteration, ET.ParseError: it is not one.
    """
    with tempfile.TemporaryDirectory(prefix="tableau-stub-") as folder:
        if kind == "tdsx":
            with zipfile.ZipFile(_put(folder, "package", content)) as package:
                described = next(each for each in package.namelist() if each.endswith(".tds"))
                ET.fromstring(package.read(described))
    try:
        with_extract(kind, content, _one_table)
    except HyperException as error:
        raise RefusedFileError(str(error.main_message)) from error


def appended(before: bytes, more: bytes) -> bytes:
    """An extract with the rows of another."""
    with tempfile.TemporaryDirectory(prefix="tableau-stub-") as folder:
        file, other = _put(folder, "before", before), _put(folder, "more", more)
        with hyper_opened(file, other=other) as hyper:
            (name,) = _names(hyper, "extract")
            (from_,) = _names(hyper, "other")
            hyper.execute_command(f"INSERT INTO {name} SELECT * FROM {from_}")
        return file.read_bytes()


def updated(kind: str, content: bytes, payload: bytes, actions: Sequence[dict[str, Any]]) -> bytes:
    """A data source's file after actions on its extract, all of them or none."""

    def act(file: Path) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="tableau-stub-") as folder,
            hyper_opened(file, source=_put(folder, "payload", payload)) as hyper,
        ):
            hyper.execute_command("BEGIN TRANSACTION")
            for action in actions:
                hyper.execute_command(_statement(hyper, action))
            hyper.execute_command("COMMIT")

    return with_extract(kind, content, act)


def with_extract(kind: str, content: bytes, work: Callable[[Path], None]) -> bytes:
    """Does something to the extract in a data source's file; gives the file as it then is."""
    with tempfile.TemporaryDirectory(prefix="tableau-stub-") as folder:
        if kind == "hyper":
            file = _put(folder, "extract.hyper", content)
            work(file)
            return file.read_bytes()
        package = _put(folder, "package.tdsx", content)
        with zipfile.ZipFile(package) as opened:
            members = {name: opened.read(name) for name in opened.namelist()}
        inner = next(name for name in members if name.endswith(".hyper"))
        file = _put(folder, "extract.hyper", members[inner])
        work(file)
        members[inner] = file.read_bytes()
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as written:
            for name, member in members.items():
                written.writestr(name, member)
        return package.read_bytes()


def _put(folder: str, name: str, content: bytes) -> Path:
    file = Path(folder) / name
    file.write_bytes(content)
    return file


def _names(hyper: Any, database: str) -> list[Any]:
    from tableauhyperapi import DatabaseName

    return [
        table
        for schema in hyper.catalog.get_schema_names(DatabaseName(database))
        for table in hyper.catalog.get_table_names(schema)
    ]


def _one_table(file: Path) -> None:
    with hyper_opened(file) as hyper:
        names = _names(hyper, "extract")
        if len(names) != 1:
            raise RefusedFileError(f"an extract has one table, and this one has {len(names)}")
        hyper.execute_scalar_query(f"SELECT count(*) FROM {names[0]}")


def _statement(hyper: Any, action: dict[str, Any]) -> str:
    from tableauhyperapi import TableName, escape_name

    target = TableName("extract", action["target-schema"], action["target-table"])
    source = TableName("source", action["source-schema"], action["source-table"])

    def condition(of: dict[str, Any]) -> str:
        if of["op"] == "and":
            return " AND ".join(f"({condition(each)})" for each in of["args"])
        if of["op"] != "eq":
            raise RefusedFileError(f"there is no operation {of['op']!r}")
        return f"s.{escape_name(of['source-col'])} = t.{escape_name(of['target-col'])}"

    match action["action"]:
        case "delete":
            same = condition(action["condition"])
            return f"DELETE FROM {target} AS t WHERE EXISTS (SELECT 1 FROM {source} AS s WHERE {same})"
        case "insert":
            columns = hyper.catalog.get_table_definition(source).columns
            names = ", ".join(str(each.name) for each in columns)
            return f"INSERT INTO {target} ({names}) SELECT {names} FROM {source}"
        case other:
            raise RefusedFileError(f"there is no action {other!r}")
