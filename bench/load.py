"""Makes calls and takes the time: `python -m bench.load`, an order a line, an outcome a line.

Connections that are kept are kept from one order to the next: what is counted while an order is
carried out is calls, and no connections.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, replace

from bench.call import Call, Left, Order, Outcome

_LOOK = 0.01
_PATIENCE, _LONGEST = 120.0, 0.1
"""Seconds after which an order is given up, and how many more for each of its calls."""


class Loader:
    """Carries out orders; `kept` are the connections that are open between two of them."""

    def __init__(self) -> None:
        self._kept: dict[Order, list[Call]] = {}
        self._held: list[Call] = []
        self._open: set[asyncio.Task[None]] = set()

    async def carry_out(self, order: Order) -> Outcome:
        """What became of an order."""
        outcome = Outcome()
        if not order.more:
            self._let_go()
        if order.hold:
            await self._hold(order, outcome)
            return outcome
        calls = await self._connections(order) if order.keep else []
        left, begun = Left(order), time.perf_counter()
        if order.keep:
            turns = [call.calls(outcome, left, begun) for call in calls if left.take()]
        else:
            turns = [self._one_by_one(order, outcome, left) for _ in range(order.connections)]
        await asyncio.gather(*turns)
        outcome.took = time.perf_counter() - begun
        missing = left.taken - len(outcome.seconds)
        if missing:
            outcome.faults.append(f"{missing} calls without an answer")
        return outcome

    async def _hold(self, order: Order, outcome: Outcome) -> None:
        """Make calls and leave them open."""
        left = Left(order)
        for _ in range(order.connections):
            self._held.append(call := await _connected(order))
            left.take()
            self._open.add(asyncio.create_task(call.calls(outcome, left, time.perf_counter())))
        # The calls do not know of each other.
        while len(outcome.first) < order.connections and not outcome.faults:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    def _let_go(self) -> None:
        for call in self._held:
            call.close()
        self._held.clear()

    async def _connections(self, order: Order) -> list[Call]:
        kept = [call for call in self._kept.get(_kind(order), []) if not call.lost]
        while len(kept) < order.connections:
            kept.append(await _connected(order))
        self._kept[_kind(order)] = kept
        return kept

    async def _one_by_one(self, order: Order, outcome: Outcome, left: Left) -> None:
        while left.take():
            begun = time.perf_counter()
            call = await _connected(order)
            await call.calls(outcome, left, begun)

    def give_up(self, order: Order) -> None:
        """Let go of the connections of an order that did not come to its end."""
        for call in self._kept.pop(_kind(order), []):
            call.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._let_go()
        for calls in self._kept.values():
            for call in calls:
                call.close()


def _kind(order: Order) -> Order:
    """What is the same of all orders that share connections."""
    return replace(order, calls=0, seconds=0.0)


async def _connected(order: Order) -> Call:
    loop = asyncio.get_running_loop()
    _, call = await loop.create_connection(lambda: Call(order), "127.0.0.1", order.port)
    return call


def order_of(line: str) -> Order:
    """An order as it was written down."""
    value = json.loads(line)
    return Order(**value | {"extra": tuple(value["extra"])})


async def main() -> None:
    """Carry out orders until there are no more."""
    loop, loader = asyncio.get_running_loop(), Loader()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = order_of(line)
        try:
            async with asyncio.timeout(_PATIENCE + order.seconds + order.calls * _LONGEST):
                outcome = await loader.carry_out(order)
        except OSError as error:  # nobody takes a connection, or nobody answers
            outcome = Outcome(faults=[repr(error)])
            loader.give_up(order)
        print(json.dumps(asdict(outcome)), flush=True)
    loader.close()


if __name__ == "__main__":
    asyncio.run(main())
