"""Egress: who may connect to us, and where we may connect to. An addon beside the gateway."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData

from llm_passthrough.clients import is_loopback
from llm_passthrough.connections import Connections
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import client_of
from llm_passthrough.guard import unraised
from llm_passthrough.intake import Overdue
from llm_passthrough.leftovers import Leftovers
from llm_passthrough.providers import Origin
from llm_passthrough.transport import (
    close,
    is_congested,
    last_sign,
    let_finish,
    to_client,
    transport_of,
)
from llm_passthrough.tunnels import Tunnels
from llm_passthrough.websocket import Denied


class Egress:
    """Knows what each client connection is signed for; nothing else may be dialled for it."""

    name = "llm_passthrough_egress"

    def __init__(
        self,
        clock: Callable[[], float],
        tunnels: Tunnels,
        names_itself: Callable[[], bool] = lambda: False,
        connections: Connections | None = None,
    ) -> None:
        self._clock = clock
        self._connections = Connections(clock) if connections is None else connections
        self._tunnels = tunnels
        self._names_itself = names_itself
        self.proxyserver: Callable[[], Any] = lambda: ctx.master.addons.get("proxyserver")
        self._leftovers = Leftovers()
        self._signed: dict[str, Exchange] = {}
        self._dialled: dict[str, Server] = {}

    def allow(self, client: Client, exchange: Exchange) -> None:
        """The client's present request may go to the exchange's origin."""
        self._signed[client.id] = exchange

    def withdraw(self, client: Client) -> None:
        """The client's request is over."""
        self._signed.pop(client.id, None)

    def destination(self, client: Client) -> Origin | None:
        """The provider's origin that the client's present request may go to."""
        exchange = self._signed.get(client.id)
        return exchange.origin if exchange is not None and exchange.onward is None else None

    def hang_up(self, flow: http.HTTPFlow) -> None:
        """End the upstream's side of a flow; mitmproxy then calls the `error` hook."""
        client = client_of(flow)
        server = self._dialled.get(client.id) or flow.server_conn
        io = transport_of(self.proxyserver(), client, server)
        if io is not None and io.handler is not None:
            io.handler.cancel("deadline")

    def has_unsent(self) -> bool:
        """Whether a client has not taken all of what was written to it."""
        return bool(self._leftovers)

    def is_unread(self, flow: http.HTTPFlow) -> bool:
        """Whether the client of a flow does not take what is written to it."""
        transport = to_client(self.proxyserver(), client_of(flow))
        return transport is not None and transport.get_write_buffer_size() > 0

    def interrupt(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        """End the client's side of a flow whose body does not come to its end."""
        self.proxyserver().inject_event(Overdue(flow, refusal))

    def end_talk(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        """Close the WebSocket of a client that may not go on."""
        with contextlib.suppress(ValueError):  # it is gone already
            self.proxyserver().inject_event(Denied(flow, refusal))

    def stalled(self, flow: http.HTTPFlow, now: float) -> bool:
        """Whether a client has sent nothing of a body for too long, though it could have."""
        client = client_of(flow)
        if not self._connections.stalled(client.id, now, self._sign):
            return False
        return not is_congested(transport_of(self.proxyserver(), client, flow.server_conn))

    async def pause(self, client: Client, seconds: float) -> None:
        """Wait, and read nothing of a client meanwhile."""
        transport = to_client(self.proxyserver(), client)
        if isinstance(transport, asyncio.Transport):
            transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if isinstance(transport, asyncio.Transport) and not transport.is_closing():
                transport.resume_reading()

    def close_late(self, now: float, waiting: Collection[str]) -> None:
        """Close the clients' connections on which nothing happens, but those that are `waiting`
        for an upstream."""
        for ident in self._connections.overdue(now, waiting, self._sign):
            close(self.proxyserver(), ident)
        limit = self._connections.timeouts.keep_alive
        self._connections.unread = self._leftovers.sweep(now, limit)

    def _sign(self, ident: str) -> float | None:
        return last_sign(self.proxyserver(), ident)

    # -- hooks ----------------------------------------------------------------------------------

    @unraised
    def client_connected(self, client: Client) -> None:
        """Only this machine may connect, whatever address the port is bound to, unless everybody
        has to name itself."""
        client.error = "not from this machine"
        if is_loopback(client.peername[0]) or self._names_itself():
            client.error = None
            if not self._connections.open(client.id):
                client.error = "too many connections"
                return
            if transport := to_client(self.proxyserver(), client):
                self._leftovers.watch(transport)

    @unraised
    def client_disconnected(self, client: Client) -> None:
        """Forget what belonged to the connection."""
        self._signed.pop(client.id, None)
        self._dialled.pop(client.id, None)
        self._tunnels.close(client)
        self._connections.close(client.id)

    @unraised
    def next_layer(self, data: NextLayer) -> None:
        """What is only relayed is not looked into."""
        self._tunnels.decide(data)

    @unraised
    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Only the origin that the client's present request is signed for may be dialled, or
        what its tunnel leads to."""
        data.server.error = "not a destination of this request"
        if self._tunnels.may_dial(data.client, data.server):
            data.server.error = None
            tunnel = self._tunnels.of(data.client)
            self._dialling(data, tunnel.exchange if tunnel else None)
            return
        exchange = self._signed.get(data.client.id)
        if exchange is None or exchange.origin is None:
            return
        if exchange.origin.is_at(data.server.address, data.server.tls):
            data.server.error = None
            # Whatever name the client gave in its own TLS handshake.
            data.server.sni = exchange.origin.host
            self._dialling(data, exchange)

    def _dialling(self, data: ServerConnectionHookData, exchange: Exchange | None) -> None:
        self._dialled[data.client.id] = data.server
        if exchange is not None:
            exchange.wait_for("connect", self._clock())

    @unraised
    def server_connected(self, data: ServerConnectionHookData) -> None:
        """Connected; with TLS the handshake still belongs to it."""
        let_finish(transport_of(self.proxyserver(), data.client, data.server), data.server)
        if exchange := self._tunnels.dialled(data.client, data.server):
            exchange.wait_for("tunnel", self._clock())
        if exchange := self._signed.get(data.client.id):
            exchange.connected(self._clock())
        if not data.server.tls:
            self._connected(data.client.id)

    @unraised
    def tls_established_server(self, data: TlsData) -> None:
        """Connected, handshake and all."""
        if exchange := self._signed.get(data.context.client.id):
            exchange.shaken_hands(self._clock())
        self._connected(data.context.client.id)

    def _connected(self, client_id: str) -> None:
        self._dialled.pop(client_id, None)
        if exchange := self._signed.get(client_id):
            exchange.wait_for("first_byte", self._clock())
