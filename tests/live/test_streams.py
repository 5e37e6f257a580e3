"""Streams: nothing is held back, nothing is changed, every way to break off looks like one.

The provider here is a raw socket that waits, where timing matters, until the client says what it
has got: an event that is held back ends in a timeout, not in a slow test.
"""

import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from live.harness import (
    CLIENT_KEY,
    SIGNED,
    Gateway,
    Provider,
    Upstream,
    Wire,
    config_for,
    credentials,
    free_port,
    request,
)
from live.oracles import Oracles, talk

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-A: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CHAT = "/openai_passthrough/v1/chat/completions"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def ask(marker: str, target: str = CHAT) -> bytes:
    """A streaming request that keeps its connection, with a model to find its record by."""
    body = json.dumps({"model": marker, "stream": True}).encode()
    return request(target, body).replace(b"Connection: close\r\n", b"")


@pytest.fixture(autouse=True)
def _no_failure_in_a_thread(upstream: Upstream) -> Iterator[None]:
    upstream.failures.clear()
    yield
    assert not upstream.failures


@pytest.fixture(scope="module")
def absent() -> int:
    """A port where nobody listens until a test does."""
    return free_port()


@pytest.fixture(scope="module")
def paced() -> Iterator[Provider]:
    """The demo provider with a tenth of a second between two events."""
    provider = Provider(pace=0.1)
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def raw_gateway(
    upstream: Upstream, paced: Provider, absent: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before the raw upstream; its gemini is the paced provider, its azure is absent."""
    config = config_for(upstream.url)
    config["providers"]["gemini"]["network_config"]["base_url"] = paced.url
    azure = config["providers"]["azure"]["keys"][0]["azure_key_config"]
    azure["endpoint"] = f"http://127.0.0.1:{absent}"
    gateway = Gateway(tmp_path_factory.mktemp("streams"), config)
    yield gateway
    gateway.stop()


# -- nothing is held back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        pytest.param(CHUNKED, chunk, id="chunked events"),
        pytest.param(CHUNKED.replace(b"text/event-stream", b"x/y"), chunk, id="any chunked type"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", bytes, id="until close"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 48\r\n\r\n",
            bytes,
            id="events with a length",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 48\r\n\r\n",
            bytes,
            id="sound with a length",
        ),
        pytest.param(CHUNKED.replace(b"200 OK", b"429 Slow"), chunk, id="an error that streams"),
    ],
)
def test_the_client_has_each_piece_before_the_next_one_is_sent(
    upstream: Upstream, raw_gateway: Gateway, head: bytes, frame: Callable[[bytes], bytes]
) -> None:
    got: queue.Queue[int] = queue.Queue()
    pieces = [b"data: %04d\n\n" % number for number in range(4)]

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(head)
        for number, piece in enumerate(pieces):
            assert got.get(timeout=10) == number  # the head, or the piece before
            wire.send(frame(piece))
        assert got.get(timeout=10) == len(pieces)
        if frame is chunk:
            wire.send(LAST)

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask("held-back"))
        assert wire.until(b"\r\n\r\n").startswith(head.split(b"\r\n")[0])
        for number, piece in enumerate(pieces):
            got.put(number)
            wire.until(piece)
        got.put(len(pieces))


def test_a_paced_stream_arrives_at_the_providers_pace(raw_gateway: Gateway) -> None:
    """Of the real thing: each event is here long before the last one is sent."""
    target = "/genai_passthrough/v1beta/models/m:streamGenerateContent?alt=sse"
    body = json.dumps({"contents": [{"parts": [{"text": "x"}]}]}).encode()
    with Wire.to(raw_gateway.port) as wire:
        wire.send(request(target, body))
        wire.until(b"\r\n\r\n")
        arrived = [time.monotonic() for _ in iter(wire.chunk, b"")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    assert len(gaps) > 5
    # Held back, the gaps would be nothing and the wait before the first event all of it.
    assert sum(gap > 0.05 for gap in gaps) > len(gaps) * 0.7


# -- nothing is changed ---------------------------------------------------------------------------

EURO = "€".encode()
PIECES = [
    pytest.param([b"data: a\n\ndata: b\n\n"], id="two events in a piece"),
    pytest.param([b"data: ", EURO[:1], EURO[1:], b"\n\n"], id="a character in two pieces"),
    pytest.param([b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"], id="CR and LF in two pieces"),
    pytest.param([b"data: a\r\rdata: b\r\r"], id="lines that end with CR alone"),
    pytest.param([b": a comment\n\n", b":\n", b"data: a\n\n"], id="comments"),
    pytest.param([b"event: x\nid: 1\nretry: 5\ndata: a\ndata: b\n\n"], id="all fields"),
    pytest.param([b"\xef\xbb\xbfdata: a\n\n"], id="a byte order mark"),
    pytest.param([b"data: a\n\n", b"data: [DONE]"], id="no line break at the end"),
    pytest.param([b"data: \xff\xfe\x00\n\n"], id="bytes that are no text"),
    pytest.param([bytes([byte]) for byte in b"data: {}\n\n"], id="every byte a piece"),
    pytest.param([b"\n\n\n\n", b"data:a\n\n\n\n"], id="empty events"),
    pytest.param([b"data: " + b"x" * 300_000 + b"\n\n"] * 3, id="long events"),
    pytest.param([b'data: {"usage": {"prompt_tokens": "NaN"}}\n\n'], id="usage of another type"),
    pytest.param([b"data: [[[[[" * 9999 + b"\n\n"], id="JSON that is nested deep"),
]


@pytest.mark.parametrize("pieces", PIECES)
def test_a_stream_is_the_same_bytes_and_the_same_head(
    upstream: Upstream, raw_gateway: Gateway, pieces: list[bytes]
) -> None:
    """J15."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED)
        for piece in pieces:
            wire.send(chunk(piece))
        wire.send(LAST)

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask("same-bytes"))
        head, body = wire.message()
    assert head == CHUNKED
    assert body == b"".join(pieces)


