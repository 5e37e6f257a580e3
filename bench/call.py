"""One call after the other on one connection, and what becomes of them."""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field

from bench.events import Events

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_END = b"\r\n\r\n"
PIECE = b"Tell me of it. " * 4369  # 64 KB of a long body
LONG = 4 << 20
"""Bytes: a body of more is sent in pieces, as fast as they are taken."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: `calls` calls over `connections` connections to 127.0.0.1:`port`.

    `want` is what the provider is asked for; `target` may be in absolute-form; `extra` are lines
    of the head. With `seconds` as many calls are made as go into them, though no fewer than
    `calls`; `pause` is that between two calls of a connection. Without `keep` each call has a
    connection of its own. With `hold` the calls are left open at their first event, until the
    next order that is not for `more` of them.
    """

    port: int
    target: str
    host: str
    want: str
    size: int = 1024
    calls: int = 100
    connections: int = 1
    keep: bool = True
    hold: bool = False
    more: bool = False
    seconds: float = 0.0
    pause: float = 0.0
    token: str = "client-token"  # noqa: S105 - one of this bench
    extra: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """How long all took, and each call; of streams: the time until the first event, each event's
    way from the provider to here, how many were lost and how many came as one with another
    although they were sent apart (all in seconds); and what went wrong."""

    took: float = 0.0
    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    lost: int = 0
    merged: int = 0
    faults: list[str] = field(default_factory=list)


class Left:
    """How many calls are left to be made: a number of them, or until an end."""

    def __init__(self, order: Order) -> None:
        self.taken = 0
        self._least = order.calls
        self._end = time.perf_counter() + order.seconds

    def take(self) -> bool:
        """Whether another call is to be made."""
        if self.taken >= self._least and time.perf_counter() >= self._end:
            return False
        self.taken += 1
        return True


class Call(asyncio.Protocol):
    """One connection that makes one call after the other."""

    def __init__(self, order: Order) -> None:
        self._head, self._body = message(order)
        self._order = order
        self._at = 0.0
        self._unsent = 0
        self._full = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    async def calls(self, outcome: Outcome, left: Left, at: float) -> None:
        """Make calls until none is left; the first, which began at `at`, is taken already."""
        self._outcome, self._more = outcome, left
        self._done = asyncio.get_running_loop().create_future()
        self._call(at)
        await self._done

    def _next(self) -> None:
        if self.lost or not self._more.take():
            if not self._done.done():
                self._done.set_result(None)
            return
        self._call(time.perf_counter())

    def _call(self, at: float) -> None:
        self._held = bytearray()
        self._heard: Events | None = None
        self._answered = self._begun = False
        self._missing = 0
        self._at = at
        if self._order.size < LONG:
            self._out.write(self._head + self._body)
            return
        self._out.write(self._head)
        self._unsent = self._order.size
        self.resume_writing()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        while self._unsent and not self._full:
            piece = PIECE[: self._unsent]
            self._unsent -= len(piece)
            self._out.write(piece)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self._answered:
            self._held += data
            data = self._read_head()
            if not self._answered:
                return
        if self._heard is not None:
            self._heard.feed(data, now)
            over = self._heard.over
            if self._heard.count and not self._begun:
                self._begun = True
                self._outcome.first.append(time.perf_counter() - self._at)
        else:
            self._missing -= len(data)
            over = self._missing <= 0
        if over:
            self._over()

    def _read_head(self) -> bytes:
        """What stands behind the answer's head, when that is there."""
        end = self._held.find(_END)
        if end < 0:
            return b""
        self._answered = True
        if not self._held.startswith(b"HTTP/1.1 200"):
            self._outcome.faults.append(bytes(self._held[:200]).decode("latin-1"))
        length = _LENGTH.search(self._held, 0, end + 2)
        if length is None:
            self._heard = Events(self._order.want, self._outcome.delays)
        else:
            self._missing = int(length[1])
        return bytes(self._held[end + len(_END) :])

    def _over(self) -> None:
        self._outcome.seconds.append(time.perf_counter() - self._at)
        if self._heard is not None:
            self._outcome.lost += self._heard.lost()
            self._outcome.merged += self._heard.merged
        if not self._order.keep:
            self._out.close()
        elif self._order.pause:
            asyncio.get_running_loop().call_later(self._order.pause, self._next)
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not hasattr(self, "_done"):
            return
        if exc is not None:
            self._outcome.faults.append(type(exc).__name__)
        if not self._done.done():
            self._done.set_result(None)

    def close(self) -> None:
        """Let go of the connection."""
        self._out.close()


def message(order: Order) -> tuple[bytes, bytes]:
    """A request's head and body, as an SDK would send it; a long body is made while it is sent."""
    said = {"model": "gpt-4o", "temperature": 0.2, "stream": "/" in order.want}
    long = order.size >= LONG
    text = "" if long else "Tell me of it. " * (order.size // 15)
    said["messages"] = [{"role": "user", "content": text}]
    body = b"" if long else json.dumps(said).encode()
    head = [
        f"POST {order.target} HTTP/1.1",
        f"Host: {order.host}",
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Content-Type: {'application/octet-stream' if long else 'application/json'}",
        "User-Agent: OpenAI/Python 3.50.0",
        "X-Stainless-Lang: python",
        "X-Stainless-OS: Linux",
        "X-Stainless-Runtime: CPython",
        "x-stainless-retry-count: 0",
        f"Authorization: Bearer {order.token}",
        f"X-Want: {order.want}",
        *order.extra,
        f"Content-Length: {order.size if long else len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode(), body
