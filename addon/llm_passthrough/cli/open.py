"""`llm-passthrough open`: look at recorded calls in mitmweb, without a gateway."""

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_passthrough import config as configuration
from llm_passthrough.cli import logs_filters as by
from llm_passthrough.cli.logs_source import ConfigFile, entries, fail, ledger_of, now, reading
from llm_passthrough.config import Log
from llm_passthrough.errors import ConfigError
from llm_passthrough.ledger import Ledger, Span
from llm_passthrough.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from mitmproxy.http import HTTPFlow

# A dump of flows is a row of tnetstrings: a length, a colon (mitmproxy.io.tnetstring).
_DUMP = re.compile(rb"[0-9]{1,12}:")
_IN_FOLDER = ("records.jsonl", "*.sqlite", "*.sqlite3", "*.db")


def open_(
    file: Annotated[
        Path | None,
        typer.Argument(help="A JSONL file, a folder, a SQLite database, or saved flows (.mitm)."),
    ] = None,
    since: by.Since = None,
    until: by.Until = None,
    provider: by.Provider = None,
    model: by.Model = None,
    client: by.Client = None,
    status: by.Status = None,
    outcome: by.Outcome = None,
    grep: by.Grep = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Only the newest so many.")
    ] = 2000,
    web_port: Annotated[
        int | None, typer.Option(help="mitmweb's port (default: a free one from 8082 on).")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser on mitmweb.")
    ] = False,
    config: ConfigFile = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of mitmproxy, NAME=VALUE.")
    ] = None,
) -> None:
    """Look at recorded calls in mitmweb. Nothing is sent, no key is read."""
    span = by.span(since, until, now())
    wanted = by.filters(provider, model, client, status, outcome, grep)
    path = (file or _configured(config)).expanduser()
    is_dump = _is_dump(path)
    if is_dump and (span, wanted) != (Span(), by.filters()):
        fail(f"{path}: saved flows are filtered in mitmweb, not here", 2)
    ledger = None if is_dump else ledger_of(path, None)
    # mitmproxy takes a second to import: the other commands do not wait for it.
    from llm_passthrough.cli import desk

    def newest(most_bytes: int) -> list["HTTPFlow"]:
        return [] if ledger is None else _newest(ledger, span, wanted, limit, most_bytes)

    values: dict[str, object] = {"rfile": str(path)} if is_dump else {}
    values |= {desk.VIEW_FLOWS: limit, "web_open_browser": browser}
    desk.run(newest, None if ledger is None else _log_of(path), values, set_ or [], web_port)


def _newest(
    ledger: Ledger, span: Span, wanted: by.Filter, limit: int, most_bytes: int
) -> list["HTTPFlow"]:
    """The newest calls as flows, the oldest of them first; ends where there are none."""
    from llm_passthrough.reflow import flow_of, record_of

    flows: list[HTTPFlow] = []
    held = 0
    with reading() as count, closing(entries(ledger, span, count, wanted)) as found:
        for entry in found:
            if len(flows) >= limit or (most_bytes and held > most_bytes):
                typer.echo(
                    f"llm-passthrough: the newest {len(flows)} calls; there are older ones: "
                    "--since, --until, --limit and the filters choose others",
                    err=True,
                )
                break
            record = record_of(entry.record())
            if record is None:
                count.skipped += 1
                continue
            flow = flow_of(record)
            flows.append(flow)
            for side in (flow.request, flow.response):
                held += len((side and side.raw_content) or b"")
    if not flows:
        fail("no calls")
    return flows[::-1]


def _configured(file: Path | None) -> Path:
    try:
        loaded, _ = configuration.load(file, {}) if file else (configuration.Config(), [])
    except ConfigError as error:
        fail(str(error), 2)
    return Path(loaded.log.path)


def _is_dump(path: Path) -> bool:
    """Whether mitmproxy itself reads this file: saved flows, or an HTTP archive."""
    try:
        with path.open("rb") as opened:
            return path.suffix == ".har" or _DUMP.match(opened.read(16)) is not None
    except OSError:
        return False  # the ledger says what is wrong


def _log_of(path: Path) -> Log | None:
    """The log that the pages read: of a folder, the one log or database in it."""
    if path.is_dir():
        found = (one for pattern in _IN_FOLDER for one in sorted(path.glob(pattern)))
        inside = next(found, None)
        if inside is None:
            return None
        path = inside
    is_database = isinstance(ledger_of(path, None), SqliteLedger)
    return Log(path=str(path), sqlite=str(path) if is_database else None)
