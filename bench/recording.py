"""What a record costs, and how late the event loop is while records are written."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from llm_passthrough.record import Facts
from llm_passthrough.recorder import told
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.writer import SWITCH_INTERVAL, Writer

from bench.measure import Case, spent
from bench.samples import SECRETS, exchange, large_exchange

_RECORD = "us a record"
_LATE = "ms at most, by the clock"
_MOST_RECORD = 100  # microseconds: 10,000 a second
_MOST_LATE = 5  # milliseconds
_TICK = 0.001  # seconds between two looks of the loop at the clock


def cases(share: float) -> list[Case]:
    """A record made and written; how late a loop is that hands over 10,000 records a second."""
    count = max(int(10_000 * share), 20)
    some, few = max(count // 5, 20), max(count // 100, 2)
    return [
        Case("a record made", _RECORD, lambda: _made(some)),
        Case("a record made and written", _RECORD, lambda: _written(some), goal=_MOST_RECORD),
        Case("a record of 1 MB made", _RECORD, lambda: _made(few, large=True)),
        Case("records through the writer", f"{_RECORD}, by the clock", lambda: _through(count)),
        Case("the loop is late, idle", _LATE, lambda: _late(count // 10, [])),
        Case(
            "the loop is late, records",
            _LATE,
            lambda: _late(count // 10, _some(count)),
            "the loop is late, idle",
            _MOST_LATE,
        ),
        Case(
            "the loop is late, records of 1 MB",
            _LATE,
            lambda: _late(count // 10, _some(few, large=True)),
            "the loop is late, idle",
            _MOST_LATE,
        ),
    ]


@cache
def _exchanges(large: bool) -> list[Facts]:
    found = [large_exchange(0)] if large else [exchange(number) for number in range(1000)]
    told(found[0], Redactor(()))  # what is loaded once is loaded now
    return found


def _some(count: int, *, large: bool = False) -> list[Facts]:
    known = _exchanges(large)
    return (known * (count // len(known) + 1))[:count]


def _made(count: int, *, large: bool = False) -> float:
    redactor, facts = Redactor(SECRETS), _some(count, large=large)

    def run() -> None:
        for one in facts:
            told(one, redactor)

    return spent(run, count)


def _written(count: int) -> float:
    redactor, facts = Redactor(SECRETS), _some(count)
    with _sink() as sink:

        def run() -> None:
            for one in facts:
                sink.write(*told(one, redactor))

        return spent(run, count)


def _through(count: int) -> float:
    """A writer that is handed everything at once."""

    def run(writer: Writer, facts: Sequence[Facts]) -> float:
        begun = time.perf_counter()
        for one in facts:
            writer.put(one)
        writer.close(600)
        return (time.perf_counter() - begun) / count * 1e6

    return _with_writer(_some(count), run)


def _late(ticks: int, facts: Sequence[Facts]) -> float:
    """The worst lateness of a loop that hands over these exchanges, some with every tick."""

    async def run(writer: Writer) -> float:
        worst, handed = 0.0, 0
        for tick in range(1, ticks + 1):
            due = time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            worst = max(worst, time.perf_counter() - due)
            for one in facts[handed : (handed := len(facts) * tick // ticks)]:
                writer.put(one)
        return worst * 1e3

    return _with_writer(facts, lambda writer, _: asyncio.run(run(writer)))


def _with_writer(facts: Sequence[Facts], run: Callable[[Writer, Sequence[Facts]], float]) -> float:
    """What `run` measures of a writer that runs as it does in the gateway."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        with _sink() as sink:
            writer = Writer([sink], Redactor(SECRETS), len(facts) + 1, memory=1 << 40)
            writer.start()
            value = run(writer, facts)
            writer.close(600)
    finally:
        sys.setswitchinterval(before)
    if writer.tally.written != len(facts):
        raise RuntimeError(f"not everything was written: {writer.tally}")
    return value


@contextmanager
def _sink() -> Iterator[Jsonl]:
    with tempfile.TemporaryDirectory() as folder:
        sink = Jsonl(Path(folder) / "records.jsonl", 1 << 40, 1e9)
        yield sink
        sink.close()
