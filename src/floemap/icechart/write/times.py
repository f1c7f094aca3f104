"""Times of charts. Alone, so that settings load no geospatial library: every command reads them, if only for --help."""

from __future__ import annotations

from datetime import UTC, datetime


def in_utc(when: datetime) -> datetime:
    """Return a time in UTC; without a time zone it is in UTC already."""
    return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
