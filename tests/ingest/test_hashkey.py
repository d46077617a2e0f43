"""The hash key: weak ones are refused, and the rows of one lake table are hashed with one key only."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import HashKeyChangedError, PolicyError
from ingest.hashkey import HashKey, KeyRegister, check_strength, entropy_bits, open_hash_key
from tests.ingest.building import CHECKPOINTS, LAKE, LakeSide, fails
from tests.stubs.faults import client_error

ONE, OTHER = b"9d41c07be2a85f3366b1d0e94c72fa18", b"f2c80b3a7d914e65b1a0c8d7e6f59234"


@pytest.mark.parametrize(
    "key",
    ["short", "a" * 16, "0" * 64, "\0" * 32, "0123456789abcdef", "0123456789abcdef" * 4, "fedcba9876543210",
     "passwordpassword", "PasswordpasswordPASSWORD", "password12345678", "changemechangeme", "1234567890123456",
     "qwertyuiopasdfgh", "abcabcabcabcabcabcabcabcabcabc", "\u00e9" * 20, "2026-11-27-2026-11-27", "20261127201126"],
)  # fmt: skip
def test_a_key_that_can_be_guessed_is_refused(key: str) -> None:
    with pytest.raises(PolicyError) as refused:
        check_strength(key.encode())
    assert key not in str(refused.value)
    assert "openssl rand" in refused.value.remedy


@pytest.mark.parametrize("seed", range(200))
def test_a_random_key_is_strong_in_every_spelling(seed: int) -> None:
    raw = random.Random(seed).randbytes(32)
    for key in (raw, raw[:16], raw.hex().encode(), raw[:16].hex().encode(), raw.hex().upper().encode()):
        check_strength(key)


@given(st.binary(min_size=1, max_size=24), st.integers(2, 6))
def test_repeating_a_key_adds_little(part: bytes, times: int) -> None:
    assert entropy_bits(part * times) <= entropy_bits(part) + 8 * times
    assert entropy_bits(part) <= 8 * len(part) + 8


def test_a_fingerprint_tells_keys_apart_and_does_not_change_with_releases() -> None:
    assert HashKey(ONE).fingerprint != HashKey(OTHER).fingerprint
    assert (
        HashKey(ONE, "v1").fingerprint == HashKey(ONE, "v2").fingerprint == "1f8d8e2c4591fd3d23d0d6317e5595d9"
    )
    assert ONE.decode() not in repr(HashKey(ONE))


class Secrets:
    """A Secrets Manager with one secret, whose versions a test rotates."""

    def __init__(self, **versions: bytes) -> None:
        self.versions = versions
        self.asked: list[str | None] = []

    def get_secret_value(self, SecretId: str, VersionId: str | None = None) -> Mapping[str, Any]:  # noqa: N803
        self.asked.append(VersionId)
        version = VersionId or next(reversed(self.versions), "")
        if SecretId != "arn" or version not in self.versions:
            raise client_error("GetSecretValue", "ResourceNotFoundException")
        return {"SecretBinary": self.versions[version], "VersionId": version}


def opened(side: LakeSide, secrets: Any) -> HashKey | None:
    return open_hash_key("secretsmanager:arn", {}, lambda: secrets, register_of(side))


def register_of(side: LakeSide) -> KeyRegister:
    return KeyRegister(side.dynamodb.client, CHECKPOINTS, LAKE)


def test_the_first_key_is_noted_and_another_one_is_refused() -> None:
    side = LakeSide()
    register = register_of(side)
    assert register.read() is None
    register.claim(HashKey(ONE, "v1"))
    register.claim(HashKey(ONE))
    noted = register.read()
    assert noted is not None
    assert (noted.fingerprint, noted.version) == (HashKey(ONE).fingerprint, "v1"), (
        "the version stays the first"
    )
    for refused in (register.claim, register.check):
        with pytest.raises(HashKeyChangedError) as error:
            refused(HashKey(OTHER))
        assert OTHER.decode() not in str(error.value)
    assert register.read() == noted
    KeyRegister(side.dynamodb.client, CHECKPOINTS, "dynalake.shop.orders-2").claim(HashKey(OTHER))


def test_a_rotated_secret_changes_nothing_for_a_table_whose_rows_are_hashed() -> None:
    side, secrets = LakeSide(), Secrets(v1=ONE)
    key = opened(side, secrets)
    assert key == HashKey(ONE, "v1")
    register_of(side).claim(key)
    secrets.versions["v2"] = OTHER
    assert opened(side, secrets) == key
    assert secrets.asked == [None, "v1"]
    del secrets.versions["v1"]
    with pytest.raises(HashKeyChangedError):
        opened(side, secrets)
    secrets.versions["v3"] = ONE
    assert opened(side, secrets) == HashKey(ONE, "v3"), "the same key, given back as a new version"


def test_a_key_of_the_environment_is_checked_too() -> None:
    side = LakeSide()
    register_of(side).claim(HashKey(ONE))
    for value, expected in (("", None), (ONE.decode(), HashKey(ONE))):
        assert open_hash_key("env:K", {"K": value}, pytest.fail, register_of(side)) == expected
    with pytest.raises(HashKeyChangedError):
        open_hash_key("env:K", {"K": OTHER.decode()}, pytest.fail, register_of(side))
    with pytest.raises(PolicyError, match="can be guessed"):
        open_hash_key("env:K", {"K": "a" * 32}, pytest.fail, None)
    with pytest.raises(PolicyError, match="names no key"):
        open_hash_key("file:K", {}, pytest.fail, None)


def test_credentials_that_may_only_write_find_another_key_out() -> None:
    """The function of an earlier deployment may not read the entry; the condition of its write tells."""
    side = LakeSide()
    register_of(side).claim(HashKey(ONE))
    side.dynamodb.hook = fails("get_item", lambda: client_error("GetItem", "AccessDeniedException"))
    assert register_of(side).read() is None
    register_of(side).claim(HashKey(ONE))
    with pytest.raises(HashKeyChangedError):
        register_of(side).claim(HashKey(OTHER))


def test_what_is_wrong_with_a_secret_is_said_without_its_value() -> None:
    with pytest.raises(PolicyError, match="ResourceNotFoundException"):
        opened(LakeSide(), Secrets())
    with pytest.raises(PolicyError, match="can be guessed") as refused:
        opened(LakeSide(), Secrets(v1=b"a" * 32))
    assert "aaaa" not in str(refused.value)
