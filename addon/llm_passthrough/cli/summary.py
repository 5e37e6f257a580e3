"""What a command has called, as a table that fits on a screen."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from llm_passthrough.columns import Row
from llm_passthrough.ledger import Count, Span, open_ledger
from llm_passthrough.ledger.sums import Group, whole
from llm_passthrough.shown import money, safe, tokens

_MOST = 12
"""Rows; what is called less often is one row together."""
_WIDEST = 40


def rows_since(path: Path, since: float) -> list[Row]:
    """The records that began at `since` (seconds since the epoch) or later. Raises LedgerError."""
    # Records have their time in whole milliseconds.
    span = Span(since=since - 0.001)
    ledger = open_ledger(path, must_exist=False)
    return [entry.row for entry in ledger.read(span, Count())]


def table(rows: Iterable[Row]) -> Table:
    """Calls, errors, tokens and cost by provider and model, the most expensive first."""
    groups: dict[tuple[str, str], Group] = {}
    for row in rows:
        groups.setdefault(_name(row), Group()).add(row)
    order = sorted(groups, key=lambda name: (-sum(groups[name].cost.values()), -groups[name].calls))
    shown = order if len(order) <= _MOST else order[: _MOST - 1]
    out = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("provider", "model"):
        out.add_column(title, overflow="fold")
    for title in ("calls", "errors", "in", "out", "cost"):
        out.add_column(title, justify="right", no_wrap=True)
    for name in shown:
        out.add_row(*(safe(part, _WIDEST) for part in name), *_cells(groups[name]))
    if rest := order[len(shown) :]:
        out.add_row("...", f"{len(rest)} more", *_cells(whole(groups[name] for name in rest)))
    if len(order) > 1:
        out.add_row("all", "", *_cells(whole(groups.values())), style="bold")
    return out


def _name(row: Row) -> tuple[str, str]:
    """Provider and model; of what has neither (a tunnel, a list of models), what it has."""
    place = row.provider or (row.route or "-").removeprefix("host:")
    return place, row.model or row.operation or "-"


def _cells(group: Group) -> list[str | Text]:
    return [
        str(group.calls),
        Text(str(group.errors), "red" if group.errors else "dim"),
        tokens(group.input_tokens),
        tokens(group.output_tokens),
        _cost(group),
    ]


def _cost(group: Group) -> str:
    """The amounts; behind them for how many of the calls, when it is not for all."""
    amounts = " + ".join(money(amount, name) for name, amount in group.cost.items())
    partly = f" ({group.priced}/{group.calls})" if 0 < group.priced < group.calls else ""
    return (amounts or "-") + partly


def show(rows: list[Row], heading: str) -> None:
    """Print the table on stderr, where it is in nobody's way; nothing when nothing was called."""
    if rows:
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        console.print(Lines(Text(heading, "bold"), table(rows)))
