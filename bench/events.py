"""An answer in chunks with events in it: which came, how late, and which came as one.

A chunk of HTTP is looked at, not a read: two chunks that lie in a socket together were not merged.
"""

import re

_SENT = re.compile(rb'(?s)"content":" (\d+)".*?"sent":(\d+)')
_APART = 0.5
"""Of the pause between two events: who is sent so much later was sent apart."""


class Events:
    """Listens to one stream; `want` is what was asked for, COUNT/SECONDS, and `delays` takes the
    seconds that each event was on its way."""

    def __init__(self, want: str, delays: list[float]) -> None:
        count, _, pause = want.partition("/")
        self._wanted = int(count)
        self._apart = float(pause or 0) * _APART
        self._delays = delays
        self._held = bytearray()
        self._text = bytearray()
        self._missed = 0
        self._next = 0
        self.count = 0
        self.merged = 0
        self.over = False

    def feed(self, data: bytes, now: int) -> None:
        """Bytes of the body, which came at `now` (monotonic, ns)."""
        self._held += data
        while not self.over:
            end = self._held.find(b"\r\n")
            if end < 0:
                return
            size = int(self._held[:end].partition(b";")[0], 16)
            start, whole = end + 2, end + 4 + size
            if len(self._held) < whole:
                return
            self.over = size == 0
            self._text += self._held[start : start + size]
            del self._held[:whole]
            self._chunk(now)

    def _chunk(self, now: int) -> None:
        last, seen = None, 0
        for event in _SENT.finditer(self._text):
            number, sent = int(event[1]), int(event[2])
            self._missed += abs(number - self._next)
            self._next = number + 1
            self._delays.append((now - sent) / 1e9)
            self.merged += last is not None and 0 < self._apart <= (sent - last) / 1e9
            last, seen = sent, event.end()
            self.count += 1
        del self._text[:seen]

    def lost(self) -> int:
        """How many events did not come, or not in their turn."""
        return self._missed + abs(self._wanted - self._next)
