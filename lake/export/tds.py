"""The description of an extract for Tableau (.tds): captions, roles, number formats, and where the extract is.

Its form follows files that Tableau Desktop wrote and Tableau's published schema of workbooks
(github.com/tableau/tableau-document-schemas, 2026.2), of which a data source is a part. The connection is a live one
to Hyper, which is what the server can update row by row later.

A column has the name that it has in DynamoDB, so that formulas and the lake speak of the same thing; what people see
is its caption. Tableau has no type for binary values and XML has none for control characters: such columns are in the
extract, and Tableau does not show them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from lake.export.extract import ExtractColumn, Kind
from lake.export.hyper import SCHEMA

FOLDER: Final = "Data/Extracts"
"""Where Tableau Desktop keeps an extract in a package."""

_VERSION: Final = "18.1"
"""The version that Tableau writes into its documents since 2018.1."""

_DATATYPES: Final[Mapping[Kind, tuple[str, int]]] = {
    "text": ("string", 129),
    "big int": ("integer", 20),
    "numeric": ("real", 131),
    "bool": ("boolean", 11),
    "date": ("date", 133),
    "timestamp": ("datetime", 135),
}
"""Tableau's data type, and OLE DB's number of the type of the column behind it."""

_IDENTIFYING: Final = re.compile(r"(id|key|code|number|no|nr|year|zip|version)", re.IGNORECASE)
"""Numbers whose name ends in one of these words name things: their sum means nothing."""

_UPPER: Final = frozenset({"id", "url", "uri", "utc", "iso", "ip", "sku", "vat", "aws", "arn", "usd", "eur"})
_APART: Final = re.compile(r"[_\s.-]+")
_CAMEL: Final = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SHOWN_DIGITS: Final = 4


def data_source(
    table: str, columns: Sequence[ExtractColumn], extract: str, described: Mapping[str, str]
) -> bytes:
    """The .tds of an extract.

    Args:
        table: the table's name, in the extract too.
        columns: the extract's columns.
        extract: the extract's path in the package.
        described: attribute -> what is known of it, for the column's comment.
    """
    shown = [each for each in columns if each.kind in _DATATYPES and not _NOT_XML.search(each.name)]
    root = Element(
        "datasource",
        {"formatted-name": table, "caption": table, "inline": "true", "version": _VERSION},
    )
    _connection(root, table, shown, extract)
    SubElement(root, "aliases", enabled="yes")
    named = captions(shown)
    for each in shown:
        _column(root, each, named[each.name], described.get(each.attribute, ""))
    SubElement(
        root,
        "layout",
        {"dim-ordering": "ordinal", "measure-ordering": "ordinal", "show-structure": "true"},
    )
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def captions(columns: Iterable[ExtractColumn]) -> dict[str, str]:
    """Column -> what people see: its words, each with a capital. Columns that would look alike keep their names."""
    found = {each.name: _caption(each) for each in columns}
    taken = Counter(caption.casefold() for caption in found.values())
    return {name: caption if taken[caption.casefold()] == 1 else name for name, caption in found.items()}


def role(column: ExtractColumn) -> str:
    """Whether the column is something to group by ("dimension") or to add up ("measure")."""
    if column.kind not in ("big int", "numeric") or column.is_key:
        return "dimension"
    words = _words(column.name)
    return "dimension" if words and _IDENTIFYING.fullmatch(words[-1]) else "measure"


def _caption(column: ExtractColumn) -> str:
    name = column.name
    if column.companion:
        name = name.removesuffix("__other")
    words = _words(name)
    caption = " ".join(_capital(word) for word in words) or name
    if column.companion:
        return f"{caption} (Other Types)"
    return f"{caption} (UTC)" if column.utc and (not words or words[-1].lower() != "utc") else caption


def _words(name: str) -> list[str]:
    return [word for part in _APART.split(name) for word in _CAMEL.split(part) if word]


def _capital(word: str) -> str:
    return word.upper() if word.lower() in _UPPER else word[:1].upper() + word[1:]


def _connection(root: Element, table: str, columns: Sequence[ExtractColumn], extract: str) -> None:
    name = "hyper.dynalake"
    federated = SubElement(root, "connection", {"class": "federated"})
    named = SubElement(
        SubElement(federated, "named-connections"), "named-connection", caption=table, name=name
    )
    SubElement(
        named,
        "connection",
        {
            "authentication": "auth-none",
            "class": "hyper",
            "dbname": extract,
            "default-settings": "yes",
            "schema": SCHEMA,
            "sslmode": "",
            "tablename": table,
            "username": "tableau_internal_user",
        },
    )
    SubElement(
        federated,
        "relation",
        {"connection": name, "name": table, "table": f"{_field(SCHEMA)}.{_field(table)}", "type": "table"},
    )
    cols = SubElement(federated, "cols")
    for each in columns:
        SubElement(cols, "map", key=_field(each.name), value=f"{_field(table)}.{_field(each.name)}")
    records = SubElement(federated, "metadata-records")
    for number, each in enumerate(columns):
        datatype, remote = _DATATYPES[each.kind]
        record = SubElement(records, "metadata-record", {"class": "column"})
        told = {
            "remote-name": each.name,
            "remote-type": str(remote),
            "local-name": _field(each.name),
            "parent-name": _field(table),
            "remote-alias": each.name,
            "ordinal": str(number),
            "local-type": datatype,
            "aggregation": _aggregation(each),
        }
        if each.kind == "numeric":
            told |= {"precision": "38", "scale": str(each.scale)}
        for tag, text in {**told, "contains-null": "false" if each.is_key else "true"}.items():
            SubElement(record, tag).text = text


def _column(root: Element, column: ExtractColumn, caption: str, described: str) -> None:
    datatype, _ = _DATATYPES[column.kind]
    of_role = role(column)
    told = {
        "datatype": datatype,
        "name": _field(column.name),
        "role": of_role,
        "type": "quantitative" if of_role == "measure" else _scale(column.kind),
    }
    if caption != column.name:
        told["caption"] = caption
    shape = _format(column, of_role)
    if shape:
        told["default-format"] = shape
    element = SubElement(root, "column", dict(sorted(told.items())))
    if described and not _NOT_XML.search(described):
        text = SubElement(SubElement(element, "desc"), "formatted-text")
        SubElement(text, "run").text = described


def _scale(kind: Kind) -> str:
    return "nominal" if kind in ("text", "bool") else "ordinal"


def _aggregation(column: ExtractColumn) -> str:
    match column.kind:
        case "big int" | "numeric":
            return "Sum"
        case "date" | "timestamp":
            return "Year"
        case _:
            return "Count"


def _format(column: ExtractColumn, of_role: str) -> str:
    """A number format of one's own (`*`); nothing, which is Tableau's automatic one, where that shows more."""
    if column.kind not in ("big int", "numeric") or column.scale > _SHOWN_DIGITS:
        return ""
    # What names things is no amount: 2013 is a year, and not 2,013.
    whole = "*#,##0" if of_role == "measure" else "*0"
    return whole + ("." + "0" * column.scale if column.scale else "")


def _field(name: str) -> str:
    return "[" + name.replace("]", "]]") + "]"
