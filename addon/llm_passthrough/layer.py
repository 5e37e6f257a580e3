"""The seam into mitmproxy: the one place that every request to an upstream passes.

mitmproxy makes an HttpStream for each request, whatever way it came in (a prefix, a tunnel, a
replay). Ours differs in this:

* Before a connection is made it asks `Gateway.passthrough_sign` for a verdict, after all other
  addons and after a person who intercepted the flow has let it go. Without a verdict nothing
  leaves: headers that are not sealed, or a connection that they are not sealed for, end it.
* What mitmproxy would tell the client in an HTML page is told in the provider's error shape.

What becomes of a request's body is said in uploads.py.
"""

import logging
from dataclasses import dataclass
from typing import TypeGuard

from mitmproxy import connection, http, version
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from llm_passthrough import flows, http1, intake, websocket
from llm_passthrough.config import Limits
from llm_passthrough.flows import Refused
from llm_passthrough.intake import ClientFault, HangUp, Overdue
from llm_passthrough.seal import Sealed
from llm_passthrough.uploads import UploadStream

_LOG = logging.getLogger(__name__)

type Commands[T] = layer.CommandGenerator[T]

# After these the framing of what the client sends next cannot be trusted.
_CLOSING = frozenset({ErrorCode.REQUEST_VALIDATION_FAILED, ErrorCode.REQUEST_TOO_LARGE})
_NOT_CLEARED = "the gateway did not clear this request"


@dataclass
class PassthroughSignHook(commands.StartHook):
    """Decide where a request goes and put its credential on: the last word before it leaves."""

    flow: http.HTTPFlow


class GatewayStream(UploadStream):
    """One request and its answer inside mitmproxy."""

    _head_sent = False
    _deaf = False

    def _handle_event(self, event: events.Event) -> Commands[None]:
        """As mitmproxy does, but its HTML error page becomes the refusal of the flow."""
        if isinstance(event, events.ConnectionEvent):
            return  # of a server that was dialled for a tunnel, and let go
        if isinstance(event, Overdue):
            generator = self.interrupt(event.message)
        else:
            generator = super()._handle_event(event)
        reply: object = None
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                return
            if self._is_error_page(command):
                closing = getattr(command.event, "code", None) in _CLOSING
                yield from self._tell(self.flow.response, closing)
                reply = None
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

    def _tell(self, response: http.Response | None, closing: bool = False) -> Commands[None]:
        """Answer; `closing`: what comes behind this request is none, and is not read."""
        assert response is not None
        self._head_sent = True
        for event in (
            ResponseHeaders(self.stream_id, response, end_stream=False),
            ResponseData(self.stream_id, response.raw_content or b""),
            HangUp(self.stream_id) if closing else ResponseEndOfMessage(self.stream_id),
        ):
            yield SendHttp(event, self.context.client)

    def check_killed(self, emit_error_hook: bool) -> Commands[bool]:
        """As mitmproxy does; whose fault it was is known by what waits to be handled."""
        for event in self._paused_event_queue:
            if isinstance(event, RequestProtocolError):
                flows.failed_by_client(self.flow, getattr(event, "refusal", None))
        return (yield from super().check_killed(emit_error_hook))

    def state_wait_for_request_headers(self, event: events.Event) -> Commands[None]:
        """Note the form of the target (RFC 9112 3.2) before mitmproxy makes all forms one."""
        assert isinstance(event, RequestHeaders)
        if event.request.data.authority:
            flows.absolute(event.request)
        yield from super().state_wait_for_request_headers(event)
        waits = self.client_state == self.state_consume_request_body and not event.end_stream
        if waits and isinstance(self.flow.response, Refused):
            # At once: the body of a request that is refused anyhow may never come.
            yield from self.answer_now()

    def handle_connect_regular(self) -> Commands[None]:
        """Dial what is only relayed at once: the client is told when that fails, and hears who
        speaks first."""
        if self.flow.response is not None or not flows.is_relayed(self.flow):
            yield from super().handle_connect_regular()  # type: ignore[no-untyped-call]
            return
        server = self.context.server
        error = (yield commands.OpenConnection(server)) or server.error
        if error:
            flows.not_reached(self.flow, error)
            self.flow.response = Refused.make(502)  # `http_connect_error` puts more words to it
            yield commands.CloseConnection(server)
        self.child_layer = layer.NextLayer(self.context, ask_on_start=True)
        yield from self.handle_connect_finish()  # type: ignore[no-untyped-call]

    def passthrough(self, event: events.Event) -> Commands[None]:
        """As mitmproxy does in a tunnel, where a client that has gone is no error but the end."""
        if isinstance(event, RequestProtocolError):
            event = RequestEndOfMessage(self.stream_id)
        yield from super().passthrough(event)

    def make_server_connection(self) -> Commands[bool]:
        """Ask for a verdict, connect, and arm the seal if this is the connection it is for."""
        if self.flow.is_replay:
            flows.replayed(self.flow, self.context.client)
        yield PassthroughSignHook(self.flow)
        if (yield from self.check_killed(True)):
            return False
        if self.flow.response is not None:
            yield from self.answer()
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
        """A provider that answered early and hung up has not failed: let the client finish.

        A client whose request cannot be read on is told so, if he has not heard anything yet.
        """
        if isinstance(event, RequestProtocolError):
            flows.failed_by_client(self.flow, getattr(event, "refusal", None))
        early = (
            isinstance(event, ResponseProtocolError)
            and self.server_state == self.state_done
            and self.client_state == self.state_stream_request_body
        )
        if early:
            self.client_state = self.state_drop_request_body
            return
        yield from super().handle_protocol_error(event)
        if isinstance(event, ClientFault):
            if not self._head_sent and isinstance(self.flow.response, Refused):
                yield from self._tell(self.flow.response)
            yield SendHttp(HangUp(self.stream_id), self.context.client)


def install(limits: Limits) -> None:
    """Put our stream and our reader in the place of mitmproxy's.

    Raises RuntimeError when mitmproxy is not built as this seam needs it: better not to start
    than to let requests pass beside it.
    """
    if not _fits():
        raise RuntimeError(f"mitmproxy {version.VERSION} is not one that this gateway knows")
    UploadStream.request_buffer = limits.request_buffer
    UploadStream.request_body = limits.request_body
    http1.install()
    intake.install(layers)
    websocket.Talk.longest = limits.websocket_message
    websocket.install(layers)
    HttpLayer.make_stream = _make_stream  # type: ignore[method-assign]


def _fits() -> bool:
    """Whether mitmproxy is built as this seam needs it."""
    make_stream = getattr(HttpLayer, "make_stream", None)
    wanted = {"HttpStream", "streams", "event_to_child"}
    names = getattr(make_stream, "__code__", None)
    known = make_stream is _make_stream or (names is not None and wanted <= set(names.co_names))
    steps = ("make_server_connection", "start_request_stream", "send_response", "flow_done")
    return (
        known
        and all(callable(getattr(HttpStream, name, None)) for name in steps)
        and "Http1Server" in HttpLayer._handle_event.__code__.co_names
        and "WebsocketLayer" in HttpStream.flow_done.__code__.co_names
    )


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
