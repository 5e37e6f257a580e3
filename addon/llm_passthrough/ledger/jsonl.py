"""Records from JSONL logs: the file that is being written and those rotated out of it."""

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic_core import from_json

from llm_passthrough.columns import Row, of_json
from llm_passthrough.ledger import lines
from llm_passthrough.ledger.entries import Count, Entry, LedgerError, Span, span_of_ids
from llm_passthrough.ledger.logs import Log, logs_of

# A line is written when its exchange ends. None is expected to last longer than a day; clocks
# that were set back are forgiven a minute.
_LONGEST_CALL = 86_400.0
_CLOCK = 60.0
# Texts that may be held to sort them; beyond that they come as they are.
_MOST_HELD = 64 << 20

type Wanted = Callable[[bytes], bool]


class JsonlLedger:
    """The log of a file, or all logs of a folder, merged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether there is any file to read."""
        return any(log.path.exists() or log.rotated() for log in self._logs())

    def read(self, span: Span, count: Count, *, newest_first: bool = True) -> Iterator[Entry]:
        """See Ledger.read."""
        return self._read(span, count, newest_first, lambda line: True)

    def find(self, prefix: str, count: Count) -> Iterator[Entry]:
        """See Ledger.find; an id of ours says when it was made, so that the file is searched."""
        wanted = prefix.encode("utf-8", "replace")

        def is_wanted(line: bytes) -> bool:
            found = lines.id_of(line)
            return found is None or found.startswith(wanted)

        for span in (span_of_ids(prefix), Span()):
            if span is None:
                continue
            found = False
            for entry in self._read(span, count, True, is_wanted):
                if entry.row.id.startswith(prefix):
                    found = True
                    yield entry
            if found:
                return
            count.skipped = 0

    def turns(self, id_: str, count: Count) -> Iterator[Entry]:
        """See Ledger.turns; they come after the moment that the id names."""
        wanted = f'"part_of":"{id_}"'.encode("utf-8", "replace")
        began = span_of_ids(id_)
        span = Span(since=began.since) if began else Span()
        for entry in self._read(span, count, False, lambda line: wanted in line):
            if entry.row.part_of == id_:
                yield entry

    def follow(self, last: int, wait: Callable[[], bool]) -> Iterator[Entry]:
        """See Ledger.follow."""
        tails = {log: _Tail(log, at_end=True) for log in self._logs()}
        try:
            yield from self._followed(tails, last, wait)
        finally:
            for tail in tails.values():
                tail.close()

    def _followed(
        self, tails: dict[Log, "_Tail"], last: int, wait: Callable[[], bool]
    ) -> Iterator[Entry]:
        recent = list(islice(self.read(Span(), Count()), last))
        seen = {entry.row.id for entry in recent}
        yield from reversed(recent)
        while True:
            for log in self._logs():
                if log not in tails:
                    tails[log] = _Tail(log, at_end=False)
            for line in heapq.merge(*(tail.lines() for tail in tails.values()), key=_ended):
                entry = _entry(line)
                if entry and entry.row.id not in seen:
                    yield entry
            seen = set()
            if not wait():
                return

    def _logs(self) -> list[Log]:
        return logs_of(self._path)

    def _read(
        self, span: Span, count: Count, newest_first: bool, wanted: Wanted
    ) -> Iterator[Entry]:
        readings = [_entries(log, span, count, newest_first, wanted) for log in self._logs()]
        if len(readings) == 1:
            return readings[0]
        if newest_first:
            return heapq.merge(*readings, key=lambda entry: entry.row.time, reverse=True)
        return heapq.merge(*readings, key=lambda entry: _end_of(entry.row))


def _entries(
    log: Log, span: Span, count: Count, newest_first: bool, wanted: Wanted
) -> Iterator[Entry]:
    """The records of one log. Backwards they come by their end: a few are held to sort them.

    One is given when all that are still unread ended, and so began, before it began: what is held
    are the exchanges that were under way at one moment.
    """
    held: list[tuple[float, int, Entry, int]] = []
    size = 0
    for number, line in enumerate(lines_of(log, span, count, newest_first)):
        when = lines.moments(line)
        if when and not (span.holds(when.began) and wanted(line)):
            entry = None
        else:
            entry = _entry(line) if when else None
            count.skipped += entry is None
        if entry and not newest_first:
            yield entry
        elif entry and when:
            heapq.heappush(held, (-when.began, number, entry, len(line)))
            size += len(line)
        while held and when and (-held[0][0] >= when.ended or size > _MOST_HELD):
            _, _, first, length = heapq.heappop(held)
            size -= length
            yield first
    while held:
        yield heapq.heappop(held)[2]


