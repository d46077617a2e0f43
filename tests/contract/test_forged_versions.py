"""Which version attributes of a lake row dynalake cannot have written."""

from __future__ import annotations

from typing import Any

import pytest

from lake.contract.versions import ABSENT, KnownLabels, Version, read_over, streamed
from lake.errors import ContractError

LABEL, OLDER, NEWER = "2026-11-24T00:00:00.000", "2025-01-01T00:00:00.000", "2026-11-25T00:00:00.000"
NOW_MS = 1_795_737_600_000  # 2026-11-27
RECORDED = KnownLabels(frozenset({LABEL}), complete=True, now_ms=NOW_MS)
UPGRADED = KnownLabels(frozenset({LABEL}), complete=False, now_ms=NOW_MS)


def forged(version: Any, known: KnownLabels = RECORDED) -> bool:
    stored = version if version is None or isinstance(version, dict) else {"S": version}
    return known.forgery(stored) is not None


def test_what_dynalake_writes_is_not_forged() -> None:
    for version in (streamed(LABEL, "1"), streamed(LABEL, "9" * 40), Version("0~000001")):
        assert not forged(version)
        assert not forged(read_over(version))
    assert not forged(None), "a row without a version gives way to any change"


@pytest.mark.parametrize(
    "version",
    [
        "", ABSENT, "x", "~zzz", "~999999", "0~999999", "0~000000", "0~1", "0~0000001", "0~00000a",
        f"{LABEL}/1", f"{LABEL}/{'0' * 41}", f"{LABEL}/{'0' * 39}x", f"{LABEL}/{'٣' * 40}", f"{LABEL}/{'0' * 40} ",
        f"{LABEL}/{'0' * 40}\n", f"{LABEL}/{'0' * 40}~000001~000001", f"{LABEL}/{'0' * 40}~999999", f"/{'0' * 40}",
        {"N": "1"}, {"B": "AA=="}, {"BOOL": True}, {"NULL": True}, {"SS": ["x"]}, {"L": []}, {"M": {}}, {},
    ],
)  # fmt: skip
def test_what_is_outside_the_grammar_is_forged(version: Any) -> None:
    assert forged(version)
    assert forged(version, UPGRADED)


def test_a_label_that_was_never_read_is_forged() -> None:
    for label in (OLDER, NEWER, "9999-12-31T00:00:00.000"):
        assert forged(streamed(label, "1"))
        assert forged(f"{streamed(label, '1')}~000001")


def test_of_a_pipeline_that_kept_no_record_an_older_label_may_be_right() -> None:
    assert not forged(streamed(OLDER, "1"), UPGRADED)
    assert forged(streamed(NEWER, "1"), UPGRADED)
    assert forged(streamed("9999-12-31T00:00:00.000", "1"), UPGRADED)


@pytest.mark.parametrize("version", ["~zzz", "0~x", "0~", "0~٣"])
def test_a_version_outside_the_grammar_cannot_be_read_over(version: str) -> None:
    with pytest.raises(ContractError):
        read_over(Version(version))
