"""How long a key rests after an answer: what the provider says, else a pause that grows."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

REFUSED = 600.0
"""Seconds after 401 or 403: a person has to do something about it."""
_FIRST, _LONGEST = 1.0, 60.0
_BRIEF, _BRIEF_LONGEST = 1.0, 15.0
# What a provider asks for, at most: after 429 its day's limit, after its own fault a minute.
_MOST, _MOST_FAULT = 86_400.0, 60.0
_DURATION = re.compile(
    r"(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+(?:\.[0-9]+)?)ms)?"
)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_LONGEST_TEXT = 64
_LONGEST_BODY = 64 << 10


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
    `now` is seconds since the epoch, `hint` the delay that the body names (`retry_info`).
    """
    if status in (401, 403):
        return Rest(REFUSED, f"answered {status}")
    if status == 429:
        said = asked_for(headers, now)
        if said is None:
            said = duration(hint or "")
        seconds = _grown(_FIRST, strikes, _LONGEST) if said is None else min(said, _MOST)
        return Rest(seconds, "answered 429")
    if 500 <= status <= 599:
        said = asked_for(headers, now)
        brief = _grown(_BRIEF, strikes, _BRIEF_LONGEST)
        return Rest(brief if said is None else min(said, _MOST_FAULT), f"answered {status}")
    return None


def unreachable(strikes: int) -> Rest:
    """The rest after a failure to connect."""
    return Rest(_grown(_BRIEF, strikes, _BRIEF_LONGEST), "could not be reached")


def without_token(strikes: int) -> Rest:
    """The rest of a key for which no token could be had."""
    return Rest(min(_FIRST * 2**strikes, _LONGEST), "no token")


def asked_for(headers: Mapping[str, str], now: float) -> float | None:
    """The pause in seconds that an answer's headers ask for, or None.

    `retry-after-ms` (Azure, OpenAI), `retry-after` (RFC 9110 10.2.3: seconds or a date), and
    `x-ratelimit-reset-*` of a limit that is used up (OpenAI), else Anthropic's reset times.
    What cannot be read counts as not there.
    """
    if (ms := _number(headers.get("retry-after-ms", ""))) is not None:
        return ms / 1000
    value = headers.get("retry-after", "")
    for seconds in (_number(value), _until(value, now)):
        if seconds is not None:
            return seconds
    pauses: list[float | None] = []
    for name, left in headers.items():
        if left.strip() != "0":
            continue
        if name.startswith("x-ratelimit-remaining-"):
            reset = headers.get(name.replace("-remaining-", "-reset-", 1), "")
            pauses.append(duration(reset))
        elif name.startswith("anthropic-ratelimit-") and name.endswith("-remaining"):
            reset = headers.get(name.removesuffix("remaining") + "reset", "")
            pauses.append(_until(reset, now))
    return max((pause for pause in pauses if pause is not None), default=None)


def retry_info(body: bytes) -> str | None:
    """The `retryDelay` of a Google error, such as `34.07s`; None where there is none.

    https://cloud.google.com/apis/design/errors#error_details; a stream's error stands in a list.
    """
    if len(body) > _LONGEST_BODY or b"retryDelay" not in body:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    first = answer[0] if isinstance(answer, list) and answer else answer
    details = _get(_get(first, "error"), "details")
    for detail in details if isinstance(details, list) else []:
        delay = _get(detail, "retryDelay")
        if isinstance(delay, str):
            return delay
    return None


def duration(text: str) -> float | None:
    """`1m30s`, `250ms`, `34s`, `7` (seconds) as seconds, or None."""
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if (number := _number(text)) is not None:
        return number
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds, ms = (float(part) if part else 0.0 for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + ms / 1000


def _grown(first: float, strikes: int, longest: float) -> float:
    """Twice as long after each strike. (2 to the power of a thousand is no float any more.)"""
    return min(first * 2.0 ** min(max(strikes, 0), 30), longest)


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if len(text) <= _LONGEST_TEXT and _NUMBER.fullmatch(text) else None


def _until(text: str, now: float) -> float | None:
    """Seconds from `now` to a date of RFC 9110 or RFC 3339, never negative."""
    if len(text) > _LONGEST_TEXT:
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            # A date without a zone is in UTC.
            zone = moment.tzinfo or UTC
            return max(0.0, moment.replace(tzinfo=zone).timestamp() - now)
        except (TypeError, ValueError, IndexError, OverflowError):
            continue
    return None
