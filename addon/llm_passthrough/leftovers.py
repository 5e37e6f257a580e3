"""What clients have not taken yet of what was written to them, also when their connection is over.

A socket that is closed with something left in it stays open until that is taken: by a client that
never reads, for ever, and nobody counts it any more.
"""

import asyncio
import weakref
from dataclasses import dataclass


@dataclass(slots=True)
class _Rest:
    """So many bytes have been left since then, in seconds."""

    size: int
    since: float


class Leftovers:
    """Knows all sockets to clients, as long as there are any."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._rests: weakref.WeakKeyDictionary[asyncio.WriteTransport, _Rest] = (
            weakref.WeakKeyDictionary()
        )

    def watch(self, socket: asyncio.WriteTransport) -> None:
        """A client has connected."""
        self._sockets.add(socket)

    def __bool__(self) -> bool:
        """Whether a client has not taken all of what was written to it."""
        return any(socket.get_write_buffer_size() for socket in self._sockets)

    def sweep(self, now: float, limit: float) -> int:
        """Cut the sockets that are closed, and of which nothing was taken for so many seconds; how
        many are left that are closed and still hold something."""
        count = 0
        for socket in list(self._sockets):
            size = socket.get_write_buffer_size() if socket.is_closing() else 0
            if not size:
                self._rests.pop(socket, None)
                continue
            rest = self._rests.get(socket)
            if rest is None or rest.size != size:
                self._rests[socket] = _Rest(size, now)
            elif now - rest.since > limit:
                socket.abort()
                continue
            count += 1
        return count
