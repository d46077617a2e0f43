"""Times as a snapshot's own tables keep them: UTC, without a zone."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(milliseconds: int) -> datetime:
    """Epoch milliseconds as a time in UTC, without a zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
