"""`llm-passthrough logs list`: the calls of a time, the newest first or sorted."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import islice
from typing import Annotated, Literal

import typer
from rich.table import Table

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
from llm_passthrough.cli.logs_view import as_json, fitting
from llm_passthrough.columns import Row


class Sort(StrEnum):
    """What a list is sorted by, the most first."""

    time = "time"
    cost = "cost"
    tokens = "tokens"
    duration = "duration"


def list_(
    since: by.Since = None,
    until: by.Until = None,
    provider: by.Provider = None,
    model: by.Model = None,
    client: by.Client = None,
    status: by.Status = None,
    outcome: by.Outcome = None,
    grep: by.Grep = None,
    sort: Annotated[Sort, typer.Option(help="The most of it first.")] = Sort.time,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 50,
    file: File = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List calls, the newest 50 first."""
    span = by.span(since, until, now())
    wanted = by.filters(provider, model, client, status, outcome, grep)
    ledger = ledger_of(file, config)
    with reading() as count, closing(entries(ledger, span, count, wanted)) as found:
        rows = list(_first((entry.row for entry in found), sort, limit))
    if json:
        for row in rows:
            typer.echo(as_json(row))
    elif rows:
        console = out()
        console.print(_table(rows, console.width))
    else:
        typer.echo("no calls")


def _first(rows: Iterable[Row], sort: Sort, limit: int) -> Iterator[Row]:
    """The first of the sorted rows; only so many are ever held."""
    if sort is Sort.time:
        return islice(rows, limit)
    return iter(heapq.nlargest(limit, rows, key=lambda row: (_amount(row, sort), row.time)))


def _amount(row: Row, sort: Sort) -> float:
    """What is unknown comes last."""
    if sort is Sort.cost:
        return -1.0 if row.cost is None else row.cost
    if sort is Sort.duration:
        return -1.0 if row.total_ms is None else row.total_ms
    counts = [count for count in (row.input_tokens, row.output_tokens) if count is not None]
    return sum(counts) if counts else -1.0


def _table(rows: list[Row], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = fitting(width)
    for column in columns:
        side: Literal["right", "left"] = "right" if column.right else "left"
        least = column.width if column.title in ("time", "id") else None
        table.add_column(column.title, justify=side, no_wrap=True, min_width=least)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table
