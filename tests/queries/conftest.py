from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynalake.demo.world import embedded_aws


@pytest.fixture
def aws() -> Iterator[None]:
    with embedded_aws():
        yield
