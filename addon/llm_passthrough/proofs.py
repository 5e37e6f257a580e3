"""What must hold inside of mitmproxy, each shown by a request: the self-test's parts.

A gateway with a made-up key stands between upstreams of its own; addons of its own look on.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, Self

from mitmproxy import http

from llm_passthrough import config, lean
from llm_passthrough.build import Parts, build
from llm_passthrough.decoy import Decoy, Port
from llm_passthrough.errors import Refusal
from llm_passthrough.gateway import Gateway
from llm_passthrough.record import Facts
from llm_passthrough.sinks.writer import Writer

_FAR = "canary.invalid"
_LONG = 1 << 17
_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_ODD = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
_ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
_UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
_UPGRADES = (
    b"GET /near/x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_CROWDED = b"POST /near/x HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (b"X: 1\r\n" * 200)
_BEHIND = b"GET /near/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LEAVE = Refusal("canary", "this is the end")


class _Notes(Writer):
    """Takes what would be recorded, and writes nothing."""

    def __init__(self, parts: Parts) -> None:
        super().__init__((), parts.redactor, 1)
        self.facts: list[Facts] = []

    def put(self, facts: Facts) -> None:
        """Keep it here."""
        self.facts.append(facts)


class _Onlooker:
    """An addon that looks at each flow while it may, and may lead one astray."""

    def __init__(self) -> None:
        self.saw = b""
        self.looks = False
        self.trusted = False
        self.astray: int | None = None
        self.opened: Callable[[http.HTTPFlow], None] = lambda flow: None

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Look at what others could show, save, copy or send."""
        if self.looks:
            self.saw += bytes(flow.request.headers) + repr(flow.get_state()).encode()
            self.saw += bytes(flow.request.copy().headers)

    responseheaders = response = error = requestheaders

    def passthrough_sign(self, flow: http.HTTPFlow) -> None:
        """Send a request somewhere else that is signed already."""
        self.requestheaders(flow)
        flow.request.data.port = self.astray or flow.request.data.port

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """A WebSocket is open."""
        self.requestheaders(flow)
        self.opened(flow)

    def tls_established_server(self, _: object) -> None:
        """An upstream's certificate was believed."""
        self.trusted = True


class _Detour:
    """An addon by which a host that no name server knows is on loopback."""

    def server_connect(self, data: Any) -> None:
        """Lead there, when everything else is decided."""
        if data.server.address[0] == _FAR:
            data.server.address = ("127.0.0.1", data.server.address[1])


class Canary:
    """A gateway with a made-up key, the upstreams that it is for, and one that it is not for."""

    def __init__(self, master: Any) -> None:
        self.key = b"canary-" + secrets.token_hex(16).encode()
        self.now = time.monotonic()
        self.onlooker = _Onlooker()
        self.port = _port(master)
        self.upstream, self.stranger, self.far = Decoy(), Decoy(), Decoy(tls=True)
        tls = master.addons.get("tlsconfig")
        self._tls = SimpleNamespace(tls_start_server=tls.tls_start_server)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for part in (self.port, self.upstream, self.stranger, self.far):
            await self._open.enter_async_context(part)
        parts = build(self._config(), {}, "canary")
        self.notes = _Notes(parts)
        self.gateway = Gateway(parts, self.notes, clock=lambda: self.now)
        self.gateway.egress.proxyserver = lambda: self.port.proxyserver
        self.watched_by(self.gateway.egress)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def watched_by(self, *egress: object) -> None:
        """Take these for the addons that say which connections may be made."""
        ours = (self.gateway, *egress, self.gateway.talks)
        self.port.addons = (*ours, _Detour(), self.onlooker, self._tls)

    async def ask(self, prefix: bytes, before: bytes = b"", rest: bytes = b"") -> bytes:
        """The answer to a request; `rest` of it is sent when the answer has begun."""
        head = b"%sPOST %s/x HTTP/1.1\r\nHost: localhost\r\n" % (before, prefix)
        head += b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(rest)
        return await self.port.ask(head, rest)

    def _config(self) -> config.Config:
        keys = [{"name": "main", "value": self.key.decode()}]
        near, far = f"http://127.0.0.1:{self.upstream.port}", f"https://{_FAR}:{self.far.port}"
        routes = [
            {"prefix": "/near", "upstream": near, "keys": keys},
            {"prefix": "/far", "upstream": far, "keys": keys},
        ]
        listen = {"port": 0, "web_port": 0}
        return config.parse({"routes": routes, "listen": listen}, "canary")[0]


def _port(master: Any) -> Port:
    """A port whose connections are handled as those of `master` are."""
    if isinstance(master.addons, lean.Lists):
        return Port(master.plain, lean.Line)
    return Port(master.options)


