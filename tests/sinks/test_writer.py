"""The writer: the event loop never waits for it, and it says what it could not write."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.record import Body, Facts, Record
from llm_passthrough.redact import REDACTED, Redactor
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.writer import Sink, Writer

KEY = "sk-REAL-0123456789"


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A sink that keeps what it gets, waits while `gate` is shut, raises what `raises` says."""

    def __init__(self, name: str = "kept", *, durable: bool = True) -> None:
        self.name = name
        self.durable = durable
        self.ids: list[str] = []
        self.lines: list[bytes] = []
        self.closed = 0
        self.raises: dict[str, Exception] = {}
        self.raises_on_close: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()

    def write(self, record: Record, line: bytes) -> None:
        self.busy.set()
        assert self.gate.wait(30)
        if record.id in self.raises:
            raise self.raises[record.id]
        self.ids.append(record.id)
        self.lines.append(line)

    def close(self) -> None:
        self.closed += 1
        if self.raises_on_close:
            raise self.raises_on_close


def facts(number: int | str, **changes: Any) -> Facts:
    return Facts(str(number), 0.0, "GET", b"/x", **changes)


@contextmanager
def running(*sinks: Sink, capacity: int = 1000, **settings: Any) -> Iterator[Writer]:
    """A writer that runs, and is closed at the end."""
    writer = Writer(sinks, Redactor([KEY]), capacity, **settings)
    writer.start()
    yield writer
    assert writer.close(30)


def test_every_record_reaches_every_sink_once_and_in_order() -> None:
    first, second = Kept("first"), Kept("second", durable=False)
    with running(first, second, capacity=5000) as writer:
        for number in range(2000):
            writer.put(facts(number))
    assert first.ids == second.ids == [str(number) for number in range(2000)]
    assert (writer.tally.written, writer.tally.dropped, writer.tally.failed) == (2000, 0, 0)
    assert (first.closed, second.closed) == (1, 1)


def test_ten_thousand_at_once_are_each_there_once_and_in_order(tmp_path: Path) -> None:
    """K11."""
    path = tmp_path / "records.jsonl"
    with running(Jsonl(path, 1 << 30, 1e9), capacity=10_000) as writer:
        for number in range(10_000):
            writer.put(facts(number))
    assert (writer.tally.written, writer.tally.dropped, writer.tally.failed) == (10_000, 0, 0)
    numbers = [str(number) for number in range(10_000)]
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == numbers


def test_a_sink_gets_the_record_and_its_line_without_secrets() -> None:
    sink = Kept()
    with running(sink) as writer:
        writer.put(facts(1, url=f"https://h/?q={KEY}"))
    (line,) = sink.lines
    assert KEY.encode() not in line
    assert REDACTED.encode() in line
    assert line.endswith(b"}\n")


# -- slow -------------------------------------------------------------------------------------


def test_a_slow_sink_makes_nobody_wait_and_what_is_too_much_is_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Kept()
    sink.gate.clear()
    with running(sink, capacity=3) as writer:
        writer.put(facts("held"))
        assert sink.busy.wait(30)
        for number in range(10):
            writer.put(facts(number))  # would hang here if it waited
        assert writer.tally.dropped == 7
        assert not writer.tally.healthy
        assert writer.tally.fault == "7 records dropped: the queue is full"
        sink.gate.set()
    assert sink.ids == ["held", "0", "1", "2"]
    assert writer.tally.healthy, "it is written again"
    assert (writer.tally.written, writer.tally.dropped) == (4, 7)
    assert caplog.messages == [
        "records are not being written: 1 records dropped: the queue is full"
    ]


def test_large_bodies_are_dropped_before_they_fill_the_memory() -> None:
    sink = Kept()
    sink.gate.clear()
    large = Body(bytes(400), 400)
    with running(sink, memory=1000) as writer:
        writer.put(facts("held", request=large))
        assert sink.busy.wait(30)
        writer.put(facts("second", response=large))
        writer.put(facts("too much", request=large))
        writer.put(facts("small", request=Body(bytes(200), 200)))
        assert writer.tally.dropped == 1
        sink.gate.set()
        while writer.tally.written < 3:
            threading.Event().wait(0.001)
        writer.put(facts("later", request=large, response=large))
    assert sink.ids == ["held", "second", "small", "later"]


