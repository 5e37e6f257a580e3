"""The pace of refusals: who is refused much waits for his answers, and nobody else has to.

A refusal costs little, but a client who floods asks again at once, on many connections: answered
as fast as he asks, he would have the event loop for himself. While he waits, nothing is read from
his connection.
"""

from collections.abc import Awaitable, Callable

from mitmproxy import http
from mitmproxy.connection import Client

from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import client_of

PER_SECOND, AT_ONCE, LONGEST = 30.0, 30, 5.0
"""Refusals of one client: how many a second, how many before that, how long one may wait (s)."""


class Pace:
    """Knows when each client may be refused next. `pause` holds a connection for some seconds."""

    def __init__(
        self, clock: Callable[[], float], pause: Callable[[Client, float], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._next: dict[str, float] = {}

    def wait(self, name: str) -> float:
        """Seconds for which this client's refusal has to wait; it counts from now on."""
        now = self._clock()
        due = max(self._next.get(name, now), now)
        seconds = due - AT_ONCE / PER_SECOND - now
        if seconds >= LONGEST:
            return LONGEST
        self._next[name] = due + 1 / PER_SECOND
        return max(0.0, seconds)

    async def hold(self, flow: http.HTTPFlow, exchange: Exchange | None) -> None:
        """Wait with the answer to a request that is refused."""
        seconds = self.wait(exchange.identity.client.name if exchange else "")
        if seconds:
            await self._pause(client_of(flow), seconds)
