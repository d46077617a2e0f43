from __future__ import annotations

from tests.end_to_end.conftest import ministack, ministack_python

__all__ = ["ministack", "ministack_python"]
