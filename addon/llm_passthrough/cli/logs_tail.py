"""`llm-passthrough logs tail`: calls as they end, live."""

import time
from typing import Annotated

import typer
from rich.text import Text

from llm_passthrough.cli import logs_filters as by
from llm_passthrough.cli.logs_source import ConfigFile, File, Json, ledger_of, out, reading
from llm_passthrough.cli.logs_view import as_json, fitting
from llm_passthrough.columns import Row

_POLL = 0.25


def tail(
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="How many to begin with.")] = 10,
    provider: by.Provider = None,
    model: by.Model = None,
    client: by.Client = None,
    status: by.Status = None,
    outcome: by.Outcome = None,
    grep: by.Grep = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for what comes.")
    ] = True,
    file: File = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show calls as they end, until Ctrl-C."""
    wanted = by.filters(provider, model, client, status, outcome, grep)
    ledger = ledger_of(file, config, must_exist=False)
    console = out()

    def wait() -> bool:
        if follow:
            time.sleep(_POLL)
        return follow

    with reading():
        for entry in ledger.follow(last, wait):
            if not wanted(entry):
                continue
            if json:
                typer.echo(as_json(entry.row))
            else:
                console.print(line(entry.row, console.width), soft_wrap=True)


def line(row: Row, width: int) -> Text:
    """A call as one line."""
    text = Text()
    for column in fitting(width):
        shown = column.cell(row)
        shown = shown if isinstance(shown, Text) else Text(shown)
        padding = " " * max(column.width - shown.cell_len, 0)
        text.append(padding if column.right else "").append_text(shown)
        text.append(" " if column.right else f"{padding} ")
    text.rstrip()
    return text
