r"""Parity beyond one machine: the comparison of two DynamoDB exports, as SQL for Spark 4 (on EMR, say).

The same canonical form as on one machine, in Spark's own functions:

- `to_json(parse_json(…))` puts the members of every map in order and writes every text in one way, since a VARIANT
  keeps its fields sorted;
- sets and numbers are taken out of that text, in the order in which they stand, and brought into theirs: a set's
  members sorted, a number as its sign, its digits without zeros at either end, and a power of ten;
- what is left of the text, the sets and the numbers together are the item's canonical form.

The exports are read as text, so nothing is inferred and nothing is lost on the way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from expectations.errors import ParityError
from lake.contract.rows import DELETED, METADATA

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_SET: Final = rf'"[SNB]S":\[(?:{_STRING},?)*\]'
_NUMBER: Final = r'"N":"([^"]*)"'


def parity_sql(source: str, lake: str, key: Sequence[str]) -> tuple[str, ...]:
    """The statements that compare two full exports.

    The last one gives what `dynalake repair NAME --from FILE` reads, a JSON line for each row that differs. Rows in
    flight are not told apart here, since no table is read: the repair reads each row again before it writes.

    Args:
        source: where the data files of the source's export are, as Spark reaches them (a folder, or a glob).
        lake: likewise of the lake table's.
        key: the names of the key attributes.

    Raises:
        ParityError: a key attribute's name cannot stand in Spark's SQL.
    """
    if any(set(name) & set("'\\`\"") for name in key):
        raise ParityError(
            "a key attribute has a quote or a backslash in its name", remedy="compare on one machine"
        )
    return (
        *_side("source", source, key, metadata=False),
        *_side("lake", lake, key, metadata=True),
        """CREATE OR REPLACE TEMPORARY VIEW parity AS
SELECT
  CASE WHEN lake.key IS NULL THEN 'missing' WHEN source.key IS NULL THEN 'extra' ELSE 'different' END AS reason,
  coalesce(source.key, lake.key) AS key
FROM source FULL JOIN lake ON source.key = lake.key
WHERE source.key IS NULL OR lake.key IS NULL OR source.digest <> lake.digest
UNION SELECT 'duplicate' AS reason, key FROM source GROUP BY key HAVING count(*) > 1
UNION SELECT 'duplicate' AS reason, key FROM lake GROUP BY key HAVING count(*) > 1""",
        """SELECT concat('{"reason":"', reason, '","key":', key, ',"source_key":', key, ',"attributes":[]}') AS value
FROM parity ORDER BY key""",
    )


def _side(view: str, place: str, key: Sequence[str], *, metadata: bool) -> tuple[str, ...]:
    path = place.replace("`", "``")
    item, live = "item", ""
    if metadata:
        left_out = ", ".join(f"'{name}'" for name in METADATA)
        item = f"map_filter(item, (name, content) -> name NOT IN ({left_out}))"
        live = f"\nWHERE NOT map_contains_key(item, '{DELETED}')"
    bare = "trim(BOTH '\"' FROM member)"
    members = ", ',', ".join(
        f"'{json.dumps(name)}:', to_json(parse_json(item['{name}']))" for name in sorted(key)
    )
    return (
        f"""CREATE OR REPLACE TEMPORARY VIEW {view}_items AS
SELECT from_json(value, 'Item MAP<STRING, STRING>', map('mode', 'FAILFAST')).Item AS item
FROM text.`{path}`""",
        f"""CREATE OR REPLACE TEMPORARY VIEW {view}_texts AS
SELECT
  concat('{{', {members}, '}}') AS key,
  concat_ws(',', transform(
    array_sort(map_entries({item})),
    entry -> concat(to_json(array(entry.key)), to_json(parse_json(entry.value)))
  )) AS text
FROM {view}_items{live}""",
        f"""CREATE OR REPLACE TEMPORARY VIEW {view} AS
SELECT key, sha2(concat(
  regexp_replace(regexp_replace(text, r'{_SET}', '"set"'), r'{_NUMBER}', '"number"'),
  to_json(transform(
    regexp_extract_all(text, r'{_SET}', 0),
    found -> concat(substr(found, 2, 1), to_json(array_sort(transform(
      regexp_extract_all(substr(found, 6), r'{_STRING}', 0),
      member -> CASE WHEN found LIKE '"NS%' THEN {_number(bare)} ELSE member END
    ))))
  )),
  to_json(transform(
    regexp_extract_all(regexp_replace(text, r'{_SET}', '"set"'), r'{_NUMBER}', 1),
    number -> {_number("number")}
  ))
), 256) AS digest
FROM {view}_texts""",
    )


def _number(text: str) -> str:
    """A number's sign, digits and power of ten: the same for equal numbers, however they are written."""
    whole = f"regexp_extract({text}, r'^[+-]?([0-9]*)', 1)"
    fraction = rf"regexp_extract({text}, r'\.([0-9]*)', 1)"
    power = f"coalesce(try_cast(regexp_extract({text}, r'[eE]([+-]?[0-9]+)$', 1) AS INT), 0)"
    digits = f"trim(LEADING '0' FROM concat({whole}, {fraction}))"
    short = f"trim(TRAILING '0' FROM {digits})"
    return (
        f"CASE WHEN {short} = '' THEN '0' ELSE concat(CASE WHEN {text} LIKE '-%' THEN '-' ELSE '' END, {short}, 'E', "
        f"{power} - length({fraction}) + length({digits}) - length({short})) END"
    )
