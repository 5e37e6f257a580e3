"""The ledger: records read back, from JSONL files and from SQLite in one way.

However long a log is, a few records at most are in memory. What cannot be read (a torn line, one
that is no record) is passed over and counted.
"""

import stat
from pathlib import Path

from llm_passthrough.ledger.entries import Count, Entry, Ledger, LedgerError, Span
from llm_passthrough.ledger.jsonl import JsonlLedger
from llm_passthrough.ledger.sqlite import SqliteLedger

__all__ = ["Count", "Entry", "Ledger", "LedgerError", "Span", "open_ledger"]

_SQLITE = b"SQLite format 3\x00"
_SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


def open_ledger(path: Path, *, must_exist: bool = True) -> Ledger:
    """The records of a JSONL file and those rotated out of it, of a folder, or of a database.

    A folder means its JSONL logs, or its one database when it has none. Raises LedgerError.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _of_folder(path)
        if not stat.S_ISREG(mode):
            raise LedgerError(f"{path}: is neither a file nor a folder")
        with path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        if must_exist and not JsonlLedger(path).exists():
            raise LedgerError(f"{path}: no records here yet; name a file with --file") from None
        is_sqlite = path.suffix in _SQLITE_SUFFIXES
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}") from None
    return SqliteLedger(path) if is_sqlite else JsonlLedger(path)


def _of_folder(path: Path) -> Ledger:
    ledger = JsonlLedger(path)
    if ledger.exists():
        return ledger
    databases = [file for file in sorted(path.iterdir()) if file.suffix in _SQLITE_SUFFIXES]
    if len(databases) != 1:
        found = ", ".join(file.name for file in databases)
        what = f"several databases ({found}); name one" if found else "no records in this folder"
        raise LedgerError(f"{path}: {what}")
    return open_ledger(databases[0])
