"""An external Hive table over the lake table itself, through EMR's DynamoDBStorageHandler.

Generated from the schema catalogue, without a scan. The rules are those of awslabs/emr-dynamodb-connector,
read in its source; the class that sets a rule is named beside it:

- `dynamodb.column.mapping` is split at each comma, then at the first colon, and nothing is trimmed
  (HiveDynamoDBUtil). The Hive column stands before the first colon and is always tame, so an attribute's
  name may hold colons and spaces; it may not hold a comma.
- The table properties become a job's configuration, which is XML and expands `${...}`; so a name with a
  control character or with `${` is not mapped either.
- One column of type `map<string,string>` without a mapping receives the whole item, each attribute as JSON:
  `{"s":"text"}`, `{"n":"1.5"}`, `{"bOOL":true}`, `{"sS":[...]}` (AttributeValueSerializer writes a tag's
  first letter small). All that has no typed column is read from there, `get_json_object(item['a'], '$.n')`.
- A Hive column whose name equals a key attribute's, ignoring case, must have that key's type, whatever it is
  mapped to (DynamoDBStorageHandler.checkTableSchemaType). So keys get their names first, and no other
  column may take one.
- A value of another type than the column's reads as NULL, without a word (HiveDynamoDBStringType and its
  like). So an attribute seen with several types has no typed column. DynamoDB's NULL reads as NULL anyway.
- A bigint column fails the whole query at the first number that is no 64-bit integer
  (DynamoDBDataParser.getNumberObject). So the catalogue's number shapes decide: bigint where every number was
  one, else double. A double keeps 15 to 17 digits of DynamoDB's 38: it is there to sort and to sum by, and
  the exact digits stay in the whole-item column, where `analyst_view` takes them from.
- Lists and maps have no typed column: the catalogue does not know what they hold. Guessing would lose or
  break: array<string> reads a number in the list as NULL, a struct throws where one item lacks a field, and
  a nested map<string,string> is accepted at CREATE and throws at the first row (HiveDynamoDBItemType).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lake.contract import rows
from lake.contract.catalogue import TAGS, Observation
from queries.ddl.history import METADATA_COMMENTS, SHOWN_METADATA, History, histories
from queries.ddl.identifiers import ColumnNames, has_control_character, quoted, string_literal
from queries.ddl.table import HiveTable, TableColumn, ViewColumn, qualified
from queries.errors import DdlError

KeyAttribute = tuple[str, Literal["S", "N", "B"], Literal["HASH", "RANGE"]]
"""(attribute, type, role), as DynamoDB's key schema and attribute definitions have them."""

HANDLER: Final = "org.apache.hadoop.hive.dynamodb.DynamoDBStorageHandler"

METADATA_TAGS: Final[Mapping[str, str]] = {
    rows.VERSION: "S",
    rows.WRITTEN_AT: "N",
    rows.SOURCE_AT: "N",
    rows.DELETED: "S",
    rows.EXPIRES: "N",
}
"""dynalake's own attributes and their types: all numbers among them are 64-bit integers."""

COLUMN_MAPPING: Final = "dynamodb.column.mapping"
TYPE_MAPPING: Final = "dynamodb.type.mapping"