def _says(answer: bytes, status: int) -> bool:
    return answer.startswith(b"HTTP/1.1 %d " % status)


async def _seals(canary: Canary) -> bool:
    canary.upstream.answer = _PLAIN
    canary.onlooker.looks = True
    answer = await canary.ask(b"/near")
    canary.onlooker.looks = False
    sent, saw = bytes(canary.upstream.got[-1]), canary.onlooker.saw
    shown = b"Bearer [near/main]" in saw and canary.key not in saw
    return _says(answer, 200) and sent.count(canary.key) == 1 and shown


async def _keeps_off(canary: Canary) -> bool:
    canary.onlooker.astray, canary.stranger.answer = canary.stranger.port, _PLAIN
    answer = await canary.ask(b"/near")
    return _says(answer, 502) and not canary.stranger.got


async def _seals_for_one(canary: Canary) -> bool:
    canary.watched_by()  # nobody keeps it from connecting
    answer = await canary.ask(b"/near")
    canary.watched_by(canary.gateway.egress)
    canary.onlooker.astray = None
    return _says(answer, 502) and canary.stranger.got == [b""]


async def _pins(canary: Canary) -> bool:
    answer = await canary.ask(b"/far")
    untrusted = not canary.onlooker.trusted and not any(canary.far.got)
    return _says(answer, 502) and canary.far.names == [_FAR.encode()] and untrusted


async def _refuses(canary: Canary) -> bool:
    before = len(canary.upstream.got)
    answer = await canary.ask(b"/nothing", rest=b"{}")
    ours = b"\r\nx-passthrough-error: no_route\r\n" in answer.lower()
    return _says(answer, 404) and ours and len(canary.upstream.got) == before


async def _reads(canary: Canary) -> bool:
    canary.upstream.answer = _ODD
    answer = await canary.ask(b"/near", before=b"\r\n")
    return _says(answer, 200) and b"{}" in answer and b"X-Trailer" not in answer


async def _limits(canary: Canary) -> bool:
    return _says(await canary.port.ask(b"POST /near/" + b"x" * _LONG, b""), 414)


async def _turns_away(canary: Canary) -> bool:
    before = len(canary.upstream.got)
    answer = await canary.port.ask(_CROWDED, _BEHIND)
    ours = b"\r\nx-passthrough-error: head_too_large\r\n" in answer.lower()
    return _says(answer, 431) and ours and len(canary.upstream.got) == before


async def _seals_a_websocket(canary: Canary) -> bool:
    canary.upstream.answer, canary.onlooker.looks, canary.onlooker.saw = _UPGRADE, True, b""
    canary.onlooker.opened = lambda flow: canary.gateway.egress.end_talk(flow, _LEAVE)
    canary.notes.facts.clear()
    answer = await canary.port.ask(_UPGRADES, b"")
    canary.onlooker.looks = False
    sent, saw = bytes(canary.upstream.got[-1]), canary.onlooker.saw
    shown = b"Bearer [near/main]" in saw and canary.key not in saw
    closed = answer.endswith((1008).to_bytes(2) + _LEAVE.message.encode())
    told = [facts.outcome for facts in canary.notes.facts] == ["refused"]
    return _says(answer, 101) and sent.count(canary.key) == 1 and shown and closed and told


async def _hears_the_end(canary: Canary) -> bool:
    canary.upstream.answer, canary.upstream.cut = _ENDLESS, True
    answer = await canary.ask(b"/near")
    canary.upstream.cut = False
    return _says(answer, 200) and canary.notes.facts[-1].outcome == "upstream_abort"


async def _hangs_up(canary: Canary) -> bool:
    canary.upstream.answer = b""
    canary.upstream.heard.clear()
    asked = asyncio.create_task(canary.ask(b"/near"))
    await canary.upstream.heard.wait()
    canary.now += 1e6
    canary.gateway.end_overdue()
    return _says(await asked, 504)


CHECKS: tuple[tuple[str, Callable[[Canary], Awaitable[bool]]], ...] = (
    ("a key does not reach its upstream, or shows elsewhere", _seals),
    ("a connection is made to a host that is not configured", _keeps_off),
    ("a request goes to a host that it is not sealed for", _seals_for_one),
    ("a name or a certificate of an upstream is not checked", _pins),
    ("a request is not refused", _refuses),
    ("an HTTP/1 message is not read", _reads),
    ("a request without an end is read without end", _limits),
    ("what follows a refused head is read, or is sent on", _turns_away),
    ("a WebSocket is not sealed, or cannot be closed", _seals_a_websocket),
    ("an upstream that breaks off is not noticed", _hears_the_end),
    ("a deadline does not end a call", _hangs_up),
)
"""What does not hold where a check fails, most weighty first."""
