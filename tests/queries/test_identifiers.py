from __future__ import annotations

import pytest

from queries.ddl.identifiers import ColumnNames, comment, object_name, quoted, string_literal, tame
from queries.errors import DdlError


def test_a_backtick_is_doubled_and_a_newline_refused() -> None:
    assert quoted("a`b") == "`a``b`"
    for name in ("", "a\nb", "a\u2028b"):
        with pytest.raises(DdlError):
            quoted(name)


@pytest.mark.parametrize("name", ["a b", "a-b", "a.b", "é", "", "a`; DROP TABLE x", "x" * 129])
def test_the_name_of_a_table_is_checked(name: str) -> None:
    with pytest.raises(DdlError, match="Hive table"):
        object_name(name, "table")


def test_a_literal_is_printable_ascii_without_quote_backslash_semicolon_or_substitution() -> None:
    literal = string_literal("it's\\ \n;${hiveconf:x}$5 é😀")

    assert literal == "'it\\u0027s\\u005c \\u000a\\u003b\\u0024{hiveconf:x}$5 \\u00e9\\ud83d\\ude00'"


def test_a_comment_is_cut_to_what_the_metastore_keeps() -> None:
    assert len(comment("x" * 1000)) == 257
    assert comment("x" * 1000).endswith("...'")


def test_taming_keeps_plain_names_and_bends_all_others() -> None:
    assert tame("order_1") == "order_1"
    assert tame("Order Total; é") == "order_total___"
    assert len(tame("x" * 1000)) == 128


def test_a_long_name_that_clashes_still_fits() -> None:
    names = ColumnNames()
    first, second = names.give("x" * 300), names.give("x" * 301)

    assert first != second
    assert len(second) == 128
    assert second.endswith("_2")


def test_hives_virtual_columns_are_not_given_away() -> None:
    assert ColumnNames().give("INPUT__FILE__NAME") == "input__file__name_2"