def lines_of(log: Log, span: Span, count: Count, newest_first: bool) -> Iterator[bytes]:
    """The lines of a log as they were written, or backwards: wide rather than narrow of a span."""
    direction = lines.backwards if newest_first else lines.forwards
    with _Files(log, span) as files:
        count.total += files.size
        for file in reversed(files) if newest_first else files:
            size = os.fstat(file.fileno()).st_size
            start, end = lines.bounds(file, size, span.since - _CLOCK, span.until + _LONGEST_CALL)
            count.done += size - (end - start)
            for _, line in direction(file, start, end):
                count.done += 1 + len(line or b"")
                if line is None:
                    count.skipped += 1
                elif line:
                    yield line


class _Files:
    """The files of a log that may hold records of a span; each is open while it is read."""

    def __init__(self, log: Log, span: Span) -> None:
        # The live file is opened before the folder is read: what is rotated out in between is
        # then met twice, not missed, and known by its identity.
        self._live = opened(log.path)
        paths = [file.path for file in log.rotated() if file.ended >= span.since - _CLOCK]
        self._files: list[Path | BinaryIO] = [
            self._live if self._live and self._is_live(path) else path for path in paths
        ]
        if self._live and self._live not in self._files:
            self._files.append(self._live)
        self.size = sum(_size(file) for file in self._files)

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.close()

    def __iter__(self) -> Iterator[BinaryIO]:
        return self._opened(self._files)

    def __reversed__(self) -> Iterator[BinaryIO]:
        return self._opened(self._files[::-1])

    def _opened(self, files: list[Path | BinaryIO]) -> Iterator[BinaryIO]:
        for file in files:
            if not isinstance(file, Path):
                yield file
            elif found := opened(file):
                with found:
                    yield found

    def _is_live(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            return self._live is not None and _same(path, self._live)
        return False


class _Tail:
    """Follows one log through its rotations, line by line."""

    def __init__(self, log: Log, at_end: bool) -> None:
        self._log = log
        self._file = opened(log.path)
        self._offset = 0
        self._long = False
        if self._file and at_end:
            self._offset = lines.last_break(self._file, os.fstat(self._file.fileno()).st_size)

    def lines(self) -> Iterator[bytes]:
        """What was written since the last time; a line that is not finished yet waits."""
        while True:
            if self._file:
                yield from self._written()
            following = self._following()
            if following is None:
                return
            if self._file:
                yield from self._written()  # it was renamed after the last look
                self._file.close()
            self._file, self._offset = following, 0

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _written(self) -> Iterator[bytes]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:
            self._offset = 0
        self._file.seek(self._offset)
        while part := self._file.readline(lines.LONGEST):
            finished = part.endswith(b"\n")
            if not finished and len(part) < lines.LONGEST:
                return
            self._offset += len(part)
            if finished and not self._long:
                yield part
            self._long = not finished

    def _following(self) -> BinaryIO | None:
        """The file after ours, when there is one."""
        if self._file is None:
            return opened(self._log.path)
        with suppress(FileNotFoundError):
            if _same(self._log.path, self._file):
                return None
        older = [file.path for file in self._log.rotated()]
        for path, after in zip(older, [*older[1:], self._log.path], strict=False):
            with suppress(FileNotFoundError):
                if _same(path, self._file):
                    return opened(after)
        return opened(self._log.path)


def _ended(line: bytes) -> float:
    """When the exchange of a line ended: the order in which workers wrote their files."""
    when = lines.moments(line)
    return when.ended if when else 0.0


def _end_of(row: Row) -> float:
    """The same of a record that was read."""
    return (lines.epoch(row.time) or 0.0) + (row.total_ms or 0.0) / 1000


def _entry(line: bytes) -> Entry | None:
    try:
        row = of_json(from_json(line))
    except ValueError:
        return None
    return Entry(row, lambda: line) if row else None


def opened(path: Path) -> BinaryIO | None:
    """A file to read; None when there is none (any more)."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from None


def _same(path: Path, file: BinaryIO) -> bool:
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))


def _size(file: Path | BinaryIO) -> int:
    with suppress(FileNotFoundError):
        return (file.stat() if isinstance(file, Path) else os.fstat(file.fileno())).st_size
    return 0
