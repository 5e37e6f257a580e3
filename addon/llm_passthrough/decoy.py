"""Decoys for the start-up self-test: a loopback upstream, and mitmproxy's way to it on its own."""

import asyncio
import contextlib
import datetime
import inspect
import socket
import struct
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mitmproxy.proxy import commands, mode_specs, server
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.utils import asyncio_utils
from OpenSSL import SSL

_END = b"\r\n\r\n"


class Decoy:
    """A server on a free loopback port; `got` is what each connection brought, as it comes.

    It answers each head with `answer` if there is one, and then resets the connection if `cut`.
    With `tls` it has a certificate that nobody trusts; `names` are those that were asked for.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.got: list[bytearray] = []
        self.names: list[bytes | None] = []
        self.answer = b""
        self.cut = False
        self.heard = asyncio.Event()
        self.port = 0
        self._tls = self._context() if tls else None

    async def __aenter__(self) -> "Decoy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        self.got.append(got)
        tls = SSL.Connection(self._tls, None) if self._tls else None
        if tls:
            tls.set_accept_state()
        try:
            while data := await reader.read(65536):
                got += _opened(tls, data, writer) if tls else data
                if got.endswith(_END):
                    self.heard.set()
                    writer.write(self.answer)
                    if self.cut:
                        await writer.drain()
                        _reset(writer)
        finally:
            writer.close()

    def _context(self) -> SSL.Context:
        key = ec.generate_private_key(ec.SECP256R1())
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_privatekey(key)
        context.use_certificate(_self_signed(key))
        context.set_tlsext_servername_callback(lambda tls: self.names.append(tls.get_servername()))
        return context


def _opened(tls: SSL.Connection, data: bytes, writer: asyncio.StreamWriter) -> bytes:
    """What was in `data` for the server itself; its own part of the handshake is written."""
    tls.bio_write(data)
    out = b""
    with contextlib.suppress(SSL.Error):  # more is wanted, or the client goes
        tls.do_handshake()
        out = tls.recv(65536)
    with contextlib.suppress(SSL.Error):  # there is nothing to say
        writer.write(tls.bio_read(65536))
    return out


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "canary.invalid")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("canary.invalid")]), False)
        .sign(key, hashes.SHA256())
    )


class Line(server.LiveConnectionHandler):
    """A client's connection as mitmproxy handles it, but with `addons` of its own alone.

    `options` are mitmproxy's. It logs nothing; what went wrong inside is in `faults`.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        options: Any,
        addons: Sequence[object],
        faults: list[str],
    ) -> None:
        super().__init__(reader, writer, options, mode_specs.ProxyMode.parse("regular"))
        self._addons = (self, *addons)
        self._faults = faults

    def next_layer(self, data: Any) -> None:
        """HTTP, as on a port of mitmproxy's regular mode."""
        data.layer = HttpLayer(data.context, HTTPMode.regular)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Call it on each addon in turn, as mitmproxy's own AddonManager does."""
        for addon in self._addons:
            function = getattr(addon, hook.name, None)
            try:
                result = function(*hook.args()) if function else None
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 - it would wait for the hook for ever
                self._faults.append(f"{type(error).__name__} in {hook.name}")

    def log(self, message: str, level: int = 0, exc_info: object = None) -> None:
        """Only a crash is of interest."""
        if exc_info is not None:
            self._faults.append(message)


class Port:
    """A free loopback port whose connections are Lines, or of another `kind`, with `addons`."""

    def __init__(self, options: Any, kind: Callable[..., server.ConnectionHandler] = Line) -> None:
        self.addons: tuple[object, ...] = ()
        self.faults: list[str] = []
        self._lines: dict[str, server.ConnectionHandler] = {}
        self.proxyserver = SimpleNamespace(connections=self._lines, inject_event=self._inject)
        self._options = options
        self._kind = kind

    async def __aenter__(self) -> "Port":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._kind(reader, writer, self._options, self.addons, self.faults)
        self._lines[line.client.id] = line
        await line.handle_client()

    def _inject(self, event: Any) -> None:
        """Put an event into its flow's connection, as mitmproxy's Proxyserver does."""
        told = self._lines[event.flow.client_conn.id].server_event(event)
        asyncio_utils.create_task(told, name="inject_event", keep_ref=True)

    async def ask(self, head: bytes, rest: bytes) -> bytes:
        """What comes back for a request whose `rest` is sent when the answer has begun."""
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(head)
            answer = await reader.read(1)
            writer.write(rest)
            return answer + await reader.read()
        finally:
            writer.close()
