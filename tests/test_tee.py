"""The tee: every chunk goes on untouched, a bounded copy stays."""

import hashlib
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.tee import Tee


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stopped:
    """A clock that does not work any more."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        if self.reads > 1:
            raise OSError("sk-secret in the text of an error")
        return 1.0


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@given(
    data=st.binary(max_size=200),
    sizes=st.lists(st.integers(min_value=0, max_value=40), max_size=20),
    limit=st.integers(min_value=0, max_value=220),
)
def test_any_cut_into_chunks_gives_the_same_copy_length_and_digest(
    data: bytes, sizes: list[int], limit: int
) -> None:
    tee = Tee(limit, Clock())
    passed = [tee(chunk) for chunk in cut(data, sizes)]
    assert b"".join(passed) == data
    assert tee.copy == data[:limit]
    assert tee.size == len(data)
    assert tee.sha256() == hashlib.sha256(data).hexdigest()
    assert tee.truncated is (len(data) > limit)
    assert tee.blind is None


def test_a_chunk_goes_on_as_the_very_object_that_came() -> None:
    tee = Tee(4, Clock())
    for chunk in (b"abc", b"defgh", b"", b"ij"):
        assert tee(chunk) is chunk


def test_it_knows_when_bytes_were_seen_first_and_last() -> None:
    clock = Clock()
    tee = Tee(10, clock)
    assert (tee.first, tee.last) == (None, None)
    tee(b"")
    assert (tee.first, tee.last) == (None, None)
    clock.now = 101.0
    tee(b"a")
    clock.now = 105.0
    tee(b"b")
    clock.now = 109.0
    tee(b"")
    assert (tee.first, tee.last) == (101.0, 105.0)


def test_an_empty_stream_has_the_digest_of_nothing() -> None:
    tee = Tee(10, Clock())
    tee(b"")
    assert (tee.size, tee.copy, tee.truncated) == (0, b"", False)
    assert tee.sha256() == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(17, id="an int"),
        pytest.param("text", id="a text"),
        pytest.param(["list"], id="a list"),
    ],
)
def test_what_cannot_be_looked_at_is_passed_on_and_makes_it_blind_for_good(odd: object) -> None:
    clock = Clock()
    tee = Tee(10, clock)
    tee(b"abc")
    assert tee(odd) is odd  # type: ignore[arg-type]
    assert tee.blind == "TypeError"
    clock.now = 300.0
    assert tee(b"def") == b"def"
    assert tee.copy == b"abc"
    assert tee.sha256() is None
    assert tee.truncated is True
    assert tee.last == 300.0, "a deadline must not end a stream because nobody looks at it"


def test_a_fault_while_looking_never_reaches_the_stream_and_is_told_by_its_kind_only() -> None:
    tee = Tee(10, Stopped())
    assert tee(b"a") == b"a"
    assert tee(b"b") == b"b"
    assert tee.blind == "OSError"


def test_many_tiny_chunks_take_no_more_memory_than_the_limit() -> None:
    limit = 1 << 12
    tee = Tee(limit, lambda: 0.0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            tee(b"%02d" % (number % 100))
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert tee.size == 20_000
    assert len(tee.copy) == limit
    assert kept < 2 * limit + 4096


def test_an_ear_hears_each_chunk_and_when_it_came() -> None:
    heard: list[tuple[bytes, float]] = []
    tee = Tee(10, lambda: 7.0, lambda chunk, at: heard.append((chunk, at)))
    assert tee(b"ab") == b"ab"
    assert tee(b"") == b""
    assert heard == [(b"ab", 7.0)]


def test_a_copy_that_was_asked_for_early_is_no_end() -> None:
    tee = Tee(5, time.monotonic)
    copies = []
    for chunk in (b"", b"ab", b"cd", b"efg", b"h"):
        tee(chunk)
        copies.append(tee.copy)
    assert copies == [b"", b"ab", b"abcd", b"abcde", b"abcde"]
    assert tee.copy is copies[-1]  # a long one is made once
