"""Limits and deadlines on real sockets: who goes beyond them is told so, and holds nothing up.

Threat catalogue: B11, B13, B14, B16, B20 odd and endless messages; I01 to I15 exhaustion. The
gateway's limits are small, so that nothing has to be waited for.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from live.harness import (
    CLIENT_KEY,
    Gateway,
    Upstream,
    Wire,
    config_for,
    forget_peak,
    resident,
)
from live.oracles import Heard, Oracles, talk

MB = 1 << 20
CHAT = "/openai_passthrough/v1/chat/completions"
MESSAGES = "/anthropic_passthrough/v1/messages"
GENERATE = "/genai_passthrough/v1beta/models/m:generateContent"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LIMITS = {
    "request_line": 2048,
    "request_head": 8192,
    "request_headers": 30,
    "request_buffer": 200_000,
    "request_body": 500_000,
    "websocket_message": 200_000,
}
TIMEOUTS = {"request_head": 0.6, "request_body": 0.8, "keep_alive": 1.0}
# What a 408 may take on a busy machine.
PATIENCE = 5.0


@pytest.fixture(scope="module")
def strict(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with small limits, in front of the provider of raw bytes."""
    config = config_for(upstream.url, limits=LIMITS, timeouts=TIMEOUTS)
    gateway = Gateway(tmp_path_factory.mktemp("strict"), config)
    yield gateway
    gateway.stop()


@pytest.fixture
def oracles(strict: Gateway, upstream: Upstream) -> Oracles:
    upstream.talk = served
    oracles = Oracles(strict, ())
    oracles.mark()
    return oracles


def served(wire: Wire) -> None:
    """Answer each request."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            wire.message()
            wire.send(OK)


def head(*lines: str, target: str = CHAT, method: str = "POST") -> bytes:
    """The head of a request, with the client's credential."""
    fields = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {CLIENT_KEY}",
    ]
    return "\r\n".join([*fields, *lines, "", ""]).encode("latin-1")


