"""A few inputs of each parser; `scripts/fuzz` does it for as long as one likes."""

from __future__ import annotations

import pytest

from tests.fuzzing.__main__ import fuzz
from tests.fuzzing.parsers import PARSERS
from tests.waiting import PATIENCE_S

INPUTS = 60


@pytest.mark.parametrize("parser", PARSERS)
def test_every_input_is_read_or_refused(parser: str) -> None:
    outcome = fuzz(parser, 0, INPUTS, PATIENCE_S)
    assert not outcome.faults
    assert outcome.inputs == INPUTS
    assert 0 < outcome.refused < INPUTS, "both happen, so the inputs are neither valid nor hopeless"
