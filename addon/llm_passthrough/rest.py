"""How long a key rests after an answer: what the provider says, else a pause that grows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

REFUSED = 600.0
"""Seconds after 401 or 403: a person has to do something about it."""
_FIRST, _LONGEST = 1.0, 60.0
_BRIEF, _BRIEF_LONGEST = 1.0, 15.0
_MOST = 86_400.0
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Rest:
    """A pause in seconds and its reason."""

    seconds: float
    why: str


def after(
    status: int, headers: Mapping[str, str], strikes: int, now: float, hint: str | None = None
) -> Rest | None:
    """The rest that an answer calls for, or None where it calls for none.

    `headers` have lower-case names, `strikes` is how many such answers came in a row before,
    `now` is seconds since the epoch, `hint` the delay that the body names (Google's RetryInfo).
    """
    if status in (401, 403):
        return Rest(REFUSED, f"answered {status}")
    if status == 429:
        said = asked_for(headers, now) or duration(hint or "")
        seconds = min(_FIRST * 2**strikes, _LONGEST) if said is None else said
        return Rest(min(seconds, _MOST), "answered 429")
    if status == 529 or 500 <= status <= 599:
        said = asked_for(headers, now)
        seconds = min(_BRIEF * 2**strikes, _BRIEF_LONGEST) if said is None else said
        return Rest(min(seconds, _MOST), f"answered {status}")
    return None


def unreachable(strikes: int) -> Rest:
    """The rest after a failure to connect."""
    return Rest(min(_BRIEF * 2**strikes, _BRIEF_LONGEST), "could not be reached")


def without_token(strikes: int) -> Rest:
    """The rest of a key for which no token could be had."""
    return Rest(min(_FIRST * 2**strikes, _LONGEST), "no token")


def asked_for(headers: Mapping[str, str], now: float) -> float | None:
    """The pause in seconds that an answer's headers ask for, or None.

    `retry-after-ms` (Azure, OpenAI), `retry-after` (RFC 9110 10.2.3: seconds or a date), and
    `x-ratelimit-reset-*` of a limit that is used up (OpenAI), else Anthropic's reset times.
    """
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return ms / 1000
    if (value := headers.get("retry-after")) is not None:
        seconds = _number(value)
        return seconds if seconds is not None else _until(value, now)
    pauses = []
    for name, value in headers.items():
        if name.startswith("x-ratelimit-remaining-") and value.strip() == "0":
            reset = headers.get(name.replace("remaining", "reset"), "")
            pauses.append(duration(reset))
        elif name.startswith("anthropic-ratelimit-") and name.endswith("-remaining"):
            reset = headers.get(name.removesuffix("remaining") + "reset", "")
            pauses.append(_until(reset, now) if value.strip() == "0" else None)
    known = [pause for pause in pauses if pause is not None]
    return max(known) if known else None


def duration(text: str) -> float | None:
    """`1m30s`, `250ms`, `34s`, `7` (seconds) as seconds, or None."""
    text = text.strip()
    if (number := _number(text)) is not None:
        return number
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    hours, minutes, seconds, ms = (float(part) if part else 0.0 for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + ms / 1000


def _number(text: str | None) -> float | None:
    if not text or len(text) > 16 or not re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return None
    return float(text)


def _until(text: str, now: float) -> float | None:
    """Seconds from `now` to a date of RFC 9110 or RFC 3339, never negative."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