# -- every way to break off -----------------------------------------------------------------------


@dataclass
class Broken:
    """How an upstream ends before its answer does."""

    head: bytes
    parts: list[bytes]
    end: Callable[[Wire], None] = field(default=Wire.close)


LONG = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 100\r\n\r\n"
BREAKS = [
    pytest.param(Broken(CHUNKED, [chunk(b"data: seen\n\n")]), id="closed between two chunks"),
    pytest.param(Broken(CHUNKED, [b"40\r\ndata: seen\n\n"]), id="closed inside a chunk"),
    pytest.param(Broken(CHUNKED, [chunk(b"data: seen\n\n"), b"0\r\n"]), id="in the last chunk"),
    pytest.param(
        Broken(CHUNKED, [chunk(b"data: seen\n\n")], Wire.reset), id="reset between two chunks"
    ),
    pytest.param(
        Broken(CHUNKED, [chunk(b"data: seen\n\n"), b"zz\r\nx\r\n"]), id="a chunk size that is none"
    ),
    pytest.param(Broken(LONG, [b"data: seen\n\n"]), id="closed before the length is reached"),
    pytest.param(
        Broken(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n", [b"data: seen\n\n"], Wire.reset),
        id="reset while the end is the connection's",
    ),
]


@pytest.mark.parametrize("broken", BREAKS)
def test_a_stream_that_breaks_off_looks_broken_to_the_client(
    upstream: Upstream, raw_gateway: Gateway, broken: Broken
) -> None:
    """J06."""
    marker = f"broken-{time.monotonic_ns()}"
    arrived = threading.Event()

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(broken.head + broken.parts[0])
        arrived.wait(10)
        for part in broken.parts[1:]:
            wire.send(part)
        broken.end(wire)

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(marker))
        head = wire.until(b"\r\n\r\n")
        assert b" 200 " in head
        begun = wire.until(b"data: seen\n\n")
        arrived.set()
        with contextlib.suppress(ConnectionResetError):
            left = wire.rest()
            assert not left.endswith(LAST), "the client took it for a whole answer"
    assert b"seen" in begun
    record = raw_gateway.record_of(marker)
    assert record["outcome"] == "upstream_abort"
    assert record["response"]["status"] == 200
    assert "data: seen" in record["response"]["body"]
    assert record["error"]["origin"] == "upstream"


@pytest.mark.parametrize(
    ("sent", "end", "said"),
    [
        pytest.param(b"", Wire.close, "closed the connection", id="closed without a word"),
        pytest.param(b"", Wire.reset, "closed the connection", id="reset without a word"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-",
            Wire.close,
            "no well-formed",
            id="closed inside the head",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            Wire.close,
            "closed the connection",
            id="a short body",
        ),
        pytest.param(b"SSH-2.0-x\r\n\r\n", Wire.close, "no well-formed", id="no HTTP at all"),
    ],
)
def test_an_upstream_that_ends_before_anything_was_passed_on_is_a_502(
    upstream: Upstream, raw_gateway: Gateway, sent: bytes, end: Callable[[Wire], None], said: str
) -> None:
    marker = f"early-{time.monotonic_ns()}"

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(sent)
        end(wire)

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(marker))
        head, body = wire.message()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"x-passthrough-error: upstream_protocol" in head
    assert said in json.loads(body)["error"]["message"]
    record = raw_gateway.record_of(marker)
    assert record["outcome"] in ("upstream_abort", "upstream_error")
    assert record["error"]["origin"] == "upstream"
    assert record["response"]["status"] == 502


