"""What a ledger gives: entries, the span of time that they are from, and how far the reading is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic_core import from_json

from llm_passthrough.columns import Row


class LedgerError(Exception):
    """Records cannot be read: one line with the place and the mend."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` to before `until`, in seconds since the epoch: when an exchange began."""

    since: float = -math.inf
    until: float = math.inf

    def holds(self, began: float) -> bool:
        """Whether a moment is in the span."""
        return self.since <= began < self.until


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that was read: its columns at hand, the whole when it is asked for.

    Ask while the reading stands at this entry: behind it the place may be closed.
    """

    row: Row
    load: Callable[[], bytes]

    def text(self) -> bytes:
        """The record as one line of JSON without its break; empty when it is gone meanwhile."""
        return self.load()

    def record(self) -> dict[str, Any]:
        """The record as JSON values; empty when it is gone meanwhile or cannot be read."""
        try:
            value = from_json(self.load())
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Count:
    """How far a reading is (bytes or rows), and how many lines could not be read."""

    total: int = 0
    done: int = 0
    skipped: int = 0


class Ledger(Protocol):
    """Records that can be read back; every method may raise LedgerError."""

    def read(self, span: Span, count: Count, *, newest_first: bool = True) -> Iterator[Entry]:
        """The records that began in a span: newest first by when they began, else as written."""

    def find(self, prefix: str, count: Count) -> Iterator[Entry]:
        """The records whose id begins with `prefix`, newest first."""

    def turns(self, id_: str, count: Count) -> Iterator[Entry]:
        """The turns of the WebSocket with this id, as they came; it may be open still."""

    def follow(self, last: int, wait: Callable[[], bool]) -> Iterator[Entry]:
        """The `last` records, then each that is written; `wait` between looks, until it is false.

        A log that is not there yet is waited for.
        """


_ID_MOMENT = 12  # hexadecimal digits of an id that are milliseconds since the epoch
_ENOUGH = 7  # of them name some 18 minutes
_CLOCK = 60.0


def span_of_ids(prefix: str) -> Span | None:
    """When records with such an id began; None where the prefix is too short to say."""
    digits = prefix[:_ID_MOMENT]
    if len(digits) < _ENOUGH or set(digits) - set("0123456789abcdef"):
        return None
    unit = 16 ** (_ID_MOMENT - len(digits))
    first = int(digits, 16) * unit
    return Span(first / 1000 - _CLOCK, (first + unit) / 1000 + _CLOCK)


def rfc3339(epoch: float) -> str | None:
    """Seconds since the epoch as records write them; None beyond the years that can be written."""
    try:
        moment = datetime.fromtimestamp(math.ceil(epoch * 1000) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
