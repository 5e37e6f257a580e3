"""`llm-passthrough logs export`: records as JSON Lines, CSV, HAR, curl commands, or a database."""

import csv
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from llm_passthrough.cli import logs_filters as by
from llm_passthrough.cli.logs_curl import curl
from llm_passthrough.cli.logs_har import har
from llm_passthrough.cli.logs_source import (
    ConfigFile,
    File,
    entries,
    fail,
    ledger_of,
    now,
    reading,
)
from llm_passthrough.cli.logs_view import json_line, safe
from llm_passthrough.columns import Row
from llm_passthrough.ledger import Entry
from llm_passthrough.sinks import table


class Format(StrEnum):
    """How records are written."""

    jsonl = "jsonl"
    csv = "csv"
    har = "har"
    curl = "curl"
    sqlite = "sqlite"


def export(
    format_: Annotated[Format, typer.Option("--format", help="How to write.")] = Format.jsonl,
    since: by.Since = None,
    until: by.Until = None,
    provider: by.Provider = None,
    model: by.Model = None,
    client: by.Client = None,
    status: by.Status = None,
    outcome: by.Outcome = None,
    grep: by.Grep = None,
    id_: Annotated[str | None, typer.Option("--id", help="Only ids that begin so.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Only the first so many.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file, for you alone.")
    ] = None,
    file: File = None,
    config: ConfigFile = None,
) -> None:
    """Write records out, the oldest first. Keys stay replaced by their names."""
    if format_ is Format.sqlite and output is None:
        fail("a database is written to a new file; name it with --output", 2)
    span = by.span(since, until, now())
    wanted = by.filters(provider, model, client, status, outcome, grep)
    ledger = ledger_of(file, config)
    with reading() as count:
        if id_ is None:
            quiet = output is None and sys.stdout.isatty()
            found: Iterator[Entry] = entries(
                ledger, span, count, wanted, newest_first=False, bar=not quiet
            )
        else:
            found = filter(wanted, ledger.find(id_, count))
        found = islice(found, limit)
        if output is None:
            sys.stdout.writelines(_FORMATS[format_](found))
        elif format_ is Format.sqlite:
            _write(output, lambda: table.make(output, (entry.text() for entry in found)))
        else:
            _write(output, lambda: _put(output, _FORMATS[format_](found)))


def _write(path: Path, write: Callable[[], None]) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        write()
    except FileExistsError:
        fail(f"{path}: is there already; name a new file")
    except (OSError, sqlite3.Error) as error:
        fail(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}")


def _put(path: Path, texts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(texts)


def _jsonl(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        if text := entry.text().decode("utf-8", "replace"):
            yield json_line(text) + "\n"


class _Echo:
    """What csv writes to: a row comes back as the text that it is."""

    def write(self, text: str) -> str:
        return text


def _csv(found: Iterable[Entry]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(Row._fields)
    for entry in found:
        yield writer.writerow([_cell(value) for value in entry.row])


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    # A spreadsheet would run a text that begins so (OWASP, CSV injection).
    return f"'{safe(value)}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else safe(value)


def _curl(found: Iterable[Entry]) -> Iterator[str]:
    for entry in found:
        yield curl(entry.record()) + "\n"


def _har(found: Iterable[Entry]) -> Iterator[str]:
    return har(entry.record() for entry in found)


_FORMATS: dict[Format, Callable[[Iterable[Entry]], Iterator[str]]] = {
    Format.jsonl: _jsonl,
    Format.csv: _csv,
    Format.har: _har,
    Format.curl: _curl,
}
