"""The lake: the contract of its tables, its schema catalogue, its snapshots and its exports.

Importing this package costs nothing; what a name needs is loaded when the name is first used, so that
`lake.contract` can be part of a Lambda that has neither DuckDB nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.open import Lake, open_lake

__all__ = ["Lake", "open_lake"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lake import open as opening

        return getattr(opening, name)
    raise AttributeError(f"module 'lake' has no attribute {name!r}")
