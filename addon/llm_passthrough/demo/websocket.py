"""One WebSocket conversation on a connection whose upgrade request has been read (RFC 6455).

wsproto does the protocol, a Talk says what is said; here are the bytes, the pace and the ends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    TextMessage,
)
from wsproto.events import Request as Upgrade
from wsproto.utilities import ProtocolError

from . import faults
from .answers import Json, encode
from .families import Family
from .http1 import Request
from .realtime import Talk


class Socket:
    """A server-side WebSocket over asyncio streams."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: float
    ) -> None:
        self._reader, self._writer, self._pace = reader, writer, pace
        self._ws = WSConnection(ConnectionType.SERVER)
        self._text: list[str] = []
        self._bytes: list[bytes] = []

    async def run(self, request: Request, family: Family, talk: Talk) -> None:
        """Accept, greet, then answer each message until one side closes."""
        await self._accept(request, family)
        try:
            await self._send_all(talk, talk.greet())
            async for message in self._messages():
                await self._answer(talk, message)
        except faults.HangupError as hangup:
            await self._send(CloseConnection(code=hangup.code, reason=hangup.reason))

    async def _accept(self, request: Request, family: Family) -> None:
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.headers]
        self._ws.initiate_upgrade_connection(headers, request.target)
        (upgrade,) = [event for event in self._ws.events() if isinstance(event, Upgrade)]
        # Only `realtime`: browsers also offer their key as a subprotocol, never to be echoed.
        chosen = "realtime" if "realtime" in upgrade.subprotocols else None
        extra = [(n.lower().encode(), v.encode()) for n, v in family.headers("req_websocket")]
        await self._send(AcceptConnection(subprotocol=chosen, extra_headers=extra))

    async def _answer(self, talk: Talk, message: str | bytes) -> None:
        try:
            value = json.loads(message)
        except ValueError:
            raise faults.HangupError(1007, "Request contains an invalid JSON payload.") from None
        if not isinstance(value, dict):
            raise faults.HangupError(1007, "The message is not a JSON object.")
        try:
            await self._send_all(talk, talk.hear(value), faults.in_text(talk.asked(value)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The client's JSON has another shape than the conversation reads.
            raise faults.HangupError(1007, f"Invalid message: {error!r}"[:100]) from None

    async def _send_all(
        self, talk: Talk, messages: Iterable[Json], fault: str | None = None
    ) -> None:
        if fault in ("slow", "stall"):
            await asyncio.sleep(faults.SLOW if fault == "slow" else faults.STALL)
        for number, message in enumerate(messages):
            if fault == "cut" and number == faults.CUT_AFTER:
                self._writer.transport.abort()
                raise ConnectionAbortedError("cut on request")
            data = encode(message)
            await self._send(BytesMessage(data) if talk.binary else TextMessage(data.decode()))
            await asyncio.sleep(self._pace)

    async def _send(
        self, event: AcceptConnection | BytesMessage | TextMessage | CloseConnection
    ) -> None:
        self._writer.write(self._ws.send(event))
        await self._writer.drain()

    async def _messages(self) -> AsyncIterator[str | bytes]:
        while data := await self._reader.read(65536):
            try:
                self._ws.receive_data(data)
                events = list(self._ws.events())
            except ProtocolError:  # a frame that RFC 6455 forbids
                raise faults.HangupError(1002, "protocol error") from None
            for event in events:
                if isinstance(event, CloseConnection):
                    self._writer.write(self._ws.send(event.response()))
                    await self._writer.drain()
                    return
                if isinstance(event, Ping):
                    self._writer.write(self._ws.send(event.response()))
                message = self._joined(event)
                if message is not None:
                    yield message

    def _joined(self, event: object) -> str | bytes | None:
        if isinstance(event, TextMessage):
            self._text.append(event.data)
            if event.message_finished:
                text, self._text = "".join(self._text), []
                return text
        elif isinstance(event, BytesMessage):
            self._bytes.append(bytes(event.data))
            if event.message_finished:
                data, self._bytes = b"".join(self._bytes), []
                return data
        return None
