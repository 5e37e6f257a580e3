"""`llm-passthrough logs show`: one call whole, its conversation above all."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from llm_passthrough.cli.logs_find import the_record
from llm_passthrough.cli.logs_source import (
    ConfigFile,
    File,
    Json,
    ledger_of,
    out,
    reading,
)
from llm_passthrough.cli.logs_view import (
    dumped,
    duration,
    local_time,
    money,
    safe,
    safe_lines,
    tokens,
)
from llm_passthrough.columns import Row
from llm_passthrough.conversation import Part, Turn, turns
from llm_passthrough.conversation.values import size
from llm_passthrough.ledger import Ledger
from llm_passthrough.ledger.sums import Group

Id = Annotated[str, typer.Argument(help="The id, its beginning, or `last`.")]
Full = Annotated[bool, typer.Option("--full", help="Show long texts whole.")]

_LONGEST = 8000
_RULE = 60
_STYLES = {
    "thinking": "dim italic",
    "tool_call": "cyan",
    "tool_result": "magenta",
    "media": "blue",
    "refusal": "yellow",
    "error": "red",
    "note": "dim",
}


def show(
    id_: Id, full: Full = False, file: File = None, config: ConfigFile = None, json: Json = False
) -> None:
    """Show one call: the conversation, its usage, cost and timing; a WebSocket turn by turn."""
    record = the_record(id_, file, config, open_too=not json)
    if json:
        typer.echo(dumped(record))
        return
    console, longest = out(), None if full else _LONGEST
    for line in head(record):
        console.print(line, soft_wrap=True)
    if record.get("turns"):
        _print_parts(console, str(record.get("id")), ledger_of(file, config), longest)
    for turn in turns(record):
        _print_turn(console, turn, longest)


def _print_parts(console: Console, id_: str, ledger: Ledger, longest: int | None) -> None:
    """The turns of a WebSocket, each under a line that tells of it, and their sums."""
    sums = Group()
    with reading() as count:
        for entry in ledger.turns(id_, count):
            sums.add(entry.row)
            told = f"turn {entry.row.turn}  {entry.row.id}  {local_time(entry.row.time)}"
            console.print()
            console.print(Text(f"{told}  {_sums(entry.row)}", "bold"), soft_wrap=True)
            for turn in turns(entry.record()):
                _print_turn(console, turn, longest)
    cost = " + ".join(money(amount, name) for name, amount in sums.cost.items())
    told = f"in {tokens(sums.input_tokens)}, out {tokens(sums.output_tokens)}, cost {cost or '-'}"
    console.print()
    console.print(Text(f"{sums.calls} turns in all: {told}", "bold"), soft_wrap=True)


def _sums(row: Row) -> str:
    """What a turn took."""
    words = [row.outcome or "?"] if row.outcome != "ok" else []
    words.append(f"in {tokens(row.input_tokens)}, out {tokens(row.output_tokens)}")
    if row.cost is not None:
        words.append(money(row.cost, row.currency))
    return safe(", ".join([*words, duration(row.total_ms)]))


def head(record: dict[str, Any]) -> Iterator[Text]:
    """What is known of a call, one line a thing; unknown things are left out."""
    facts = [
        ("call", _call(record)),
        ("part of", _part_of(record)),
        ("model", _model(record)),
        ("request", _request(record)),
        ("answer", _answer(record)),
        ("usage", _usage(_part(record, "usage"))),
        ("cost", _cost(_part(record, "cost"))),
        ("timing", _timing(_part(record, "timing_ms"))),
        ("tools", _tools(record)),
        ("session", _pairs(_part(record, "session"))),
        ("error", _error(_part(record, "error"))),
    ]
    for name, said in facts:
        if said:
            style = "red" if name == "error" else ""
            yield Text(f"{name:<8} ", "bold").append(safe(said), style)


def _call(record: dict[str, Any]) -> str:
    who = _joined(record, "client", "route", "provider", "key", "operation")
    return f"{record.get('id')}  {local_time(str(record.get('time')))}  {who}"


def _part_of(record: dict[str, Any]) -> str:
    turn, whole, turns = (record.get(name) for name in ("turn", "part_of", "turns"))
    return f"{whole}, its turn {turn}" if whole else f"{turns} turns, below" if turns else ""


def _model(record: dict[str, Any]) -> str:
    model = _part(record, "model")
    asked, said = model.get("requested"), model.get("response")
    if asked and said and asked != said:
        return f"{asked} (answered by {said})"
    return str(said or asked or "")


def _request(record: dict[str, Any]) -> str:
    request = _part(record, "request")
    return f"{request.get('method')} {request.get('url')}  {size(request.get('bytes'))}"


def _answer(record: dict[str, Any]) -> str:
    response = _part(record, "response")
    words = [record.get("outcome"), response.get("status")]
    words += ["stream"] if record.get("stream") else []
    words += [size(response.get("bytes"))] if response else []
    reasons = record.get("finish_reasons")
    if isinstance(reasons, list) and reasons:
        words.append(f"finished: {', '.join(map(str, reasons))}")
    return "  ".join(str(word) for word in words if word is not None)


def _usage(usage: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.removesuffix('_tokens').replace('_', ' ')} {_count(value)}"
        for name, value in usage.items()
        if value is not None
    )


def _cost(cost: dict[str, Any]) -> str:
    amount = cost.get("amount")
    if not isinstance(amount, int | float):
        return ""
    others = [f"{name} {value}" for name, value in cost.items() if name not in _SHOWN and value]
    source = f" ({', '.join(map(str, [cost.get('source'), *others]))})"
    return money(float(amount), cost.get("currency")) + source


_SHOWN = frozenset({"amount", "currency", "source"})


def _tools(record: dict[str, Any]) -> str:
    """What was called, whether it is told as names or as more."""
    calls = record.get("tool_calls")
    return ", ".join(
        str(call.get("name") if isinstance(call, dict) else call)
        for call in (calls if isinstance(calls, list) else [])
    )


def _timing(timing: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {duration(value)}"
        for name, value in timing.items()
        if isinstance(value, int | float)
    )


def _pairs(pairs: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _error(error: dict[str, Any]) -> str:
    return f"{error.get('type')} ({error.get('origin')}): {error.get('message')}" if error else ""


def _count(value: object) -> str:
    if isinstance(value, int):
        return tokens(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _joined(record: dict[str, Any], *names: str) -> str:
    return "  ".join(str(record[name]) for name in names if record.get(name) is not None)


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _print_turn(console: Console, turn: Turn, longest: int | None) -> None:
    style = "bold green" if turn.answer else "bold"
    console.print()
    console.print(Text(f"── {safe(turn.role, 40)} ".ljust(_RULE, "─"), style), soft_wrap=True)
    for part in turn.parts:
        console.print(_text(part, longest), soft_wrap=True)


def _text(part: Part, longest: int | None) -> Text:
    cut = longest is not None and len(part.text) > longest
    shown = safe_lines(part.text[:longest] if cut else part.text)
    label = "" if part.kind in ("text", "raw", "note") else part.kind.replace("_", " ")
    label = " ".join(word for word in (label, safe(part.name, 80)) if word)
    text = Text(f"[{label}] " if label else "", "bold")
    text.append(shown, _STYLES.get(part.kind, ""))
    if cut:
        text.append(f"\n... {size(len(part.text))} in all; --full shows them", "dim")
    return text
