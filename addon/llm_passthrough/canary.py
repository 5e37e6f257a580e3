"""The canary: before anything is served, requests to a loopback upstream show that we are safe.

What keeps a key safe leans on how mitmproxy is built inside (layer.py, http1.py, intake.py,
transport.py, websocket.py, seal.py; with `serve` lean/ too). So at each start a gateway of its
own, with a made-up key, is asked some things over real sockets and through mitmproxy's real
layers. It has its own thread and event loop; no other addon sees its flows, and nothing of them
is recorded.
"""

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mitmproxy import version
from mitmproxy.utils import asyncio_utils

from llm_passthrough.guard import where
from llm_passthrough.proofs import CHECKS, Canary

KNOWN = ((12, 2), (13,))
"""The versions of mitmproxy that this gateway is for: from the first on, below the second."""
_PATIENCE = 5.0
"""Seconds for each check; it takes some hundredths of one."""
_HELD = threading.Event()


class SelfTestError(Exception):
    """What does not hold, and with which mitmproxy."""


def sing(master: Any, install: Callable[[], None]) -> None:
    """Put the seams into mitmproxy with `install` and check, once a process, that they hold.

    Blocks for as long as some requests take. Raises SelfTestError.
    """
    first, beyond = (".".join(map(str, numbers)) for numbers in KNOWN)
    if not KNOWN[0] <= _numbers(version.VERSION) < KNOWN[1]:
        raise SelfTestError(
            f"mitmproxy {version.VERSION} is not supported; install one >={first},<{beyond}"
        )
    try:
        install()
        if _HELD.is_set():
            return
        with ThreadPoolExecutor(1, "canary") as thread:
            fault = thread.submit(asyncio.run, _checked(master)).result()
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be served
        fault = f"it could not be made ready ({where(error)})"
    if fault:
        raise SelfTestError(
            f"self-test failed with mitmproxy {version.VERSION}: {fault}; "
            f"install mitmproxy >={first},<{beyond} as it was released"
        )
    _HELD.set()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


async def _checked(master: Any) -> str | None:
    """The first thing that does not hold, or None."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it shows in the answers
    about = "no request could be sent"
    try:
        with asyncio_utils.set_eager_task_factory():  # as in mitmproxy's own loop
            async with Canary(master) as canary:
                for about, holds in CHECKS:
                    async with asyncio.timeout(_PATIENCE):
                        if not await holds(canary) or canary.port.faults:
                            return about
    except Exception as error:  # noqa: BLE001 - a seam that does not fit may raise anything
        return f"{about} ({where(error)})"
    return None
