"""HTTP/1 as we make mitmproxy read it: empty lines, interim answers, trailers, in any cut."""

from collections.abc import Iterator

import pytest
from llm_passthrough import layer as seam
from llm_passthrough.config import Limits
from llm_passthrough.intake import Reader
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection

SOCKET = ((b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Version", b"13"))
CUTS = [
    pytest.param(1, id="byte by byte"),
    pytest.param(2, id="two bytes a time"),
    pytest.param(7, id="seven bytes a time"),
    pytest.param(100_000, id="at once"),
]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"


@pytest.fixture(autouse=True)
def _installed() -> None:
    seam.install(Limits())
    seam.install(Limits())  # once more, as at a reload: it reads no other way


def _open[C: Client | Server](connection: C) -> C:
    connection.state = ConnectionState.OPEN
    return connection


def _context() -> Context:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 8080), timestamp_start=0.0)
    context = Context(_open(client), Options())
    context.server = _open(Server(address=("127.0.0.1", 9000)))
    return context


def heard(layer: Http1Connection, data: bytes, size: int) -> list[HttpEvent]:
    """The HTTP events of bytes that come in pieces of this size."""
    found: list[HttpEvent] = []
    for at in range(0, len(data), size):
        found += _told(layer.handle_event(events.DataReceived(layer.conn, data[at : at + size])))
    return found


def _told(said: Iterator[commands.Command]) -> list[HttpEvent]:
    return [command.event for command in said if isinstance(command, ReceiveHttp)]


def server() -> Reader:
    """What reads requests."""
    layer = Reader(_context())
    list(layer.handle_event(events.Start()))
    return layer


def client(method: str = "POST", *asks: tuple[bytes, bytes]) -> Http1Client:
    """What reads the answer to a request that was sent with these fields too."""
    layer = Http1Client(_context())
    list(layer.handle_event(events.Start()))
    request = http.Request.make(method, "http://127.0.0.1:9000/v1/x", b"", [(b"Host", b"x"), *asks])
    for event in (RequestHeaders(1, request, True), RequestEndOfMessage(1)):
        list(layer.handle_event(event))
    return layer


def body(found: list[HttpEvent]) -> bytes:
    return b"".join(getattr(event, "data", b"") for event in found)


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"\r\n", id="one"),
        pytest.param(b"\n", id="a bare line feed"),
        pytest.param(b"\r\n\r\n\n\r\n" * 20, id="many"),
    ],
)
def test_empty_lines_before_a_request_are_passed_over(before: bytes, size: int) -> None:
    ask = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    found = heard(server(), before + ask, size)
    assert isinstance(found[0], RequestHeaders)
    assert found[0].request.path == "/v1/x"
    assert body(found) == b"{}"
    assert isinstance(found[-1], RequestEndOfMessage)


def test_what_is_said_of_an_exchange_that_is_over_is_not_said_of_the_next_one() -> None:
    """As when somebody ends a call whose answer has just gone out (the fuzzer's seed 2)."""
    layer = server()
    ask = b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
    assert len(heard(layer, ask, 1000)) == 2
    answer = http.Response.make(200, b"", {"Content-Length": "0"})
    for event in (ResponseHeaders(1, answer, True), ResponseEndOfMessage(1)):
        list(layer.handle_event(event))
    assert list(layer.handle_event(ResponseProtocolError(1, "killed", ErrorCode.KILL))) == []
    assert [type(event) for event in heard(layer, ask, 1000)] == [
        RequestHeaders,
        RequestEndOfMessage,
    ]


def test_empty_lines_alone_are_no_request() -> None:
    layer = server()
    assert heard(layer, b"\r\n\r\n\n", 1) == []
    layer.conn.state = ConnectionState.CLOSED
    assert _told(layer.handle_event(events.ConnectionClosed(layer.conn))) == []