_ITEM: Final = "item"
_SCALARS: Final[Mapping[str, str]] = {"S": "string", "B": "binary", "BOOL": "boolean"}
_SETS: Final[Mapping[str, str]] = {"SS": "array<string>", "BS": "array<binary>"}
_LAKE_TABLE: Final = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_REGION: Final = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_OLD_PROPERTY_LIMIT: Final = 4000


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute of the lake table: what was seen, and how it is read.

    Attributes:
        name: the true name.
        kinds: the catalogue's kinds, sorted.
        history: when each was first seen, and what the policy does.
        key_tag: the type in the key schema; None for an attribute that is no key.
    """

    name: str
    kinds: tuple[str, ...]
    history: History
    key_tag: str | None = None

    @property
    def tag(self) -> str | None:
        """The one type to map with; None where several were seen, or nothing but NULL."""
        if self.key_tag is not None:
            return self.key_tag
        tags = {kind.partition(".")[0] for kind in self.kinds} - {"NULL"}
        return tags.pop() if len(tags) == 1 else None

    @property
    def fits_bigint(self) -> bool:
        return all(kind.partition(".")[2] in {"", "int64"} for kind in self.kinds)

    @property
    def hive_type(self) -> str | None:
        """The Hive type of the typed column; None where there is none."""
        tag = self.tag
        if tag in {"N", "NS"}:
            number = "bigint" if self.fits_bigint else "double"
            return number if tag == "N" else f"array<{number}>"
        return {**_SCALARS, **_SETS}.get(tag or "")

    @property
    def unmapped_because(self) -> str | None:
        """Why there is no typed column; None where there is one."""
        if "," in self.name:
            return "its name holds a comma"
        if has_control_character(self.name) or "${" in self.name:
            return "its name holds a control character or ${"
        if self.hive_type is not None:
            return None
        if self.tag is not None:
            return "the types inside it are not known"
        return "it has held several types" if len(self.kinds) > 1 else "it has only held NULL"

    def described(self, remark: str = "") -> str:
        key = f"key of type {self.key_tag}" if self.key_tag else ""
        return self.history.text(" | ".join(part for part in (key, remark) if part))


@dataclass(frozen=True, slots=True)
class _Column:
    declared: TableColumn
    mapped_to: str | None = None
    set_tag: str | None = None


def dynamodb_table(
    observations: Sequence[Observation],
    key_schema: Sequence[KeyAttribute],
    *,
    lake_table: str,
    region: str,
    database: str,
    table: str,
    read_percent: float = 0.5,
    endpoint: str | None = None,
    sensitivity: Mapping[str, str] | None = None,
) -> HiveTable:
    """The external table over a lake table.

    Columns: the keys, the attributes in the order in which they were first seen, the metadata, and the whole
    item. The same input gives the same text, in whatever order the observations come; an attribute that is
    added changes no other column.

    Args:
        observations: what the schema catalogue holds for this lake table.
        key_schema: the lake table's key.
        lake_table: the lake table's name in DynamoDB.
        region: its region, such as "eu-west-1".
        database: the Hive database.
        table: the Hive table.
        read_percent: the part of the table's read capacity that a query may use, 0.1 to 1.5.
        endpoint: a DynamoDB endpoint of its own, such as a VPC's; None for the region's.
        sensitivity: attribute -> what the policy does to it, for the comments.

    Raises:
        DdlError: a name, the region, the key schema or an observation cannot be used.
    """
    qualified(database, table)
    table_properties = _connection(lake_table, region, read_percent, endpoint)
    keys = _keys(key_schema)
    attributes = _attributes(observations, keys, sensitivity or {})
    names = _Names(keys)
    # Every attribute gets a name, mapped or not, so that none moves when another's type becomes mixed.
    attribute_names = {attribute.name: names.give(attribute.name) for attribute in attributes}
    metadata_names = {name: names.give_own(name, tag) for name, tag in METADATA_TAGS.items()}
    item = names.give_own(_ITEM, None)
    shown = ColumnNames(reserved=METADATA_TAGS)

    columns = [
        _Column(
            TableColumn(attribute_names[a.name], a.hive_type, _column_comment(a, item)), a.name, _set_tag(a)
        )
        for a in attributes
        if a.unmapped_because is None and a.hive_type is not None
    ]
    for name, tag in METADATA_TAGS.items():
        metadata_type = "string" if tag == "S" else "bigint"
        columns.append(
            _Column(TableColumn(metadata_names[name], metadata_type, METADATA_COMMENTS[name]), name)
        )
    columns.append(_Column(TableColumn(item, "map<string,string>", "the whole item, attributes as JSON")))

    table_properties[COLUMN_MAPPING] = ",".join(
        f"{column.declared.name}:{column.mapped_to}" for column in columns if column.mapped_to is not None
    )
    set_types = ",".join(
        f"{column.declared.name}:{column.set_tag}" for column in columns if column.set_tag is not None
    )
    if set_types:
        table_properties[TYPE_MAPPING] = set_types

    return HiveTable(
        database=database,
        name=table,
        columns=tuple(column.declared for column in columns),
        about=f"The lake table {lake_table}, with tombstones and metadata. Read only: dynalake alone writes it.",
        handler=HANDLER,
        properties=table_properties,
        view_columns=tuple(
            _view_column(a, shown.give(a.name), quoted(attribute_names[a.name]), quoted(item))
            for a in attributes
        ),
        metadata=tuple(
            ViewColumn(name, quoted(metadata_names[name]), METADATA_COMMENTS[name], name)
            for name in SHOWN_METADATA
        ),
        live_rows=f"{quoted(metadata_names[rows.DELETED])} IS NULL",
        notes=_notes(attributes, item, table_properties[COLUMN_MAPPING]),
    )


class _Names:
    """Column names that also keep the handler's rule about the names of keys.

    The metadata and the whole item keep their own names, whatever attributes come: an attribute that is
    called like one of them gets a suffix. Only a key can push one of them aside, and keys do not change.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._names = ColumnNames()
        self._keys = keys
        self._key_tags: dict[str, set[str]] = {}
        for key, tag in keys.items():
            self._key_tags.setdefault(_folded(key), set()).add(tag)

    def give(self, attribute: str) -> str:
        """The column name of an attribute of the source."""
        tags = {self._keys[attribute]} if attribute in self._keys else set()
        return self._names.give(
            attribute,
            lambda name: name in METADATA_TAGS or name == _ITEM or not self._key_tags.get(name, tags) <= tags,
        )

    def give_own(self, name: str, tag: str | None) -> str:
        """The column name of the metadata attribute with this type; the whole item has no type."""
        return self._names.give(name, lambda given: self._key_tags.get(given, {tag}) != {tag})


def _folded(name: str) -> str:
    """The name as Java's equalsIgnoreCase compares it: letter by letter, through the capital."""
    return "".join(letter.upper()[:1].lower()[:1] for letter in name)


