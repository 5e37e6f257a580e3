"""Catching up: what the log has and the database lacks, after a crash or a time without room.

A record is written to the log first and into the database a moment later, in the same order. So
what a crash leaves out of the database are the last records of the log: all behind the newest one
that it has. They are put in oldest first, so that a crash in the middle leaves the same rule true.
"""

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from llm_passthrough.ledger import Count, LedgerError, Span
from llm_passthrough.ledger.jsonl import lines_of
from llm_passthrough.ledger.lines import id_of, moments
from llm_passthrough.ledger.logs import Log
from llm_passthrough.sinks.table import Item, insert, item_of_line

_LOG = logging.getLogger(__name__)
_BATCH_BYTES = 8 << 20
# How far back from the log's end a record is looked for that the database has: a start waits.
_FARTHEST = 64 << 20
# Lines stand in the order of their ends, but for what is under way at the same moment.
_NEAR = 60.0


def catch_up(connection: sqlite3.Connection, path: Path, since: float | None) -> None:
    """Put in what the log `path` has and the database lacks, of exchanges that ended at `since`
    (seconds since the epoch) or later; without it, of those behind the newest that it has.

    A log that cannot be read is told and let be. Raises sqlite3.Error.
    """
    count = 0
    try:
        since = newest(connection, path) if since is None else since
        if since is not None:
            for batch in _missing(connection, path, since - _NEAR):
                insert(connection, batch)
                count += len(batch)
    except (LedgerError, OSError) as error:
        _LOG.warning("%s: the database cannot catch up with it: %s", path, type(error).__name__)
    if count:
        _LOG.warning("%s: %d records that only the log had were put in the database", path, count)


def newest(connection: sqlite3.Connection, path: Path) -> float | None:
    """When the newest record of the log that the database has ended; None where it lacks none.

    An empty database lacks none: it was switched on now, and begins with the next record.
    """
    if connection.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None:
        return None
    looked, ended = Count(), None
    for line in lines_of(Log(path), Span(), looked, True):
        found, last = id_of(line), ended
        if when := moments(line):
            ended = when.ended
        if found is not None and _has(connection, found):
            return None if last is None else ended
        if looked.done > _FARTHEST:
            break
    return ended


def _missing(connection: sqlite3.Connection, path: Path, since: float) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for line in lines_of(Log(path), Span(since), Count(), False):
        found = id_of(line)
        item = item_of_line(line) if found and not _has(connection, found) else None
        if item is not None:
            batch.append(item)
            size += len(line)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _has(connection: sqlite3.Connection, id_: bytes) -> bool:
    query = "SELECT 1 FROM records WHERE id = ?"
    return connection.execute(query, (id_.decode("utf-8", "replace"),)).fetchone() is not None
