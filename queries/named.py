"""The queries: one `.sql` file each, shipped with the package or the reader's own.

A file begins with a header of comments, and holds one SELECT in DuckDB's SQL:

    -- what: flights that left late, the worst first
    -- grain: one row a flight
    -- param: minutes integer = 60  the least delay, minutes

    SELECT ... WHERE dep_delay >= :minutes

`:name` stands for a declared parameter, wherever an expression may stand. Strings, comments, casts (`::`),
slices (`[1:n]`) and DuckDB's prefix aliases (`n: 1`) are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Final

import sqlglot
from sqlglot.errors import SqlglotError

from queries.errors import ParameterError, QueryNotFound
from queries.parameters import Parameter, declared

SUFFIX: Final = ".sql"
_HEADER_LINE: Final = re.compile(r"--\s*(what|grain|param)\s*:\s*(.*)")
_BEFORE_A_PLACEHOLDER: Final = re.compile(r"[\s(,=<>+*/%|!~^&-]")
_PLACEHOLDER_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query as its file has it.

    Attributes:
        name: the file's name without `.sql`.
        what: what it answers, one line.
        grain: what one row of the answer is.
        parameters: in the order of their declaration.
        sql: the SELECT for DuckDB, its placeholders written `$name`.
    """

    name: str
    what: str
    grain: str
    parameters: tuple[Parameter, ...]
    sql: str


def named_queries() -> tuple[NamedQuery, ...]:
    """All shipped queries, by name."""
    shipped = (entry.name for entry in files("queries").joinpath("sql").iterdir())
    return tuple(load_query(name) for name in sorted(shipped) if name.endswith(SUFFIX))


def load_query(name_or_path: str | Path) -> NamedQuery:
    """A shipped query by its name, with or without `.sql`, or a reader's own file by its path.

    A path is what ends in `.sql` or has a folder in it; where both exist, the reader's own file wins.

    Raises:
        QueryNotFound: neither is there; or the file is not UTF-8, lacks a `what` or `grain` line, or holds
            no statement or several.
        ParameterError: a parameter's declaration cannot be read, or a placeholder is not declared.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX and path.is_file():
        return parse_query(path.stem, _text_of(path))
    shipped = files("queries").joinpath("sql").joinpath(f"{path.name.removesuffix(SUFFIX)}{SUFFIX}")
    if path.name == str(name_or_path) and shipped.is_file():
        return parse_query(path.name.removesuffix(SUFFIX), shipped.read_text(encoding="utf-8"))
    known = sorted(e.name for e in files("queries").joinpath("sql").iterdir() if e.name.endswith(SUFFIX))
    raise QueryNotFound(
        f"there is no query {str(name_or_path)!r}",
        remedy="give the path of a .sql file, or one of "
        f"{', '.join(name.removesuffix(SUFFIX) for name in known)}",
    )


def parse_query(name: str, text: str) -> NamedQuery:
    """The query that a file's text holds.

    Raises:
        QueryNotFound: the header lacks a line, or there is no statement or there are several.
        ParameterError: a parameter's declaration cannot be read, or a placeholder is not declared.
    """
    header: dict[str, list[str]] = {"what": [], "grain": [], "param": []}
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("--"):
            break
        if found := _HEADER_LINE.fullmatch(stripped):
            header[found[1]].append(found[2].strip())
    for needed in ("what", "grain"):
        if len(header[needed]) != 1 or not header[needed][0]:
            raise QueryNotFound(f"the query {name!r} needs one line `-- {needed}: ...` in its header")
    parameters = tuple(declared(declaration) for declaration in header["param"])
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise ParameterError(f"the query {name!r} declares a parameter twice: {', '.join(sorted(names))}")
    return NamedQuery(name, header["what"][0], header["grain"][0], parameters, _statement(name, text, names))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise QueryNotFound(f"{path} is not UTF-8 text: {error}") from None


def _statement(name: str, text: str, declared_names: list[str]) -> str:
    """The one statement with `$name` for `:name`, found among sqlglot's tokens."""
    try:
        tokens = sqlglot.tokenize(text, read="duckdb")
    except SqlglotError as error:
        raise QueryNotFound(f"the query {name!r} cannot be read: {error}") from None
    while tokens and tokens[-1].token_type.name == "SEMICOLON":
        tokens.pop()
    if not tokens or any(token.token_type.name == "SEMICOLON" for token in tokens):
        raise QueryNotFound(f"the query {name!r} must hold one statement, no more and no less")

    start, end = tokens[0].start, tokens[-1].end + 1
    pieces, at, used = [], start, set()
    for colon, word in pairwise(tokens):
        before = text[colon.start - 1 : colon.start] or " "
        if (
            colon.token_type.name == "COLON"
            and colon.end + 1 == word.start
            and _BEFORE_A_PLACEHOLDER.match(before)
            and _PLACEHOLDER_NAME.fullmatch(text[word.start : word.end + 1])
        ):
            placeholder = text[word.start : word.end + 1]
            used.add(placeholder)
            pieces.append(text[at : colon.start] + "$" + placeholder)
            at = word.end + 1
    if undeclared := sorted(used - set(declared_names)):
        raise ParameterError(
            f"the query {name!r} uses :{', :'.join(undeclared)} without a line `-- param: ...` for it"
        )
    if unused := sorted(set(declared_names) - used):
        raise ParameterError(f"the query {name!r} declares {', '.join(unused)} and never uses it")
    return "".join(pieces) + text[at:end]