# -- broken -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        pytest.param(OSError(28, "No space left on device"), "kept: No space left on device"),
        pytest.param(OSError(f"with {KEY}"), "kept: OSError"),
        pytest.param(RuntimeError(f"with {KEY}"), "kept: RuntimeError"),
    ],
    ids=["of the system", "of the system, without a text", "of any other kind"],
)
def test_a_sink_that_fails_is_said_and_counted_and_does_not_end_the_writer(
    error: Exception, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Kept()
    sink.raises["1"] = error
    with running(sink) as writer:
        writer.put(facts(0))
        writer.put(facts(1))
    assert writer.tally.fault == fault
    assert (writer.tally.written, writer.tally.failed) == (1, 1)
    assert caplog.messages == [fault, f"records are not being written: {fault}"]
    assert KEY not in caplog.text


def test_the_next_record_that_is_written_makes_it_healthy_again() -> None:
    sink = Kept()
    sink.raises["1"] = OSError(28, "No space left on device")
    with running(sink) as writer:
        writer.put(facts(1))
        writer.put(facts(2))
    assert writer.tally.healthy
    assert (writer.tally.written, writer.tally.failed) == (1, 1)


def test_a_terminal_that_is_gone_is_no_reason_to_call_the_log_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, terminal = Kept("jsonl"), Kept("console", durable=False)
    terminal.raises = {str(number): ValueError("closed file") for number in range(50)}
    with running(log, terminal) as writer:
        for number in range(50):
            writer.put(facts(number))
    assert writer.tally.healthy
    assert (writer.tally.written, writer.tally.failed) == (50, 0)
    assert caplog.messages == ["console: ValueError"]


def test_of_two_logs_one_that_fails_is_not_hidden_by_the_other() -> None:
    broken, good = Kept("first"), Kept("second")
    broken.raises["1"] = OSError(5, "Input/output error")
    with running(broken, good) as writer:
        writer.put(facts(1))
    assert writer.tally.fault == "first: Input/output error"
    assert good.ids == ["1"]
    assert (writer.tally.written, writer.tally.failed) == (0, 1)


def test_an_exchange_of_which_no_record_can_be_made_is_counted_and_the_next_one_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Kept()
    with running(sink) as writer:
        writer.put(Facts("1", float("nan"), "GET", b"/x"))
        writer.put(facts(2))
    assert sink.ids == ["2"]
    assert (writer.tally.written, writer.tally.failed) == (1, 1)
    assert "a record could not be built (ValueError)" in caplog.text


def test_lasting_trouble_is_said_again_after_a_while_and_not_with_every_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    writer = Writer([], Redactor([]), 0, clock=clock)
    for number in range(100):
        clock.now = number / 4
        writer.put(facts(number))
    assert writer.tally.dropped == 100
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert caplog.messages[-1] == (
        "records are not being written: 81 records dropped: the queue is full"
    )


# -- the end ----------------------------------------------------------------------------------


def test_what_is_queued_is_written_before_the_end() -> None:
    sink = Kept()
    sink.gate.clear()
    with running(sink) as writer:
        for number in range(20):
            writer.put(facts(number))
        sink.gate.set()
    assert len(sink.ids) == 20


def test_the_end_does_not_wait_for_ever_and_says_how_many_were_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Kept()
    sink.gate.clear()
    writer = Writer([sink], Redactor([]), 100)
    writer.start()
    for number in range(5):
        writer.put(facts(number))
    assert sink.busy.wait(30)
    assert writer.close(0.01) is False
    assert caplog.messages == ["5 records were not written before the end"]
    sink.gate.set()


def test_a_writer_that_never_ran_says_what_it_leaves_unwritten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Writer([], Redactor([]), 10).close() is True
    writer = Writer([Kept()], Redactor([]), 10)
    writer.put(facts(1))
    assert writer.close() is False
    assert caplog.messages == ["1 records were not written before the end"]


def test_after_the_end_nothing_is_taken_any_more() -> None:
    sink = Kept()
    with running(sink) as writer:
        pass
    writer.put(facts(1))
    assert (sink.ids, writer.tally.dropped) == ([], 1)
    assert writer.close() is True, "closing again does no harm"


def test_a_sink_that_cannot_be_closed_does_not_keep_the_others_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Kept("first"), Kept("second")
    first.raises_on_close = OSError(5, "Input/output error")
    with running(first, second):
        pass
    assert (first.closed, second.closed) == (1, 1)
    assert caplog.messages == ["first: Input/output error"]


def test_with_a_real_file_a_closed_writer_leaves_it_to_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for number in range(2):
        with running(Jsonl(path, 1 << 20, 1e9)) as writer:
            writer.put(facts(number))
    assert len(path.read_bytes().splitlines()) == 2


def test_refused_requests_beyond_a_rate_are_counted_and_not_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, clock = Kept(), Clock()
    writer = Writer([kept], Redactor([]), 1000, clock=clock, refused_per_minute=3)
    writer.start()
    for number in range(10):
        writer.put(facts(number, outcome="refused"))
    writer.put(facts("other", outcome="refused", client="other"))
    writer.put(facts("ok", outcome="ok"))
    clock.now = 20.0
    writer.put(facts("later", outcome="refused"))
    assert writer.close()
    assert kept.ids == ["0", "1", "2", "other", "ok", "later"]
    assert (writer.tally.withheld, writer.tally.dropped) == (7, 0)
    assert writer.tally.healthy
    assert caplog.text.count("refused requests were counted but not recorded") == 1