def test_a_provider_that_comes_back_is_reached_by_a_client_who_asked_before(
    raw_gateway: Gateway, absent: int
) -> None:
    """A client keeps its connection; that a dial failed once must not stick to it."""
    with contextlib.closing(Reconnecting(raw_gateway.port)) as client:
        assert client.status() == 502
        assert client.status() == 502
        with socket.create_server(("127.0.0.1", absent)) as server:
            threading.Thread(target=_serve_one, args=(server,), daemon=True).start()
            assert client.status() == 200


class Reconnecting:
    """A client that keeps its connection as long as the answers let it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wire = Wire.to(port)

    def status(self) -> int:
        self._wire.send(ask("back-again", "/azure_passthrough/openai/v1/responses"))
        head, _ = self._wire.message()
        if b"connection: close" in head.lower():
            self._wire.close()
            self._wire = Wire.to(self._port)
        return int(head.split(b" ")[1])

    def close(self) -> None:
        self._wire.close()


def _serve_one(server: socket.socket) -> None:
    with Wire(server.accept()[0]) as wire:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_an_idle_connection_that_the_provider_closed_is_not_used_again(
    upstream: Upstream, raw_gateway: Gateway
) -> None:
    """J11."""
    closed = threading.Event()

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        wire.close()
        closed.set()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        for _ in range(3):
            closed.clear()
            wire.send(ask("idle-closed"))
            assert b" 200 " in wire.message()[0]
            assert closed.wait(5)
            time.sleep(0.1)  # for the gateway to hear of it: it cannot know before


# -- a client that leaves -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "end"),
    [
        pytest.param(CHUNKED + chunk(b"data: seen\n\n"), Wire.close, id="inside a stream"),
        pytest.param(CHUNKED + chunk(b"data: seen\n\n"), Wire.reset, id="inside, by a reset"),
        pytest.param(b"", Wire.close, id="before the head"),
        pytest.param(b"", Wire.reset, id="before the head, by a reset"),
    ],
)
def test_a_client_that_leaves_ends_the_call_to_the_provider(
    upstream: Upstream, raw_gateway: Gateway, head: bytes, end: Callable[[Wire], None]
) -> None:
    """J09."""
    marker = f"left-{time.monotonic_ns()}"
    asked, ended = threading.Event(), threading.Event()

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(head)
        asked.set()
        wire.rest()  # nothing but the end of the connection comes
        ended.set()

    upstream.talk = talk
    wire = Wire.to(raw_gateway.port)
    wire.send(ask(marker))
    assert asked.wait(10)
    if head:
        wire.until(b"data: seen\n\n")
    end(wire)
    left = time.monotonic()
    assert ended.wait(10)
    assert time.monotonic() - left < 5  # a moment, on a machine that does other things too
    record = raw_gateway.record_of(marker)
    assert record["outcome"] == "client_abort"
    assert record["error"]["origin"] == "client"
    if head:
        assert "data: seen" in record["response"]["body"]
    else:
        assert record["response"] is None


DONE = [
    pytest.param(CHAT, b"data: [DONE]\n\n", id="chat"),
    pytest.param(
        "/anthropic_passthrough/v1/messages",
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        id="messages",
    ),
    pytest.param(
        "/openai_passthrough/v1/responses",
        b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
        id="responses",
    ),
]


@pytest.mark.parametrize(("target", "last"), DONE)
def test_a_client_that_leaves_after_the_last_event_has_left_nothing_out(
    upstream: Upstream, raw_gateway: Gateway, target: str, last: bytes
) -> None:
    """The SDKs hang up at the protocol's own end and do not wait for the last chunk."""
    marker = f"done-{time.monotonic_ns()}"

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED + chunk(b"data: {}\n\n") + chunk(last))
        wire.rest()

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(marker, target))
        wire.until(last)
    assert raw_gateway.record_of(marker)["outcome"] == "ok"