def test_empty_lines_between_two_requests_are_passed_over() -> None:
    layer = server()
    ask = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
    heard(layer, ask, 100)
    for event in (
        ResponseHeaders(1, http.Response.make(204), True),
        ResponseEndOfMessage(1),
    ):
        list(layer.handle_event(event))
    found = heard(layer, b"\r\n\r\n" + ask.replace(b"/1", b"/2"), 1)
    assert [event.request.path for event in found if isinstance(event, RequestHeaders)] == ["/2"]


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize(
    "interim",
    [
        pytest.param(EARLY, id="103"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
        pytest.param(b"HTTP/1.1 100\r\n\r\n", id="100 without a reason"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" + EARLY * 3, id="several"),
        pytest.param(b"HTTP/1.0 199 Odd\r\nContent-Length: 99\r\n\r\n", id="one with a length"),
    ],
)
def test_an_interim_answer_is_not_the_answer(interim: bytes, size: int) -> None:
    found = heard(client(), interim + OK, size)
    heads = [event.response for event in found if isinstance(event, ResponseHeaders)]
    assert [head.status_code for head in heads] == [200]
    assert "link" not in heads[0].headers
    assert body(found) == b"{}"
    assert isinstance(found[-1], ResponseEndOfMessage)


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("before", [b"", EARLY])
def test_a_change_of_protocol_is_an_answer(before: bytes, size: int) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    found = heard(client("GET", *SOCKET), before + switch, size)
    heads = [event.response for event in found if isinstance(event, ResponseHeaders)]
    assert [head.status_code for head in heads] == [101]


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize(
    ("asks", "gives"),
    [
        pytest.param((), b"websocket", id="nobody asked"),
        pytest.param(SOCKET, b"foo", id="another protocol"),
        pytest.param(SOCKET[:1], b"websocket", id="another version"),
    ],
)
def test_a_change_of_protocol_that_nobody_asked_for_is_no_answer(
    asks: tuple[tuple[bytes, bytes], ...], gives: bytes, size: int
) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\n\r\nmore" % gives
    layer = client("GET", *asks)
    (event,) = heard(layer, switch, size)[:1]
    assert isinstance(event, ResponseProtocolError)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 1", id="the beginning of a status"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: ", id="half an interim head"),
        pytest.param(EARLY, id="an interim answer alone"),
        pytest.param(EARLY + b"HTTP/1.1 200 OK\r\n", id="half an answer's head"),
    ],
)
def test_an_upstream_that_closes_before_its_answer_is_told_of(said: bytes) -> None:
    layer = client()
    assert heard(layer, said, 5) == []
    layer.conn.state = ConnectionState.CAN_WRITE
    found = _told(layer.handle_event(events.ConnectionClosed(layer.conn)))
    assert [type(event) for event in found] == [ResponseProtocolError]


def test_what_an_upstream_says_unasked_ends_its_connection() -> None:
    layer = Http1Client(_context())
    list(layer.handle_event(events.Start()))
    said = list(layer.handle_event(events.DataReceived(layer.conn, EARLY)))
    assert any(isinstance(command, commands.CloseConnection) for command in said)


TRAILED = b"2\r\n{}\r\n0\r\nX-Checksum: 1\r\nX-More: a\r\n\r\n"


@pytest.mark.parametrize("size", CUTS)
def test_an_answers_trailers_are_dropped_and_the_connection_goes_on(size: int) -> None:
    layer = client()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = heard(layer, head + TRAILED, size)
    assert body(found) == b"{}"
    assert [type(event) for event in found if not hasattr(event, "data")] == [
        ResponseHeaders,
        ResponseEndOfMessage,
    ]
    assert layer.conn.state is ConnectionState.OPEN
    assert bytes(layer.buf) == b""


@pytest.mark.parametrize("size", CUTS)
def test_a_requests_trailers_are_dropped(size: int) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = heard(server(), head + TRAILED, size)
    assert body(found) == b"{}"
    assert isinstance(found[-1], RequestEndOfMessage)
