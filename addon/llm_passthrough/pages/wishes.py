"""What a list of calls is asked for: filters, order and page, read from a query string."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from llm_passthrough.ledger import Span
from llm_passthrough.ledger.filters import Filter, WishError, span, wanted

PAGE = 100
"""Calls a page."""

FILTERS = ("provider", "model", "client", "status", "outcome", "grep")
SPAN = ("since", "until")
SORTS = {
    "time": "time",
    "in": "input_tokens",
    "cached": "cache_read_tokens",
    "out": "output_tokens",
    "cost": "cost",
    "first": "first_token_ms",
    "total": "total_ms",
}
"""What can be sorted by, and its column."""

_LONGEST = 500
_ANY, _ALWAYS = Filter(), Span()
_MOST_PAGES = 100_000


@dataclass(frozen=True, slots=True)
class Wish:
    """A list as it is asked for; `given` are the words of the query string that mean something."""

    filter: Filter = _ANY
    span: Span = _ALWAYS
    sort: str = "time"
    ascending: bool = False
    page: int = 1
    given: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """The column that it is sorted by."""
        return SORTS[self.sort]

    @property
    def is_live(self) -> bool:
        """Whether what is written now stands on top."""
        return self.sort == "time" and not self.ascending and self.page == 1

    def link(self, **changes: str | None) -> str:
        """The query string for the same list but for these words; None takes a word away."""
        words = {**self.given, **changes}
        kept = [(name, word) for name, word in words.items() if word]
        return f"?{urlencode(kept)}" if kept else "?"

    def sort_link(self, name: str) -> str:
        """The query string for another order; a second time it turns round."""
        turned = name == self.sort and not self.ascending
        return self.link(sort=name, order="up" if turned else None, page=None)


def read(words: Mapping[str, str], now: datetime) -> Wish:
    """The list that a query string asks for; what cannot be understood is left out and told."""
    given = {
        name: word[:_LONGEST]
        for name in (*FILTERS, *SPAN, "sort", "order", "page", "by")
        if (word := words.get(name, "").strip())
    }
    faults: dict[str, str] = {}
    filter_ = Filter()
    # Each by itself: one that is wrong must not hide what the others mean.
    good = {name: given[name] for name in FILTERS if name in given}
    while True:
        try:
            filter_ = wanted(**good)
            break
        except WishError as error:
            faults[error.name] = str(error)
            del good[error.name]
    time = Span()
    try:
        time = span(given.get("since"), given.get("until"), now)
    except WishError as error:
        faults[error.name] = str(error)
    sort = given.get("sort", "time")
    return Wish(
        filter_,
        time,
        sort if sort in SORTS else "time",
        given.get("order") == "up",
        _page(given.get("page")),
        given,
        faults,
    )


def _page(text: str | None) -> int:
    good = text and text.isascii() and text.isdigit() and len(text) < 7
    return min(max(int(text), 1), _MOST_PAGES) if text and good else 1
