"""SQLite: a table `records` with columns to query, opened by Datasette or sqlite3 as it is.

It has a thread of its own, since a database can be locked by others for as long as they like and
the JSONL file must not wait for that. What arrives while a transaction is under way goes into the
next one: one record is written at once, many are written in batches. With WAL and
`synchronous = NORMAL` a killed process loses what was not committed yet (some ms), never more
(https://www.sqlite.org/wal.html), and that is put in from the log at the next start.
"""

import errno
import os
import sqlite3
import stat
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path

from llm_passthrough.errors import ConfigError
from llm_passthrough.ledger.lines import moments
from llm_passthrough.record import Record
from llm_passthrough.retention import Pruned, prune_sqlite
from llm_passthrough.sinks import table
from llm_passthrough.sinks.catchup import catch_up
from llm_passthrough.sinks.table import Item

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BATCH_BYTES = 8 << 20
_LARGEST = 512 << 20


class Sqlite:
    """Puts records into the database `path`.

    Of records that cannot be written (locked, disk full) up to `held_bytes` wait for the trouble
    to end; `write` raises OSError as long as it lasts, and for each record that found no room.
    What the JSONL file `log` has and the database lacks is put in at start and after such a time.
    `patience` is how long to wait for a lock, `pause` how long after a failure to try again; both
    in seconds. Raises ConfigError when the file cannot be had at start, naming the mend.
    """

    name = "sqlite"
    durable = False  # the JSONL is what counts; a database can be made from it again

    def __init__(
        self,
        path: Path,
        held_bytes: int = 64 << 20,
        patience: float = 1.0,
        pause: float = 0.5,
        log: Path | None = None,
    ) -> None:
        self._path, self._wal = path, f"{path}-wal"
        self._log = log
        # From when on the database lacks records that the log has; None: since the newest it has.
        self._gaps: deque[float | None] = deque()
        self._held_bytes = held_bytes
        self._patience = patience
        self._pause = pause
        self._waiting: deque[Item] = deque()
        self._bytes = 0
        self._chores: deque[partial[Pruned]] = deque()
        self._fault: str | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._connect()
            if log is not None:
                catch_up(self._connection, log, None)
        except (OSError, sqlite3.Error) as error:
            self._disconnect()
            raise ConfigError(f"log.sqlite: {path}: {_why(error)}") from None
        self._thread = threading.Thread(target=self._run, name="sqlite sink", daemon=True)
        self._thread.start()

    def write(self, record: Record, line: bytes) -> None:
        """Hand over a record; never waits for the database."""
        item = table.item(record, line)
        with self._changed:
            if not self._thread.is_alive():
                raise OSError(errno.EPIPE, "its thread has ended; restart the gateway")
            if len(line) > _LARGEST or (self._waiting and self._full(len(line))):
                raise OSError(errno.EAGAIN, self._missed(len(line)))
            self._waiting.append(item)
            self._bytes += len(line)
            self._changed.notify_all()
            if self._fault:
                raise OSError(errno.EAGAIN, f"{self._fault}; {len(self._waiting)} records wait")

    def _missed(self, size: int) -> str:
        """What becomes of a record that finds no room; the first one begins a gap."""
        cause = self._fault or "more records than it can write"
        if self._log is None or size > _LARGEST:
            return f"{cause}; this record is lost here"
        if len(self._gaps) < 2:  # one may be under way, which began without this record
            when = moments(self._waiting[0][1])
            self._gaps.append(when.ended if when else 0.0)
        return f"{cause}; this record is put in later, from the log"

    def state(self) -> str:
        """`ok`, or what the trouble is and how many records wait for its end."""
        with self._changed:
            return f"{self._fault}; {len(self._waiting)} records wait" if self._fault else "ok"

    def prune(self, max_age_seconds: float | None, max_bytes: int | None, now: float) -> None:
        """Have rows that are too old or too many removed soon; see retention.prune_sqlite."""
        with self._changed:
            if not self._chores:
                self._chores.append(
                    partial(
                        prune_sqlite,
                        max_age_seconds=max_age_seconds,
                        max_bytes=max_bytes,
                        now=now,
                    )
                )
                self._changed.notify_all()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until nothing waits any more; whether that came true within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), timeout)

    def close(self) -> None:
        """Write what waits, with one more try, and close. Raises OSError for what is lost."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._thread.join(self._patience + 5)
        lost = len(self._waiting)
        if lost:
            when = "put in at the next start" if self._log else "lost here"
            raise OSError(errno.EIO, f"{self._fault or 'too slow'}; {lost} records are {when}")

    def _full(self, size: int) -> bool:
        return self._bytes + size > self._held_bytes

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_work() or self._closed)
                work, batch, chore = self._has_work(), self._batch(), self._first_chore()
                closed = self._closed
            if not work:
                break
            if self._done(batch, chore):
                continue
            if closed:
                break
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._pause)
        self._disconnect()

    def _has_work(self) -> bool:
        return bool(self._waiting or self._chores or self._gaps)

    def _batch(self) -> list[Item]:
        batch, size = [], 0
        for item in self._waiting:
            batch.append(item)
            size += len(item[1])
            if size >= _BATCH_BYTES:
                break
        return batch

    def _first_chore(self) -> partial[Pruned] | None:
        return self._chores[0] if self._chores else None

    def _done(self, batch: list[Item], chore: partial[Pruned] | None) -> bool:
        """Fill a gap, write a batch, do a chore; what could not be written waits on."""
        try:
            connection = self._connected()
            if self._log and self._gaps:
                catch_up(connection, self._log, self._gaps[0])
                self._gaps.popleft()
            if batch:
                table.insert(connection, batch)
            self._told(batch, None)
            if chore:
                chore(connection)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            self._told([], _words(error))
            return False
        finally:
            with self._changed:
                if chore:
                    self._chores.popleft()  # it comes again by itself
                self._changed.notify_all()
        return True

    def _told(self, written: list[Item], fault: str | None) -> None:
        with self._changed:
            for _, text in written:
                self._waiting.popleft()
                self._bytes -= len(text) + 1
            self._fault = fault
            self._changed.notify_all()

    def _connected(self) -> sqlite3.Connection:
        """To the files of these names; without its -wal nobody else reads what we wrote since,
        nor do we after a crash."""
        before, beside = self._identity, self._beside
        if self._connection is not None:
            if _is(self._path, before) and (beside is None or _is(self._wal, beside)):
                return self._connection
            self._disconnect()
            if not _is(self._path, before) and beside is not None and _is(self._wal, beside):
                # Of a database that is gone; SQLite would take it for a part of the one there now.
                for name in (self._wal, f"{self._path}-shm"):
                    Path(name).unlink(missing_ok=True)
        self._connection = self._connect()
        if self._log and not os.path.samestat(before, self._identity):
            self._gaps.appendleft(None)  # one that was made from the log lacks its end
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        for folder in reversed(self._path.parents):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        self._identity = _prepare(self._path)
        connection = sqlite3.connect(
            self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        try:
            table.set_up(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._beside = _status(self._wal)  # none where the file system cannot have one
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _prepare(path: Path) -> os.stat_result:
    """Make the file for this user alone, and see that nobody put something else in its place."""
    for beside in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(f"{path}{beside}").st_mode):
                raise OSError(errno.EINVAL, f"{path.name}{beside} beside it is no regular file")
    fd = os.open(path, _FLAGS, 0o600)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        os.fchmod(fd, 0o600)  # SQLite gives -wal and -shm the mode of the database
    finally:
        os.close(fd)
    return status


def _status(name: str | Path) -> os.stat_result | None:
    try:
        return os.lstat(name)
    except OSError:
        return None


def _is(name: str | Path, before: os.stat_result) -> bool:
    """Whether the file of that name is still the one that it was."""
    now = _status(name)
    return now is not None and os.path.samestat(now, before)


def _words(error: sqlite3.Error | OSError) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def _why(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "is a symbolic link; name the file itself"
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        return "is not a SQLite database; name another file, or move this one away"
    if "locked" in str(error):
        return "is locked by another program; end that, or name another file"
    if isinstance(error, sqlite3.Error):
        return f"{error}; move this file away, or name another"
    return f"{error.strerror}; name a file in a folder that you can write to"