# -- deadlines ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that waits half a second for anything; its anthropic takes no connection."""
    with socket.socket() as full, socket.socket() as mute:
        for listening in (full, mute):
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        config = config_for(upstream.url) | {
            "timeouts": {"connect": 0.5, "first_byte": 0.5, "idle": 0.5, "keep_alive": 1}
        }
        providers = config["providers"]
        providers["anthropic"]["network_config"]["base_url"] = f"http://127.0.0.1:{address[1]}"
        silent = f"https://127.0.0.1:{mute.getsockname()[1]}"
        providers["gemini"]["network_config"]["base_url"] = silent
        gateway = Gateway(tmp_path_factory.mktemp("hasty"), config)
        yield gateway
        gateway.stop()
        for filler in fillers:
            filler.close()


def _silent(wire: Wire) -> None:
    wire.message()
    wire.rest()


@pytest.mark.parametrize(
    ("target", "phase"),
    [
        pytest.param(CHAT, "first_byte", id="no first byte"),
        pytest.param("/anthropic_passthrough/v1/messages", "connect", id="no connection"),
        pytest.param(
            "/genai_passthrough/v1beta/models/m:generateContent", "connect", id="no TLS handshake"
        ),
    ],
)
def test_an_upstream_that_is_too_slow_is_a_504_that_says_which_deadline_it_was(
    upstream: Upstream, hasty: Gateway, target: str, phase: str
) -> None:
    """J02, J03."""
    marker = f"slow-{time.monotonic_ns()}"
    upstream.talk = _silent
    with Wire.to(hasty.port) as wire:
        wire.send(ask(marker, target))
        head, body = wire.message()
    assert head.startswith(b"HTTP/1.1 504 ")
    assert phase in json.loads(body)["error"]["message"]
    record = hasty.record_of(marker)
    assert record["outcome"] == "timeout"
    assert record["error"]["type"] == "upstream_timeout"


def test_a_stream_that_falls_silent_is_cut(upstream: Upstream, hasty: Gateway) -> None:
    """J04, I07: what came of it is kept."""
    marker = f"silent-{time.monotonic_ns()}"

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED + chunk(b"data: seen\n\n"))
        wire.rest()

    upstream.talk = talk
    with Wire.to(hasty.port) as wire:
        wire.send(ask(marker))
        wire.until(b"data: seen\n\n")
        assert not wire.rest().endswith(LAST)
    record = hasty.record_of(marker)
    assert record["outcome"] == "timeout"
    assert "idle" in record["error"]["message"]
    assert "data: seen" in record["response"]["body"]


def test_a_client_that_never_reads_is_cut_and_holds_nothing(
    upstream: Upstream, hasty: Gateway
) -> None:
    """I08: it is not the provider that is late; what the client left is let go of."""
    marker = f"unread-{time.monotonic_ns()}"
    oracles = Oracles(hasty, ())
    assert talk(hasty.port, request("/health", b"", "GET")).status == 200
    oracles.begin()

    def endless(wire: Wire) -> None:
        wire.message()
        with contextlib.suppress(OSError):
            wire.send(CHUNKED)
            while True:
                wire.send(chunk(b"data: %s\n\n" % (b"x" * 65536)))

    upstream.talk = endless
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect(("127.0.0.1", hasty.port))
        sock.sendall(ask(marker))
        record = hasty.record_of(marker, timeout=20)
        oracles.settle()  # while the client still holds its end
    assert (record["outcome"], record["error"]["origin"]) == ("timeout", "client")
    assert record["error"]["message"] == "the client did not take the answer (idle after 0.5 s)"
    assert record["response"]["truncated"]


def test_a_stream_that_goes_on_has_no_deadline_for_its_whole_length(
    upstream: Upstream, hasty: Gateway
) -> None:
    """J04."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(CHUNKED)
        for _ in range(8):
            time.sleep(0.2)  # 1.6 s in all, three times the deadline
            wire.send(chunk(b": still here\n\n"))
        wire.send(LAST)

    upstream.talk = talk
    with Wire.to(hasty.port) as wire:
        wire.send(ask("long-lived"))
        assert wire.message()[1] == b": still here\n\n" * 8


@pytest.fixture(scope="module")
def bounded(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that lets no exchange take longer than a second."""
    config = config_for(upstream.url, timeouts={"total": 1})
    gateway = Gateway(tmp_path_factory.mktemp("bounded"), config)
    yield gateway
    gateway.stop()


