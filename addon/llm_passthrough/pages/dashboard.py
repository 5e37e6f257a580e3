"""The dashboard: numbers, plots and a table of sums over a time."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from llm_passthrough.ledger import LedgerError, Span
from llm_passthrough.ledger.filters import span
from llm_passthrough.ledger.sums import Group
from llm_passthrough.pages import charts
from llm_passthrough.pages.calls import filters, now
from llm_passthrough.pages.render import render
from llm_passthrough.pages.series import BY, By, Series, series
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.store import Names, State
from llm_passthrough.pages.wishes import Wish
from llm_passthrough.shown import duration, money, tokens

_SPANS = (("hour", "1h"), ("day", "24h"), ("week", "7d"), ("month", "30d"), ("year", "365d"))
_USUAL = "24h"
_KEPT_SECONDS = 5.0
_KEPT_TIMES = 10
_TITLES = (
    "calls", "errors", "in", "from cache", "out", "cost", "first p50", "p95", "total p50", "p95",
)  # fmt: skip


class Dashboard:
    """The dashboard of a site; sums are kept for the plots of a page, longer if they took long."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._kept: dict[tuple[tuple[str, str], ...], tuple[float, Series]] = {}

    def page(self, wish: Wish) -> bytes:
        """The page."""
        fault, state, names = None, State(), Names()
        try:
            state, names = self._site.store.state(), self._site.store.names()
            found, fault = self.sums(wish), state.fault
        except LedgerError as error:
            found, fault = series((), _by(wish), _span(wish), time.time()), str(error)
        return render(
            "stats.html",
            title="Dashboard",
            here="stats",
            series=found,
            bys=BY,
            spans=_SPANS,
            state=state,
            fault=fault,
            installed=charts.is_installed(),
            missing=charts.MISSING,
            plots=[(name, title) for name, (title, _) in charts.CHARTS.items()],
            numbers=_numbers(found),
            titles=_TITLES,
            table=list(_table(found)),
            **filters(names, wish, "/llm/stats", "by"),
        )

    def plot(self, name: str, wish: Wish, *, dark: bool) -> bytes | None:
        """A plot as SVG; None where there is none of that name. May raise LedgerError."""
        if name not in charts.CHARTS or not charts.is_installed():
            return None
        return charts.svg(name, self.sums(wish), dark=dark)

    def sums(self, wish: Wish) -> Series:
        """The sums of what is asked for. May raise LedgerError."""
        key = tuple(sorted((k, v) for k, v in wish.given.items() if k != "page"))
        with self._lock:  # the plots of a page are asked for at once: one of them sums up
            began = time.monotonic()
            kept = self._kept.get(key)
            if kept is not None and began < kept[0]:
                return kept[1]
            asked = replace(wish, span=_span(wish))
            found = series(self._site.store.rows(asked), _by(wish), asked.span, time.time())
            ended = time.monotonic()
            until = ended + max(_KEPT_SECONDS, _KEPT_TIMES * (ended - began))
            fresh = {k: v for k, v in self._kept.items() if ended < v[0]}
            self._kept = fresh | {key: (until, found)}
            return found


def _by(wish: Wish) -> By:
    wanted = wish.given.get("by")
    return next((by for by in BY if by == wanted), "model")


def _span(wish: Wish) -> Span:
    """The time that is asked for; where none is, the last day."""
    if "since" in wish.given or "until" in wish.given:
        return wish.span
    return span(_USUAL, None, now())


def _numbers(found: Series) -> list[tuple[str, str]]:
    group = found.all
    share = f"{group.errors / group.calls:.1%}" if group.calls else "-"
    cached = "-"
    if group.input_tokens and group.cache_read_tokens is not None:
        cached = f"{group.cache_read_tokens / group.input_tokens:.0%}"
    return [
        ("calls", f"{group.calls:,}"),
        ("failed", f"{group.errors:,} ({share})" if group.errors else "0"),
        ("tokens in", tokens(group.input_tokens)),
        ("from cache", cached),
        ("tokens out", tokens(group.output_tokens)),
        ("cost", _cost(group)),
        ("first token p50", duration(group.first_token.quantile(0.5))),
        ("first token p95", duration(group.first_token.quantile(0.95))),
    ]


def _table(found: Series) -> Iterator[tuple[str, list[str]]]:
    for name in found.names:
        yield name, _cells(found.sums[name])
    if len(found.names) > 1:
        yield "all", _cells(found.all)


def _cells(group: Group) -> list[str]:
    return [
        f"{group.calls:,}",
        f"{group.errors:,}",
        tokens(group.input_tokens),
        tokens(group.cache_read_tokens),
        tokens(group.output_tokens),
        _cost(group),
        *(duration(group.first_token.quantile(share)) for share in (0.5, 0.95)),
        *(duration(group.total.quantile(share)) for share in (0.5, 0.95)),
    ]


def _cost(group: Group) -> str:
    """The amounts; behind them for how many of the calls, when it is not for all."""
    amounts = " + ".join(money(amount, name) for name, amount in group.cost.items())
    partly = f" ({group.priced}/{group.calls})" if 0 < group.priced < group.calls else ""
    return (amounts or "-") + partly
