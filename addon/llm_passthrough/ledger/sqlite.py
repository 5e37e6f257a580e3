"""Records from the table `records` of a SQLite database, page by page.

Every page is a short transaction of its own: a reader that takes hours must not keep the gateway
from folding its write-ahead log back.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from llm_passthrough.columns import Row, of_values
from llm_passthrough.ledger.entries import Count, Entry, LedgerError, Span, rfc3339

_PAGE = 500
_PATIENCE = 5.0


class SqliteLedger:
    """The records of one database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, span: Span, count: Count, *, newest_first: bool = True) -> Iterator[Entry]:
        """See Ledger.read; here both orders are by when the exchange began."""
        where, values = within(span)
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            query = f"SELECT count(*) FROM records WHERE {where}"  # noqa: S608 - names of ours
            count.total += connection.execute(query, values).fetchone()[0]
            after: tuple[object, ...] = ()
            while True:
                rows = connection.execute(
                    f"SELECT rowid, {columns} FROM records WHERE {where} "  # noqa: S608
                    + (f"AND (time, rowid) {beyond} (?, ?) " if after else "")
                    + f"ORDER BY time {order}, rowid {order} LIMIT {_PAGE}",
                    (*values, *after),
                ).fetchall()
                for number, *row in rows:
                    count.done += 1
                    entry = _entry(connection, number, row)
                    count.skipped += entry is None
                    if entry:
                        yield entry
                if len(rows) < _PAGE:
                    return
                after = rows[-1][2], rows[-1][0]

    def find(self, prefix: str, count: Count) -> Iterator[Entry]:
        """See Ledger.find."""
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            rows = connection.execute(
                f"SELECT rowid, {columns} FROM records WHERE id >= ? AND id < ? "  # noqa: S608
                f"ORDER BY time DESC LIMIT {_PAGE}",
                (prefix, f"{prefix}\U0010ffff"),
            ).fetchall()
            for number, *row in rows:
                if entry := _entry(connection, number, row):
                    yield entry

    def turns(self, id_: str, count: Count) -> Iterator[Entry]:
        """See Ledger.turns."""
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            if "part_of" not in columns:
                return  # an older database
            rows = connection.execute(
                f"SELECT rowid, {columns} FROM records WHERE part_of = ? ORDER BY turn",  # noqa: S608
                (id_,),
            ).fetchall()
            for number, *row in rows:
                if entry := _entry(connection, number, row):
                    yield entry

    def follow(self, last: int, wait: Callable[[], bool]) -> Iterator[Entry]:
        """See Ledger.follow."""
        newest: int | None = None
        while True:
            if self._path.exists():
                with self._connection() as connection:
                    for number, entry in _since(connection, self._path, newest, last):
                        newest = number
                        if entry:
                            yield entry
            newest = newest or 0
            if not wait():
                return

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(opened(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: cannot be read: {error}") from None


def opened(path: Path) -> sqlite3.Connection:
    """A connection that only reads; also where nothing may be written beside the database."""
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(name, uri=True, timeout=_PATIENCE)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except sqlite3.Error as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError) or "locked" in str(error):
            raise
        return sqlite3.connect(f"{name}&immutable=1", uri=True)
    return connection


def columns_of(connection: sqlite3.Connection, path: Path) -> str:
    """What to select for a Row; a column that an older database has not is null."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(records)")}
    if not there >= {"id", "time", "record"}:
        raise LedgerError(f"{path}: has no table `records` of this program")
    return ", ".join(name if name in there else "NULL" for name in Row._fields)


def within(span: Span) -> tuple[str, list[str]]:
    """A condition on `time`, which is text that sorts as time does."""
    conditions, values = ["time IS NOT NULL"], []
    for moment, sign in ((span.since, ">="), (span.until, "<")):
        text = rfc3339(moment) if math.isfinite(moment) else None
        if text is not None:
            conditions.append(f"time {sign} ?")
            values.append(text)
        elif (moment > 0) == (sign == ">="):
            conditions.append("0")  # after the last year that can be written, or before the first
    return " AND ".join(conditions), values


def _since(
    connection: sqlite3.Connection, path: Path, newest: int | None, last: int
) -> Iterator[tuple[int, Entry | None]]:
    """What was written after row `newest`; without one, the last records."""
    columns = columns_of(connection, path)
    top = connection.execute("SELECT max(rowid) FROM records").fetchone()[0] or 0
    if newest is None:
        query = f"SELECT rowid FROM records ORDER BY rowid DESC LIMIT 1 OFFSET {int(last)}"  # noqa: S608
        found = connection.execute(query).fetchone()
        newest = found[0] if found else 0
    elif top < newest:
        newest = 0  # the table was emptied, or the file is a new one
    while newest < top:
        rows = connection.execute(
            f"SELECT rowid, {columns} FROM records WHERE rowid > ? "  # noqa: S608 - names of ours
            f"ORDER BY rowid LIMIT {_PAGE}",
            (newest,),
        ).fetchall()
        if not rows:
            return
        for newest, *row in rows:
            yield newest, _entry(connection, newest, row)


def _entry(connection: sqlite3.Connection, number: int, row: list[object]) -> Entry | None:
    def load() -> bytes:
        found = connection.execute("SELECT record FROM records WHERE rowid = ?", (number,))
        text = found.fetchone()
        value = text[0] if text else b""
        return value.encode("utf-8", "replace") if isinstance(value, str) else value or b""

    fitted = of_values(row)
    return Entry(fitted, load) if fitted.id and fitted.time else None
