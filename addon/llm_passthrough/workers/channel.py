"""The parent's end of its line to a worker: never waits, and forgets what a worker does not take.

A line is an order of the parent's (`drain`, `cut`, `reload`, `again`; `lost 2`: the worker of that
number has ended), a worker's `ready`, or, when it begins with a brace, something that a worker
tells the others.
"""

import contextlib
import socket

READY = b"ready"
DRAIN, CUT, RELOAD, AGAIN = b"drain", b"cut", b"reload", b"again"
LOST = b"lost "
MOST = 1 << 20
"""Bytes that may wait for one who does not read; of what workers tell each other more is lost."""
_PIECE = 1 << 16


class Channel:
    """One end of a socket pair; `theirs` is the other one, until a worker has it."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.ended = False
        self._in = b""
        self._out = bytearray()

    @property
    def waits(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._out)

    def order(self, line: bytes) -> None:
        """Send a line, whatever waits already."""
        self._out += line + b"\n"
        self.flush()

    def tell(self, line: bytes) -> None:
        """Send a line that may be lost."""
        if len(self._out) + len(line) < MOST:
            self.order(line)

    def flush(self) -> None:
        """Send what waits, as far as it is taken now."""
        with contextlib.suppress(OSError):  # a worker that is gone is noticed elsewhere
            while self._out:
                del self._out[: self.sock.send(self._out)]

    def lines(self) -> list[bytes]:
        """What came in whole lines; `ended` says whether there will be no more."""
        parts = [self._in]
        try:
            while piece := self.sock.recv(_PIECE):
                parts.append(piece)
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        *lines, self._in = b"".join(parts).split(b"\n")
        return lines

    def close(self) -> None:
        """Close both ends."""
        self.sock.close()
        self.theirs.close()
