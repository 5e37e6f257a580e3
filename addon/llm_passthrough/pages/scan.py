"""Reads the files of a JSONL log piece by piece: what is added first, then backwards what was."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llm_passthrough.ledger import lines
from llm_passthrough.ledger.jsonl import opened
from llm_passthrough.ledger.logs import logs_of

type Identity = tuple[int, int]
"""Device and inode: it stays when a file is rotated out."""


class Place(NamedTuple):
    """Where a record stands."""

    file: Identity
    offset: int
    length: int


class Found(NamedTuple):
    """A line that was read; `news` was written since the reading began."""

    place: Place
    line: bytes
    news: bool


class _File:
    """How far a file is read: from `low` to `high`; what is below was written before."""

    def __init__(self, path: Path, low: int, high: int) -> None:
        self.path, self.low, self.high = path, low, high


class Scan:
    """The reading of one log, of all its workers. `found` takes each line, `gone` the files that
    are no more."""

    def __init__(
        self,
        path: Path,
        found: Callable[[Found], None],
        gone: Callable[[set[Identity]], None],
    ) -> None:
        self._path = path
        self._found = found
        self._gone = gone
        self._files: dict[Identity, _File] = {}
        self.ready = False
        self.share = 0.0

    def look(self, seconds: float, enough: Callable[[], bool]) -> bool:
        """Read for so long, older records only until there are enough; whether there is more.

        May raise OSError and LedgerError.
        """
        end = time.monotonic() + seconds
        sizes = self._present()
        files = self._files
        newest_first = list(sizes)
        behind = any(not self._grow(identity, sizes[identity], end) for identity in newest_first)
        for identity in newest_first:
            if enough() or not self._fill(identity, end, enough):
                break
        left = 0 if enough() else sum(files[identity].low for identity in newest_first)
        total = sum(sizes.values())
        self.ready = not left
        self.share = 1 - left / total if total else 1.0
        return behind or not self.ready

    def load(self, place: Place) -> bytes:
        """A line again; empty when it is gone."""
        with self.opened(place.file) as stream:
            return read(stream, place)

    @contextmanager
    def opened(self, identity: Identity) -> Iterator[BinaryIO | None]:
        """A file, open for the length of a with-block; None when it is gone."""
        file, stream = self._files.get(identity), None
        with suppress(OSError):
            if file is not None:
                stream = file.path.open("rb")
        try:
            is_it = stream is not None and _identity(os.fstat(stream.fileno())) == identity
            yield stream if is_it else None
        finally:
            if stream is not None:
                stream.close()

    def _present(self) -> dict[Identity, int]:
        """The files that are there and their sizes, the newest first; others are forgotten."""
        sizes: dict[Identity, int] = {}
        begun = bool(self._files)
        gone = set(self._files)
        for path in self._paths():
            with suppress(FileNotFoundError):
                status = path.stat()
                identity = _identity(status)
                if identity in sizes:  # it was rotated out between two looks
                    self._files[identity].path = path
                    continue
                sizes[identity] = status.st_size
                known = self._files.get(identity)
                if known is not None and status.st_size >= known.high:
                    known.path = path
                    gone.discard(identity)
                    continue
                # A file that appears while we look is news; others are read backwards.
                news = begun and self.ready
                low = 0 if news else _last_break(path, status.st_size)
                if known is not None:  # it was emptied
                    self._gone({identity})
                    gone.discard(identity)
                self._files[identity] = _File(path, low, low)
        for identity in gone:
            del self._files[identity]
        if gone:
            self._gone(gone)
        return sizes

    def _paths(self) -> Iterator[Path]:
        """What is being written, then what was rotated out of it, the newest first.

        Listed in this order and not at once: what is rotated meanwhile is seen twice, never missed.
        """
        logs = logs_of(self._path)
        yield from (log.path for log in logs)
        files = [file for log in logs for file in log.rotated()]
        files.sort(key=lambda file: (file.ended, file.number), reverse=True)
        yield from (file.path for file in files)

    def _grow(self, identity: Identity, size: int, end: float) -> bool:
        """Read what was added to a file; whether all of it."""
        file = self._files[identity]
        if size <= file.high or (stream := opened(file.path)) is None:
            return True
        with stream:
            last = lines.last_break(stream, size)
            for at, line in lines.forwards(stream, file.high, last):
                if time.monotonic() > end:
                    return False
                self._take(identity, at, line, news=True)
                file.high = stream.tell()
        return True

    def _fill(self, identity: Identity, end: float, enough: Callable[[], bool]) -> bool:
        """Read backwards what is below; whether there was time for all of it."""
        file = self._files[identity]
        if not file.low or (stream := opened(file.path)) is None:
            return True
        with stream:
            for at, line in lines.backwards(stream, 0, file.low):
                self._take(identity, at, line, news=False)
                file.low = at
                if time.monotonic() > end or enough():
                    return False
        file.low = 0
        return True

    def _take(self, identity: Identity, at: int, line: bytes | None, *, news: bool) -> None:
        if line:
            self._found(Found(Place(identity, at, len(line)), line, news))


def read(stream: BinaryIO | None, place: Place) -> bytes:
    """A line out of its file; empty when it is gone."""
    if stream is None:
        return b""
    with suppress(OSError):
        stream.seek(place.offset)
        return stream.read(place.length)
    return b""


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _last_break(path: Path, size: int) -> int:
    with path.open("rb") as stream:
        return lines.last_break(stream, size)
