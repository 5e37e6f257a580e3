"""`llm-passthrough logs stats`: calls, errors, tokens, cost and times, by group."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from llm_passthrough.cli import logs_filters as by
from llm_passthrough.cli.logs_source import (
    ConfigFile,
    File,
    Json,
    entries,
    ledger_of,
    now,
    out,
    reading,
)
from llm_passthrough.cli.logs_view import dumped, duration, local_time, money, safe, tokens
from llm_passthrough.columns import Row

_BAR = 16
# Quantiles are right to 1 %: values fall into buckets that grow by this factor, so that a million
# calls need no more memory than a thousand.
_GROWTH = math.log(1.02)
_MOST_GROUPS = 10_000
_REST = "(others)"
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens")


class By(StrEnum):
    """What calls are grouped by."""

    provider = "provider"
    model = "model"
    client = "client"
    day = "day"
    key = "key"


@dataclass(slots=True)
class Times:
    """Durations in ms, as counts of buckets."""

    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, ms: float | None) -> None:
        """Count one; None is unknown and not counted."""
        if ms is not None:
            self.buckets[round(math.log(max(ms, 0.001)) / _GROWTH)] += 1

    def quantile(self, share: float) -> float | None:
        """The duration that this share of them does not exceed."""
        rank = math.ceil(share * self.buckets.total())
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return float(f"{math.exp(bucket * _GROWTH):.4g}")
        return None


@dataclass(slots=True)
class Group:
    """The sums of a group. `counted` and `priced` say for how many calls there was anything."""

    calls: int = 0
    errors: int = 0
    counted: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    priced: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    total: Times = field(default_factory=Times)
    first_token: Times = field(default_factory=Times)

    def add(self, row: Row) -> None:
        """Count a call."""
        self.calls += 1
        self.errors += row.outcome != "ok"
        self.counted += row.input_tokens is not None or row.output_tokens is not None
        for name in _TOKENS:
            setattr(self, name, _plus(getattr(self, name), getattr(row, name)))
        if row.cost is not None:
            self.priced += 1
            self.pay(row.currency or "USD", row.cost)
        self.total.add(row.total_ms)
        self.first_token.add(row.first_token_ms)

    def pay(self, currency: str, amount: float) -> None:
        """Add an amount; currencies are never mixed."""
        self.cost[currency] = self.cost.get(currency, 0.0) + amount

    def numbers(self) -> dict[str, Any]:
        """The sums as JSON has them; null where nothing is known."""
        return {
            "calls": self.calls,
            "errors": self.errors,
            "counted_calls": self.counted,
            **{name: getattr(self, name) for name in _TOKENS},
            "priced_calls": self.priced,
            "cost": {name: round(amount, 9) for name, amount in self.cost.items()} or None,
            "total_ms_p50": self.total.quantile(0.5),
            "total_ms_p95": self.total.quantile(0.95),
            "first_token_ms_p50": self.first_token.quantile(0.5),
            "first_token_ms_p95": self.first_token.quantile(0.95),
        }


def stats(
    by_: Annotated[By, typer.Option("--by", help="What to group by.")] = By.model,
    since: by.Since = None,
    until: by.Until = None,
    provider: by.Provider = None,
    model: by.Model = None,
    client: by.Client = None,
    status: by.Status = None,
    outcome: by.Outcome = None,
    grep: by.Grep = None,
    file: File = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Sum up calls by provider, model, client, day or key."""
    span = by.span(since, until, now())
    wanted = by.filters(provider, model, client, status, outcome, grep)
    ledger = ledger_of(file, config)
    with reading() as count:
        groups = grouped((entry.row for entry in entries(ledger, span, count, wanted)), by_)
    names = _sorted(groups, by_)
    if json:
        for name in names:
            typer.echo(dumped({by_.value: name} | groups[name].numbers()))
    else:
        out().print(_table(groups, names, by_) if groups else "no calls")


def grouped(rows: Iterable[Row], by_: By) -> dict[str, Group]:
    """The groups of rows. Beyond some thousand names, the rest is one group."""
    groups: dict[str, Group] = {}
    for row in rows:
        name = _name(row, by_)
        if name not in groups and len(groups) >= _MOST_GROUPS:
            name = _REST
        groups.setdefault(name, Group()).add(row)
    return groups


def _name(row: Row, by_: By) -> str:
    if by_ is By.day:
        return local_time(row.time, "%Y-%m-%d")
    return getattr(row, by_.value) or "-"


def _sorted(groups: dict[str, Group], by_: By) -> list[str]:
    if by_ is By.day:
        return sorted(groups)
    return sorted(groups, key=lambda name: (-sum(groups[name].cost.values()), -groups[name].calls))


_TITLES = ("calls", "", "errors", "in", "out", "cached", "cost", "p50", "p95", "first p50", "p95")


def _table(groups: dict[str, Group], names: list[str], by_: By) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by_.value, overflow="fold")
    for title in _TITLES:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    most = max(group.calls for group in groups.values())
    for name in names:
        table.add_row(safe(name, 48), *_cells(groups[name], most))
    if len(names) > 1:
        table.add_row("all", *_cells(_all(groups.values()), 0), style="bold")
    return table


def _cells(group: Group, most: int) -> list[str | Text]:
    numbers = group.numbers()
    return [
        str(group.calls),
        bar(group, most),
        Text(str(group.errors), "red" if group.errors else "dim"),
        *(tokens(numbers[name]) for name in _TOKENS),
        _cost(group),
        *(duration(numbers[f"{name}_ms_p{part}"]) for name in _TIMES for part in (50, 95)),
    ]


_TIMES = ("total", "first_token")


def _cost(group: Group) -> str:
    """The amounts; behind them for how many of the calls, when it is not for all."""
    amounts = " + ".join(money(amount, name) for name, amount in group.cost.items())
    partly = f" ({group.priced}/{group.calls})" if 0 < group.priced < group.calls else ""
    return (amounts or "-") + partly


def bar(group: Group, most: int) -> Text:
    """The calls as a bar, the failed ones of them in red."""
    if not most:
        return Text()
    width = max(round(_BAR * group.calls / most), 1)
    bad = min(math.ceil(width * group.errors / group.calls), width)
    return Text("█" * (width - bad), "green").append("█" * bad, "red")


def _all(groups: Iterable[Group]) -> Group:
    whole = Group()
    for group in groups:
        for name in ("calls", "errors", "counted", "priced", *_TOKENS):
            setattr(whole, name, _plus(getattr(whole, name), getattr(group, name)))
        for currency, amount in group.cost.items():
            whole.pay(currency, amount)
        whole.total.buckets.update(group.total.buckets)
        whole.first_token.buckets.update(group.first_token.buckets)
    return whole


def _plus(sum_: int | None, count: int | None) -> int | None:
    """A sum that stays unknown as long as nothing is known."""
    return sum_ if count is None else count if sum_ is None else sum_ + count