def unfinished(size: int = 0, target: str = CHAT) -> bytes:
    """A head without its end; of this size at least."""
    return head(target=target)[:-2] + (b"X-A: " + b"a" * size if size else b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = head("Transfer-Encoding: chunked")
GOOD = head("Content-Length: 2", "Connection: close") + b"{}"


@dataclass(frozen=True)
class Case:
    """What is sent, what the client is told, and how many records tell of it."""

    sent: bytes
    status: int
    code: str
    records: int = 1
    shape: str = "openai"


def message(heard: Heard, shape: str) -> str:
    """The message of a refusal, where the SDKs of its provider look for it."""
    error = json.loads(heard.body)["error"]
    place = {"openai": "code", "anthropic": "type", "google": "status"}[shape]
    assert place in error, error
    assert (shape == "anthropic") == ('"type": "error"' in heard.body.decode())
    return str(error["message"])


TOO_LONG = [
    pytest.param(
        Case(head(target=f"{CHAT}?{'a' * 3000}"), 414, "target_too_long"), id="I13-a-target"
    ),
    pytest.param(
        Case(head(target="/openai_passthrough/" + "%2e" * 20_000), 414, "target_too_long", 0),
        id="I13-60-KB-of-encoded-dots",
    ),
    pytest.param(
        Case(b"GET /" + b"a" * 100_000, 414, "target_too_long", 0), id="B20-a-target-without-end"
    ),
    pytest.param(Case(head(*["a: b"] * 40), 431, "head_too_large"), id="I14-many-headers"),
    pytest.param(
        Case(
            head(f"Cookie: {'; '.join(f'c{n}=1' for n in range(2000))}"), 431, "head_too_large", 0
        ),
        id="I14-2000-cookies",
    ),
    pytest.param(
        Case(head(*[f"Cookie: c{n}=1" for n in range(300)]), 431, "head_too_large"),
        id="I14-300-cookies-in-lines",
    ),
    pytest.param(
        Case(head(*[f"x-{n}: 1" for n in range(1000)]), 431, "head_too_large", 0),
        id="I14-1000-names",
    ),
    pytest.param(
        Case(head(f"x: {'a' * 7000}", f"y: {'a' * 2000}"), 431, "head_too_large"),
        id="B20-a-large-head",
    ),
    pytest.param(
        Case(head(f"x: {'a' * 9000}", target=MESSAGES), 431, "head_too_large", 0, "anthropic"),
        id="B20-in-the-shape-of-anthropic",
    ),
    pytest.param(
        Case(head(*["a: b"] * 40, target=GENERATE), 431, "head_too_large", 1, "google"),
        id="I14-in-the-shape-of-google",
    ),
    pytest.param(Case(unfinished(5 * MB), 431, "head_too_large", 0), id="B20-a-value-of-5-MB"),
    pytest.param(
        Case(unfinished() + b"a:b\r\n" * 100_000, 431, "head_too_large", 0), id="B20-100000-lines"
    ),
    pytest.param(
        Case(head("Content-Length: 500001"), 413, "body_too_large"), id="I02-by-its-length"
    ),
    pytest.param(
        Case(head("Content-Length: 10000000000") + b"x", 413, "body_too_large"), id="I02-10-GB"
    ),
    pytest.param(
        Case(CHUNKED + chunk(b"x" * 50_000) * 40, 413, "body_too_large"),
        id="I02-chunks-without-end",
    ),
]
MALFORMED = [
    pytest.param(Case(CHUNKED + b"2;\nxx\r\n", 400, "bad_request"), id="B11-bare-line-feed"),
    pytest.param(Case(CHUNKED + b"0x2\r\n{}\r\n", 400, "bad_request"), id="B11-hex-mark"),
    pytest.param(Case(CHUNKED + b"2\r\n{}XX", 400, "bad_request"), id="B11-no-end-of-a-chunk"),
    pytest.param(
        Case(CHUNKED + chunk(b"x" * 300_000) + b"zz\r\n", 400, "bad_request"),
        id="B11-on-its-way-upwards",
    ),
    pytest.param(Case(b"HELLO\r\n\r\n", 400, "bad_request", 0), id="no-request-line"),
    pytest.param(
        Case(head("Authorization Bearer sk-GEHEIM-0123456789"), 400, "bad_request", 0),
        id="I15-a-header-without-a-colon",
    ),
    pytest.param(
        Case(b"GET /x HTTP/1.1\r\n\r\n", 400, "bad_request", 0), id="no-host"
    ),
    pytest.param(
        Case(b"GET /x HTTP/1.1\r\n\r\n" * 3 + GOOD, 400, "bad_request", 0),
        id="no-host-and-more-behind-it",
    ),
    pytest.param(
        Case(head("a\x01b: c", "Content-Length: 2") + b"{}" + GOOD, 400, "bad_request"),
        id="a-bad-name-and-more-behind-it",
    ),
]  # fmt: skip
LATE = [
    pytest.param(Case(b"P", 408, "request_timeout", 0), id="I03-one-byte"),
    pytest.param(Case(unfinished(100), 408, "request_timeout", 0), id="I03-half-a-head"),
    pytest.param(
        Case(unfinished(9, MESSAGES), 408, "request_timeout", 0, "anthropic"),
        id="I03-in-the-shape-of-anthropic",
    ),
    pytest.param(
        Case(head("Content-Length: 60000") + b"x", 408, "request_timeout"),
        id="B13-one-byte-of-a-body",
    ),
    pytest.param(
        Case(head("Content-Length: 400000") + b"x" * 1000, 408, "request_timeout"),
        id="B13-on-its-way-upwards",
    ),
    pytest.param(Case(CHUNKED + b"fff\r\nx", 408, "request_timeout"), id="B11-a-huge-chunk"),
    pytest.param(
        Case(head("Content-Length: 9", target=GENERATE), 408, "request_timeout", 1, "google"),
        id="B13-in-the-shape-of-google",
    ),
]


@pytest.mark.parametrize("case", [*TOO_LONG, *MALFORMED, *LATE])
def test_who_goes_beyond_a_limit_is_told_in_his_providers_shape(
    oracles: Oracles, strict: Gateway, case: Case
) -> None:
    heard = answer(strict.port, case.sent)
    assert heard.status == case.status, heard.data
    assert heard.header("x-passthrough-error") == case.code
    assert heard.closed
    assert "<html" not in heard.data.decode("latin-1").lower()
    assert message(heard, case.shape)
    # One that fits into what is read at once may have been read whole.
    due = case.records if case.records else None
    oracles.check(heard.data, due)
    told = oracles.told()
    assert {(r["outcome"], r["response"]["status"]) for r in told} <= {("refused", case.status)}
    assert "GEHEIM" not in strict.output


def answer(port: int, *pieces: bytes) -> Heard:
    """What comes back until the gateway closes, whatever cannot be sent to it any more."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                sock.sendall(piece)
        return rest(sock)


def rest(sock: socket.socket) -> Heard:
    data = b""
    with contextlib.suppress(ConnectionError):
        while got := sock.recv(65536):
            data += got
        return Heard(data, True)
    return Heard(data, False)


def test_a_body_that_goes_on_is_waited_for(oracles: Oracles, strict: Gateway) -> None:
    """What is limited is the pause, not the whole."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", strict.port), PATIENCE) as sock:
        sock.sendall(head("Content-Length: 8", "Connection: close"))
        while time.monotonic() < begun + 1.5 * TIMEOUTS["request_body"]:
            sock.sendall(b"x")
            time.sleep(TIMEOUTS["request_body"] / 4)
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"x" * 8)
        assert rest(sock).status == 200
    oracles.check(records=1)


