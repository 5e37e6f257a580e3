"""The columns of the list of calls, for the page and for what a script puts on top of it."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from llm_passthrough.columns import Row
from llm_passthrough.pages.markup import plain
from llm_passthrough.shown import duration, local_time, money, tokens

AGAIN = "repeats another call: see that one"
_LONGEST = 60
_TONES = {"ok": "good", "refused": "warn", "client_abort": "warn"}


class Cell(NamedTuple):
    """What stands in a cell: its class, its text, and what is shown of it on demand.

    `first` is the id of the call that this one repeats.
    """

    name: str
    text: str
    title: str = ""
    first: str = ""


class Column(NamedTuple):
    """A column: its class, its title, what it is sorted by, and its text."""

    name: str
    title: str
    text: Callable[[Row], str]
    sort: str = ""
    hint: str = ""


def _outcome(row: Row) -> str:
    status = "" if row.status is None else str(row.status)
    outcome = row.outcome or "?"
    return status if outcome == "ok" and status else f"{status} {outcome}".strip()


COLUMNS = (
    Column("time", "time", lambda row: when(row.time), "time", "when it began"),
    Column("client", "client", lambda row: row.client or "-"),
    Column("provider", "provider", lambda row: row.provider or "-"),
    Column("model", "model", lambda row: row.model or "-"),
    Column("operation", "operation", lambda row: f"{row.operation or '-'} {row.place}".strip()),
    Column("num in", "in", lambda row: tokens(row.input_tokens), "in", "input tokens"),
    Column(
        "num cached",
        "cached",
        lambda row: tokens(row.cache_read_tokens),
        "cached",
        "input tokens that came from the prompt cache",
    ),
    Column("num out", "out", lambda row: tokens(row.output_tokens), "out", "output tokens"),
    Column("num cost", "cost", lambda row: money(row.cost, row.currency), "cost", "cost"),
    Column(
        "num first",
        "first",
        lambda row: duration(row.first_token_ms),
        "first",
        "time to the first token",
    ),
    Column("num total", "total", lambda row: duration(row.total_ms), "total", "time in all"),
    Column("outcome", "outcome", _outcome),
)


def cells(row: Row) -> list[Cell]:
    """The cells of a row; all texts are plain."""
    return [_cell(column, row) for column in COLUMNS]


def tone(outcome: str | None) -> str:
    """How an outcome looks."""
    return _TONES.get(outcome or "", "bad")


def when(time: str) -> str:
    """A record's time: of today to the second, else the day and the minute."""
    today = datetime.now().astimezone().strftime("%Y-%m-%d")
    shown = local_time(time)
    return shown[11:] if shown.startswith(today) else shown[5:16]


def _cell(column: Column, row: Row) -> Cell:
    text = plain(column.text(row))
    name = column.name
    title = text if len(text) > _LONGEST else ""
    if name == "time":
        title = f"{plain(local_time(row.time))}  {plain(row.id)}"
    elif name == "outcome":
        name = f"outcome {tone(row.outcome)}"
    first = row.replay_of or "" if name == "model" else ""
    return Cell(name, text[:_LONGEST], title, first)
