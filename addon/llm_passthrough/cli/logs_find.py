"""The one record that an id names: the id itself, its beginning, or `last`."""

from itertools import islice
from pathlib import Path
from typing import Any

from llm_passthrough.cli.logs_source import fail, ledger_of, reading
from llm_passthrough.cli.logs_view import local_time, safe
from llm_passthrough.ledger import Ledger, Span

_CHOICES = 10
# What the turns of a WebSocket have in common with it.
_COMMON = "time client route provider key operation stream session model".split()


def the_record(
    id_: str, file: Path | None, config: Path | None, *, open_too: bool = False
) -> dict[str, Any]:
    """The record of that name as JSON values; ends with a line where there is none, or several.

    With `open_too`, also what is known of a WebSocket that has turns and no record of its own.
    """
    ledger = ledger_of(file, config)
    with reading() as count:
        found = ledger.read(Span(), count) if id_ == "last" else ledger.find(id_, count)
        record: dict[str, Any] = {}
        rows = []
        for entry in islice(found, 1 if id_ == "last" else _CHOICES):
            if entry.row.id == id_:
                return entry.record()
            record = record or entry.record()
            rows.append(entry.row)
    if not rows and open_too and (record := _open(id_, ledger)):
        return record
    if not rows:
        fail(f"no record whose id begins with {safe(id_, 40)}")
    if len(rows) > 1:
        listed = "\n".join(f"  {safe(row.id)}  {local_time(row.time)}" for row in rows)
        more = "\n  ..." if len(rows) == _CHOICES else ""
        fail(f"several records begin with {safe(id_, 40)}; give more of the id:\n{listed}{more}")
    return record


def _open(id_: str, ledger: Ledger) -> dict[str, Any]:
    """A WebSocket that is open, or whose end nobody saw, as its turns tell of it."""
    with reading() as count:
        first: dict[str, Any] = {}
        number = 0
        for entry in ledger.turns(id_, count):
            first, number = first or entry.record(), number + 1
    if not first:
        return {}
    request = first.get("request")
    sent = request if isinstance(request, dict) else {}
    known = {name: first.get(name) for name in _COMMON}
    known["request"] = {name: sent.get(name) for name in ("method", "url")}
    return known | {"id": id_, "outcome": "not closed", "turns": number}