def _connection(lake_table: str, region: str, read_percent: float, endpoint: str | None) -> dict[str, str]:
    if not _LAKE_TABLE.fullmatch(lake_table):
        raise DdlError(f"{lake_table!r} is not a DynamoDB table name")
    if not _REGION.fullmatch(region):
        raise DdlError(f"{region!r} is not an AWS region")
    if not 0.1 <= read_percent <= 1.5:
        raise DdlError(
            f"the read percent {read_percent} is out of range", remedy="give a number from 0.1 to 1.5"
        )
    connection = {
        "dynamodb.table.name": lake_table,
        "dynamodb.region": region,
        "dynamodb.throughput.read.percent": str(read_percent),
    }
    if endpoint is not None:
        if has_control_character(endpoint) or not re.match(r"https?://\S+$", endpoint):
            raise DdlError(f"{endpoint!r} is not an endpoint", remedy="give an http or https URL")
        connection["dynamodb.endpoint"] = endpoint
    return connection


def _keys(key_schema: Sequence[KeyAttribute]) -> dict[str, str]:
    """Each key attribute's type, the partition key first."""
    roles = [role for _, _, role in key_schema]
    names = {name for name, _, _ in key_schema}
    if sorted(roles) not in (["HASH"], ["HASH", "RANGE"]) or len(names) != len(roles):
        raise DdlError(f"a key has one HASH attribute and at most one RANGE attribute, not {roles}")
    for name, tag, _ in key_schema:
        if tag not in {"S", "N", "B"}:
            raise DdlError(f"the key attribute {name!r} has the type {tag!r}: keys are S, N or B")
        if not name or name.startswith(rows.RESERVED_PREFIX):
            raise DdlError(f"{name!r} cannot be a source's key: it is empty or reserved for dynalake")
    return {name: tag for name, tag, _ in sorted(key_schema, key=lambda key: key[2])}


def _attributes(
    observations: Sequence[Observation], keys: Mapping[str, str], sensitivity: Mapping[str, str]
) -> list[_Attribute]:
    """The keys, then the attributes in the order of their first appearance."""
    for each in observations:
        if each.tag not in TAGS:
            raise DdlError(f"the catalogue has the unknown kind {each.kind!r} for {each.attribute!r}")
        if not each.attribute:
            raise DdlError("the catalogue has an attribute without a name")
    known = histories(
        [each for each in observations if not each.attribute.startswith(rows.RESERVED_PREFIX)], sensitivity
    )
    attributes = []
    for name, tag in keys.items():
        # DynamoDB refuses an item whose key has another type, so the key schema is right about the tag.
        seen = tuple(each for each in _seen(known, name) if each[0].partition(".")[0] == tag)
        history = History(name, seen, sensitivity.get(name))
        attributes.append(_Attribute(name, tuple(sorted(kind for kind, _ in seen)), history, tag))
    attributes += [
        _Attribute(name, tuple(sorted(kind for kind, _ in history.seen)), history)
        for name, history in known.items()
        if name not in keys
    ]
    return attributes


def _seen(known: Mapping[str, History], name: str) -> tuple[tuple[str, int], ...]:
    return known[name].seen if name in known else ()


def _set_tag(attribute: _Attribute) -> str | None:
    return attribute.tag if attribute.tag in {"SS", "NS", "BS"} else None


def _column_comment(attribute: _Attribute, item: str) -> str:
    rounds = attribute.hive_type in {"double", "array<double>"}
    return attribute.described(f"all digits in {item}" if rounds else "")


def _view_column(attribute: _Attribute, shown: str, column: str, item: str) -> ViewColumn:
    whole = f"{item}[{string_literal(attribute.name)}]"
    if attribute.unmapped_because is not None:
        remark = f"DynamoDB JSON since {attribute.unmapped_because}"
        return ViewColumn(shown, whole, attribute.described(remark), attribute.name)
    exact = f"get_json_object({whole}, '$.n')" if attribute.hive_type == "double" else None
    return ViewColumn(shown, column, attribute.described(), attribute.name, exact)


def _notes(attributes: list[_Attribute], item: str, mapping: str) -> tuple[str, ...]:
    notes = []
    for attribute in attributes:
        name = repr(attribute.name)
        whole = f"read it as {item}[{name}], DynamoDB JSON"
        if attribute.unmapped_because is not None:
            notes.append(f"{name} has no typed column, since {attribute.unmapped_because}: {whole}")
            continue
        if attribute.hive_type in {"double", "array<double>"}:
            notes.append(f"{name} is of type {attribute.hive_type}, which rounds: for every digit {whole}")
        if not attribute.name.isascii():
            notes.append(f"{name} is not ASCII: the metastore's database must be in UTF-8, or it reads NULL")
    if len(mapping) > _OLD_PROPERTY_LIMIT:
        notes.append(
            f"the column mapping has {len(mapping)} characters: a metastore from before Hive 2.3 keeps "
            f"{_OLD_PROPERTY_LIMIT}"
        )
    return tuple(notes)
