"""Makes calls and takes the time: `python -m bench.load`, an order a line, an outcome a line.

Connections that are kept are kept from one order to the next: what is counted while an order is
carried out is calls, and no connections.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_SENT = re.compile(rb'(?s)"content":" (\d+)".*?"sent":(\d+)')
_LOOK = 0.01
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: `calls` calls over `connections` connections to 127.0.0.1:`port`.

    `want` is what the provider is asked for; `target` may be in absolute-form. Without `keep`
    each call has a connection of its own. With `hold` the calls are left open at their first
    event, until the next order that is not for `more` of them.
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


@dataclass(slots=True)
class Outcome:
    """Seconds of each call; of streams: until the first event, and each event's way from the
    provider to here; how many reads brought more than one event; what went wrong."""

    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    merged: int = 0
    faults: list[str] = field(default_factory=list)


class Call(asyncio.Protocol):
    """One connection that makes one call after the other."""

    def __init__(self, order: Order) -> None:
        self._request = message(order)
        self._order = order
        self._at = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    async def calls(self, outcome: Outcome, more: list[int], at: float) -> None:
        """Make calls as long as there are `more` to be made; the first began at `at`."""
        self._outcome, self._more = outcome, more
        self._done = asyncio.get_running_loop().create_future()
        self.call(at)
        await self._done

    def call(self, at: float) -> None:
        """Make the next call, if one is left to be made; it began at `at`."""
        if not self._more:
            self._done.set_result(None)
            return
        self._more.pop()
        self._held, self._seen, self._events = bytearray(), 0, 0
        self._body = self._chunked = False
        self._left = 0
        self._at = at
        self._out.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._body and not self._chunked:
            self._left -= len(data)
        else:
            self._held += data
            if not self._body:
                self._read_head()
        if self._chunked:
            self._hear(now)
            over = self._held.endswith(b"\r\n0\r\n\r\n")
        else:
            over = self._body and self._left <= 0
        if over:
            self._over()

    def _read_head(self) -> None:
        end = self._held.find(_END)
        if end < 0:
            return
        self._body = True
        if not self._held.startswith(b"HTTP/1.1 200"):
            self._outcome.faults.append(bytes(self._held[:200]).decode("latin-1"))
        length = _LENGTH.search(self._held, 0, end + 2)
        self._chunked = length is None
        if length:
            self._left = int(length[1]) - (len(self._held) - end - len(_END))

    def _hear(self, now: int) -> None:
        found = 0
        for event in _SENT.finditer(self._held, self._seen):
            if not self._events:
                self._outcome.first.append(time.perf_counter() - self._at)
            if int(event[1]) != self._events:
                self._outcome.faults.append(f"event {int(event[1])} in place of {self._events}")
            self._outcome.delays.append((now - int(event[2])) / 1e9)
            self._events += 1
            found += 1
            self._seen = event.end()
        self._outcome.merged += found > 1

    def _over(self) -> None:
        self._outcome.seconds.append(time.perf_counter() - self._at)
        count, _, pause = self._order.want.partition("/")
        if pause and self._events != int(count):
            self._outcome.faults.append(f"{self._events} events instead of {count}")
        if self._order.keep:
            self.call(time.perf_counter())
        else:
            self._out.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if exc is not None:
            self._outcome.faults.append(type(exc).__name__)
        if not self._done.done():
            self._done.set_result(None)

    def close(self) -> None:
        """Let go of the connection."""
        self._out.close()


def message(order: Order) -> bytes:
    """The request, as an SDK would send it."""
    said = {"model": "gpt-4o", "temperature": 0.2, "stream": "/" in order.want}
    said["messages"] = [{"role": "user", "content": "Tell me of it. " * (order.size // 15)}]
    body = json.dumps(said).encode()
    head = [
        f"POST {order.target} HTTP/1.1",
        f"Host: {order.host}",
        "Accept-Encoding: identity",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.50.0",
        "X-Stainless-Lang: python",
        "X-Stainless-OS: Linux",
        "X-Stainless-Runtime: CPython",
        "x-stainless-retry-count: 0",
        "Authorization: Bearer client-token",
        f"X-Want: {order.want}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


class Loader:
    """Carries out orders; `kept` are the connections that are open between two of them."""

    def __init__(self) -> None:
        self._kept: dict[Order, list[Call]] = {}
        self._held: list[Call] = []
        self._open: set[asyncio.Task[None]] = set()

    async def carry_out(self, order: Order) -> Outcome:
        """What became of an order."""
        outcome, more = Outcome(), [0] * order.calls
        if not order.more:
            self._let_go()
        if order.hold:
            await self._hold(order, outcome, more)
            return outcome
        if order.keep:
            calls = await self._connections(order)
            await asyncio.gather(
                *(call.calls(outcome, more, time.perf_counter()) for call in calls)
            )
        else:
            turns = (self._one_by_one(order, outcome, more) for _ in range(order.connections))
            await asyncio.gather(*turns)
        missing = order.calls - len(outcome.seconds)
        if missing:
            outcome.faults.append(f"{missing} calls without an answer")
        return outcome

    async def _hold(self, order: Order, outcome: Outcome, more: list[int]) -> None:
        """Make calls and leave them open."""
        for _ in range(order.connections):
            self._held.append(call := await _connected(order))
            self._open.add(asyncio.create_task(call.calls(outcome, more, time.perf_counter())))
        # The calls do not know of each other.
        while len(outcome.first) < order.connections and not outcome.faults:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    def _let_go(self) -> None:
        for call in self._held:
            call.close()
        self._held.clear()

    async def _connections(self, order: Order) -> list[Call]:
        kept = [call for call in self._kept.get(order, []) if not call.lost]
        while len(kept) < order.connections:
            kept.append(await _connected(order))
        self._kept[order] = kept
        return kept

    async def _one_by_one(self, order: Order, outcome: Outcome, more: list[int]) -> None:
        while more:
            begun = time.perf_counter()
            call = await _connected(order)
            await call.calls(outcome, more, begun)

    def close(self) -> None:
        """Let go of all connections."""
        self._let_go()
        for calls in self._kept.values():
            for call in calls:
                call.close()


async def _connected(order: Order) -> Call:
    loop = asyncio.get_running_loop()
    _, call = await loop.create_connection(lambda: Call(order), "127.0.0.1", order.port)
    return call


async def main() -> None:
    """Carry out orders until there are no more."""
    loop, loader = asyncio.get_running_loop(), Loader()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        outcome = await loader.carry_out(Order(**json.loads(line)))
        print(json.dumps(asdict(outcome)), flush=True)
    loader.close()


if __name__ == "__main__":
    asyncio.run(main())
