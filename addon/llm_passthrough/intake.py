"""The seam into mitmproxy's HTTP/1 reader on the client's side: requests are read within limits.

mitmproxy waits without end for the end of a head, in memory without end, and tells the log what
it has read of it; of what it cannot read it tells the client in HTML, or closes without a word.
Here the client is told in its provider's shape, the log nothing, and the connection is closed in
a way that lets the answer arrive (RFC 9112 9.6).
"""

from typing import Any, ClassVar, Protocol

import h11
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
)

from llm_passthrough import heads
from llm_passthrough.config import Limits, Timeouts
from llm_passthrough.connections import Connections, Phase, Visit
from llm_passthrough.errors import Refusal

type Commands = layer.CommandGenerator[None]

_LEFT = "Client disconnected."
_MOST_DROPPED = 16 << 20
_TOO_EARLY = Refusal("bad_request", "too much was sent while an answer was on its way")
_FAILED = Refusal("upstream_protocol", "the request could not be passed on")


class Terms(Protocol):
    """What a reader goes by, and whom it tells what becomes of a connection."""

    @property
    def limits(self) -> Limits:
        """The limits that hold now."""

    @property
    def timeouts(self) -> Timeouts:
        """The deadlines that hold now."""

    def clock(self) -> float:
        """Seconds."""

    def visit(self, ident: str, /) -> Visit | None:
        """What is known of a client's connection."""

    def refuse(self, line: bytes, refusal: Refusal, /) -> bytes:
        """The whole answer to a request that was read no further than this."""


class ClientFault(RequestProtocolError):  # noqa: N818 - an event, as its base
    """What a client sends cannot be read on; `refusal` is what he is told."""

    def __init__(self, stream_id: int, refusal: Refusal) -> None:
        super().__init__(stream_id, refusal.message, ErrorCode.GENERIC_CLIENT_ERROR)
        self.refusal = refusal


