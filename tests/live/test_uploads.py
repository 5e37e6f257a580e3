"""Uploads: large bodies stream upwards in little memory, and an early answer arrives whole."""

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from live.harness import (
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Wire,
    config_for,
    forget_peak,
    resident,
    status_of,
)

MB = 1 << 20
SIZE = 30 * MB
BLOCK = bytes(range(256)) * (MB // 256)
GROWTH = 15 * MB
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SMALL_BUFFER = MB // 4


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the limits that it has by itself; what it loads late is loaded."""
    gateway = Gateway(tmp_path_factory.mktemp("uploads"), config_for(upstream.url))
    upstream.talk = lambda wire: wire.message() and wire.send(OK)
    with Wire.to(gateway.port) as wire:
        wire.send(with_length(MB) + BLOCK)
        wire.message()
    gateway.records(1)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def eager(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that streams upwards what is longer than 256 KiB."""
    config = config_for(upstream.url) | {"limits": {"request_buffer": SMALL_BUFFER}}
    gateway = Gateway(tmp_path_factory.mktemp("eager"), config)
    yield gateway
    gateway.stop()


def head(framing: bytes, target: bytes = b"/openai_passthrough/v1/files") -> bytes:
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: localhost"]
    lines += [b"Authorization: Bearer " + CLIENT_KEY.encode(), framing]
    return b"\r\n".join([*lines, b"", b""])


def with_length(size: int, target: bytes = b"/openai_passthrough/v1/files") -> bytes:
    return head(b"Content-Length: %d" % size, target)


def plain(data: bytes) -> bytes:
    return data


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


type Frame = Callable[[bytes], bytes]
FRAMINGS = [
    # head, framing of a block, what ends the body, blocks after which it must be on its way
    pytest.param(with_length(SIZE), plain, b"", 1, id="with a length, from the first byte"),
    pytest.param(
        head(b"Transfer-Encoding: chunked"),
        chunked,
        b"0\r\n\r\n",
        10,
        id="chunked, once more came than is buffered",
    ),
]


@pytest.mark.parametrize(("start", "frame", "end", "blocks"), FRAMINGS)
def test_a_large_upload_is_on_its_way_before_the_client_has_sent_its_end(
    upstream: Upstream, gateway: Gateway, start: bytes, frame: Frame, end: bytes, blocks: int
) -> None:
    begun = threading.Event()
    heads: list[bytes] = []
    digest: list[int] = []

    def talk(wire: Wire) -> None:
        heads.append(wire.until(b"\r\n\r\n"))
        first = wire.exactly(1000) if frame is plain else wire.chunk()
        begun.set()
        received = len(first)
        if frame is plain:
            while received < SIZE:
                received += len(wire.some())
        else:
            received += sum(map(len, iter(wire.chunk, b"")))
        digest.append(received)
        wire.send(OK)

    upstream.talk = talk
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(start)
        for number in range(SIZE // MB):
            if number == blocks:
                assert begun.wait(20), "the provider has seen nothing yet"
            wire.send(frame(BLOCK))
        wire.send(end)
        assert wire.message()[1] == b"{}"
    assert digest == [SIZE]
    assert f"Bearer {KEYS['openai']}".encode() in heads[0]
    assert CLIENT_KEY.encode() not in heads[0]
    grown = resident(gateway.process.pid, "VmHWM") - before
    assert grown < GROWTH
    record = gateway.record_of(f'"bytes": {SIZE}')
    assert record["outcome"] == "ok"
    assert record["request"]["truncated"]


def test_the_record_of_more_than_100_mb_says_what_went_and_keeps_a_part(
    upstream: Upstream, gateway: Gateway
) -> None:
    """K12: a multipart upload of sound, and sound for an answer."""
    count, sound = 101, bytes(range(256)) * 2000
    before = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
    after = b"\r\n--b--\r\n"
    size = len(before) + count * MB + len(after)
    digest, received = hashlib.sha256(before), []

    def talk(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        received.append(0)
        while received[0] < size:
            received[0] += len(wire.some())
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: ")
        wire.send(b"%d\r\n\r\n%s" % (len(sound), sound))

    upstream.talk = talk
    with Wire.to(gateway.port, 60) as wire:
        kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
        target = b"/openai_passthrough/v1/audio/transcriptions"
        wire.send(head(kind + b"Content-Length: %d" % size, target) + before)
        for _ in range(count):
            wire.send(BLOCK)
            digest.update(BLOCK)
        wire.send(after)
        digest.update(after)
        assert wire.message()[1] == sound
    record = gateway.record_of("audio/transcriptions", timeout=20)
    asked, got = record["request"], record["response"]
    assert (asked["bytes"], asked["sha256"]) == (size, digest.hexdigest())
    assert asked["truncated"] is True
    kept = base64.b64decode(asked["body"])
    assert kept == (before + BLOCK + BLOCK)[: len(kept)]
    assert MB // 2 < len(kept) <= MB
    assert (got["bytes"], got["sha256"]) == (len(sound), hashlib.sha256(sound).hexdigest())
    assert (got["truncated"], got["encoding"]) == (False, "base64")
    assert base64.b64decode(got["body"]) == sound
    assert record["outcome"] == "ok"


def test_a_provider_that_reads_slowly_does_not_fill_the_gateways_memory(
    upstream: Upstream, gateway: Gateway
) -> None:
    go_on = threading.Event()

    def talk(wire: Wire) -> None:
        wire.until(b"\r\n\r\n")
        go_on.wait(20)
        wire.exactly(SIZE)
        wire.send(OK)

    upstream.talk = talk
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(with_length(SIZE))
        wire.sock.settimeout(0.5)
        rest = memoryview(BLOCK * (SIZE // MB))
        with contextlib.suppress(TimeoutError):
            while rest:
                rest = rest[wire.sock.send(rest[:65536]) :]
        grown = resident(gateway.process.pid, "VmHWM") - before
        sent = SIZE - len(rest)
        go_on.set()
        wire.sock.settimeout(30)
        wire.send(rest)
        assert wire.message()[1] == b"{}"
    assert grown < GROWTH
    assert sent < SIZE, "all of it was taken though nobody read it"


def test_a_large_download_does_not_fill_the_gateways_memory(
    upstream: Upstream, gateway: Gateway
) -> None:
    """J14."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // MB):
            wire.send(BLOCK)

    upstream.talk = talk
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(with_length(0))
        wire.until(b"\r\n\r\n")
        time.sleep(0.5)  # a client that is slower than the provider
        received = 0
        while received < SIZE:
            received += len(wire.some())
    assert resident(gateway.process.pid, "VmHWM") - before < GROWTH


STREAM = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        pytest.param(STREAM, chunked, id="I08-events"),
        pytest.param(
            b"Content-Type: application/json\r\nContent-Length: %d" % SIZE, plain, id="I08-JSON"
        ),
        pytest.param(
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked",
            chunked,
            id="I08-JSON-without-a-length",
        ),
    ],
)
def test_for_a_client_that_never_reads_nothing_is_heaped_up(
    upstream: Upstream, gateway: Gateway, head: bytes, frame: Frame
) -> None:
    """Nobody else is held up, and when the client leaves the call is ended."""
    sent: list[int] = []
    stuck, ended = threading.Event(), threading.Event()

    def endless(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        wire.sock.settimeout(0.7)
        try:
            for _ in range(SIZE // MB):
                wire.send(frame(BLOCK))
                sent.append(MB)
        except TimeoutError:
            stuck.set()
            wire.sock.settimeout(20)
            wire.rest()
        ended.set()

    upstream.talk = endless
    path = f"/openai_passthrough/v1/never/{time.monotonic_ns()}"
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(with_length(0, path.encode()))
        wire.until(b"\r\n\r\n")
        assert stuck.wait(20), "all of it was taken though nobody read it"
        upstream.talk = lambda wire: wire.message() and wire.send(OK)
        with Wire.to(gateway.port) as other:
            other.send(with_length(0))
            assert other.message()[1] == b"{}"
    assert ended.wait(20)
    assert sum(sent) < SIZE
    assert resident(gateway.process.pid, "VmHWM") - before < GROWTH
    assert gateway.record_of(path)["outcome"] == "client_abort"


TINY = b"data: 1\n\n"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([chunked(TINY) * 5000], id="I06-tiny-events-in-chunks-of-their-own"),
        pytest.param([chunked(TINY * 50_000)] * 4, id="I06-tiny-events"),
        pytest.param(
            [chunked(b"data: "), *[chunked(b"x" * MB)] * 16, chunked(b"\n\n")],
            id="I06-one-large-event",
        ),
        pytest.param([chunked(b"x" * MB)] * 16, id="I06-one-line-without-an-end"),
        pytest.param([chunked(b"data: x\n" * 60_000)] * 10, id="I06-one-event-of-many-lines"),
    ],
)
def test_a_stream_of_odd_events_takes_little_memory_and_its_record_says_that_it_is_cut(
    upstream: Upstream, gateway: Gateway, pieces: list[bytes]
) -> None:
    def odd(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\n" + STREAM + b"\r\n\r\n")
        for piece in pieces:
            wire.send(piece)
        wire.send(b"0\r\n\r\n")

    upstream.talk = odd
    count = len(gateway.records())
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(with_length(0, b"/openai_passthrough/v1/chat/completions"))
        got = 0
        wire.until(b"\r\n\r\n")
        while piece := wire.chunk():
            got += len(piece)
    assert resident(gateway.process.pid, "VmHWM") - before < GROWTH
    (record,) = gateway.records(count + 1)[count:]
    assert record["response"]["bytes"] == got
    assert record["response"]["truncated"] == (got > 1 << 20)


# -- early answers --------------------------------------------------------------------------------


def early_and_gone(wire: Wire) -> None:
    """Answer when the head is there, and close at once, whatever may still come."""
    wire.until(b"\r\n\r\n")
    wire.send(EARLY)
    wire.close()


def early_and_patient(wire: Wire) -> None:
    """Answer when the head is there, and read on, as a careful server does (RFC 9112 9.6)."""
    wire.until(b"\r\n\r\n")
    wire.send(EARLY)
    wire.rest()


MESSAGE = json.dumps({"error": {"message": "too much, or not you", "code": "early"}}).encode()
EARLY = (
    b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"X-Request-Id: early\r\nContent-Length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
)
TIMES = 5


@pytest.mark.parametrize("talk", [early_and_gone, early_and_patient])
@pytest.mark.parametrize(
    ("limits", "size"),
    [
        pytest.param("eager", SMALL_BUFFER - 1, id="on the buffered path"),
        pytest.param("gateway", 3 * MB, id="on the buffered path, at length"),
        pytest.param("eager", 2 * MB, id="on the streamed path"),
    ],
)
def test_an_early_answer_of_the_provider_reaches_the_client_whole(
    request: pytest.FixtureRequest,
    upstream: Upstream,
    talk: Callable[[Wire], None],
    limits: str,
    size: int,
) -> None:
    """A client that sends straight to the provider gets it too, if it listens after an error."""
    gateway: Gateway = request.getfixturevalue(limits)
    upstream.talk = talk
    lost: list[str] = []
    for _ in range(TIMES):
        with Wire.to(gateway.port) as wire:
            try:
                wire.send(with_length(size))
                wire.send(b"x" * size)
                answer, body = wire.message()
            except (OSError, EOFError) as error:
                lost.append(repr(error))
                continue
            if status_of(answer) != 413 or body != MESSAGE:
                lost.append(f"{answer!r} {body!r}"[:200])
    assert not lost, f"{len(lost)} of {TIMES}: {lost[0]}"


def test_an_early_answer_is_there_while_the_client_still_sends(
    upstream: Upstream, eager: Gateway
) -> None:
    """A client that listens while it sends need not send the rest."""
    upstream.talk = early_and_patient
    with Wire.to(eager.port) as wire:
        wire.send(with_length(SIZE))
        wire.send(BLOCK)
        answer, body = wire.message()
    assert status_of(answer) == 413
    assert body == MESSAGE


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "frame", "end", "blocks"), FRAMINGS)
def test_a_refused_upload_is_answered_before_its_end_and_not_kept(
    gateway: Gateway, start: bytes, frame: Frame, end: bytes, blocks: int
) -> None:
    before = resident(gateway.process.pid)
    forget_peak(gateway.process.pid)
    with Wire.to(gateway.port, 30) as wire:
        wire.send(start.replace(b"/openai_passthrough", b"/nowhere"))
        wire.send(frame(BLOCK))
        answer, body = wire.message()
        assert status_of(answer) == 404
        assert "no route" in json.loads(body)["error"]["message"]
        for _ in range(SIZE // MB - 1):  # a client that sends to the end before it listens
            wire.send(frame(BLOCK))
        wire.send(end)
        if b"connection: close" not in answer.lower():
            wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status_of(wire.message()[0]) == 200
    assert resident(gateway.process.pid, "VmHWM") - before < GROWTH


@pytest.mark.parametrize("after", [1, 12], ids=["early", "past the buffer"])
def test_a_client_that_leaves_inside_its_upload_ends_the_call(
    upstream: Upstream, gateway: Gateway, after: int
) -> None:
    """J09."""
    ended = threading.Event()

    def talk(wire: Wire) -> None:
        wire.rest()
        ended.set()

    upstream.talk = talk
    marker = f"/openai_passthrough/v1/left-{time.monotonic_ns()}"
    with Wire.to(gateway.port) as wire:
        wire.send(with_length(SIZE, marker.encode()))
        for _ in range(after):
            wire.send(BLOCK)
    assert ended.wait(10)
    assert gateway.record_of(marker)["outcome"] == "client_abort"


def test_an_expect_header_is_answered_and_the_body_follows(
    upstream: Upstream, gateway: Gateway
) -> None:
    """B18: curl asks before it sends a body of more than a megabyte."""
    bodies: list[int] = []

    def talk(wire: Wire) -> None:
        bodies.append(len(wire.message()[1]))
        wire.send(OK)

    upstream.talk = talk
    with Wire.to(gateway.port) as wire:
        wire.send(with_length(MB).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert status_of(wire.until(b"\r\n\r\n")) == 100
        wire.send(BLOCK)
        assert wire.message()[1] == b"{}"
    assert bodies == [MB]
