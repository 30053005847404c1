"""Numbers as people read them. Every one of them stands unrounded in the JSON as well."""

from __future__ import annotations

__all__ = ["duration", "joules", "megabytes", "milliseconds", "number", "per_second", "percent", "rooms", "significant"]

NOT_MEASURED = "not measured"


def significant(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent: 0.00123, 12.3, 12,300."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    whole = len(f"{abs(rounded):.0f}") if abs(rounded) >= 1 else 0
    places = max(0, digits - whole) if whole else digits + _leading_zeros(abs(rounded))
    return f"{rounded:,.{places}f}"


def milliseconds(value: float) -> str:
    """ "23.7 ms", from a second on "1.24 s"."""
    return f"{significant(value)} ms" if value < 1e3 else f"{significant(value / 1e3)} s"


def duration(seconds: float) -> str:
    """ "4 minutes", "1 s", "250 ms"."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{seconds / 60:.0f} minutes" if seconds > 60 else "1 minute"
    return milliseconds(seconds * 1e3) if seconds % 1 else f"{seconds:.0f} s"


def per_second(value: float) -> str:
    """ "12.3 images a second"; below one a second, a minute: "25.1 images a minute"."""
    if value < 1:
        return f"{significant(60 * value)} images a minute"
    return f"{significant(value)} images a second"


def percent(share: float) -> str:
    """0.9713 → "97.1 %"."""
    return f"{100 * share:.1f} %"


def megabytes(count: float | None) -> str:
    """Bytes → "12.3 MB", or "not measured"."""
    return NOT_MEASURED if count is None else f"{significant(count / 1e6)} MB"


def joules(value: float) -> str:
    """ "1.23 J"."""
    return f"{significant(value)} J"


def rooms(count: int) -> str:
    """ "1 scanner room", "3 scanner rooms"."""
    return f"{count} scanner room{'s' if count != 1 else ''}"


def number(value: float | str | None) -> str:
    """What may not have been measured."""
    return NOT_MEASURED if value is None else str(value)


def _leading_zeros(value: float) -> int:
    """Zeros after the point before the first digit: 0.05 → 1."""
    text = f"{value:.12f}".partition(".")[2]
    return len(text) - len(text.lstrip("0"))
