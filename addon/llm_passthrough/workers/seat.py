"""A worker's seat: its number, its sockets, and its end of the line to the parent."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from llm_passthrough.workers.channel import MOST, READY

type Hear = Callable[[bytes], None]

GONE = b"gone"
"""What a worker hears last, when its parent is no more."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The first worker has the number 1. `began` is when what its group has used was nothing yet,
    in seconds since the epoch; `turns`: it takes one connection at a time from a shared socket."""

    number: int
    of: int
    sockets: tuple[socket.socket, ...]
    sock: socket.socket
    began: float
    turns: bool
    line: "Line" = field(default_factory=lambda: Line())

    async def join(self, hear: Hear) -> None:
        """The worker listens: say so to the parent, and call `hear` with each line of his."""
        self.line.hear = hear
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self.line, sock=self.sock)
        self.line.send(READY)


class Line(asyncio.Protocol):
    """Lines to and from the parent, in the worker's event loop."""

    def __init__(self) -> None:
        self.hear: Hear = lambda line: None
        self._in = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            self.hear(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self.hear(GONE)

    def send(self, line: bytes) -> None:
        """Send a line; it is lost where the parent does not read."""
        if self._transport is not None and self._transport.get_write_buffer_size() < MOST:
            self._transport.write(line + b"\n")
