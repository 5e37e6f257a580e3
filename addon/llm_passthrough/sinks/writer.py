"""The writer: one thread behind a bounded queue that builds records and gives them to sinks."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llm_passthrough.record import Facts, Record
from llm_passthrough.recorder import Prices, told
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.ration import Ration

_LOG = logging.getLogger(__name__)
# Seconds between two lines about the same trouble.
_SILENCE = 10.0


type Chore = tuple[str, Callable[[], object]]

_CHORES_EVERY = 600.0
"""Seconds between two rounds of chores, such as the removal of old records."""

_PAUSE = 0.01
"""Seconds that a record waits. Meanwhile the end of its answer leaves, and perhaps the next call of
its client; and records that follow each other closely are made together: each time that the writer
wakes, it and the event loop take Python's lock from each other."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which the writer may make the event loop wait for Python's lock; for
sys.setswitchinterval, by whoever starts both. With Python's own 5 ms the loop would be that late
whenever many records are written."""


class Sink(Protocol):
    """Takes records one by one; may raise OSError, which is counted and said."""

    name: str
    durable: bool

    def write(self, record: Record, line: bytes) -> None:
        """Take one record; `line` is its JSON with a line break."""

    def close(self) -> None:
        """Give back what is held."""


@dataclass(slots=True)
class Tally:
    """What became of the records so far; `fault` is why the last one is in no durable sink.

    `written` counts records that every durable sink took, `failed` those that one did not,
    `dropped` those that found the queue full, `withheld` refused requests beyond their rate.
    `beside` tells how those are that write the same beside the durable ones: `ok`, or their fault.
    `others` gives those of the other workers.
    """

    written: int = 0
    dropped: int = 0
    failed: int = 0
    withheld: int = 0
    fault: str | None = None
    beside: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    others: Callable[[], Iterable["Tally"]] = tuple

    def whole(self) -> "Tally":
        """Of all workers together."""
        all_ = (self, *self.others())
        return Tally(
            sum(one.written for one in all_),
            sum(one.dropped for one in all_),
            sum(one.failed for one in all_),
            sum(one.withheld for one in all_),
            next((one.fault for one in all_ if one.fault), None),
            self.beside,
        )

    @property
    def healthy(self) -> bool:
        """Whether the last record could be written."""
        return self.fault is None


class Writer:
    """Takes Facts from the event loop without ever waiting, and writes them from its thread.

    The queue is bounded by `capacity` (records) and by `memory` (bytes of bodies).
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        redactor: Redactor,
        capacity: int,
        memory: int = 256 << 20,
        clock: Callable[[], float] = time.monotonic,
        prices: Prices | None = None,
        chores: Sequence[Chore] = (),
        refused_per_minute: int | None = None,
        beside: Mapping[str, Callable[[], str]] | None = None,
    ) -> None:
        self._ration = Ration(refused_per_minute, clock)
        self._chores = tuple(chores)
        self._chores_at = clock()
        self._prices = prices
        self._sinks = tuple(sinks)
        self._redactor = redactor
        self._capacity = capacity
        self._memory = memory
        self._clock = clock
        self._queue: queue.SimpleQueue[Facts | None] = queue.SimpleQueue()
        # Each is changed by one thread only: the first by that of `put`, the second by ours.
        self._bytes_in = 0
        self._bytes_out = 0
        self._thread = threading.Thread(target=self._run, name="record writer", daemon=True)
        self._closed = False
        self._told: dict[str, float] = {}
        self.tally = Tally(beside=beside or {})

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def knows(self, redactor: Redactor, prices: Prices) -> None:
        """From now on redact and price with these: the configuration has others."""
        self._redactor, self._prices = redactor, prices

    def put(self, facts: Facts) -> None:
        """Hand over an exchange; never blocks. Beyond the capacity it is dropped and counted.

        Of those that were refused, each client's beyond a rate are counted only: who may not call
        must not fill the disk either.
        """
        if facts.outcome == "refused" and not self._ration.allows(facts.client):
            self.tally.withheld += 1
            text = f"{self.tally.withheld} refused requests were counted but not recorded"
            self._say("refused", f"{text}: more than log.refused_per_minute")
            return
        size = _size(facts)
        full = self._queue.qsize() >= self._capacity
        full |= self._bytes_in - self._bytes_out + size > self._memory
        if self._closed or full:
            self.tally.dropped += 1
            self._fail(f"{self.tally.dropped} records dropped: the queue is full")
            return
        self._bytes_in += size
        self._queue.put(facts)

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is queued, within `timeout` seconds; whether everything was written."""
        if self._closed:
            return True
        self._closed = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout)
        # What ends the queue is counted too: it stands for the record that is being written.
        lost = self._queue.qsize()
        if lost:
            _LOG.error("%d records were not written before the end", lost)
        return not lost

    def _run(self) -> None:
        while (facts := self._next()) is not None:
            self._record(facts)
            self._bytes_out += _size(facts)
            if self._chores and self._clock() >= self._chores_at:
                self._chores_at = self._clock() + _CHORES_EVERY
                for name, chore in self._chores:
                    self._safely(name, chore)
        for sink in self._sinks:
            self._safely(sink.name, sink.close)

    def _next(self) -> Facts | None:
        """The next exchange, or None at the end; one that comes alone waits for others."""
        alone = self._queue.empty()
        facts = self._queue.get()
        if alone and facts is not None:
            time.sleep(_PAUSE)
        return facts

    def _record(self, facts: Facts) -> None:
        try:
            record, line = told(facts, self._redactor, self._prices)
        except Exception as error:  # noqa: BLE001 - one bad exchange must not end the writer
            self.tally.failed += 1
            self._fail(f"a record could not be built ({type(error).__name__})")
            return
        faults: list[str] = []
        for sink in self._sinks:
            try:
                sink.write(record, line)
            except Exception as error:  # noqa: BLE001 - a sink is a guest: its fault is told
                fault = self._fault(sink.name, error)
                if sink.durable:
                    faults.append(fault)
        if faults:
            self.tally.failed += 1
            self._fail("; ".join(faults))
        else:
            self.tally.written += 1
            self.tally.fault = None

    def _safely(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a chore must not end the writer
            self._fault(name, error)

    def _fault(self, name: str, error: Exception) -> str:
        """Say what went wrong with a sink or a chore; its own text may hold a secret."""
        fault = f"{name}: {getattr(error, 'strerror', None) or type(error).__name__}"
        self._say(name, fault)
        return fault

    def _fail(self, fault: str) -> None:
        self.tally.fault = fault
        self._say("records", f"records are not being written: {fault}")

    def _say(self, about: str, text: str) -> None:
        """Loud, but not once a record: that would fill the next disk."""
        now = self._clock()
        if now - self._told.get(about, -_SILENCE) >= _SILENCE:
            self._told[about] = now
            _LOG.error("%s", text)


def _size(facts: Facts) -> int:
    return len(facts.request.copy) + len(facts.response.copy)
