"""Signals reach a loop on each system, and a drain waits for what it says that it waits for."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llm_passthrough.shutdown import on_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class WithoutSignals(asyncio.SelectorEventLoop):
    """A loop as there are on Windows."""

    def add_signal_handler(self, *_: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, WithoutSignals])
def test_each_signal_calls_the_action_inside_of_the_loop(
    number: signal.Signals, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> int:
        called = asyncio.Semaphore(0)
        on_signals(called.release)
        for _ in range(2):
            os.kill(os.getpid(), number)
            await asyncio.wait_for(called.acquire(), 5)
        return 2

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(main()) == 2


def test_in_another_thread_no_signal_is_taken_and_nothing_breaks() -> None:
    async def main() -> None:
        await asyncio.to_thread(asyncio.run, _register())

    async def _register() -> None:
        on_signals(lambda: None)

    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) is before
