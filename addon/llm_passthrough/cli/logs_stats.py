"""`llm-passthrough logs stats`: calls, errors, tokens, cost and times, by group."""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

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
from llm_passthrough.ledger.sums import TOKENS, Group, Times, whole

__all__ = ["By", "Group", "Times", "bar", "grouped", "stats"]

_BAR = 16
_MOST_GROUPS = 10_000
_REST = "(others)"


class By(StrEnum):
    """What calls are grouped by."""

    provider = "provider"
    model = "model"
    client = "client"
    day = "day"
    key = "key"


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
        table.add_row("all", *_cells(whole(groups.values()), 0), style="bold")
    return table


def _cells(group: Group, most: int) -> list[str | Text]:
    numbers = group.numbers()
    return [
        str(group.calls),
        bar(group, most),
        Text(str(group.errors), "red" if group.errors else "dim"),
        *(tokens(numbers[name]) for name in TOKENS),
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