class HangUp(ResponseProtocolError):  # noqa: N818 - an event, as its base
    """The client has his answer, and is not listened to any more."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id, "", ErrorCode.PASSTHROUGH_CLOSE)


class Overdue(events.MessageInjected[Refusal]):
    """The client's side of a flow takes too long; `message` is what he is told.

    mitmproxy finds the stream of a flow for messages that are put into it, whatever lies between.
    """


class Reader(_http1.Http1Server):
    """Reads one request after the other from a client's connection."""

    terms: ClassVar[Terms] = Connections(lambda: 0.0)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._visit = self.terms.visit(self.conn.id)
        self._begun: float | None = None  # since when a head has been unfinished
        self._wakes = False
        self._deaf = False
        self._left = False
        self._dropped = 0

    def _enter(self, phase: Phase) -> None:
        if self._visit is not None:
            self._visit.enter(phase, self.terms.clock())

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, HttpEvent):
            yield from self.send(event)
        elif isinstance(event, events.Wakeup):
            yield from self._woken()
        else:
            yield from super()._handle_event(event)

    # -- a head -------------------------------------------------------------------------------

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Read a head when it is whole; of one that will not be, nothing is told to anybody.

        Nor is what a client had sent ahead and will hear no answer to: it has gone.
        """
        if isinstance(event, events.ConnectionClosed) or self._is_gone():
            return self._close()
        assert isinstance(event, events.DataReceived)
        return self._read_head(event)

    def _is_gone(self) -> bool:
        return self.conn.state is ConnectionState.CLOSED

    def _close(self) -> Commands:
        yield commands.CloseConnection(self.conn)

    def _read_head(self, event: events.DataReceived) -> Commands:
        buf = self.buf
        while bytes(buf._data[:2]) == b"\r\n" or bytes(buf._data[:1]) == b"\n":
            buf.maybe_extract_lines()
        size = len(buf)
        lines = buf.maybe_extract_lines()
        if lines is None:
            yield from self._wait_for_more(size)
            return
        self._begun = None
        self._enter("busy")
        yield from self._take(lines, size - len(buf), event)

    def _take(self, lines: list[bytearray], size: int, event: events.DataReceived) -> Commands:
        """Begin with a request whose head is whole; `size` is that of the head."""
        limits, visit = self.terms.limits, self._visit
        if visit is not None and visit.refusal is not None:
            yield from self._turn_away(bytes(lines[0]), visit.refusal)
            return
        refusal = heads.beyond([len(line) for line in lines], size, limits)
        kept = lines[: limits.request_headers + 1]
        request, length = heads.parsed([bytes(line) for line in kept])
        if length is None:
            refusal = refusal or heads.MALFORMED
        if request is None:
            yield from self._turn_away(bytes(lines[0]), refusal or heads.MALFORMED)
            return
        self.request = request
        ended = refusal is None and length == 0
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, ended))
        if self._deaf:
            return  # it was answered already, and nothing of what follows is a request
        if refusal is not None:
            yield from self._fail(refusal)
            return
        self.body_reader = _http1.make_body_reader(None if length == heads.CHUNKED else length)
        self.state = self.read_body
        yield from self.state(event)

    def _wait_for_more(self, size: int) -> Commands:
        limits = self.terms.limits
        if size > limits.request_head:
            start = bytes(self.buf._data[: limits.request_line])
            line, end, _ = start.partition(b"\n")
            yield from self._turn_away(line, heads.TOO_LARGE if end else heads.TOO_LONG)
        elif size and self._begun is None:
            self._begun = self.terms.clock()
            self._enter("head")
            yield from self._wake_after(self.terms.timeouts.request_head)

    def _wake_after(self, seconds: float) -> Commands:
        if not self._wakes:
            self._wakes = True
            yield commands.RequestWakeup(seconds)

    def _woken(self) -> Commands:
        self._wakes = False
        if self._begun is None or self._deaf:
            return
        limit = self.terms.timeouts.request_head
        left = self._begun + limit - self.terms.clock()
        if left > 0:
            yield from self._wake_after(left)
            return
        line = bytes(self.buf._data[: self.terms.limits.request_line]).partition(b"\n")[0]
        refusal = Refusal("request_timeout", f"the request's head was not whole after {limit:g} s")
        yield from self._turn_away(line, refusal)

    # -- a body -------------------------------------------------------------------------------

    def read_body(self, event: events.Event) -> Commands:
        """Read a piece of the body; of what is no body the client is told."""
        if not isinstance(event, events.DataReceived):
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(
                RequestProtocolError(self.stream_id, _LEFT, ErrorCode.CLIENT_DISCONNECTED)
            )
            return
        while not self._deaf:
            try:
                piece = self.body_reader(self.buf)
            except h11.ProtocolError:
                yield from self._fail(heads.MALFORMED)
                return
            if isinstance(piece, h11.Data):
                yield ReceiveHttp(RequestData(self.stream_id, bytes(piece.data)))
                continue
            if piece is not None:
                assert self.request is not None
                if self.request.data.method.upper() != b"CONNECT":
                    yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
                yield from self.mark_done(request=True)
            return

    def wait(self, event: events.Event) -> Commands:
        """While an answer is on its way the client may ask on, but not without end."""
        limits = self.terms.limits
        if len(self.buf) > limits.request_head + limits.request_buffer:
            yield from self._fail(_TOO_EARLY)
            return
        yield from super().wait(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """As mitmproxy does; the connection is idle when nothing of a next request is there."""
        yield from super().mark_done(request=request, response=response)
        if self.request_done or self.response_done:
            return
        if self.state == self.passthrough:
            self._enter("open")
        elif self.state == self.read_headers and self._begun is None:
            self._enter("idle")

    # -- the end ------------------------------------------------------------------------------

    def send(self, event: HttpEvent) -> Commands:
        """As mitmproxy does, but no page of its own, and an end that lets the answer arrive.

        What is said of an exchange that is over (a call that somebody ended) is for nobody.
        """
        if self._left or event.stream_id != self.stream_id:
            return _nothing()
        if isinstance(event, HangUp):
            return self._leave()
        if isinstance(event, ResponseProtocolError) and not self._deaf:
            status = event.code.http_status_code()
            if not self.response and status is not None:
                return self._turn_away(b"", heads.MALFORMED if status < 500 else _FAILED)
        if self._deaf and isinstance(event, ResponseEndOfMessage | ResponseProtocolError):
            return self._leave()
        return super().send(event)

    def _turn_away(self, line: bytes, refusal: Refusal) -> Commands:
        """Answer a request that no flow can be made of, and hear no more of it."""
        self._hear_no_more()
        yield commands.SendData(self.conn, self.terms.refuse(line, refusal))
        yield from self._leave()

    def _fail(self, refusal: Refusal) -> Commands:
        """Tell the stream, which tells the client, that this cannot be read on."""
        self._hear_no_more()
        yield ReceiveHttp(ClientFault(self.stream_id, refusal))

    def _hear_no_more(self) -> None:
        self._deaf = True
        self.state = self.drop
        self.buf.maybe_extract_at_most(len(self.buf))
        self._enter("leaving")

    def _leave(self) -> Commands:
        """Say that nothing more comes, and let go of what still comes until the client closes."""
        self._hear_no_more()
        self._left = True
        if self._visit is None:
            yield commands.CloseConnection(self.conn)
        else:
            yield commands.CloseTcpConnection(self.conn, half_close=True)

    def drop(self, event: events.Event) -> Commands:
        """Nothing of what comes is wanted; that much of it is let go of."""
        self._dropped += len(self.buf)
        self.buf.maybe_extract_at_most(len(self.buf))
        if isinstance(event, events.ConnectionClosed) or self._dropped > _MOST_DROPPED:
            yield commands.CloseConnection(self.conn)


def install(place: Any) -> None:
    """Put our reader in the place of mitmproxy's, in its module of layers."""
    place.Http1Server = Reader


def _nothing() -> Commands:
    yield from ()
