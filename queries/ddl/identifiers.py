r"""Hive names and literals: the one place where text becomes part of a Hive statement.

Attribute names come from hostile places: they may hold quotes, backticks, semicolons, newlines, `${...}` or
emoji. So a column gets a tame name (`[a-z0-9_]`), its true name goes only where a string literal may stand,
and a literal holds nothing but harmless printable ASCII; the rest is written `\uXXXX`, which Hive's
`BaseSemanticAnalyzer.unescapeSQLString` and Spark's parser turn back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Final

from queries.errors import DdlError

MAX_COLUMN_NAME: Final = 128
"""The older metastores' limit for a column's name; newer ones take 767, Glue 255."""

MAX_COMMENT: Final = 255
"""The metastore's COLUMNS_V2.COMMENT is a varchar(256), Glue's comments have 255 characters."""

VIRTUAL_COLUMNS: Final = frozenset(
    {
        "block__offset__inside__file",
        "grouping__id",
        "input__file__name",
        "raw__data__size",
        "row__id",
        "row__offset__inside__block",
    }
)
"""Names that Hive gives to every table's virtual columns."""

_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_UNTAMED: Final = re.compile(r"[^a-z0-9_]")
_ESCAPED_IN_LITERAL: Final = frozenset("'\\;")


def quoted(name: str) -> str:
    """The identifier in backticks, a backtick in it doubled.

    Raises:
        DdlError: the name is empty, or holds a control character or a line separator.
    """
    if not name or has_control_character(name):
        raise DdlError(f"{name!r} cannot be a Hive identifier: it is empty or holds a control character")
    return "`" + name.replace("`", "``") + "`"


def object_name(name: str, what: str) -> str:
    """The name of a database, table or view, checked and quoted.

    Hive takes only letters of ASCII, digits and underscores here, quoted or not
    (MetaStoreUtils.validateName); the name comes from a person, so it is refused and not mended.

    Raises:
        DdlError: Hive would not take the name.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_COLUMN_NAME:
        raise DdlError(
            f"{name!r} is not a name for a Hive {what}",
            remedy=f"use only a-z A-Z 0-9 and _, and {MAX_COLUMN_NAME} characters at most",
        )
    return quoted(name.lower())


def string_literal(text: str) -> str:
    r"""The text as a Hive string literal.

    Escaped as `\uXXXX`, each for a reason: `'` and `\` end or change the literal; `;` splits statements in
    old CLIs even inside quotes; `${` begins a substitution, which Hive does over the whole statement before
    it is parsed; control characters and newlines confuse clients that read by line; all beyond ASCII
    depends on the client's encoding.

    Raises:
        DdlError: the text holds half a surrogate pair, which no engine can store.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DdlError(f"{text!r} is not valid Unicode text") from None
    escaped = "".join(_escaped(character) for character in text)
    return "'" + escaped.replace("${", "\\u0024{") + "'"


def true_name(name: str) -> str:
    """An attribute's true name for a comment: as a JSON string, so ASCII only, unambiguous and on one line.

    A comment beyond Latin-1 makes CREATE TABLE fail on a metastore whose database is not in UTF-8.
    """
    return json.dumps(name)


def comment(text: str) -> str:
    """The text as a literal for COMMENT, cut to what every metastore keeps."""
    return string_literal(text if len(text) <= MAX_COMMENT else text[: MAX_COMMENT - 3] + "...")


def has_control_character(text: str) -> bool:
    """Whether the text holds a control character or a Unicode line or paragraph separator."""
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029\ufffe\uffff" for c in text)


def tame(name: str) -> str:
    """The column name that Hive, Spark and every client take as it is: lower case, `[a-z0-9_]` only."""
    return _UNTAMED.sub("_", name.lower())[:MAX_COLUMN_NAME]


class ColumnNames:
    """Gives each attribute a column name of its own.

    Names that meet after taming get the suffix `_2`, `_3` and so on, in the order in which they are asked
    for. A caller that asks in the order of first appearance therefore never renames a column when an
    attribute is added.
    """

    def __init__(self, reserved: Collection[str] = ()) -> None:
        """Begin with Hive's virtual columns and the `reserved` names taken."""
        self._taken = set(VIRTUAL_COLUMNS) | set(reserved)

    def give(self, attribute: str, refuses: Callable[[str], bool] = lambda _name: False) -> str:
        """A name for this attribute that no other attribute has.

        Args:
            attribute: the attribute's true name.
            refuses: says of a name whether it may not be used for a reason beyond its being taken.
        """
        stem = tame(attribute) or "_"
        name, count = stem, 1
        while name in self._taken or refuses(name):
            count += 1
            suffix = f"_{count}"
            name = stem[: MAX_COLUMN_NAME - len(suffix)] + suffix
        self._taken.add(name)
        return name


def _escaped(character: str) -> str:
    if " " <= character <= "~" and character not in _ESCAPED_IN_LITERAL:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
