"""Times of charts. Alone, so that settings load no geospatial library: every command reads them, if only for --help."""

from __future__ import annotations

from datetime import UTC, datetime


def in_utc(when: datetime) -> datetime:
    """Return a time in UTC; without a time zone it is in UTC already."""
    return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)


def utc_from_text(text: str) -> datetime:
    """Return a time in ISO 8601, in UTC; UTC if it gives no zone.

    Raises
    ------
    ValueError
        If the text is not one, or one that has no year from 1 to 9999 in UTC.
    """
    try:
        return in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time in ISO 8601, such as 2018-01-16T07:54Z") from None
