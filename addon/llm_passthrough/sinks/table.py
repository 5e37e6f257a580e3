"""The table `records` of a database: its columns and indexes, and how records get into it."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import batched
from pathlib import Path

from pydantic_core import from_json

from llm_passthrough import columns, lineage
from llm_passthrough.columns import SQL_TYPES, Row
from llm_passthrough.lineage import Lineage
from llm_passthrough.record import Record

type Item = tuple[tuple[object, ...], bytes]
"""The values of the columns, and the record as a line."""

# Columns that people filter by; each index costs every insert a page.
_INDEXED = ("client", "provider", "model_requested", "key", "outcome")
# What a record is found by; most records have no answer that they name, and repeat none.
_FOUND_BY = ("replay_of", *Lineage._fields)
_WAL_BYTES = 64 << 20
_AT_ONCE = 100


def item(record: Record, line: bytes) -> Item:
    """What the table keeps of a record that is about to be written."""
    return (*columns.of_record(record), *lineage.of_record(record)), line.rstrip(b"\n")


def item_of_line(line: bytes) -> Item | None:
    """The same of a line that was read back; None when it is no record."""
    try:
        value = from_json(line)
    except ValueError:
        return None
    row = columns.of_json(value)
    return ((*row, *lineage.of_json(value)), line) if row else None


def make(path: Path, lines: Iterable[bytes]) -> None:
    """Make the empty file `path` a database of these records. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        set_up(connection)
        for some in batched(lines, _AT_ONCE):
            insert(connection, filter(None, map(item_of_line, some)))


def set_up(connection: sqlite3.Connection) -> None:
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
    f"INSERT OR IGNORE INTO records ({', '.join(_NAMES)}) "  # noqa: S608 - names of ours
    f"VALUES ({', '.join('?' * len(_NAMES))})"
)


def insert(connection: sqlite3.Connection, batch: Iterable[Item]) -> None:
    """Put records into the table, in one transaction; one that is there already stays."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        _INSERT, ((*row, text.decode("utf-8", "replace")) for row, text in batch)
    )
    connection.execute("COMMIT")
