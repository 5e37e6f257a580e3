"""Tunnels: what a client may open with CONNECT, and what becomes of the bytes inside.

A tunnel to a host that we stand for is opened with mitmproxy's own certificate, and each request
in it is one like on a prefix. One to another host is relayed unopened, its bytes counted, or, if
that is configured, opened to be looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from llm_passthrough.build import Parts
from llm_passthrough.clients import Identity
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import relayed
from llm_passthrough.forward import check_address, is_public, named
from llm_passthrough.providers import Origin
from llm_passthrough.record import Body, Fault, Outcome
from llm_passthrough.routes import Route

type Kind = Literal["own", "served", "inspect", "relay"]
type Finish = Callable[[Outcome, Fault | None], None]


@dataclass(slots=True)
class Tunnel:
    """One tunnel: where it leads, whose it is, and (relayed) how many bytes went each way."""

    host: str
    port: int
    kind: Kind
    identity: Identity
    private: bool = False
    sent: int = 0
    received: int = 0
    finish: Finish | None = None
    exchange: Exchange | None = None

    @property
    def origin(self) -> Origin:
        """What the requests inside are for."""
        return Origin("https", self.host, self.port)


_LEFT = Fault("client_abort", "the client went away", "client")


class Tunnels:
    """The open tunnels, by the client connection that each of them has become."""

    def __init__(self) -> None:
        self._open: dict[str, Tunnel] = {}

    def of(self, client: Client) -> Tunnel | None:
        """The tunnel that a client's connection has become, if it has."""
        return self._open.get(client.id)

    async def open(
        self, flow: http.HTTPFlow, exchange: Exchange, parts: Parts, finish: Finish
    ) -> bool:
        """Let a client have the tunnel that it asks for. Raises Refusal.

        Whether it is relayed: then the tunnel is one exchange, and `finish` ends it.
        """
        host, port = named(flow.request.host), flow.request.port
        exchange.route = Route(f"host:{host}", ())
        _check_bare(flow.request)
        wall, sent = time.time(), exchange.stripped.proxy_credentials
        exchange.identity = identity = parts.clients.identify(sent, True, wall)
        identity.check(wall, proxy=True)
        if not parts.door.is_ours(host):
            identity.client.check_route(exchange.route.prefix)
        tunnel = await judge(host, port, identity, parts)
        self._open[flow.client_conn.id] = tunnel
        if tunnel.kind != "relay":
            return False
        exchange.keep_only(f"{host}:{port}")
        exchange.status = 200

        def over(outcome: Outcome, fault: Fault | None) -> None:
            exchange.request_body = Body(b"", tunnel.sent)
            exchange.answer_body = Body(b"", tunnel.received)
            finish(outcome, fault)

        tunnel.finish, tunnel.exchange = over, exchange
        relayed(flow)
        return True

    def may_dial(self, client: Client, server: Server) -> bool:
        """Whether a connection is the one that a relayed tunnel of this client leads to."""
        tunnel = self._open.get(client.id)
        if tunnel is None or tunnel.kind != "relay":
            return False
        if server.address is None or server.tls:
            return False
        return (named(server.address[0]), server.address[1]) == (tunnel.host, tunnel.port)

    def dialled(self, client: Client, server: Server) -> Exchange | None:
        """The exchange of a relayed tunnel whose connection is there; None for all others.

        The name was asked for anew when it was dialled, and may lead elsewhere now: the connection
        then has an error.
        """
        tunnel = self._open.get(client.id)
        if tunnel is None or tunnel.exchange is None:
            return None
        public = server.peername is not None and is_public(server.peername[0])
        if not (public or tunnel.private):
            server.error = "not a public address"
        return tunnel.exchange

    def decide(self, data: layer.NextLayer) -> None:
        """A relayed tunnel is not looked into; all else is mitmproxy's choice."""
        tunnel = self._open.get(data.context.client.id)
        if tunnel is not None and tunnel.kind == "relay" and data.layer is None:
            data.layer = Relay(data.context, tunnel)

    def close(self, client: Client) -> None:
        """The client's connection is over."""
        tunnel = self._open.pop(client.id, None)
        if tunnel is not None and tunnel.finish is not None:
            if tunnel.exchange is not None and tunnel.exchange.waiting_for == "connect":
                tunnel.finish("client_abort", _LEFT)
            else:
                tunnel.finish("ok", None)


def _check_bare(request: http.Request) -> None:
    """Where a CONNECT had a body, two readers could take the tunnel's first bytes for it."""
    length = request.headers.get("content-length", "0")
    if length != "0" or "transfer-encoding" in request.headers:
        raise Refusal("bad_request", "CONNECT has no body (RFC 9110 9.3.6)")


async def judge(host: str, port: int, who: Identity, parts: Parts) -> Tunnel:
    """The tunnel that a client asks for. Raises Refusal."""
    if parts.door.is_ours(host) and port == parts.config.listen.port:
        return Tunnel(host, port, "own", who)
    if parts.hosts.route(Origin("https", host, port)) is not None:
        return Tunnel(host, port, "served", who)
    if not host:
        raise Refusal("bad_request", "CONNECT names a host and a port (RFC 9110 9.3.6)")
    forward = parts.forward
    parts.hosts.check_port(host)
    forward.check_name(host)
    private = forward.allows_private(host)
    await check_address(host, port, parts.own_ports, private)
    kind: Kind = "inspect" if forward.other == "inspect" else "relay"
    return Tunnel(host, port, kind, who, private)


class Relay(TCPLayer):
    """mitmproxy's relay of bytes, without a flow of its own, that counts them."""

    def __init__(self, context: Context, tunnel: Tunnel) -> None:
        super().__init__(context, ignore=True)
        self._tunnel = tunnel

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            return  # it was dialled before the client was answered
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self._tunnel.sent += len(event.data)
            else:
                self._tunnel.received += len(event.data)
        yield from self.relay_messages(event)


def refuse_nested(absolute: bool, tls: bool) -> None:
    """What a request inside a tunnel must be: origin-form, and encrypted. Raises Refusal."""
    if absolute:
        raise Refusal("bad_request", "a request inside a tunnel names a path, not a URL")
    if not tls:
        raise Refusal("forward_plain", "only TLS goes through a tunnel to this host; use https://")
