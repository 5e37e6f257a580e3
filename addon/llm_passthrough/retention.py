"""Retention: which records are given up, by age and by size, the oldest first.

Only what was rotated out of a JSONL log is ever removed; the file that is being written stays.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_ROTATED = re.compile(r"(?P<log>.+)-(?P<stamp>[0-9]{8}T[0-9]{6}Z)(-(?P<number>[0-9]{1,9}))?")
_WORKERS = re.compile(r"(?P<log>.+)-w(?P<worker>[2-9]|[1-9][0-9]{1,2})")
_IDLE = 86_400.0
"""Seconds without a record after which the file of a worker that is no more is as a rotated one."""
# One batch is one short transaction: a reader or another writer never waits for long.
_BATCH_ROWS = 100
_BATCH_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: files or rows, and how many bytes the log is smaller by."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rotated:
    """A file that was rotated out at `ended` (seconds since the epoch): no record is younger."""

    path: Path
    ended: float
    number: int


def rotated(folder: Path, stem: str, suffix: str = ".jsonl") -> list[Rotated]:
    """The files that were rotated out of `folder/stem.suffix`, the oldest first.

    Regular files whose name is exactly what the JSONL sink gives; symbolic links are not ours.
    """
    return sorted(_rotated(folder, stem, suffix), key=lambda file: (file.ended, file.number))


def log_of(path: Path) -> tuple[str, bool]:
    """The stem of the log that a file belongs to, and whether it was rotated out of it."""
    match = _ROTATED.fullmatch(path.stem)
    return (match["log"], True) if match else (path.stem, False)


def path_of(path: Path, worker: int) -> Path:
    """The file that a worker writes: the first one that of the log, others `records-w2.jsonl`..."""
    return path if worker == 1 else path.with_stem(f"{path.stem}-w{worker}")


def family(path: Path) -> list[Path]:
    """A log and those of its other workers, as far as there are files of them."""
    numbers = set()
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(path.parent) as all_,
    ):
        for entry in all_:
            file = Path(entry.name)
            match = _WORKERS.fullmatch(log_of(file)[0]) if file.suffix == path.suffix else None
            if match and match["log"] == path.stem:
                numbers.add(int(match["worker"]))
    return [path_of(path, number) for number in (1, *sorted(numbers))]


def prune_jsonl(
    folder: Path,
    stem: str,
    max_age_seconds: float | None,
    max_bytes: int | None,
    now: float,
    suffix: str = ".jsonl",
) -> Pruned:
    """Remove rotated files of a log that are too old, then the oldest until all fits `max_bytes`.

    Those of all workers are one log. The files that are being written count and stay. None means no
    bound. Raises OSError after everything was tried.
    """
    live = family(folder / f"{stem}{suffix}")
    given_up = [file for path in live[1:] if (file := _given_up(path, now))]
    total = sum(map(_size, live)) - sum(_size(file.path) for file in given_up)
    found = [file for path in live for file in rotated(folder, path.stem, suffix)] + given_up
    found.sort(key=lambda file: (file.ended, file.number))
    files = [(file, _size(file.path)) for file in found]
    total += sum(size for _, size in files)
    count, removed, fault = 0, 0, None
    for file, size in files:
        old = max_age_seconds is not None and now - file.ended > max_age_seconds
        if not old and (max_bytes is None or total - removed <= max_bytes):
            continue
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            fault = error
            continue
        count, removed = count + 1, removed + size
    if fault is not None:
        raise fault
    return Pruned(count, removed)


def prune_sqlite(
    connection: sqlite3.Connection,
    max_age_seconds: float | None,
    max_bytes: int | None,
    now: float,
    batches: int = 50,
) -> Pruned:
    """Delete rows of the table `records` that are too old, then the oldest until the data fits.

    At most `batches` short transactions, so that it never holds up for long who writes; what is
    left is for the next call. Raises sqlite3.Error.
    """
    before, count = used_bytes(connection), 0
    for _ in range(batches):
        removed = 0
        if max_age_seconds is not None:
            removed = _delete(connection, "WHERE time < ?", _rfc3339(now - max_age_seconds))
        if not removed and max_bytes is not None and used_bytes(connection) > max_bytes:
            removed = _delete(connection, "", None)
        if not removed:
            break
        count += removed
    # The pragma frees one page a step: without fetching it would free only one.
    connection.execute(f"PRAGMA incremental_vacuum({_BATCH_PAGES * batches})").fetchall()
    return Pruned(count, max(before - used_bytes(connection), 0))


def used_bytes(connection: sqlite3.Connection) -> int:
    """The bytes of a database that hold data: its pages without the free ones."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _rotated(folder: Path, stem: str, suffix: str) -> Iterator[Rotated]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            match = _ROTATED.fullmatch(path.stem) if path.suffix == suffix else None
            if match and match["log"] == stem and entry.is_file(follow_symlinks=False):
                try:
                    moment = datetime.strptime(f"{match['stamp']}+0000", "%Y%m%dT%H%M%SZ%z")
                except ValueError:
                    continue
                # The stamp is cut to a second.
                yield Rotated(path, moment.timestamp() + 1, int(match["number"] or 0))


def _given_up(path: Path, now: float) -> Rotated | None:
    """The file of a worker that there is no more, as if it were rotated out; None while one may
    write it."""
    import fcntl  # where there is none, there are no workers either

    try:
        written = path.lstat().st_mtime
        if now - written < _IDLE:
            return None
        with open(f"{path}.lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # there is none, or a worker has it
        return None
    return Rotated(path, written, 0)


def _delete(connection: sqlite3.Connection, where: str, value: str | None) -> int:
    values = () if value is None else (value,)
    query = f"SELECT rowid FROM records {where} ORDER BY time LIMIT {_BATCH_ROWS}"  # noqa: S608
    deleted = connection.execute(f"DELETE FROM records WHERE rowid IN ({query})", values)  # noqa: S608
    connection.commit()
    return deleted.rowcount


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _rfc3339(epoch: float) -> str:
    moment = datetime.fromtimestamp(max(epoch, 0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
