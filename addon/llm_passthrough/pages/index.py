"""The records of a JSONL log as a list in memory: columns and places, read by a thread of its own.

The newest are read first, so that there is something to see at once. The thread begins when
somebody looks, rests when nobody does, and gives way to the gateway: it sleeps often.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic_core import from_json

from llm_passthrough import lineage
from llm_passthrough.columns import Row, of_json
from llm_passthrough.ledger import Entry, LedgerError
from llm_passthrough.ledger.entries import rfc3339
from llm_passthrough.lineage import Lineage
from llm_passthrough.pages.scan import Found, Identity, Place, Scan, read
from llm_passthrough.pages.store import REPEATS, Names, Page, State, Trait, searched
from llm_passthrough.pages.wishes import PAGE, Wish

MOST = 200_000
"""Records that are held; the older ones are left out, and the page says so."""

_WORK = 0.02
_REST = 0.01
_LOOK_EVERY = 0.25
_NOBODY_AFTER = 60.0
_RECENT = 2000
_NAMES = 200
_SLACK = 1.1


class Listed(NamedTuple):
    """A record in the list."""

    row: Row
    place: Place
    traits: tuple[int | None, ...] = ()


class Index:
    """A store over one JSONL log and the files that were rotated out of it."""

    def __init__(self, path: Path, most: int = MOST) -> None:
        self._scan = Scan(path, self._found, self._gone)
        self._most = most
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._by_id: dict[str, Listed] = {}
        self._sorted: list[Listed] | None = []
        self._names: tuple[set[str], ...] = (set(), set(), set())
        self._recent: deque[Listed] = deque(maxlen=_RECENT)
        self._arrived = 0
        self._fault: str | None = None
        self._texts: dict[str, str] = {}
        self._asked = 0.0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    # -- the store ----------------------------------------------------------------------------

    def state(self) -> State:
        """See Store.state."""
        self._ask()
        count = len(self._by_id)
        scan = self._scan
        return State(scan.ready, count, scan.share, count >= self._most, self._fault)

    def page(self, wish: Wish) -> Page:
        """See Store.page."""
        self._ask()
        found = list(self._wanted(wish))
        if wish.column != "time":
            found = _by_amount(found, wish)
        elif not wish.ascending:
            found.reverse()
        if wish.filter.grep is not None:
            with closing(self._entries(found)) as entries:
                return searched(entries, wish)
        first = (wish.page - 1) * PAGE
        rows = [one.row for one in found[first : first + PAGE]]
        return Page(rows, len(found), len(found) > first + PAGE)

    def find(self, id_: str) -> Entry | None:
        """See Store.find."""
        self._ask()
        listed = self._by_id.get(id_)
        return self._entry(listed) if listed else None

    def rows(self, wish: Wish) -> Iterator[Row]:
        """See Store.rows."""
        self._ask()
        for one in self._wanted(wish):
            if wish.filter.grep is None or wish.filter.finds(self._entry(one)):
                yield one.row

    def kin(
        self, row: Row, name: Trait, values: Sequence[object], *, later: bool
    ) -> Iterator[Entry]:
        """See Store.kin."""
        here = row.time, row.id
        fields = Lineage._fields
        number = fields.index(name) if name in fields else len(fields)
        wanted: dict[int | None, list[Listed]] = {hash(value): [] for value in values}
        kind = (row.client, row.provider, row.operation)
        for one in self._in_order():
            if (trait := one.traits[number]) in wanted and kind == (
                one.row.client,
                one.row.provider,
                one.row.operation,
            ):
                there = _moment(one)
                if there > here if later else there < here:
                    wanted[trait].append(one)
        for found in wanted.values():
            yield from map(self._entry, found if later else reversed(found))

    def repeats(self, id_: str) -> list[Row]:
        """See Store.repeats."""
        found = [one.row for one in self._in_order() if one.row.replay_of == id_]
        return found[: -REPEATS - 1 : -1]

    def since(self, cursor: int | None) -> tuple[list[Entry], int]:
        """See Store.since."""
        self._ask()
        with self._lock:
            count = 0 if cursor is None else min(self._arrived - cursor, len(self._recent))
            fresh = list(self._recent)[len(self._recent) - count :] if count > 0 else []
            return [self._entry(one) for one in fresh], self._arrived

    def names(self) -> Names:
        """See Store.names."""
        with self._lock:
            return Names(*map(sorted, self._names))

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()

    # -- the list -----------------------------------------------------------------------------

    def _in_order(self) -> list[Listed]:
        """All that is known, the oldest first."""
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._by_id.values(), key=_moment)
            return self._sorted

    def _wanted(self, wish: Wish) -> Iterator[Listed]:
        since, until = _bounds(wish)
        takes = wish.filter.takes
        return (one for one in self._in_order() if since <= one.row.time < until and takes(one.row))

    def _entries(self, found: Iterable[Listed]) -> Generator[Entry]:
        """Entries that are looked at one after the other: each file is opened once."""
        with ExitStack() as files:
            streams: dict[Identity, BinaryIO | None] = {}
            for one in found:
                place = one.place
                if place.file not in streams:
                    streams[place.file] = files.enter_context(self._scan.opened(place.file))
                yield Entry(one.row, partial(read, streams[place.file], place))

    def _entry(self, one: Listed) -> Entry:
        return Entry(one.row, partial(self._scan.load, one.place))

    # -- the thread ---------------------------------------------------------------------------

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._wake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="record index", daemon=True
                    )
                    self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            if time.monotonic() - self._asked > _NOBODY_AFTER:
                self._wake.clear()
                self._wake.wait()
            time.sleep(_REST if self.look() else _LOOK_EVERY)

    def look(self) -> bool:
        """Read for a moment; whether there is more to read at once."""
        try:
            with self._looking:
                more = self._scan.look(_WORK, lambda: len(self._by_id) >= self._most)
            self._fault = None
        except (OSError, LedgerError) as error:
            more, self._fault = False, str(error)
        if len(self._by_id) > self._most * _SLACK:
            oldest_first = self._in_order()
            with self._lock:
                for one in oldest_first[: -self._most]:
                    self._by_id.pop(one.row.id, None)
                self._sorted = None
        return more

    def _found(self, found: Found) -> None:
        try:
            value = from_json(found.line)
        except ValueError:
            return
        row = of_json(value)
        if row is None:
            return
        listed = Listed(
            self._lean(row), found.place, _traits((*lineage.of_json(value), row.part_of))
        )
        with self._lock:
            if row.id in self._by_id and not found.news:
                return
            self._by_id[row.id] = listed
            self._sorted = None
            for names, name in zip(self._names, (row.provider, row.model, row.client), strict=True):
                if name and len(names) < _NAMES:
                    names.add(name)
            if found.news:
                self._recent.append(listed)
                self._arrived += 1

    def _lean(self, row: Row) -> Row:
        """The same with one copy of each text that repeats."""
        texts = self._texts
        if len(texts) > _RECENT:
            texts.clear()
        rest = (texts.setdefault(v, v) if isinstance(v, str) else v for v in row[2:])
        return Row._make((*row[:2], *rest))

    def _gone(self, files: set[Identity]) -> None:
        """Files that were removed take their records with them."""
        with self._lock:
            self._by_id = {
                id_: one for id_, one in self._by_id.items() if one.place.file not in files
            }
            self._sorted = None


def _by_amount(found: list[Listed], wish: Wish) -> list[Listed]:
    """Of equals the newest comes first, whichever way round; what is unknown comes last."""
    found = found[::-1]
    known = [one for one in found if getattr(one.row, wish.column) is not None]
    unknown = [one for one in found if getattr(one.row, wish.column) is None]
    known.sort(key=lambda one: getattr(one.row, wish.column), reverse=not wish.ascending)
    return known + unknown


def _traits(values: Iterable[object]) -> tuple[int | None, ...]:
    """A lineage, and what it is part of, in little memory: texts are only compared."""
    return tuple(None if value is None else hash(value) for value in values)


def _moment(one: Listed) -> tuple[str, str]:
    return one.row.time, one.row.id


def _bounds(wish: Wish) -> tuple[str, str]:
    """A span as texts that compare as times do."""
    since, until = (rfc3339(moment) if abs(moment) < 1 << 40 else None for moment in _span(wish))
    return since or "", until or "\U0010ffff"


def _span(wish: Wish) -> tuple[float, float]:
    return wish.span.since, wish.span.until
