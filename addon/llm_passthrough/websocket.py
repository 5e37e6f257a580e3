"""The seam into mitmproxy's WebSockets: a message has an end, few are kept, and we may close one.

mitmproxy keeps a message in memory until it is whole, however long it is and in however many
pieces it comes, and tells the log of each ping.
"""

import time
from typing import Any, ClassVar

import wsproto
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream, SendHttp
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import CloseReason

from llm_passthrough import flows
from llm_passthrough.errors import Refusal
from llm_passthrough.intake import HangUp

type Commands = layer.CommandGenerator[None]

_MOST_PIECES = 1 << 14
_MANY, _MUCH, _LARGE = 200, 8 << 20, 64 << 10
# What fits into a close frame beside its code (RFC 6455 5.5).
_REASON = 120


class Denied(events.MessageInjected[Refusal]):
    """The client of a flow may not go on; `message` is what he is told."""


class Talk(WebsocketLayer):
    """mitmproxy's relay of messages; `longest` is in bytes."""

    longest: ClassVar[int] = 32 << 20

    def relay_messages(self, event: events.Event) -> Commands:
        """Pass on what is said, unless it does not come to its end, or must not go on."""
        if isinstance(event, Denied):
            # What a client may do is nothing that its provider has to know.
            away = wsproto.events.CloseConnection(CloseReason.GOING_AWAY)
            yield from self._close(event.message, CloseReason.POLICY_VIOLATION, True, away)
            return
        for command in super().relay_messages(event):
            if not isinstance(command, commands.Log):
                yield command
        if isinstance(event, events.DataReceived) and self.flow.live:
            by_client = event.connection == self.context.client
            pieces = (self.client_ws if by_client else self.server_ws).frame_buf
            if len(pieces) > _MOST_PIECES or sum(map(len, pieces)) > self.longest:
                pieces[:] = [b""]
                text = f"a message is longer than {self.longest} bytes"
                refusal = Refusal("message_too_large", f"{text}; see limits.websocket_message")
                yield from self._close(refusal, CloseReason.MESSAGE_TOO_BIG, by_client)

    def _close(
        self,
        refusal: Refusal,
        code: CloseReason,
        by_client: bool,
        to_server: wsproto.events.CloseConnection | None = None,
    ) -> Commands:
        """Close both sides with a code of RFC 6455 7.4.1 and a reason; the provider's in another
        way, if need be."""
        talk = self.flow.websocket
        assert talk is not None
        talk.timestamp_end, talk.closed_by_client = time.time(), by_client
        talk.close_code, talk.close_reason = code, refusal.message
        flows.failed_by_client(self.flow, refusal)
        reason = refusal.message.encode()[:_REASON].decode(errors="ignore")
        close = wsproto.events.CloseConnection(code, reason)
        for side, said in ((self.server_ws, to_server or close), (self.client_ws, close)):
            if side.state is wsproto.connection.ConnectionState.OPEN:
                yield side.send2(said)
        yield commands.CloseConnection(self.context.server)
        stream = next(one for one in reversed(self.context.layers) if isinstance(one, HttpStream))
        yield SendHttp(HangUp(stream.stream_id), self.context.client)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        self._handle_event = self.done

    def done(self, _: events.Event) -> Commands:
        """Nothing is expected any more; a denial may have been on its way."""
        yield from ()


def keep_last(messages: list[WebSocketMessage]) -> None:
    """Keep no more of a flow's messages than a person would look at, and the last one."""
    if len(messages) <= 2 * _MANY and len(messages[-1].content) <= _LARGE:
        return
    size = 0
    for count, message in enumerate(reversed(messages)):
        size += len(message.content)
        if count and (size > _MUCH or count >= _MANY):
            del messages[:-count]
            return


def install(place: Any) -> None:
    """Put ours in the place of mitmproxy's, in its module of layers."""
    place.websocket.WebsocketLayer = Talk
