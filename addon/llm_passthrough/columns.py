"""The columns of a record: what lists, statistics and the SQLite table show of it.

One table for both ways in: a Record that is about to be written, and JSON that was read back.
What does not fit its column (a count beyond 64 bits, a wrong type) is null there; the whole
record keeps it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from llm_passthrough.record import Record


def place(turn: int | None, turns: int | None) -> str:
    """Which turn of a WebSocket a record is, or how many it has; empty for most."""
    if turn is not None:
        return f"turn {turn}"
    return f"{turns} turn{'s' * (turns != 1)}" if turns else ""


class Row(NamedTuple):
    """A record in columns; times of day as in the record, durations in ms, sizes in bytes."""

    id: str
    time: str
    client: str | None = None
    route: str | None = None
    provider: str | None = None
    key: str | None = None
    operation: str | None = None
    model_requested: str | None = None
    model_response: str | None = None
    status: int | None = None
    outcome: str | None = None
    stream: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost: float | None = None
    currency: str | None = None
    total_ms: float | None = None
    first_byte_ms: float | None = None
    first_token_ms: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    part_of: str | None = None
    turn: int | None = None
    turns: int | None = None
    replay_of: str | None = None

    @property
    def place(self) -> str:
        """See `place`."""
        return place(self.turn, self.turns)

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked for."""
        return self.model_response or self.model_requested


# Where a column stands in the record, when it is not at the top level under its own name.
_PLACES = {
    "model_requested": "model.requested",
    "model_response": "model.response",
    "status": "response.status",
    "input_tokens": "usage.input_tokens",
    "output_tokens": "usage.output_tokens",
    "cache_read_tokens": "usage.cache_read_tokens",
    "cost": "cost.amount",
    "currency": "cost.currency",
    "total_ms": "timing_ms.total",
    "first_byte_ms": "timing_ms.first_byte",
    "first_token_ms": "timing_ms.first_token",
    "request_bytes": "request.bytes",
    "response_bytes": "response.bytes",
}


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return int(value) if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else None


def _real(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


_KINDS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "status": ("INTEGER", _whole),
    "stream": ("INTEGER", _whole),
    "turn": ("INTEGER", _whole),
    "turns": ("INTEGER", _whole),
    "cost": ("REAL", _real),
} | {
    name: ("INTEGER", _whole) if name.endswith(("_tokens", "_bytes")) else ("REAL", _real)
    for name in Row._fields
    if name.endswith(("_tokens", "_bytes", "_ms"))
}
_TABLE = tuple(
    (_PLACES.get(name, name).split("."), *_KINDS.get(name, ("TEXT", _text))) for name in Row._fields
)
SQL_TYPES: dict[str, str] = {
    name: kind for name, (_, kind, _) in zip(Row._fields, _TABLE, strict=True)
}
_OF_RECORD = tuple((path[:-1], attrgetter(path[-1]), fits) for path, _, fits in _TABLE)


def of_record(record: Record) -> Row:
    """The columns of a record."""
    return Row(*(_of_attributes(record, path, last, fits) for path, last, fits in _OF_RECORD))


def of_json(value: object) -> Row | None:
    """The columns of a record as JSON; None when it is no record (no id, or no time)."""
    if not isinstance(value, dict):
        return None
    row = Row(*(fits(_of_keys(value, path)) for path, _, fits in _TABLE))
    return row if row.id and row.time else None


def of_values(values: Iterable[object]) -> Row:
    """The columns as a database gives them."""
    return Row(*(fits(value) for value, (_, _, fits) in zip(values, _TABLE, strict=True)))


def _of_attributes(
    value: Any, path: list[str], last: Callable[[Any], object], fits: Callable[[object], Any]
) -> Any:
    for name in path:
        value = getattr(value, name)
        if value is None:
            return None
    return fits(last(value))


def _of_keys(value: Any, path: list[str]) -> object:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
