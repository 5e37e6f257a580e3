"""The seam into mitmproxy's streams, as far as a request's body goes.

A body beyond a limit streams upwards instead of filling memory; one beyond another is refused.
One that nobody will read any more (refused, or answered early) is read and dropped, so that the
client, who sends to the end before he listens, gets the answer.
"""

import time

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.proxy.utils import ReceiveBuffer

from llm_passthrough.errors import Refusal
from llm_passthrough.heads import too_large
from llm_passthrough.intake import ClientFault, HangUp

type Commands[T] = layer.CommandGenerator[T]

_MOST_DROPPED = 64 << 20
"""Bytes of a body that nobody wants which are read all the same, for the next request's sake."""


class UploadStream(HttpStream):
    """One request, from its head to the end of its body; the limits are in bytes."""

    request_buffer = 8 << 20
    request_body = 4 << 30
    _answered = False
    _received = 0  # bytes of a body that is streamed or dropped

    def answer(self) -> Commands[None]:
        """Send the response that an addon has set, as mitmproxy does after the request hook."""
        assert self.flow.response is not None
        self._answered = True
        self.flow.response.timestamp_start = time.time()
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()

    def answer_now(self) -> Commands[None]:
        """Answer, and drop what comes of the body; unless the client left in the meantime."""
        yield from self.answer()
        if self.client_state != self.state_errored:
            self.client_state = self.state_drop_request_body

    def start_request_stream(self) -> Commands[None]:
        """Stream the request upwards, or drop its body when it was refused."""
        if (yield from self.make_server_connection()):
            head = RequestHeaders(self.stream_id, self.flow.request, end_stream=False)
            yield SendHttp(head, self.context.server)
            self.client_state = self.state_stream_request_body
        elif self._answered and self.client_state != self.state_errored:
            self.client_state = self.state_drop_request_body
        else:
            self.client_state = self.state_errored

    def state_consume_request_body(self, event: events.Event) -> Commands[None]:
        """Buffer the body up to the limit; beyond it stream; refused, drop it and answer now."""
        if isinstance(event, RequestData):
            if self.flow.response is not None:
                yield from self.answer_now()
                return
            size = len(self.request_body_buf) + len(event.data)
            if size > self.request_body:
                yield from self._too_large()
                return
            if size > self.request_buffer:
                yield from self._stream_from_here(event)
                return
        yield from super().state_consume_request_body(event)

    def _too_large(self) -> Commands[None]:
        return self.interrupt(too_large(self.request_body))

    def state_stream_request_body(self, event: events.Event) -> Commands[None]:
        """Pass a piece of the body on, up to the limit."""
        if isinstance(event, RequestData):
            self._received += len(event.data)
            if self._received > self.request_body:
                return self._too_large()
        passed: Commands[None] = super().state_stream_request_body(event)
        return passed

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
        if isinstance(event, RequestData):
            self._received += len(event.data)
            if self._received > _MOST_DROPPED:
                yield SendHttp(HangUp(self.stream_id), self.context.client)
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            self.server_state = self.state_done
            yield from self.flow_done()

    def interrupt(self, refusal: Refusal) -> Commands[None]:
        """End a request whose body the client does not bring to its end; unless it is there."""
        if self.client_state in (self.state_consume_request_body, self.state_stream_request_body):
            yield from self.handle_protocol_error(ClientFault(self.stream_id, refusal))
