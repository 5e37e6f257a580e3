"""The seam into mitmproxy's sockets: an upstream's last words are heard before its end.

A provider that refuses an upload answers and closes at once, while we are still sending. The
next write then fails, and asyncio drops what the kernel has already received: the answer. Here it
is read first, and the end of the connection is told as an ordinary end.

What is still said to a client after we said that nothing more comes (in TLS, an alert) is let go.

A connection that mitmproxy closes while its own task waits for its turn stayed open for ever: the
task was cancelled outside of where it looks for that. Here it is closed with the task.
"""

import asyncio
import contextlib
import os
import socket
import weakref
from collections.abc import Sequence
from typing import Any

from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import events, mode_servers
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

_RESET: weakref.WeakSet[Server] = weakref.WeakSet()
_PIECE = 1 << 16
_MOST = 1 << 20
_AT_ONCE = 100  # connections that are taken before anything else is done: asyncio's own measure

_handle_connection = ConnectionHandler.handle_connection


def install() -> None:
    """Put ours in the place of mitmproxy's."""
    ConnectionHandler.handle_connection = _handle  # type: ignore[method-assign]


def listen_on(sockets: Sequence[socket.socket], backlog: int, *, one_by_one: bool) -> None:
    """From now on mitmproxy listens on these, which are bound, instead of making its own.

    `one_by_one`: other processes listen on the same sockets. asyncio takes as many connections at
    once as it is told may wait, which then would be all, and the others get none.
    """

    async def listen(self: Any, host: str, port: int) -> list[asyncio.Server]:
        at_once = 1 if one_by_one else _AT_ONCE
        servers = []
        for sock in sockets:  # the server closes it
            server = await asyncio.start_server(self.handle_stream, sock=sock, backlog=at_once)
            servers.append(server)
            sock.listen(backlog)
        return servers

    mode_servers.AsyncioServerInstance.listen = listen  # type: ignore[assignment, method-assign]


async def _handle(self: ConnectionHandler, connection: Connection) -> None:
    _mute(self.transports[connection].writer)
    try:
        await _handle_connection(self, connection)
    except asyncio.CancelledError:
        if connection in self.transports:  # it has told nobody of its end
            connection.state = ConnectionState.CLOSED
            await self.server_event(events.ConnectionClosed(connection))
        raise
    finally:
        io = self.transports.pop(connection, None)
        if io is not None and io.writer is not None:
            with contextlib.suppress(OSError):
                io.writer.close()


def _mute(writer: Any) -> None:
    """Writing after the end is no error of this writer any more."""
    if not isinstance(writer, asyncio.StreamWriter):
        return
    write, write_eof, ended = writer.write, writer.write_eof, False

    def end() -> None:
        nonlocal ended
        ended = True
        write_eof()

    def patient_write(data: bytes) -> None:
        if not ended:
            write(data)

    writer.write, writer.write_eof = patient_write, end  # type: ignore[method-assign, assignment]


def transport_of(proxyserver: Any, client: Client, server: Server) -> ConnectionIO | None:
    """What mitmproxy holds for a client's connection to an upstream, if it is open."""
    handler = proxyserver.connections.get(client.id)
    return handler.transports.get(server) if handler else None


def to_client(proxyserver: Any, client: Client) -> asyncio.WriteTransport | None:
    """What is written to for a client; it may hold bytes for long after the connection is over."""
    handler = proxyserver.connections.get(client.id)
    writer = handler.transports[client].writer if handler else None
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


def was_reset(server: Server) -> bool:
    """Whether the connection ended by a reset or a failed write instead of a close."""
    return server in _RESET


def last_sign(proxyserver: Any, ident: str) -> float | None:
    """When something happened last on a client's connection or on those made for it; in seconds,
    on no clock of ours. None for one that is over."""
    handler = proxyserver.connections.get(ident)
    return handler.timeout_watchdog.last_activity if handler else None


def is_congested(io: ConnectionIO | None) -> bool:
    """Whether an upstream does not take what is sent to it."""
    writer = io.writer if io else None
    if not isinstance(writer, asyncio.StreamWriter):
        return False
    return writer.transport.get_write_buffer_size() > 0


def close(proxyserver: Any, ident: str) -> None:
    """End a client's connection."""
    handler = proxyserver.connections.get(ident)
    io = handler.transports.get(handler.client) if handler else None
    if io is not None and io.handler is not None:
        io.handler.cancel("deadline")


def let_finish(io: ConnectionIO | None, server: Server) -> None:
    """From now on a failing write does not lose what the upstream has said before."""
    writer, reader = (io.writer, io.reader) if io else (None, None)
    if not isinstance(writer, asyncio.StreamWriter) or not isinstance(reader, asyncio.StreamReader):
        return
    transport = writer.transport
    protocol = transport.get_protocol()
    lost = protocol.connection_lost
    drain = writer.drain

    def connection_lost(error: Exception | None) -> None:
        if isinstance(error, OSError):
            _RESET.add(server)
            _read_rest(transport, reader)
        # Without the error: a reader that has one hands out nothing of what it has read.
        lost(None)

    async def patient_drain() -> None:
        # mitmproxy ends a connection whose drain fails before it has read from it.
        with contextlib.suppress(OSError):
            await drain()

    protocol.connection_lost = connection_lost  # type: ignore[method-assign, assignment]
    writer.drain = patient_drain  # type: ignore[method-assign]


def _read_rest(transport: asyncio.BaseTransport, reader: asyncio.StreamReader) -> None:
    """What the kernel still holds of a connection that cannot be written to any more."""
    sock = transport.get_extra_info("socket")
    read = 0
    with (
        contextlib.suppress(OSError, ValueError),
        socket.socket(fileno=os.dup(sock.fileno())) as copy,
    ):
        copy.setblocking(False)
        while read < _MOST and (data := copy.recv(_PIECE)):
            reader.feed_data(data)
            read += len(data)
