"""Identifiers that an attribute's name could be confused with: those of our own SQL, and DuckDB's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import duckdb

from lake.contract.rows import RESERVED_PREFIX

ROOT = Path(__file__).parents[2]
PACKAGES = ("lake", "expectations", "queries", "dynalake/jobs")
_SQL = re.compile(
    r"\b(SELECT|FROM|WHERE|JOIN|INSERT|DELETE|UPDATE|CREATE|ALTER|DROP|COPY|lambda|AS|AND|ORDER BY|count|max)\b|\$\."
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PSEUDO_COLUMNS = (
    "rowid", "row_id", "rownum", "row_number", "filename", "file_row_number", "file_index", "tableoid", "ctid",
    "oid", "xmin", "xmax", "cmin", "cmax", "snapshot_id", "_metadata", "$path", "$row_id", "empty", "excluded",
    "new", "old", "input__file__name", "row__id", "block__offset__inside__file",
)  # fmt: skip
"""Columns that engines give to tables and files by themselves; no engine lists its own."""


@cache
def of_our_sql() -> tuple[str, ...]:
    """Every identifier in a text of our modules that looks like SQL, numbered ones with small numbers."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in _texts(ast.parse(path.read_text())):
                found.update(_IDENTIFIER.findall(text))
    for path in sorted((ROOT / "queries" / "sql").glob("*.sql")):
        found.update(_IDENTIFIER.findall(path.read_text()))
    return tuple(sorted(name for name in found if len(name) <= 40))


@cache
def of_duckdb() -> tuple[str, ...]:
    """DuckDB's keywords, functions, types and pseudo-columns."""
    with duckdb.connect() as con:
        rows = con.execute(
            """SELECT keyword_name FROM duckdb_keywords() UNION SELECT function_name FROM duckdb_functions()
            UNION SELECT type_name FROM duckdb_types()"""
        ).fetchall()
    return tuple(sorted({name for (name,) in rows} | set(PSEUDO_COLUMNS)))


def in_every_case(name: str) -> tuple[str, ...]:
    """The name as it is, small, large, with a capital, and with every other letter large."""
    mixed = "".join(letter.upper() if at % 2 else letter.lower() for at, letter in enumerate(name))
    forms = (name, name.lower(), name.upper(), name.capitalize(), mixed)
    return tuple(form for form in dict.fromkeys(forms) if not form.startswith(RESERVED_PREFIX))


def _texts(tree: ast.AST) -> Iterator[str]:
    """The module's string literals that look like SQL; what an f-string inserts becomes a small number."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))  # a docstring
        elif isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            for number in ("0", "1", " "):
                text = "".join(number if part is None else str(part) for part in parts)
                if _SQL.search(text) or re.fullmatch(r"_?[a-z_]{1,12}[0-9]", text):
                    yield text
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inner
            and (_SQL.search(node.value) or re.fullmatch(r"_[a-z_]+", node.value))
        ):
            yield node.value
