"""The writer: one thread behind a bounded queue that builds records and gives them to sinks."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from llm_passthrough.record import Facts, Record, build, line
from llm_passthrough.redact import Redactor

_LOG = logging.getLogger(__name__)


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
    """What became of the records so far; `fault` is the last failure of a durable sink."""

    written: int = 0
    dropped: int = 0
    failed: int = 0
    fault: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last record could be written."""
        return self.fault is None


class Writer:
    """Takes Facts from the event loop without ever waiting, and writes them from its thread."""

    def __init__(self, sinks: Sequence[Sink], redactor: Redactor, capacity: int) -> None:
        self._sinks = tuple(sinks)
        self._redactor = redactor
        self._capacity = capacity
        self._queue: queue.SimpleQueue[Facts | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="record writer", daemon=True)
        self._closed = False
        self.tally = Tally()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, facts: Facts) -> None:
        """Hand over an exchange; never blocks. Beyond the capacity it is dropped and counted."""
        if self._closed or self._queue.qsize() >= self._capacity:
            self.tally.dropped += 1
            self._fail(f"{self.tally.dropped} records dropped: the queue is full")
            return
        self._queue.put(facts)

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is queued, within `timeout` seconds; whether everything was written."""
        if self._closed:
            return True
        self._closed = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)
        lost = self._queue.qsize()
        if lost:
            _LOG.error("%d records were not written before the end", lost)
        return not lost

    def _run(self) -> None:
        while (facts := self._queue.get()) is not None:
            self._record(facts)
        for sink in self._sinks:
            self._safely(sink.name, sink.close)

    def _record(self, facts: Facts) -> None:
        try:
            record = build(facts, self._redactor)
            text = line(record)
        except Exception as error:  # noqa: BLE001 - one bad exchange must not end the writer
            self.tally.failed += 1
            self._fail(f"a record could not be built ({type(error).__name__})")
            return
        for sink in self._sinks:
            if self._safely(sink.name, partial(sink.write, record, text)) and sink.durable:
                self.tally.written += 1
                self.tally.fault = None

    def _safely(self, name: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as error:
            self.tally.failed += 1
            self._fail(f"{name}: {error.strerror or type(error).__name__}")
            return False
        except Exception as error:  # noqa: BLE001 - a sink is a guest: its fault is told
            self.tally.failed += 1
            self._fail(f"{name}: {type(error).__name__}")
            return False
        return True

    def _fail(self, fault: str) -> None:
        if self.tally.fault is None:
            _LOG.error("records are not being written: %s", fault)
        self.tally.fault = fault
