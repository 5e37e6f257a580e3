"""SQLite: a table `records` with columns to query, opened by Datasette or sqlite3 as it is.

It has a thread of its own, since a database can be locked by others for as long as they like and
the JSONL file must not wait for that. What arrives while a transaction is under way goes into the
next one: one record is written at once, many are written in batches. With WAL and
`synchronous = NORMAL` a killed process loses what was not committed yet (some ms), never more
(https://www.sqlite.org/wal.html).
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

from llm_passthrough import lineage
from llm_passthrough.columns import SQL_TYPES, Row, of_record
from llm_passthrough.errors import ConfigError
from llm_passthrough.lineage import Lineage
from llm_passthrough.record import Record
from llm_passthrough.retention import Pruned, prune_sqlite

type Item = tuple[tuple[object, ...], bytes]
"""The values of the columns, and the record as a line."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Columns that people filter by; each index costs every insert a page.
_INDEXED = ("client", "provider", "model_requested", "key", "outcome")
# What a record is found by; most records have no answer that they name, and repeat none.
_FOUND_BY = ("replay_of", *Lineage._fields)
_BATCH_BYTES = 8 << 20
_WAL_BYTES = 64 << 20
_LARGEST = 512 << 20


class Sqlite:
    """Puts records into the database `path`.

    Of records that cannot be written (locked, disk full) up to `held_bytes` wait for the trouble
    to end; `write` raises OSError as long as it lasts, and for each record that found no room.
    `patience` is how long to wait for a lock, `pause` how long after a failure to try again; both
    in seconds. Raises ConfigError when the file cannot be had at start, naming the mend.
    """

    name = "sqlite"
    durable = False  # the JSONL is what counts; a database can be made from it again

    def __init__(
        self, path: Path, held_bytes: int = 64 << 20, patience: float = 1.0, pause: float = 0.5
    ) -> None:
        self._path = path
        self._held_bytes = held_bytes
        self._patience = patience
        self._pause = pause
        self._waiting: deque[Item] = deque()
        self._bytes = 0
        self._chores: deque[partial[Pruned]] = deque()
        self._fault: str | None = None
        self._closed = False
        self._changed = threading.Condition()
        try:
            self._connection: sqlite3.Connection | None = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"log.sqlite: {path}: {_why(error)}") from None
        self._thread = threading.Thread(target=self._run, name="sqlite sink", daemon=True)
        self._thread.start()

    def write(self, record: Record, line: bytes) -> None:
        """Hand over a record; never waits for the database."""
        item = (*of_record(record), *lineage.of_record(record)), line.rstrip(b"\n")
        with self._changed:
            if not self._thread.is_alive():
                raise OSError(errno.EPIPE, "its thread has ended; restart the gateway")
            if len(line) > _LARGEST or (self._waiting and self._full(len(line))):
                cause = self._fault or "more records than it can write"
                raise OSError(errno.EAGAIN, f"{cause}; this record is lost here")
            self._waiting.append(item)
            self._bytes += len(line)
            self._changed.notify_all()
            if self._fault:
                raise OSError(errno.EAGAIN, f"{self._fault}; {len(self._waiting)} records wait")

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
            return self._changed.wait_for(lambda: not (self._waiting or self._chores), timeout)

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
            raise OSError(errno.EIO, f"{self._fault or 'too slow'}; {lost} records are lost here")

    def _full(self, size: int) -> bool:
        return self._bytes + size > self._held_bytes

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._chores or self._closed)
                batch, chore, closed = self._batch(), self._first_chore(), self._closed
            if not (batch or chore):
                break
            if self._done(batch, chore):
                continue
            if closed:
                break
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._pause)
        self._disconnect()

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
        """Write a batch, then do a chore; what could not be written waits on."""
        try:
            if self._connection is None or not _is_at(self._path, self._identity):
                self._disconnect()
                self._connection = self._connect()
            if batch:
                _insert(self._connection, batch)
            self._told(batch, None)
            if chore:
                chore(self._connection)
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

    def _connect(self) -> sqlite3.Connection:
        for folder in reversed(self._path.parents):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        self._identity = _prepare(self._path)
        connection = sqlite3.connect(
            self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        try:
            _set_up(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
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


def _set_up(connection: sqlite3.Connection) -> None:
    """Settings, the table and its indexes; columns that a newer version knows are added."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table only
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    types = _TYPES | {"id": "TEXT PRIMARY KEY", "time": "TEXT NOT NULL"}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"CREATE TABLE IF NOT EXISTS records ({columns})")
    there = {row[1] for row in connection.execute("PRAGMA table_info(records)")}
    for name in types.keys() - there:
        connection.execute(f"ALTER TABLE records ADD COLUMN {name} {_TYPES[name]}")
    connection.execute("CREATE INDEX IF NOT EXISTS records_by_time ON records (time)")
    for name in _INDEXED:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS records_by_{name} ON records ({name}, time)"
        )
    connection.execute(
        "CREATE INDEX IF NOT EXISTS records_by_part_of ON records (part_of, turn) "
        "WHERE part_of IS NOT NULL"
    )
    for name in _FOUND_BY:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS records_by_{name} ON records ({name}, time) "
            f"WHERE {name} IS NOT NULL"
        )
    connection.execute("COMMIT")


_TYPES = SQL_TYPES | dict(lineage.SQL_TYPES) | {"record": "TEXT"}
_NAMES = (*Row._fields, *Lineage._fields, "record")
_INSERT = (
    f"INSERT OR REPLACE INTO records ({', '.join(_NAMES)}) "  # noqa: S608 - names of ours
    f"VALUES ({', '.join('?' * len(_NAMES))})"
)


def _insert(connection: sqlite3.Connection, batch: list[Item]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        _INSERT, ((*row, text.decode("utf-8", "replace")) for row, text in batch)
    )
    connection.execute("COMMIT")


def _is_at(path: Path, identity: os.stat_result) -> bool:
    """Whether the file that we opened is still the one of that name."""
    try:
        return os.path.samestat(os.lstat(path), identity)
    except OSError:
        return False


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
