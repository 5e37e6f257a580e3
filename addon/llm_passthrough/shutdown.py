"""The end of a gateway: nothing new comes in, what is open may end by itself, then all is cut."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

from llm_passthrough.gateway import Gateway

_LOOK = 0.05
"""Seconds between two looks at what is still open."""


async def drain(gateway: Gateway, proxyserver: Any, cut: asyncio.Event) -> None:
    """Close the port, refuse what comes by connections that are open, and wait for the rest.

    Waits until all exchanges are over and the clients have their answers, but no longer than
    `shutdown.drain_seconds`, nor after `cut` is set.
    """
    gateway.draining = True
    await proxyserver.servers.update([])
    end = time.monotonic() + gateway.parts.config.shutdown.drain_seconds
    while not cut.is_set() and time.monotonic() < end and _is_open(gateway):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cut.wait(), _LOOK)


def _is_open(gateway: Gateway) -> bool:
    return bool(gateway.live) or gateway.egress.has_unsent()


def on_signals(
    action: Callable[[], object],
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM),
) -> None:
    """Call `action` in the running loop at each of these signals from now on."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        try:
            loop.add_signal_handler(number, action)
        except (NotImplementedError, RuntimeError):
            # Loops on Windows take no signals; outside of the main thread nobody does.
            with contextlib.suppress(ValueError):
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(action))
