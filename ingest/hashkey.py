"""The secret of the keyed hash: where it comes from, and that a lake table only ever holds hashes of one key.

env:NAME                   the environment variable NAME
secretsmanager:ARN         a secret in AWS Secrets Manager, in the source account: its text, or its bytes

Rows that were hashed under two keys cannot be joined, and a hashed key attribute would make two rows of one. So the
first use of a key stores its fingerprint beside the pipeline's facts in the lake (`ingest.facts`), and a key with
another fingerprint is refused from then on. The secret's VersionId is stored as well and read ever after: a rotation
of the secret changes nothing until the pipeline gets a new lake table (docs/security.md, "Changing the hash key").
"""

from __future__ import annotations

import hashlib
import hmac
import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import HashKeyChangedError, PolicyError
from ingest.policy import MIN_KEY_BYTES
from lake.contract.facts import FACTS_ENTRY
from lake.contract.health import ENTRY, PIPELINE
from lake.errors import DENIED, aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_secretsmanager import SecretsManagerClient

DEFAULT_REFERENCE: Final = "env:DYNALAKE_HASH_KEY"

MIN_BITS: Final = 80
"""A key that an attacker can guess with fewer tries than 2^80 is refused. `entropy_bits` overestimates, so a key that
is refused is certainly weak; docs/security.md says how to make one of 256 bits."""

FINGERPRINT: Final = "hash_key_fingerprint"
VERSION_ID: Final = "hash_key_version"

_LABEL: Final = b"dynalake: fingerprint of the hash key, version 1"
_REPEAT_BITS: Final = 8.0
"""What a repetition, or a run such as `abcd`, adds to the entropy: where it begins and how long it is."""


