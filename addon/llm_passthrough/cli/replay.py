"""`llm-passthrough replay`: a recorded call goes out again, and both answers stand side by side."""

import json
import os
import time
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from llm_passthrough.cli.again import NoGatewayError, Place, ask
from llm_passthrough.cli.logs_find import the_record
from llm_passthrough.cli.logs_source import ConfigFile, File, Json, fail, ledger_of, out
from llm_passthrough.cli.logs_view import answer_status, dumped, safe
from llm_passthrough.cli.sidebyside import compared
from llm_passthrough.columns import of_json
from llm_passthrough.ledger import Count, Ledger, LedgerError, Span
from llm_passthrough.record import line
from llm_passthrough.recorder import build
from llm_passthrough.redact import Redactor
from llm_passthrough.resend import ResendError, resend
from llm_passthrough.sidebyside import known

TOKEN = "LLM_PASSTHROUGH_TOKEN"  # noqa: S105 - the name of a variable
_LOOK, _LOOKS, _RECENT = 0.1, 15, 50
_ROUNDED = 0.001
"""By how many seconds a record's time may be earlier than it was."""


def replay(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id, its beginning, or `last`.")],
    model: Annotated[str | None, typer.Option(help="Another model than the recorded one.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The key to sign it with; else that of the first call.")
    ] = None,
    gateway: Annotated[
        str, typer.Option(help="The running gateway that it goes through.")
    ] = "http://127.0.0.1:8080",
    file: File = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Send a recorded call again through a running gateway, and compare the answers."""
    first = the_record(id_, file, config)
    ident = str(first.get("id"))
    try:
        made = resend(first, model)
        place = Place.of(gateway)
        place.check()
        if made.altered:
            typer.echo("llm-passthrough: [redacted] stands in its body, and is sent so", err=True)
        control = {"x-passthrough-replay": ident} | _signing(key, first)
        token = os.environ.get(TOKEN, "")
        facts = ask(place, made, control, token, str(first.get("provider") or ""))
    except ResendError as error:
        fail(f"{safe(ident)} cannot be sent again: {error}")
    except NoGatewayError as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    facts.replay_of = ident
    again = _as_told(line(build(facts, Redactor([]))))
    again = _noted(ledger_of(file, config), ident, facts.started) or again
    if key is None and first.get("key") and again.get("key") not in (None, first.get("key")):
        told = f"signed with {safe(str(again['key']), 40)}: the first call's key is not there, or "
        typer.echo(f"llm-passthrough: {told}may not be used for this one", err=True)
    if json:
        typer.echo(dumped(first))
        typer.echo(dumped(again))
    else:
        console = out()
        console.print(table(first, again))
        console.print()
        console.print(compared(first, again), soft_wrap=True)
    if again.get("outcome") != "ok":
        raise typer.Exit(1)


def _signing(key: str | None, first: Mapping[str, Any]) -> dict[str, str]:
    """The header that asks for a key: the one that is wished, else that of the first call."""
    if key is not None:
        return {"x-passthrough-key": key}
    before = first.get("key")
    fits = isinstance(before, str) and before.isascii()
    return {"x-passthrough-prefer-key": str(before)} if fits else {}


def table(first: Mapping[str, Any], again: Mapping[str, Any]) -> Table:
    """What is known of both calls, side by side."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "first call", "replay"):
        shown.add_column(title, overflow="fold")
    rows = [row for row in (of_json(first), of_json(again)) if row]
    shown.add_row(Text("call", "bold"), *(safe(row.id) for row in rows))
    for facts in zip(*map(known, rows), strict=True):
        name = facts[0][0]
        coloured = map(answer_status, rows) if name == "outcome" else None
        shown.add_row(Text(name, "bold"), *(coloured or (safe(text, 60) for _, text in facts)))
    return shown


def _as_told(text: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(text)
    told["timing_ms"]["gateway"] = None  # nobody outside of it knows its share
    return told


def _noted(ledger: Ledger, ident: str, started: float) -> dict[str, Any] | None:
    """The gateway's own record of the replay: where it writes into this log, a moment later.

    Without it the call is told as it was seen from here.
    """
    span = Span(since=started - _ROUNDED)  # an earlier replay of this call is not ours
    for _ in range(_LOOKS):
        try:
            for entry in islice(ledger.read(span, Count()), _RECENT):
                if ident.encode() in entry.text():
                    record = entry.record()
                    if record.get("replay_of") == ident:
                        return record
        except LedgerError:
            return None
        time.sleep(_LOOK)
    return None
