"""What the fuzzer hunts on: a gateway's port, the providers behind it, and somebody evil."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from live.harness import Upstream, Wire
from live.oracles import Listener

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"


class Prey(Upstream):
    """A provider that keeps every byte, and says nothing to what is not a plain request."""

    def __init__(self) -> None:
        super().__init__(self._hear)
        self.seen: list[tuple[bytes, bytes]] = []
        self._over: list[Wire] = []

    def _hear(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                head, body = wire.message()
                self.seen.append((head, body))
                wire.send(_OK if head.startswith(b"HEAD ") else _OK + b"{}")
        self._over.append(wire)

    def let_end(self, end: float) -> None:
        """All that was sent here is heard: who connects now comes last, and nobody is left."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 5) as last,
        ):
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        while len(self._over) < len(self.connections) and time.monotonic() < end:
            time.sleep(0.01)


@dataclass
class Ground:
    """What is hunted: a gateway's port, who is behind it, and what is in its keeping.

    `whose` says which keys each provider may see. `over` waits until nothing is under way,
    `written` looks at what was written since it was last asked, `account` at all of it, which takes
    longer. `deadline` is in seconds. A fault counts if it begins as one of `blamed`.
    """

    port: int
    preys: tuple[Prey, ...]
    evil: Listener
    whose: Sequence[frozenset[str]]
    dialled: Path
    trust: ssl.SSLContext | None = None
    over: Callable[[], None] = lambda: None
    written: Callable[[], None] = lambda: None
    account: Callable[[], None] = lambda: None
    deadline: float = 8.0
    blamed: tuple[str, ...] = ("",)
    marks: list[int] = field(default_factory=list)

    def mark(self) -> None:
        """From here on is what the next cases did."""
        self.marks = [len(prey.seen) for prey in self.preys]

    def seen(self) -> list[tuple[int, bytes, bytes]]:
        """What reached a provider since: its number, head and body."""
        return [
            (number, head, body)
            for number, prey in enumerate(self.preys)
            for head, body in prey.seen[self.marks[number] :]
        ]

    def fill(self, data: bytes) -> bytes:
        """Bytes with the names that stand for addresses filled in."""
        for name, value in (
            (b"{GW}", f"127.0.0.1:{self.port}"),
            (b"{EV}", self.evil.name),
            (b"{PR}", "api.openai.com"),
        ):
            data = data.replace(name, value.encode())
        return data
