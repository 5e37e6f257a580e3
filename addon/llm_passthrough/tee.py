"""The tee: passes every chunk on untouched and keeps a bounded copy to look at.

A tee never raises. If looking fails it goes blind for good, and says so in `blind`; the client's
bytes are not touched either way.
"""

import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Protocol


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Tee:
    """What went by: the first `limit` bytes, how many there were, their SHA-256.

    Called with each chunk (and with b"" at the end of a whole stream) it returns the chunk.
    `clock` gives seconds; `first` and `last` are when bytes were seen first and last, also by
    a blind tee: deadlines depend on them. An `ear` hears each chunk and when it came.
    """

    __slots__ = (
        "_clock",
        "_digest",
        "_ear",
        "_kept",
        "_limit",
        "blind",
        "first",
        "last",
        "size",
    )

    def __init__(
        self,
        limit: int,
        clock: Callable[[], float],
        ear: Callable[[bytes, float], None] | None = None,
    ) -> None:
        self._limit = limit
        self._ear = ear
        self._clock = clock
        # One buffer, not a list of chunks: a stream may come in pieces of a few bytes each.
        self._kept = BytesIO()
        self._digest: _Digest | None = None
        self.size = 0
        self.first: float | None = None
        self.last: float | None = None
        self.blind: str | None = None

    def __call__(self, chunk: bytes) -> bytes:
        if chunk:
            try:
                self.see(chunk)
            except Exception as error:  # noqa: BLE001 - raising would lose this chunk for the client
                self.blind = type(error).__name__
        return chunk

    def see(self, chunk: bytes) -> None:
        """Look at one chunk."""
        self.last = self._clock()
        if self.first is None:
            self.first = self.last
        self.size += len(chunk)
        if self.blind is None:
            self._keep(chunk)
            if self._ear is not None:
                self._ear(chunk, self.last)

    def _keep(self, chunk: bytes) -> None:
        if self._digest is None:
            if self.size <= self._limit:
                self._kept.write(chunk)
                return
            # From here on the copy is not whole any more, so that the digest is kept running.
            self._digest = hashlib.sha256(self._kept.getbuffer())
            self._kept.write(chunk[: self._limit - self._kept.tell()])
        self._digest.update(chunk)

    @property
    def copy(self) -> bytes:
        """The first `limit` bytes of what went by; not copied for whoever asks at the end."""
        return self._kept.getvalue()

    @property
    def truncated(self) -> bool:
        """Whether more went by than the copy holds."""
        return self.size > self._kept.tell()

    def sha256(self) -> str | None:
        """The SHA-256 of everything that went by, in hex, or None if not everything was seen;
        costs time in proportion to the copy."""
        if self.blind is not None:
            return None
        return (self._digest or hashlib.sha256(self.copy)).hexdigest()
