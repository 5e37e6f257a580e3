"""Where the pages read records from: what a store can do, and a page of a list from any entries."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llm_passthrough.columns import Row
from llm_passthrough.ledger import Entry
from llm_passthrough.pages.wishes import PAGE, Wish

SEARCH_SECONDS = 3.0
"""How long a text is looked for before the page says how far it came."""

REPEATS = 20
"""Repetitions of a call that are shown with it."""

type Trait = Literal[
    "response_id", "previous_response_id", "opening_hash", "messages_hash", "part_of"
]
"""A column of Lineage, or the WebSocket that a turn is part of."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list; `total` is unknown while a text is looked for.

    `stopped` is the time of the call at which a search ran out of its seconds.
    """

    rows: list[Row]
    total: int | None = None
    more: bool = False
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """How far a store is: whether all is read, how many records, what share of the bytes."""

    ready: bool = True
    count: int = 0
    share: float = 1.0
    left_out: bool = False
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What can be filtered by, as far as it occurs."""

    provider: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    client: list[str] = field(default_factory=list)


class Store(Protocol):
    """Records for the pages. Every method may wait for a disk: call it from a thread.

    Each may raise LedgerError.
    """

    def state(self) -> State:
        """How far it is; also says that somebody looks."""

    def page(self, wish: Wish) -> Page:
        """One page of a list."""

    def find(self, id_: str) -> Entry | None:
        """The record with this id."""

    def rows(self, wish: Wish) -> Iterator[Row]:
        """All rows of a list, in no order."""

    def kin(
        self, row: Row, name: Trait, values: Sequence[object], *, later: bool
    ) -> Iterator[Entry]:
        """Calls before or after one that have one of these values in such a column.

        They are of the same client, provider and operation; those of the first value come first,
        of one value the nearest.
        """

    def repeats(self, id_: str) -> list[Row]:
        """The calls that repeat this one, the newest first, REPEATS at most."""

    def since(self, cursor: int | None) -> tuple[list[Entry], int]:
        """What was written since, and the next cursor; None begins now."""

    def names(self) -> Names:
        """What can be filtered by."""

    def close(self) -> None:
        """Give back what is held."""


def searched(
    entries: Iterable[Entry],
    wish: Wish,
    seconds: float = SEARCH_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Page:
    """The page of sorted entries in which a text stands; it may take so many seconds."""
    end = clock() + seconds
    first, found = (wish.page - 1) * PAGE, 0
    rows: list[Row] = []
    for entry in entries:
        if clock() > end:
            return Page(rows, more=False, stopped=entry.row.time)
        if wish.filter.finds(entry):
            found += 1
            if found > first + PAGE:
                return Page(rows, more=True)
            if found > first:
                rows.append(entry.row)
    return Page(rows, total=found)
