"""Which records are wanted: the span of time, what a record is like, a text that stands in it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cache

from llm_passthrough.columns import Row
from llm_passthrough.conversation import turns
from llm_passthrough.ledger.entries import Entry, Span

DATES = "2h, 3d, an ISO date or time, today, yesterday"
OUTCOMES = (
    "ok",
    "refused",
    "upstream_error",
    "client_abort",
    "upstream_abort",
    "timeout",
    "error",
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"([0-9]{1,9})\s*([smhdw])", re.I)
_STATUS = re.compile(r"[1-5](xx|[0-9]{2})", re.I)


class WishError(ValueError):
    """A wish that cannot be understood: which one (`name`), and what it must be."""

    def __init__(self, name: str, must: str) -> None:
        super().__init__(f"must be {must}")
        self.name = name


def span(since: str | None, until: str | None, now: datetime) -> Span:
    """The span that two words name; `now` is local time with its offset. Raises WishError."""
    bounds = {}
    for name, text, is_end in (("since", since, False), ("until", until, True)):
        if text is not None:
            try:
                bounds[name] = moment(text, now, is_end=is_end)
            except (ValueError, OverflowError):
                raise WishError(name, f"one of: {DATES}") from None
    return Span(**bounds)


def moment(text: str, now: datetime, *, is_end: bool = False) -> float:
    """A moment in seconds since the epoch; a day is its start, or its end with `is_end`.

    Times without an offset are local. Raises ValueError.
    """
    word = text.strip().lower()
    if match := _AGO.fullmatch(word):
        return now.timestamp() - int(match[1]) * _UNITS[match[2]]
    if word == "now":
        return now.timestamp()
    days = {"today": 0, "yesterday": 1}
    if word in days:
        day: date = now.date() - timedelta(days=days[word])
    else:
        try:
            day = date.fromisoformat(word)
        except ValueError:
            return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    return datetime.combine(day + timedelta(days=is_end), time.min).astimezone().timestamp()


@dataclass(frozen=True, slots=True)
class Filter:
    """What a record must be like; None lets everything through."""

    provider: str | None = None
    model: str | None = None
    client: str | None = None
    status: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    grep: str | None = None

    def takes(self, row: Row) -> bool:
        """Whether the columns fit."""
        return (
            (self.provider is None or row.provider == self.provider)
            and (self.client is None or row.client == self.client)
            and (not self.status or any(_is_status(row.status, one) for one in self.status))
            and (not self.outcome or row.outcome in self.outcome)
            and (self.model is None or _is_model(row, self.model))
        )

    def finds(self, entry: Entry) -> bool:
        """Whether the text that is looked for stands in a record.

        In a stream it may be spread over many events, so its conversation is searched too.
        """
        if self.grep is None:
            return True
        text = entry.text()
        # Only ASCII can be compared in any case without decoding it, which is much faster.
        low = (
            text.lower()
            if self.grep.isascii()
            else text.decode("utf-8", "replace").lower().encode()
        )
        if any(form in low for form in _spellings(self.grep)):
            return True
        wanted = self.grep.lower()
        return bool(entry.row.stream) and any(
            wanted in part.text.lower() for turn in turns(entry.record()) for part in turn.parts
        )

    def __call__(self, entry: Entry) -> bool:
        """Whether an entry fits."""
        return self.takes(entry.row) and self.finds(entry)


def wanted(
    provider: str | None = None,
    model: str | None = None,
    client: str | None = None,
    status: str | None = None,
    outcome: str | None = None,
    grep: str | None = None,
) -> Filter:
    """The filter that these words name; `failed` is every outcome but ok. Raises WishError."""
    return Filter(
        provider and provider.lower(),
        model,
        client,
        _listed(status, "status", _STATUS.fullmatch, "such as 429, 5xx or 400,404"),
        _outcomes(outcome),
        grep or None,
    )


def _outcomes(text: str | None) -> tuple[str, ...]:
    known = (*OUTCOMES, "failed")
    words = _listed(text, "outcome", known.__contains__, f"of: {', '.join(known)}")
    return OUTCOMES[1:] if "failed" in words else words


def _listed(
    text: str | None, name: str, fits: Callable[[str], object], right: str
) -> tuple[str, ...]:
    words = tuple(word.strip().lower() for word in text.split(",")) if text else ()
    if not all(fits(word) for word in words):
        raise WishError(name, right)
    return words


def _is_status(status: int | None, wanted: str) -> bool:
    text = str(status)
    return text == wanted or (wanted.endswith("xx") and len(text) == 3 and text[0] == wanted[0])


def _is_model(row: Row, wanted: str) -> bool:
    names = [name.lower() for name in (row.model_requested, row.model_response) if name]
    wanted = wanted.lower()
    if set("*?[") & set(wanted):
        return any(fnmatchcase(name, wanted) for name in names)
    return any(wanted in name for name in names)


@cache
def _spellings(text: str) -> frozenset[bytes]:
    """A text as it may stand in a record: a body is JSON inside of JSON, and may escape more."""
    found = set()
    for ascii_only in (False, True):
        inside = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        found |= {inside, json.dumps(inside, ensure_ascii=False)[1:-1]}
    return frozenset(spelling.lower().encode("utf-8", "replace") for spelling in found)
