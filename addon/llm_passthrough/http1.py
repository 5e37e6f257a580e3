"""The seam into mitmproxy's HTTP/1 readers: messages that they cannot read otherwise.

* An interim answer, such as 103 Early Hints (RFC 9110 15.2), was taken for the answer itself.
* Trailers (RFC 9110 6.5) ended the connection in a crash. They may be dropped, and are.
* A 101 that nobody asked for (RFC 9110 7.8) was passed on, to a client that cannot know what it
  means. It is no answer.
* The head of an answer had no end that it must come to.

How requests are read is said in intake.py.
"""

from typing import Any

from h11 import Data, EndOfMessage
from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    ResponseHeaders,
    ResponseProtocolError,
)

type Commands = layer.CommandGenerator[None]

_read_answer = _http1.Http1Client.read_headers


_LONGEST_HEAD = 1 << 20


class WithoutTrailers(ChunkedReader):
    """Reads a chunked body and lets its trailers go."""

    def __call__(self, buf: Any) -> Data | EndOfMessage | None:
        """The next piece, or the end."""
        event = super().__call__(buf)
        return EndOfMessage() if isinstance(event, EndOfMessage) else event


def install() -> None:
    """Put these in the place of mitmproxy's. Raises AttributeError where it has none."""
    _http1.ChunkedReader = WithoutTrailers  # type: ignore[attr-defined]
    _http1.Http1Client.read_headers = _answers  # type: ignore[method-assign]


def _answers(self: _http1.Http1Client, event: events.ConnectionEvent) -> Commands:
    while self.request is not None and _is_interim(bytes(self.buf._data[:12])):
        if self.buf.maybe_extract_lines() is None:
            if isinstance(event, events.ConnectionClosed):
                break  # inside its head: no more will come
            return
    if self.request is not None and len(self.buf) > _LONGEST_HEAD:
        yield commands.CloseConnection(self.conn)
        text = "the head of the answer has no end"
        error = ResponseProtocolError(self.stream_id or 0, text, ErrorCode.GENERIC_SERVER_ERROR)
        yield ReceiveHttp(error)
        return
    for command in _read_answer(self, event):
        if _begins(command) and _is_unasked(self.request, self.response):
            yield commands.CloseConnection(self.conn)
            assert self.stream_id is not None
            text = "Cannot parse HTTP response: nobody asked for another protocol"
            code = ErrorCode.GENERIC_SERVER_ERROR
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, text, code))
            return
        yield command


def _is_interim(start: bytes) -> bool:
    """Whether an answer begins with a status of 1xx that does not change the protocol."""
    return start[:7] == b"HTTP/1." and start[8:10] == b" 1" and start[9:12] != b"101"


def _begins(command: commands.Command) -> bool:
    return isinstance(command, ReceiveHttp) and isinstance(command.event, ResponseHeaders)


def _is_unasked(request: http.Request | None, response: http.Response | None) -> bool:
    """Whether the protocol changes, but not to a WebSocket (in the one version that there is)
    that was asked for."""
    if request is None or response is None or response.status_code != 101:
        return False
    upgrades = [message.headers.get("upgrade", "").lower() for message in (request, response)]
    version = request.headers.get("sec-websocket-version")
    return upgrades != ["websocket"] * 2 or version != "13"