def test_a_head_that_trickles_in_is_not_waited_for_longer(
    oracles: Oracles, strict: Gateway
) -> None:
    """I03: 50 connections that send a byte now and then; everybody else is served meanwhile."""
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", strict.port), PATIENCE))
            for _ in range(50)
        ]
        for byte in unfinished()[:2]:
            for sock in slow:
                with contextlib.suppress(ConnectionError):  # told already, on a busy machine
                    sock.sendall(bytes([byte]))
            time.sleep(TIMEOUTS["request_head"] / 5)
            assert talk(strict.port, GOOD).status == 200
        told = [rest(sock).status for sock in slow]
        assert 408 in told
        assert set(told) <= {408, None}, "None: it sent more when it was told, and was reset"
    oracles.check(records=2)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="I04-nothing-at-all"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="a-TLS-handshake-that-stops"),
    ],
)
def test_a_connection_that_asks_nothing_is_closed(
    oracles: Oracles, strict: Gateway, sent: bytes
) -> None:
    heard = answer(strict.port, sent)
    assert heard == Heard(b"", True)
    oracles.check(records=0)


def test_an_idle_connection_is_closed_and_a_used_one_is_not(
    oracles: Oracles, strict: Gateway
) -> None:
    with Wire.to(strict.port, PATIENCE) as wire:
        for _ in range(4):
            wire.send(GOOD.replace(b"Connection: close\r\n", b""))
            assert wire.message()[1] == b"{}"
            time.sleep(TIMEOUTS["keep_alive"] / 3)
        assert wire.rest() == b""


def test_an_unfinished_head_stands_in_no_log(oracles: Oracles, strict: Gateway) -> None:
    """I15: 30 MB of it, then a close."""
    before = strict.log_path.stat().st_size
    forget_peak(strict.process.pid)
    start = resident(strict.process.pid)
    for said in (unfinished(30 * MB), b"", unfinished()[:-9], unfinished(500)):
        connection = socket.create_connection(("127.0.0.1", strict.port), PATIENCE)
        with connection as sock, contextlib.suppress(OSError):
            sock.sendall(said)
    oracles.check(records=0)
    assert resident(strict.process.pid, "VmHWM") - start < 10 * MB
    assert strict.log_path.stat().st_size - before < 4096
    assert "Authorization" not in strict.output


