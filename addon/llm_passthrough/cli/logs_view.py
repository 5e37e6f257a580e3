"""How records look on a terminal: nothing that came from outside reaches it raw."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.text import Text

from llm_passthrough.columns import Row
from llm_passthrough.conversation.values import size
from llm_passthrough.shown import duration, local_time, money, safe, safe_lines, tokens

__all__ = [
    "COLOURS",
    "ID_SHOWN",
    "LISTED",
    "answer_status",
    "as_json",
    "dumped",
    "duration",
    "fitting",
    "json_line",
    "local_time",
    "money",
    "safe",
    "safe_lines",
    "tokens",
]

COLOURS = {"ok": "green", "refused": "yellow", "client_abort": "yellow"}
ID_SHOWN = 16

# What a JSON text may hold and a terminal may obey: DEL, C1, and what turns the writing direction.
_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def dumped(value: object, indent: int | None = None) -> str:
    """JSON that a terminal can be given."""
    return json_line(json.dumps(value, ensure_ascii=False, indent=indent))


def json_line(text: str) -> str:
    """JSON as it is, but with escapes where a terminal would obey; it means the same."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def answer_status(row: Row) -> Text:
    """The status, and the outcome where it is not ok."""
    outcome = row.outcome or "?"
    words = [str(row.status) if row.status is not None else "---"]
    words += [safe(outcome, 20)] if outcome != "ok" else []
    return Text(" ".join(words), COLOURS.get(outcome, "red"))


def _model(row: Row) -> str:
    place = f" {row.place}" if row.place else ""
    return safe(row.model or row.operation or "-", 32 - len(place)) + place


class Column(NamedTuple):
    """A column of a list: how wide it usually is, and what stands in it."""

    title: str
    width: int
    cell: Callable[[Row], str | Text]
    right: bool = False


LISTED = (
    Column("time", 19, lambda row: local_time(row.time)),
    Column("id", ID_SHOWN, lambda row: safe(row.id[:ID_SHOWN])),
    Column("client", 10, lambda row: safe(row.client or "-", 16)),
    Column("provider", 10, lambda row: safe(row.provider or "-", 16)),
    Column("model", 26, lambda row: _model(row)),
    Column("status", 6, answer_status),
    Column("in", 6, lambda row: tokens(row.input_tokens), True),
    Column("out", 6, lambda row: tokens(row.output_tokens), True),
    Column("cost", 9, lambda row: money(row.cost, row.currency), True),
    Column("total", 8, lambda row: duration(row.total_ms), True),
    Column("first", 8, lambda row: duration(row.first_token_ms), True),
    Column("bytes", 8, lambda row: size(row.response_bytes), True),
)
# What is left out first where the terminal is narrow.
_LEAST = ("bytes", "first", "client", "provider", "out", "in")


def fitting(width: int) -> list[Column]:
    """The columns of a list for which there is room."""
    columns = list(LISTED)
    for title in _LEAST:
        if sum(column.width + 1 for column in columns) <= width:
            break
        columns = [column for column in columns if column.title != title]
    return columns


def as_json(row: Row) -> str:
    """The columns of a record as one line of JSON."""
    columns: dict[str, Any] = row._asdict()
    if row.stream is not None:
        columns["stream"] = bool(row.stream)
    return dumped(columns)