@dataclass(frozen=True, slots=True)
class HashKey:
    """A hash key.

    Attributes:
        secret: its bytes.
        version: the VersionId of the secret that it was read from; empty where it is no secret's.
    """

    secret: bytes = field(repr=False)
    version: str = ""

    @property
    def fingerprint(self) -> str:
        """Identifies the key and tells nothing of it: 128 bits of an HMAC of a constant, as hexadecimal digits.

        Whoever reads the lake can test a guess of the key with it, as with the hash of any known value; so weak keys
        are refused.
        """
        return hmac.new(self.secret, _LABEL, hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class NotedKey:
    """The key with which a lake table's rows are hashed.

    Attributes:
        fingerprint: the key's fingerprint.
        version: the secret's VersionId; empty where it is no secret's.
    """

    fingerprint: str
    version: str


class KeyRegister:
    """Which key the rows of one lake table are hashed with; kept in the item of the pipeline's facts."""

    def __init__(self, dynamodb: DynamoDBClient, checkpoint_table: str, lake_table: str) -> None:
        """Keep it with the lake account's client."""
        self._dynamodb = dynamodb
        self._table = checkpoint_table
        self._lake_table = lake_table

    def read(self) -> NotedKey | None:
        """The key that was noted; None if none was, or it cannot be read: then `claim` finds another key out.

        Raises:
            botocore.exceptions.ClientError: the lake refuses for another reason.
        """
        try:
            item = self._dynamodb.get_item(TableName=self._table, Key=self._key, ConsistentRead=True).get(
                "Item"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in {"ResourceNotFoundException", *DENIED}:
                return None
            raise
        if item is None or FINGERPRINT not in item:
            return None
        return NotedKey(item[FINGERPRINT]["S"], item[VERSION_ID]["S"] if VERSION_ID in item else "")

    def claim(self, key: HashKey) -> None:
        """Note a key as the one of this lake table. It needs no permission to read.

        Raises:
            HashKeyChangedError: another key was noted.
            botocore.exceptions.ClientError: it could not be noted.
        """
        noted = {FINGERPRINT: key.fingerprint, **({VERSION_ID: key.version} if key.version else {})}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in noted),
                ConditionExpression=f"attribute_not_exists(#{FINGERPRINT}) OR #{FINGERPRINT} = :{FINGERPRINT}",
                ExpressionAttributeNames={f"#{name}": name for name in noted},
                ExpressionAttributeValues={f":{name}": {"S": value} for name, value in noted.items()},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise self._changed() from None

    def check(self, key: HashKey) -> None:
        """Refuse a key that is not the noted one.

        Raises:
            HashKeyChangedError: another key was noted.
        """
        noted = self.read()
        if noted is not None and not hmac.compare_digest(noted.fingerprint, key.fingerprint):
            raise self._changed()

    @property
    def _key(self) -> dict[str, Any]:
        return {PIPELINE: {"S": self._lake_table}, ENTRY: {"S": FACTS_ENTRY}}

    def _changed(self) -> HashKeyChangedError:
        return HashKeyChangedError(
            f"the hash key is not the one with which the rows of {self._lake_table!r} are hashed",
            remedy="give the earlier key back; or, to change it, give the pipeline a new lake table "
            '(docs/security.md, "Changing the hash key")',
        )


def open_hash_key(
    reference: str,
    environment: Mapping[str, str],
    secrets: Callable[[], SecretsManagerClient],
    register: KeyRegister | None,
) -> HashKey | None:
    """The key that a reference names, once it is known to be that of the lake table's rows.

    Args:
        reference: one of the forms above.
        environment: the process's environment.
        secrets: makes a Secrets Manager client of the source account, when one is needed.
        register: which key the lake table's rows are hashed with; None where the lake account is not at hand, so that
            nothing can be written to it.

    Returns:
        The key; None where the environment variable is not set.

    Raises:
        PolicyError: the reference has none of the forms, the secret cannot be read, or the key is weak.
        HashKeyChangedError: the rows are hashed with another key.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        text = environment.get(name)
        if not text:
            return None
        key = HashKey(text.encode())
    elif kind == "secretsmanager" and name:
        noted = register.read() if register else None
        key = _secret(secrets(), name, noted.version if noted else "")
    else:
        raise PolicyError(
            f"hash_key is {reference!r}, which names no key", remedy="write env:NAME or secretsmanager:ARN"
        )
    check_strength(key.secret)
    if register:
        register.check(key)
    return key


def _secret(secrets: SecretsManagerClient, name: str, version: str) -> HashKey:
    """A secret's value, of the version that was noted; the current one where none was, or it is gone."""
    try:
        try:
            found = secrets.get_secret_value(SecretId=name, **({"VersionId": version} if version else {}))
        except ClientError as error:
            if not version or error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            found = secrets.get_secret_value(SecretId=name)
    except ClientError as error:
        raise _unreadable(name, error.response["Error"]["Code"], error) from None
    except BotoCoreError as error:
        raise _unreadable(name, type(error).__name__, error) from None
    secret = found["SecretString"].encode() if "SecretString" in found else found["SecretBinary"]
    return HashKey(secret, found.get("VersionId", ""))


def _unreadable(name: str, why: str, error: Exception) -> PolicyError:
    return PolicyError(
        f"the hash key's secret {name} cannot be read ({why})", remedy=aws_error(error, side="source").remedy
    )


def check_strength(key: bytes) -> None:
    """Refuse a key that can be guessed.

    Raises:
        PolicyError: it is short, or its entropy is low.
    """
    remedy = "use a random key, such as the output of `openssl rand -hex 32`"
    if len(key) < MIN_KEY_BYTES:
        raise PolicyError(f"the hash key has {len(key)} bytes, fewer than {MIN_KEY_BYTES}", remedy=remedy)
    bits = entropy_bits(key)
    if bits < MIN_BITS:
        raise PolicyError(
            f"the hash key can be guessed: it has {bits:.0f} bits of entropy at most, fewer than {MIN_BITS}",
            remedy=remedy,
        )


def entropy_bits(key: bytes) -> float:
    """An upper estimate of a key's entropy, bits.

    Each byte counts as chosen from the alphabet of the whole key. What repeats an earlier part of the key, in
    whatever letter case, and runs such as `aaaa`, `abcd` or `9876`, count little.
    """
    bits_a_byte = math.log2(_alphabet(key))
    plain = key.lower()
    bits, position = 0.0, 0
    while position < len(key):
        length = max(_run(plain, position), _repeat(plain, position))
        if length:
            bits += min(length * bits_a_byte, _REPEAT_BITS)
            position += length
        else:
            bits += bits_a_byte
            position += 1
    return bits


def _alphabet(key: bytes) -> int:
    """How many values a byte of this key may have, judged by the kinds of characters that it has."""
    text = key.decode("latin-1")
    for alphabet in (string.digits, string.digits + "abcdef", string.digits + "ABCDEF"):
        if set(text) <= set(alphabet):
            return len(alphabet)
    if not (text.isascii() and text.isprintable()):
        return 256
    kinds = (string.digits, string.ascii_lowercase, string.ascii_uppercase, string.punctuation + " ")
    return sum(len(kind) for kind in kinds if set(kind) & set(text))


def _run(key: bytes, at: int) -> int:
    """How long the run is that begins here: bytes at one distance of -1, 0 or 1; 0 for fewer than three."""
    longest = 0
    for step in (-1, 0, 1):
        end = at + 1
        while end < len(key) and key[end] - key[end - 1] == step:
            end += 1
        longest = max(longest, end - at)
    return longest if longest >= 3 else 0


def _repeat(key: bytes, at: int) -> int:
    """How much from here was in the key before, three bytes or more; 0 for less."""
    length = 0
    while at + length < len(key) and key.find(key[at : at + length + 1], 0, at + length) >= 0:
        length += 1
    return length if length >= 3 else 0