def test_a_stream_without_an_end_is_cut_when_its_time_is_over(
    upstream: Upstream, bounded: Gateway
) -> None:
    """I07: though it is never silent; what came of it is kept."""
    ended = threading.Event()

    def endless(wire: Wire) -> None:
        wire.message()
        with contextlib.suppress(OSError):
            wire.send(CHUNKED)
            while True:
                wire.send(chunk(b"data: on and on\n\n"))
                time.sleep(0.05)
        ended.set()

    upstream.talk = endless
    marker = f"endless-{time.monotonic_ns()}"
    with Wire.to(bounded.port) as wire:
        wire.send(ask(marker))
        heard = wire.rest()
    assert ended.wait(5)
    record = bounded.record_of(marker)
    assert record["outcome"] == "timeout"
    assert record["error"]["message"].endswith("took too long (total after 1 s)")
    assert not heard.endswith(LAST)
    events = heard.count(b"data: on and on\n\n")
    assert record["response"]["body"].count("data: on and on\n\n") == events > 0


def test_an_answer_that_does_not_begin_in_the_time_of_a_whole_exchange_is_a_504(
    upstream: Upstream, bounded: Gateway
) -> None:
    """I07."""
    upstream.talk = _silent
    with Wire.to(bounded.port) as wire:
        wire.send(ask("in-vain"))
        head, body = wire.message()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert "total after 1 s" in json.loads(body)["error"]["message"]
        upstream.talk = lambda wire: (
            wire.message() and wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        )
        wire.send(ask("next"))  # each exchange has its own time, a connection has none
        assert wire.message()[1] == b"{}"
    assert bounded.record_of("in-vain")["outcome"] == "timeout"


# -- connections ----------------------------------------------------------------------------------

IN_TURN = [
    ("openai", CHAT),
    ("anthropic", "/anthropic_passthrough/v1/messages"),
    ("azure", "/azure_passthrough/openai/deployments/d/chat/completions"),
    ("gemini", "/genai_passthrough/v1beta/models/m:generateContent"),
    ("vertex", "/genai_passthrough/v1beta1/publishers/google/models/m:generateContent"),
    ("openai", CHAT),
    ("gemini", "/genai_passthrough/v1beta/models/m:generateContent"),
]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, Any]]]:
    """A gateway whose five providers are five servers."""
    providers = {name: Provider() for name in SIGNED}
    config = config_for("http://127.0.0.1:1")
    for name, provider in providers.items():
        config["providers"][name]["network_config"]["base_url"] = provider.url
    config["providers"]["azure"]["keys"][0]["azure_key_config"]["endpoint"] = providers["azure"].url
    gateway = Gateway(tmp_path_factory.mktemp("five"), config)
    yield gateway, providers
    gateway.stop()
    for provider in providers.values():
        provider.stop()


@pytest.mark.parametrize("pipelined", [False, True], ids=["in turn", "pipelined"])
def test_one_connection_may_carry_all_providers_and_each_sees_its_own_key_alone(
    five: tuple[Gateway, dict[str, Any]], pipelined: bool
) -> None:
    """A28."""
    gateway, providers = five
    before = {name: len(provider.seen) for name, provider in providers.items()}
    asks = [(name, ask(f"turn-{number}", to)) for number, (name, to) in enumerate(IN_TURN)]
    with Wire.to(gateway.port) as wire:
        if pipelined:
            wire.send(b"".join(data for _, data in asks))
        for _, data in asks:
            if not pipelined:
                wire.send(data)
            assert wire.message()[0].startswith(b"HTTP/1.1 ")
    for name, provider in providers.items():
        seen = provider.seen[before[name] :]
        assert len(seen) == sum(turn == name for turn, _ in IN_TURN)
        for one in seen:
            assert credentials(one.headers) == [SIGNED[name]]
            assert CLIENT_KEY.encode() not in one.head


def test_two_pipelined_requests_are_answered_in_their_order(
    upstream: Upstream, raw_gateway: Gateway
) -> None:
    """B15."""

    def talk(wire: Wire) -> None:
        with contextlib.suppress(EOFError):
            while True:
                model = json.loads(wire.message()[1])["model"].encode()
                wire.send(CHUNKED + chunk(b"first half of ") + chunk(model) + LAST)

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask("one") + ask("two"))
        assert wire.message()[1] == b"first half of one"
        assert wire.message()[1] == b"first half of two"


def test_a_refused_request_leaves_the_connection_usable(
    upstream: Upstream, raw_gateway: Gateway
) -> None:
    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    upstream.talk = talk
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask("refused", "/nowhere/v1"))
        assert b" 404 " in wire.message()[0]
        wire.send(ask("not-refused"))
        assert wire.message()[1] == b"{}"
