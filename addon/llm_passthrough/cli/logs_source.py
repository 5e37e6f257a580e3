"""Where `logs` reads from: the ledger that the options name, and a bar while it is long."""

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llm_passthrough import config
from llm_passthrough.errors import ConfigError
from llm_passthrough.ledger import Count, Entry, Ledger, LedgerError, Span, open_ledger

File = Annotated[
    Path | None, typer.Option("--file", "-f", help="A JSONL file, a folder, or a SQLite database.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration, for its log.path.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, one object a line, for pipes.")]

_EVERY = 64  # entries between two looks at the bar


def now() -> datetime:
    """The local time with its offset."""
    return datetime.now().astimezone()


def fail(message: str, code: int = 1) -> NoReturn:
    """End with a line on stderr."""
    typer.echo(f"llm-passthrough: {message}", err=True)
    raise typer.Exit(code)


def ledger_of(file: Path | None, config_file: Path | None, *, must_exist: bool = True) -> Ledger:
    """The ledger that the options name."""
    try:
        path = file or _configured(config_file)
        return open_ledger(path.expanduser(), must_exist=must_exist)
    except ConfigError as error:
        fail(str(error), 2)
    except LedgerError as error:
        fail(str(error))


def _configured(file: Path | None) -> Path:
    loaded, _ = config.load(file, {}) if file else (config.Config(), [])
    return Path(loaded.log.path)


@contextmanager
def reading() -> Iterator[Count]:
    """What is told of a reading: its faults as one line, and what was passed over."""
    count = Count()
    try:
        yield count
    except LedgerError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if count.skipped:
        lines = "1 line is" if count.skipped == 1 else f"{count.skipped} lines are"
        typer.echo(f"llm-passthrough: {lines} no record, and passed over", err=True)


def entries(
    ledger: Ledger,
    span: Span,
    count: Count,
    wanted: Callable[[Entry], bool],
    *,
    newest_first: bool = True,
    bar: bool = True,
) -> Generator[Entry]:
    """The entries that are wanted, with a bar on stderr where that is a terminal.

    Close it when it is not read to its end: so long the bar stands there.
    """
    with _bar() if bar and sys.stderr.isatty() else nullcontext() as shown:
        task = shown.add_task("reading", total=None) if shown else None
        for number, entry in enumerate(ledger.read(span, count, newest_first=newest_first)):
            if shown and task is not None and number % _EVERY == 0:
                shown.update(task, total=count.total, completed=count.done)
            if wanted(entry):
                yield entry


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def out() -> Console:
    """The console for stdout; a pipe gets lines that are not cut to a width."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console
