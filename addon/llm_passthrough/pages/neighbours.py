"""The turn before a call and the turn after it, wherever in the log they stand."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from llm_passthrough.columns import Row
from llm_passthrough.ledger import Entry
from llm_passthrough.lineage import hashes
from llm_passthrough.pages.difference import follows, previous
from llm_passthrough.pages.prompt import Prompt, prompt
from llm_passthrough.pages.store import Store

_CANDIDATES = 80
_SECONDS = 0.4
_LATER = 40
_TURNS = 100
_SECONDS_TURNS = 2.0
_SECONDS_LATER = 0.2


def before(store: Store, entry: Entry, now: Prompt) -> tuple[Prompt | None, dict[str, Any]]:
    """The turn before and its record: by the answer that is named, or by the messages.

    Where neither finds it, the likest of the last calls that began with the same message.
    """
    sure = _named(store, entry, now) or _begun(store, entry, now)
    if sure is not None:
        return sure
    records: dict[str, dict[str, Any]] = {}

    def candidates() -> Iterator[Prompt]:
        if not now.messages:
            return
        opening = hashes([now.messages[0].text])
        nearest = store.kin(entry.row, "opening_hash", opening, later=False)
        for one in _some(nearest, _CANDIDATES, _SECONDS):
            record = one.record()
            found = prompt(record)
            records[found.id] = record
            yield found

    found = previous(now, candidates())
    return (found, records[found.id]) if found else (None, {})


def after(store: Store, entry: Entry, now: Prompt) -> str:
    """The id of the turn after; empty where there is none.

    A call that only repeats this one is none.
    """
    if entry.row.part_of is not None:
        return _part(store, entry.row, later=True)
    if now.response_id:
        answered = store.kin(entry.row, "previous_response_id", [now.response_id], later=True)
        for one in answered:
            return one.row.id
    if not now.messages:
        return ""
    later = store.kin(entry.row, "opening_hash", hashes([now.messages[0].text]), later=True)
    for one in _some(later, _LATER, _SECONDS_LATER):
        other = prompt(one.record())
        score = follows(other, now)
        if score is not None and score[0] >= 2 and len(other.messages) > len(now.messages):
            return other.id
    return ""


def parts(store: Store, row: Row) -> Iterator[Entry]:
    """The turns of a WebSocket, as many as a page holds and some time allows."""
    mine = store.kin(row, "part_of", [row.id], later=True)
    return _some(mine, min(row.turns or 0, _TURNS), _SECONDS_TURNS)


def part_before(store: Store, row: Row) -> str:
    """The id of the turn before in the same WebSocket; empty where there is none."""
    return _part(store, row, later=False) if row.part_of is not None else ""


def _part(store: Store, row: Row, *, later: bool) -> str:
    near = store.kin(row, "part_of", [row.part_of], later=later)
    return next((one.row.id for one in near), "")


def _named(store: Store, entry: Entry, now: Prompt) -> tuple[Prompt, dict[str, Any]] | None:
    """The call whose answer this one names."""
    if not now.previous_id:
        return None
    return _first(store.kin(entry.row, "response_id", [now.previous_id], later=False), now)


def _begun(store: Store, entry: Entry, now: Prompt) -> tuple[Prompt, dict[str, Any]] | None:
    """The nearest call with the longest beginning of these messages as its own."""
    known = hashes(message.text for message in now.messages)
    return _first(store.kin(entry.row, "messages_hash", known[::-1], later=False), now)


def _first(entries: Iterator[Entry], now: Prompt) -> tuple[Prompt, dict[str, Any]] | None:
    """The first that this prompt follows, without a doubt; two hashes are hardly ever the same."""
    for one in entries:
        record = one.record()
        found = prompt(record)
        score = follows(now, found)
        if score is not None and score[0] >= 2:
            return found, record
    return None


def _some(
    entries: Iterator[Entry],
    most: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Entry]:
    end = clock() + seconds
    for entry in islice(entries, most):
        yield entry
        if clock() > end:
            return
