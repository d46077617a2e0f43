"""What all tests share."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

# A property holds or does not, whatever the machine is busy with: speed is for the benchmarks.
settings.register_profile("dynalake", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dynalake")

# Each botocore session parses the services' models again, and the tests of one process open hundreds of sessions.
_parsed = lru_cache(maxsize=None)(JSONFileLoader().load_file)
JSONFileLoader.load_file = lambda _, file_path: _parsed(file_path)  # type: ignore[assignment,method-assign]

LONGEST: Final = (
    "tests/operate/",
    "tests/notebooks/",
    "tests/ingest_kill/",
    "tests/end_to_end/",
    "tests/queries/",
    "tests/tableau/",
)
"""Where the files are that take longest: begun first, so that no processor waits for the last of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next((n for n, folder in enumerate(LONGEST) if item.nodeid.startswith(folder)), len(LONGEST))

    items.sort(key=rank)
