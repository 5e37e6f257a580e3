"""The seam into mitmproxy: the one place that every request to an upstream passes.

mitmproxy makes an HttpStream for each request, whatever way it came in (a prefix, a tunnel, a
replay). Ours differs in this:

* Before a connection is made it asks `Gateway.passthrough_sign` for a verdict, after all other
  addons and after a person who intercepted the flow has let it go. Without a verdict nothing
  leaves: headers that are not sealed, or a connection that they are not sealed for, end it.
* What mitmproxy would tell the client in an HTML page is told in the provider's error shape.
* A request body beyond a limit streams upwards instead of filling memory, and one that nobody
  will read any more (refused, or answered early) is read and dropped, so that the client, who
  sends to the end before he listens, gets the answer.
"""

import logging
import time
import weakref
from dataclasses import dataclass
from typing import TypeGuard

from mitmproxy import connection, http, version
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.proxy.utils import ReceiveBuffer

from llm_passthrough import http1
from llm_passthrough.seal import Sealed

_LOG = logging.getLogger(__name__)

type Commands[T] = layer.CommandGenerator[T]

_ABSOLUTE: weakref.WeakSet[http.Request] = weakref.WeakSet()
_CLIENT_FAILED: weakref.WeakSet[http.HTTPFlow] = weakref.WeakSet()
_REPLAYED: weakref.WeakKeyDictionary[http.HTTPFlow, connection.Client] = weakref.WeakKeyDictionary()
# After these the framing of what the client sends next cannot be trusted.
_CLOSING = frozenset({ErrorCode.REQUEST_VALIDATION_FAILED, ErrorCode.REQUEST_TOO_LARGE})
_NOT_CLEARED = "the gateway did not clear this request"


def arrived_absolute(request: http.Request) -> bool:
    """Whether a request's target was in absolute-form, as clients send it to a proxy."""
    return request in _ABSOLUTE


def client_of(flow: http.HTTPFlow) -> connection.Client:
    """The connection that a flow's request came by; one that is sent again has a new one, of which
    the flow itself does not know."""
    return _REPLAYED.get(flow, flow.client_conn)


def client_failed(flow: http.HTTPFlow) -> bool:
    """Whether it was the client's side of a flow that broke."""
    return flow in _CLIENT_FAILED


class Refused(http.Response):
    """An answer that we give ourselves."""


@dataclass
class PassthroughSignHook(commands.StartHook):
    """Decide where a request goes and put its credential on: the last word before it leaves."""

    flow: http.HTTPFlow


