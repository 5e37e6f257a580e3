"""Listening: compressed answers are heard in any cut; what cannot be heard is said."""

import gzip
import sys
import zlib
from collections.abc import Iterable
from itertools import pairwise

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.dialects import Reader, reader
from llm_passthrough.listen import Ear
from llm_passthrough.usage import Reading

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EVENTS = (
    b'data: {"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"delta":'
    b'{"content":"Gr\xc3\xbc\xc3\x9fe"},"finish_reason":null}]}\n\n'
    b'data: {"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","model":"gpt-4o","choices":[],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":7}}\n\n'
    b"data: [DONE]\n\n"
)


def chat(kind: str = "text/event-stream") -> Reader:
    found = reader(b"/v1/chat/completions", "openai", "openai", kind, 200)
    assert found is not None
    return found


def heard(
    chunks: Iterable[bytes], encoding: str | None, kind: str = "text/event-stream"
) -> Reading:
    ear = Ear(chat(kind), encoding)
    for at, chunk in enumerate(chunks):
        ear(chunk, float(at))
    return ear.end()


def flushed(events: bytes = EVENTS) -> list[bytes]:
    """gzip as a server sends it that flushes after each event."""
    squeeze = zlib.compressobj(wbits=31)
    return [
        *(
            squeeze.compress(event + b"\n\n") + squeeze.flush(zlib.Z_SYNC_FLUSH)
            for event in events.split(b"\n\n")[:-1]
        ),
        squeeze.flush(),
    ]


def bare(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def halves(squeeze: object, data: bytes = EVENTS) -> bytes:
    """Two compressed texts in a row."""
    assert callable(squeeze)
    return bytes(squeeze(data[:99])) + bytes(squeeze(data[99:]))


CODINGS = [
    pytest.param(None, EVENTS, id="none"),
    pytest.param("", EVENTS, id="an empty one"),
    pytest.param("identity", EVENTS, id="identity"),
    pytest.param("gzip", gzip.compress(EVENTS), id="gzip"),
    pytest.param(" GZip ", gzip.compress(EVENTS), id="gzip in another spelling"),
    pytest.param("x-gzip", gzip.compress(EVENTS), id="x-gzip"),
    pytest.param("gzip", b"".join(flushed()), id="gzip, flushed after each event"),
    pytest.param("gzip", halves(gzip.compress), id="gzip in two members"),
    pytest.param("deflate", zlib.compress(EVENTS), id="deflate"),
    pytest.param("deflate", bare(EVENTS), id="deflate without its wrapper"),
    pytest.param("br", brotli.compress(EVENTS), id="br"),
    pytest.param("zstd", zstd.compress(EVENTS), id="zstd"),
    pytest.param("zstd", halves(zstd.compress), id="zstd in two frames"),
]


def check(reading: Reading) -> None:
    assert reading.model == "gpt-4o"
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (11, 7)
    assert reading.finish_reasons == ("stop",)
    assert reading.complete is True
    assert reading.unread is None


@pytest.mark.parametrize(("encoding", "body"), CODINGS)
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_an_answer_is_heard_in_every_coding_and_cut(
    encoding: str | None, body: bytes, size: int
) -> None:
    check(heard([body[i : i + size] for i in range(0, len(body), size)], encoding))


@given(st.sets(st.integers(1, 400), max_size=12), st.sampled_from([p.values for p in CODINGS]))
def test_no_cut_changes_what_is_heard(places: set[int], coding: tuple[str | None, bytes]) -> None:
    encoding, body = coding
    cuts = [0, *sorted(place for place in places if place < len(body)), len(body)]
    check(heard([body[a:b] for a, b in pairwise(cuts)], encoding))


def test_the_first_token_is_heard_when_its_event_comes() -> None:
    assert heard(flushed(b": wait\n\n: wait\n\n" + EVENTS), "gzip").first_token_at == 2.0


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(EVENTS)[:-40], id="gzip"),
        pytest.param("br", brotli.compress(EVENTS)[:-40], id="br"),
        pytest.param("zstd", zstd.compress(EVENTS)[:-40], id="zstd"),
    ],
)
def test_a_compressed_answer_that_is_cut_is_not_complete(encoding: str, body: bytes) -> None:
    reading = heard([body], encoding)
    assert reading.complete is not True
    assert reading.unread is None


@pytest.mark.parametrize(
    ("encoding", "body", "why"),
    [
        pytest.param("snappy", EVENTS, "content coding snappy", id="an unknown coding"),
        pytest.param("gzip, br", EVENTS, "content coding gzip, br", id="two codings"),
        pytest.param("gzip", EVENTS, "content coding: error", id="not gzip at all"),
        pytest.param("deflate", b"\xff\xff" + EVENTS, "content coding: error", id="no deflate"),
        pytest.param("br", b"\xff" * 99, "content coding: error", id="not br at all"),
        pytest.param("zstd", EVENTS, "content coding: ZstdError", id="not zstd at all"),
    ],
)
def test_what_cannot_be_decoded_is_said_and_nobody_is_blamed_for_its_end(
    encoding: str, body: bytes, why: str
) -> None:
    reading = heard([body, body], encoding)
    assert reading.unread == why
    assert reading.complete is None


def test_a_coding_that_breaks_in_the_middle_leaves_what_was_heard() -> None:
    squeeze = zlib.compressobj(wbits=31)
    usage = EVENTS[: EVENTS.index(b"data: [DONE]")]
    body = squeeze.compress(usage) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    reading = heard([body, b"\xff\xff\xff\xff", b"more"], "gzip")
    assert reading.usage is not None
    assert reading.usage.input_tokens == 11
    assert reading.unread == "content coding: error"
    assert reading.complete is None


def _bomb(encoding: str) -> bytes:
    zeros = b" " * (66 << 20)
    if encoding == "br":
        return bytes(brotli.compress(zeros, quality=1))
    return gzip.compress(zeros, 1) if encoding == "gzip" else bytes(zstd.compress(zeros))


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_body_that_swells_without_bounds_is_heard_no_further(encoding: str) -> None:
    class Counting:
        fed = 0

        def feed(self, chunk: bytes, at: float) -> None:
            assert len(chunk) <= 1 << 19  # piece by piece, never all at once
            Counting.fed += len(chunk)

        def end(self) -> Reading:
            return Reading()

    ear = Ear(Counting(), encoding)
    ear(_bomb(encoding), 0.0)
    ear(b"more", 1.0)
    assert Counting.fed <= (64 << 20) + (1 << 19)
    assert ear.end().unread == "a body that swells without bounds"


def test_what_was_heard_may_be_asked_for_twice() -> None:
    ear = Ear(chat("application/json"), "gzip")
    ear(gzip.compress(b'{"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3}}'), 0.0)
    first = ear.end()
    assert first.complete is True
    assert first.unread is None
    ear(b"too late", 1.0)
    assert ear.end() is first