@pytest.mark.parametrize(("target", "status"), [(CHAT, 413), ("/nowhere/x", 404)])
def test_an_upload_that_is_refused_by_its_head_is_not_kept_and_not_read_for_ever(
    oracles: Oracles, strict: Gateway, target: str, status: int
) -> None:
    """I01: the client hears of it at once, and may stop; who goes on is cut off."""
    start = resident(strict.process.pid)
    forget_peak(strict.process.pid)
    sent = 0
    with socket.create_connection(("127.0.0.1", strict.port), PATIENCE) as sock:
        sock.sendall(head(f"Content-Length: {1000 * MB}", target=target))
        heard = Heard(sock.recv(65536), False)
        with contextlib.suppress(OSError):
            while sent < 300 * MB:
                sent += sock.send(b"x" * MB)
    assert heard.status == status
    assert sent < 300 * MB
    assert resident(strict.process.pid, "VmHWM") - start < 10 * MB
    oracles.check(heard.data, 1)


def test_the_upstream_of_an_upload_that_is_refused_is_ended(
    oracles: Oracles, upstream: Upstream, strict: Gateway
) -> None:
    """I02 and B13 on their way upwards: what was begun there is not left open."""
    for sent in (
        CHUNKED + chunk(b"x" * 300_000) * 2,
        CHUNKED + chunk(b"x" * 300_000) + b"zz\r\n",
        head("Content-Length: 400000") + b"x" * 1000,
    ):
        ended = threading.Event()

        def talk_up(wire: Wire, ended: threading.Event = ended) -> None:
            wire.rest()
            ended.set()

        upstream.talk = talk_up
        assert answer(strict.port, sent).status in (400, 408, 413)
        assert ended.wait(PATIENCE)
    oracles.check(records=3)


@pytest.mark.parametrize("breaks", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
def test_empty_lines_before_a_request_are_no_request(
    oracles: Oracles, strict: Gateway, breaks: bytes
) -> None:
    """B14."""
    heard = talk(strict.port, breaks + GOOD)
    assert heard.status == 200
    oracles.check(heard.data, 1)


def test_a_client_that_closes_its_sending_side_has_left(
    oracles: Oracles, upstream: Upstream, strict: Gateway
) -> None:
    """B16: a close and a half-close look alike, and a call that nobody waits for costs money."""
    ended = threading.Event()

    def slow(wire: Wire) -> None:
        wire.message()
        wire.rest()
        ended.set()

    upstream.talk = slow
    with socket.create_connection(("127.0.0.1", strict.port), PATIENCE) as sock:
        sock.sendall(GOOD)
        deadline = time.monotonic() + PATIENCE
        while not upstream.connections[-1:] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock).data == b""
    assert ended.wait(PATIENCE)
    (record,) = oracles.new_records(1)
    assert record["outcome"] == "client_abort"


def test_what_is_sent_while_an_answer_is_awaited_does_not_fill_memory(
    oracles: Oracles, upstream: Upstream, strict: Gateway
) -> None:
    go_on = threading.Event()

    def slow(wire: Wire) -> None:
        wire.message()
        go_on.wait(PATIENCE)

    upstream.talk = slow
    start = resident(strict.process.pid)
    forget_peak(strict.process.pid)
    heard = answer(strict.port, GOOD, *[b"POST / HTTP/1.1\r\n" + b"x" * MB] * 30)
    go_on.set()
    assert heard.status in (400, None)
    assert resident(strict.process.pid, "VmHWM") - start < 10 * MB
    oracles.check(heard.data, 1)