class GatewayStream(HttpStream):
    """One request and its answer inside mitmproxy."""

    request_buffer = 8 << 20
    _head_sent = False
    _answered = False
    _deaf = False

    def _handle_event(self, event: events.Event) -> Commands[None]:
        """As mitmproxy does, but its HTML error page becomes the refusal of the flow."""
        generator = super()._handle_event(event)
        reply: object = None
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                return
            if self._is_error_page(command):
                yield from self._tell(self.flow.response)
                reply = None
                if getattr(command.event, "code", None) in _CLOSING:
                    yield commands.CloseConnection(self.context.client)
            else:
                reply = yield command

    def _is_error_page(self, command: commands.Command) -> TypeGuard[SendHttp]:
        if not isinstance(command, SendHttp) or command.connection is not self.context.client:
            return False
        if isinstance(command.event, ResponseHeaders):
            # A 100 Continue is not yet the answer (RFC 9110 15.2).
            self._head_sent |= command.event.response.status_code != 100
        return (
            isinstance(command.event, ResponseProtocolError)
            and not self._head_sent
            and isinstance(self.flow.response, Refused)
        )

    def _tell(self, response: http.Response | None) -> Commands[None]:
        assert response is not None
        self._head_sent = True
        for event in (
            ResponseHeaders(self.stream_id, response, end_stream=False),
            ResponseData(self.stream_id, response.raw_content or b""),
            ResponseEndOfMessage(self.stream_id),
        ):
            yield SendHttp(event, self.context.client)

    def state_wait_for_request_headers(self, event: events.Event) -> Commands[None]:
        """Note the form of the target (RFC 9112 3.2) before mitmproxy makes all forms one."""
        assert isinstance(event, RequestHeaders)
        if event.request.data.authority:
            _ABSOLUTE.add(event.request)
        yield from super().state_wait_for_request_headers(event)
        waits = self.client_state == self.state_consume_request_body and not event.end_stream
        if waits and isinstance(self.flow.response, Refused):
            # At once: the body of a request that is refused anyhow may never come.
            yield from self._answer()
            self.client_state = self.state_drop_request_body

    def make_server_connection(self) -> Commands[bool]:
        """Ask for a verdict, connect, and arm the seal if this is the connection it is for."""
        if self.flow.is_replay:
            _REPLAYED[self.flow] = self.context.client
        yield PassthroughSignHook(self.flow)
        if (yield from self.check_killed(True)):
            return False
        if self.flow.response is not None:
            yield from self._answer()
            return False
        headers = self.flow.request.headers
        if not isinstance(headers, Sealed):
            yield from self._deny()
            return False
        self._forget_failed_connections()
        if not (yield from super().make_server_connection()):
            return False
        # Nothing else runs between here and the writing of the head.
        if not _unlocked(headers, self.flow.server_conn):
            yield from self._deny()
            return False
        return True

    def _forget_failed_connections(self) -> None:
        """Dial again: mitmproxy would hand out the failure of a former request for ever."""
        parent = self.context.layers[self.context.layers.index(self) - 1]
        assert isinstance(parent, HttpLayer)
        for known in list(parent.connections):
            if isinstance(known, connection.Server) and known.error:
                del parent.connections[known]

    def _deny(self) -> Commands[None]:
        error = ResponseProtocolError(self.stream_id, _NOT_CLEARED, ErrorCode.CONNECT_FAILED)
        yield from self.handle_protocol_error(error)

    def _answer(self) -> Commands[None]:
        """Send the response that an addon has set, as mitmproxy does after the request hook."""
        assert self.flow.response is not None
        self._answered = True
        self.flow.response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()

    def start_request_stream(self) -> Commands[None]:
        """Stream the request upwards, or drop its body when it was refused."""
        if (yield from self.make_server_connection()):
            head = RequestHeaders(self.stream_id, self.flow.request, end_stream=False)
            yield SendHttp(head, self.context.server)
            self.client_state = self.state_stream_request_body
        elif self._answered:
            self.client_state = self.state_drop_request_body
        else:
            self.client_state = self.state_errored

    def state_consume_request_body(self, event: events.Event) -> Commands[None]:
        """Buffer the body up to the limit; beyond it stream; refused, drop it and answer now."""
        if isinstance(event, RequestData):
            if self.flow.response is not None:
                yield from self._answer()
                self.client_state = self.state_drop_request_body
                return
            if len(self.request_body_buf) + len(event.data) > self.request_buffer:
                yield from self._stream_from_here(event)
                return
        yield from super().state_consume_request_body(event)

    def _stream_from_here(self, event: RequestData) -> Commands[None]:
        """Stream the request after all: first what was buffered, piece by piece and let go of."""
        pieces = [*self.request_body_buf._chunks, event.data]
        self.request_body_buf = ReceiveBuffer()
        self.flow.request.stream = True
        yield from self.start_request_stream()
        pieces.reverse()
        while pieces:
            yield from self.client_state(RequestData(self.stream_id, pieces.pop()))

    def state_drop_request_body(self, event: events.Event) -> Commands[None]:
        """Read what is left of a body that nobody wants, so that the connection stays usable."""
        assert isinstance(event, RequestData | RequestTrailers | RequestEndOfMessage)
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            self.server_state = self.state_done
            yield from self.flow_done()

    def state_consume_response_body(self, event: events.Event) -> Commands[None]:
        """Buffer the answer; or give ours, if the provider's could not be looked at."""
        if isinstance(self.flow.response, Refused):
            self._deaf = True
            yield commands.CloseConnection(self.context.server)
            yield from self.send_response()
            return
        yield from super().state_consume_response_body(event)

    def state_done(self, event: events.Event) -> Commands[None]:
        """Nothing more is expected, except from a provider that was not heard to the end."""
        if not self._deaf:
            yield from super().state_done(event)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> Commands[None]:
        """A provider that answered early and hung up has not failed: let the client finish."""
        if isinstance(event, RequestProtocolError):
            _CLIENT_FAILED.add(self.flow)
        early = (
            isinstance(event, ResponseProtocolError)
            and self.server_state == self.state_done
            and self.client_state == self.state_stream_request_body
        )
        if early:
            self.client_state = self.state_drop_request_body
            return
        yield from super().handle_protocol_error(event)


def install(request_buffer: int) -> None:
    """Put our stream in the place of mitmproxy's; `request_buffer` is in bytes.

    Raises RuntimeError when mitmproxy is not built as this seam needs it: better not to start
    than to let requests pass beside it.
    """
    make_stream = getattr(HttpLayer, "make_stream", None)
    wanted = ("HttpStream", "streams", "event_to_child")
    if make_stream is not _make_stream:
        names = getattr(make_stream, "__code__", None)
        if names is None or not set(wanted) <= set(names.co_names):
            raise RuntimeError(f"mitmproxy {version.VERSION} is not one that this gateway knows")
    for name in ("make_server_connection", "start_request_stream", "send_response", "flow_done"):
        if not callable(getattr(HttpStream, name, None)):
            raise RuntimeError(f"mitmproxy {version.VERSION} is not one that this gateway knows")
    GatewayStream.request_buffer = request_buffer
    http1.install()
    HttpLayer.make_stream = _make_stream  # type: ignore[method-assign]


def _unlocked(headers: Sealed, server: connection.Server) -> bool:
    try:
        return headers.unlock(server)
    except Exception as error:  # noqa: BLE001 - raising here would leave the client without an answer
        _LOG.error("%s while a seal was opened", type(error).__name__)
        return False


def _make_stream(self: HttpLayer, stream_id: int) -> Commands[None]:
    stream = GatewayStream(self.context.fork(), stream_id)
    self.streams[stream_id] = stream
    yield from self.event_to_child(stream, events.Start())
