"""Values for a person's eyes: amounts, times, and texts from outside that obey nobody."""

import unicodedata
from datetime import datetime


def safe(text: str, longest: int | None = None) -> str:
    """Text from outside in one line: control characters are shown as escapes, spaces stay."""
    cut = longest is not None and len(text) > longest
    shown = text[: longest - 1] if cut and longest else text
    return "".join(map(_character, shown)) + ("…" if cut else "")


def safe_lines(text: str) -> str:
    """The same with its line breaks and tabs."""
    lines = text.replace("\r\n", "\n").expandtabs(4).split("\n")
    return "\n".join(safe(line) for line in lines)


def tokens(count: int | None) -> str:
    """A token count, short: 950, 12.3k, 1.2M."""
    if count is None:
        return "-"
    if abs(count) < 10_000:
        return str(count)
    return f"{count / 1000:.1f}k" if abs(count) < 1_000_000 else f"{count / 1_000_000:.1f}M"


def money(amount: float | None, currency: str | None) -> str:
    """An amount with its currency; small ones with more digits."""
    if amount is None:
        return "-"
    digits = 2 if abs(amount) >= 1 else 4 if abs(amount) >= 0.01 or amount == 0 else 6
    unit = "$" if currency in (None, "USD") else f"{safe(str(currency), 8)} "
    return f"{unit}{amount:,.{digits}f}"


def duration(ms: float | None) -> str:
    """Milliseconds for a person."""
    if ms is None:
        return "-"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 600_000 else f"{ms / 60_000:.0f} min"


def local_time(time: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A record's time as local time; as it stands where it cannot be read."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime(form)
    except (ValueError, OverflowError, OSError):
        return safe(time, 20)


def _character(character: str) -> str:
    if character.isprintable():
        return character
    # Spaces of other widths; all line breaks are something else.
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()
