"""`llm-passthrough clients`: who may call, their tokens, and what they have used."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from llm_passthrough import config, spent
from llm_passthrough.allowance import Past, PastError, Spent
from llm_passthrough.cli import clients_file
from llm_passthrough.cli.clients_file import Change, NoChangeError, new_token
from llm_passthrough.cli.options import ConfigFile
from llm_passthrough.config import ClientEntry, Config
from llm_passthrough.config.words import moment
from llm_passthrough.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Who may call, their tokens, what they have used.")

Name = Annotated[str, typer.Argument(help="The client's name, as records have it.")]
_DAYS = 3650


@app.command()
def add(
    name: Name,
    config: ConfigFile = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="The token's last day, such as 2027-01-31.")
    ] = None,
) -> None:
    """Add a client and print its token: the only time, the file holds its SHA-256 alone."""
    token, hashed = new_token()
    settings = _change(config, clients_file.add(name, hashed, expires))
    if len(settings.clients) == 1:
        _note("this is the first client: from now on everybody who calls has to send a token")
    _note("its token, which is shown this once:")
    typer.echo(token)


@app.command()
def rotate(
    name: Name,
    config: ConfigFile = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Make none: end all tokens but the newest.")
    ] = False,
    grace: Annotated[
        int | None,
        typer.Option("--grace", min=0, max=_DAYS, help="Days after which the old ones end."),
    ] = None,
) -> None:
    """Give a client one more token and print it; the old ones are good until --drop-old."""
    if drop_old:
        if grace is not None:
            _fail("--drop-old and --grace exclude each other")
        _change(config, clients_file.drop_old(name))
        _note("the newest token of this client is its only one now")
        return
    token, hashed = new_token()
    today = datetime.now(UTC).date()
    last_day = None if grace is None else today + timedelta(days=grace)
    _change(config, clients_file.rotate(name, hashed, last_day))
    until = "rotate --drop-old" if last_day is None else f"the end of {last_day} (UTC)"
    _note(f"its new token, which is shown this once; the old ones are good until {until}:")
    typer.echo(token)


@app.command()
def remove(name: Name, config: ConfigFile = None) -> None:
    """Remove a client: its tokens are good for nothing from now on."""
    settings = _change(config, clients_file.remove(name))
    if not settings.clients:
        _note("this was the last client: everybody on this machine may call now, without a token")


@app.command("list")
def list_(config: ConfigFile = None) -> None:
    """Print the clients, their rules, and what each has used today (UTC) by the records."""
    settings = _loaded(_file(config))
    try:
        past: Past | None = spent.before(settings.log, time.time())
    except PastError:
        past = None
    table = Table(box=None, header_style="bold")
    for column in ("client", "tokens", "calls today", "tokens today", "cost today", "this month"):
        table.add_column(column, justify="left" if column in ("client", "tokens") else "right")
    table.add_column("rules", overflow="fold")
    for entry in settings.clients:
        table.add_row(*_row(entry, past))
    Console(highlight=False).print(table)


def _row(entry: ClientEntry, past: Past | None) -> tuple[str, ...]:
    name = entry.name if entry.enabled else f"{entry.name} (off)"
    rules = "; ".join(_rules(entry)) or "none"
    if past is None:
        return name, _tokens(entry), "-", "-", "-", "-", rules
    day = past.days.get(entry.name, Spent())
    month = past.months.get(entry.name, Spent())
    budget = entry.budget
    costs = _cost(day, entry, budget.daily), _cost(month, entry, budget.monthly)
    return name, _tokens(entry), f"{day.calls:,}", f"{day.tokens:,}", *costs, rules


def _tokens(entry: ClientEntry) -> str:
    """How many there are, and when they end; nothing of what they are."""
    now = time.time()
    ends = [token.expires for token in entry.tokens if token.expires is not None]
    over = sum(moment(end) <= now for end in ends)
    told = f"{len(entry.tokens)}"
    if over:
        told += f", {over} expired"
    coming = min((end for end in ends if moment(end) > now), default=None)
    return told + (f", one to {coming}" if coming else "")


def _cost(used: Spent, entry: ClientEntry, budget: float | None) -> str:
    money = used.cost + used.unpriced * entry.budget.unpriced
    return f"${money:.2f}" + ("" if budget is None else f" of ${budget:g}")


def _rules(entry: ClientEntry) -> Iterator[str]:
    """A client's rules in words, budgets aside."""
    for option in ("routes", "providers", "models", "keys"):
        patterns: tuple[str, ...] = getattr(entry, option)
        if patterns != ("*",):
            yield f"{option}: {', '.join(patterns) or 'none'}"
    if entry.blacklisted_models:
        yield f"not {', '.join(entry.blacklisted_models)}"
    if entry.requests_per_minute is not None:
        yield f"{entry.requests_per_minute:,} requests a minute"
    if entry.tokens_per_minute is not None:
        yield f"{entry.tokens_per_minute:,} tokens a minute"
    if entry.capture is not None:
        yield f"capture: {entry.capture}"


def _file(named: Path | None) -> Path:
    """The configuration file; ends with exit code 2 where there is none."""
    name = os.environ.get("LLM_PASSTHROUGH_CONFIG", "")
    path = named or (Path(name).expanduser() if name else None)
    if path is None:
        _fail("clients stand in a configuration file; name it with --config")
    return path


def _loaded(path: Path) -> Config:
    try:
        return config.load(path, os.environ)[0]
    except ConfigError as error:
        _fail(*error.lines)


def _change(named: Path | None, how: Change) -> Config:
    try:
        return clients_file.change(_file(named), how)
    except ConfigError as error:
        _fail(*error.lines)
    except NoChangeError as error:
        _fail(str(error))


def _fail(*lines: str) -> NoReturn:
    """End with lines on stderr."""
    for line in lines:
        _note(line)
    raise typer.Exit(2)


def _note(text: str) -> None:
    typer.echo(f"llm-passthrough: {text}", err=True)
