"""Fairness: of each client a few requests begin in one pass of the event loop, others in the next.

The loop works off in one pass whatever is ready. A client who calls as fast as he can on many
connections would fill each pass, and everybody else would wait for all of his. So what is his
beyond a few waits in a line of his own, for some milliseconds; and as answers come as requests go,
there are not more of these in a pass either.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

AT_ONCE = 2
"""Requests of one client that begin in one pass; each takes about a millisecond of it."""
TOGETHER = 60.0
"""Seconds for which somebody counts who has called; who calls alone waits for nothing."""


class Fairness:
    """Knows what has begun in this pass, and who waits. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], at_once: int = AT_ONCE) -> None:
        self._clock = clock
        self._at_once = at_once
        self._latest = ""
        self._alone_from = -math.inf
        self._begun: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._looks = False

    async def turn(self, name: str) -> None:
        """Come back when a request of this client may begin: nearly always at once."""
        if self._is_alone(name):
            return
        begun = self._begun.get(name, 0)
        loop = asyncio.get_running_loop()
        if begun < self._at_once and name not in self._waiting:
            self._begun[name] = begun + 1
            self._look(loop)
            return
        turn = loop.create_future()
        self._waiting.setdefault(name, deque()).append(turn)
        self._look(loop)
        await turn

    def _is_alone(self, name: str) -> bool:
        """Whether nobody else has called of late."""
        if name == self._latest:
            return self._clock() >= self._alone_from
        self._alone_from = self._clock() + TOGETHER if self._latest else -math.inf
        self._latest = name
        return self._alone_from == -math.inf

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again in the next pass."""
        if not self._looks:
            self._looks = True
            loop.call_soon(self._next_pass, loop)

    def _next_pass(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looks = False
        self._begun.clear()
        for name in list(self._waiting):
            waiting = self._waiting[name]
            self._begun[name] = count = min(self._at_once, len(waiting))
            for turn in [waiting.popleft() for _ in range(count)]:
                if not turn.done():  # its connection may have been closed
                    turn.set_result(None)
            if not waiting:
                del self._waiting[name]
        if self._begun:
            self._look(loop)