def test_the_head_of_an_answer_comes_to_an_end(
    oracles: Oracles, upstream: Upstream, strict: Gateway
) -> None:
    def endless(wire: Wire) -> None:
        wire.message()
        with contextlib.suppress(OSError):
            wire.send(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * MB)

    upstream.talk = endless
    heard = talk(strict.port, GOOD)
    assert heard.status == 502
    oracles.check(heard.data, 1)
    upstream.failures.clear()


# -- WebSockets ------------------------------------------------------------------------------------


def frame(data: bytes, opcode: int = 1, fin: bool = True, mask: bool = True) -> bytes:
    """A WebSocket frame (RFC 6455 5.2); a mask of zeros changes nothing."""
    size = len(data)
    head = bytes([opcode | (0x80 if fin else 0)])
    marked = 0x80 if mask else 0
    if size < 126:
        head += bytes([marked | size])
    elif size < 1 << 16:
        head += bytes([marked | 126]) + size.to_bytes(2)
    else:
        head += bytes([marked | 127]) + size.to_bytes(8)
    return head + (bytes(4) if mask else b"") + data


def talking(gateway: Gateway) -> Wire:
    """A WebSocket that is open."""
    wire = Wire.to(gateway.port, PATIENCE)
    lines = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    wire.send(head(*lines, target="/openai_passthrough/v1/realtime?model=m", method="GET"))
    assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return wire


def accepts(then: bytes = b"") -> Callable[[Wire], None]:
    """A provider that opens a WebSocket, says this, and reads on."""

    def talk(wire: Wire) -> None:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", wire.until(b"\r\n\r\n"))
        assert key
        guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key[1] + guid).digest())
        wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            wire.send(then)
        wire.rest()

    return talk


LARGE = LIMITS["websocket_message"]
ENDLESS = [
    pytest.param(frame(b"x" * 2 * LARGE), b"", id="I10-one-frame"),
    pytest.param(
        frame(b"", fin=False) + frame(b"x" * 5000, 0, fin=False) * (2 * LARGE // 5000),
        b"",
        id="I10-fragments",
    ),
    pytest.param(
        frame(b"x", fin=False) + frame(b"x", 0, fin=False) * 20_000, b"", id="I10-tiny-fragments"
    ),
    pytest.param(b"", frame(b"x" * 2 * LARGE, mask=False), id="I10-of-the-provider"),
]


@pytest.mark.parametrize(("said", "answered"), ENDLESS)
def test_a_message_without_an_end_is_closed(
    oracles: Oracles, upstream: Upstream, strict: Gateway, said: bytes, answered: bytes
) -> None:
    upstream.talk = accepts(answered)
    start = resident(strict.process.pid)
    forget_peak(strict.process.pid)
    with talking(strict) as wire:
        with contextlib.suppress(OSError):
            wire.send(said)
        rest = wire.rest()
    assert (1009).to_bytes(2) in rest[:8], rest[:40]
    assert resident(strict.process.pid, "VmHWM") - start < 15 * MB
    (record,) = oracles.new_records(1)
    assert record["outcome"] == ("refused" if said else "upstream_error")
    assert record["error"]["type"] == "message_too_large"
    oracles.check()
    assert upstream.failures == []


def test_pings_and_many_messages_fill_neither_memory_nor_the_log(
    oracles: Oracles, upstream: Upstream, strict: Gateway
) -> None:
    """I10."""
    upstream.talk = accepts()
    before = strict.log_path.stat().st_size
    forget_peak(strict.process.pid)
    start = resident(strict.process.pid)
    with talking(strict) as wire:
        wire.sock.settimeout(4 * PATIENCE)
        wire.send(frame(b"ping-of-a-client", 9) * 1000)
        wire.send(frame(b"{}") * 200)
        for _ in range(60):
            wire.send(frame(b"x" * 100_000))
        wire.send(frame((1000).to_bytes(2), 8))
        assert (1000).to_bytes(2) in wire.rest()
    assert resident(strict.process.pid, "VmHWM") - start < 40 * MB
    assert strict.log_path.stat().st_size - before < 8192
    oracles.check(records=1)
