"""HTTP/1 messages that are seldom, on real sockets: interim answers, trailers, early answers."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from live.harness import (
    BOTH,
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Wire,
    config_for,
    status_of,
)

CHAT = "/openai_passthrough/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nSet-Cookie: a=1\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TRAILED = b"8\r\ndata: 1\n\r\n1\r\n\n\r\n0\r\nX-Checksum: abc\r\nX-More: 1\r\n\r\n"
BUFFER = 100_000


@pytest.fixture(scope="module", params=BOTH)
def small(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    """A gateway that buffers little, in front of the provider of raw bytes."""
    config = config_for(upstream.url, limits={"request_buffer": BUFFER})
    gateway = Gateway(tmp_path_factory.mktemp("small"), config, request.param)
    yield gateway
    gateway.stop()


@pytest.fixture(autouse=True)
def _no_failure_in_a_thread(upstream: Upstream) -> Iterator[None]:
    upstream.failures.clear()
    yield
    assert upstream.failures == []


@pytest.fixture
def say() -> str:
    """A text by which a record is found."""
    return f"marker-{uuid.uuid4().hex}"


def head(say: str, *lines: str) -> bytes:
    """The head of a request that keeps its connection, with a marker in its query."""
    fields = [f"POST {CHAT}?m={say} HTTP/1.1", "Host: localhost", f"X-Api-Key: {CLIENT_KEY}"]
    return "\r\n".join([*fields, *lines, "", ""]).encode()


def ask(say: str, body: bytes = b"{}") -> bytes:
    return head(say, f"Content-Length: {len(body)}") + body


def told(gateway: Gateway, say: str) -> dict[str, Any]:
    return gateway.record_of(say)


@pytest.mark.parametrize(
    "interim",
    [
        pytest.param(EARLY, id="103"),
        pytest.param(GO_ON, id="100"),
        pytest.param(GO_ON + EARLY * 2, id="several"),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "in pieces"])
def test_an_interim_answer_is_not_taken_for_the_answer(
    upstream: Upstream, small: Gateway, say: str, interim: bytes, apart: bool
) -> None:
    def talk(wire: Wire) -> None:
        for _ in range(2):
            wire.message()
            for piece in [interim[:15], interim[15:], OK] if apart else [interim + OK]:
                wire.send(piece)

    upstream.talk = talk
    with Wire.to(small.port) as wire:
        for number in range(2):  # the connection stays usable
            wire.send(ask(f"{say}-{number}"))
            answer, body = wire.message()
            assert status_of(answer) == 200
            assert body == b"{}"
            assert b"Link" not in answer
    for number in range(2):
        record = told(small, f"{say}-{number}")
        assert (record["outcome"], record["response"]["status"]) == ("ok", 200)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </x", id="inside an interim head"),
        pytest.param(EARLY, id="after an interim answer"),
    ],
)
def test_an_upstream_that_closes_after_an_interim_answer_has_not_answered(
    upstream: Upstream, small: Gateway, say: str, said: bytes
) -> None:
    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(said)

    upstream.talk = talk
    with Wire.to(small.port) as wire:
        wire.send(ask(say))
        answer, body = wire.message()
    assert status_of(answer) == 502
    assert json.loads(body)["error"]["code"] == "upstream_protocol"
    assert told(small, say)["outcome"] == "upstream_error"


def test_an_answers_trailers_are_dropped_and_its_connection_goes_on(
    upstream: Upstream, small: Gateway, say: str
) -> None:
    """J08."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED + TRAILED)
        wire.message()
        wire.send(OK)

    upstream.talk = talk
    before = len(upstream.connections)
    with Wire.to(small.port) as wire:
        wire.send(ask(f"{say}-1"))
        assert wire.message()[1] == b"data: 1\n\n"
        wire.send(ask(f"{say}-2"))
        answer, body = wire.message()
        assert (status_of(answer), body) == (200, b"{}")
    assert len(upstream.connections) == before + 1
    assert "X-Checksum" not in json.dumps(told(small, f"{say}-2"))
    assert told(small, f"{say}-1")["response"]["bytes"] == 9


@pytest.mark.parametrize("size", [9, 2 * BUFFER], ids=["buffered", "streamed"])
def test_a_requests_trailers_are_dropped(
    upstream: Upstream, small: Gateway, say: str, size: int
) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def talk(wire: Wire) -> None:
        seen.append(wire.message())
        wire.send(OK)

    upstream.talk = talk
    content = b"x" * size
    with Wire.to(small.port) as wire:
        wire.send(head(say, "Transfer-Encoding: chunked", "Trailer: X-Api-Key"))
        wire.send(b"%x\r\n%s\r\n0\r\nX-Api-Key: %s\r\n\r\n" % (size, content, CLIENT_KEY.encode()))
        assert status_of(wire.message()[0]) == 200
    ((got, body),) = seen
    assert body == content
    assert CLIENT_KEY.encode() not in got
    assert KEYS["openai"].encode() in got


@pytest.mark.parametrize("breaks", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
def test_empty_lines_before_a_request_line_are_passed_over(
    upstream: Upstream, small: Gateway, say: str, breaks: bytes
) -> None:
    """B14."""

    def talk(wire: Wire) -> None:
        for _ in range(2):
            assert wire.message()[0].startswith(b"POST /v1/chat/completions?m=")
            wire.send(OK)

    upstream.talk = talk
    with Wire.to(small.port) as wire:
        for number in range(2):
            wire.send(breaks + ask(f"{say}-{number}"))
            assert status_of(wire.message()[0]) == 200


@pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["a close", "a reset"])
def test_an_early_answer_with_an_end_lets_the_upload_be_finished(
    upstream: Upstream, small: Gateway, say: str, end: Any
) -> None:
    """The provider does not read on: what is still sent meets a reset."""
    body = b'{"error": {"message": "too large", "type": "invalid_request_error"}}'

    def talk(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        wire.send(
            b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        )
        end(wire)

    upstream.talk = talk
    size = 4 * BUFFER
    with Wire.to(small.port) as wire:
        wire.send(head(say, f"Content-Length: {size}"))
        for _ in range(8):
            wire.send(b"x" * (size // 8))
        answer, got = wire.message()
        assert (status_of(answer), got) == (413, body)
    record = told(small, say)
    assert record["response"]["status"] == 413
    assert record["outcome"] == "upstream_error"
    assert record["error"]["message"] == "too large"
