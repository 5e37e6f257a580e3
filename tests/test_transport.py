"""The transport seam: what an upstream said before it hung up is read, on real sockets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from llm_passthrough.transport import let_finish, transport_of, was_reset
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server import ConnectionIO

LAST_WORDS = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"


class Dialled:
    """Our side of a connection as mitmproxy holds it, and the upstream's raw socket."""

    def __init__(self, io: ConnectionIO, far: socket.socket) -> None:
        self.server = Server(address=("127.0.0.1", 1))
        self.io = io
        self.far = far

    @property
    def reader(self) -> asyncio.StreamReader:
        assert isinstance(self.io.reader, asyncio.StreamReader)
        return self.io.reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert isinstance(self.io.writer, asyncio.StreamWriter)
        return self.io.writer

    def break_off(self) -> None:
        """Say the last words and reset: what was sent to it lies unread."""
        self.far.sendall(LAST_WORDS)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()

    async def write_until_it_fails(self) -> None:
        while not self.writer.transport.is_closing():
            self.writer.write(b"x" * 65536)
            await asyncio.sleep(0)


@pytest.fixture
async def dialled() -> AsyncIterator[Dialled]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
        far, _ = listening.accept()
    yield Dialled(ConnectionIO(handler=None, reader=reader, writer=writer), far)
    far.close()
    writer.transport.abort()


async def test_an_upstream_that_closes_in_order_ended_in_order(dialled: Dialled) -> None:
    let_finish(dialled.io, dialled.server)
    dialled.far.sendall(LAST_WORDS)
    dialled.far.close()
    assert await dialled.reader.read() == LAST_WORDS
    assert not was_reset(dialled.server)


async def test_last_words_are_heard_when_a_write_fails(dialled: Dialled) -> None:
    """The upstream shuts its reading side, as one does that answers early and hangs up."""
    let_finish(dialled.io, dialled.server)
    dialled.writer.write(b"an upload begins")
    await dialled.writer.drain()
    dialled.far.sendall(LAST_WORDS)
    dialled.far.shutdown(socket.SHUT_RDWR)
    dialled.far.close()  # with unread bytes: the kernel answers with a reset
    await dialled.write_until_it_fails()
    assert await asyncio.wait_for(dialled.reader.read(), 5) == LAST_WORDS
    assert was_reset(dialled.server)


async def test_a_failing_write_raises_nothing(dialled: Dialled) -> None:
    """mitmproxy would end the connection before it has read from it."""
    let_finish(dialled.io, dialled.server)
    dialled.break_off()
    await dialled.write_until_it_fails()
    await asyncio.wait_for(dialled.writer.drain(), 5)


async def test_a_reset_is_told_as_an_ordinary_end_and_remembered(dialled: Dialled) -> None:
    let_finish(dialled.io, dialled.server)
    other = Server(address=("127.0.0.1", 2))
    dialled.break_off()
    await dialled.write_until_it_fails()
    assert await asyncio.wait_for(dialled.reader.read(), 5) == LAST_WORDS
    assert was_reset(dialled.server)
    assert not was_reset(other)


async def test_what_is_no_tcp_stream_is_left_alone() -> None:
    server = Server(address=("127.0.0.1", 1))
    let_finish(None, server)
    let_finish(ConnectionIO(), server)
    assert not was_reset(server)


class _Handler:
    def __init__(self, transports: dict[object, ConnectionIO]) -> None:
        self.transports = transports


class _Proxyserver:
    def __init__(self, **connections: _Handler) -> None:
        self.connections = connections


def test_the_transport_of_a_connection_is_found_while_it_is_open() -> None:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    here, gone = Server(address=("127.0.0.1", 3)), Server(address=("127.0.0.1", 4))
    io = ConnectionIO()
    held = _Proxyserver(**{client.id: _Handler({here: io})})
    assert transport_of(held, client, here) is io
    assert transport_of(held, client, gone) is None
    assert transport_of(_Proxyserver(), client, here) is None
