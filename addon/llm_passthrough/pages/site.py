"""What all pages share: the store of the records that the gateway writes now, and their threads."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llm_passthrough.config import Log
from llm_passthrough.ledger import Count, Ledger, Span
from llm_passthrough.ledger.jsonl import JsonlLedger
from llm_passthrough.ledger.sqlite import SqliteLedger
from llm_passthrough.pages.database import Database
from llm_passthrough.pages.index import Index
from llm_passthrough.pages.store import Store

_THREADS = 3


class Site:
    """The pages of one gateway. `log` says where its records go, whenever it is asked."""

    def __init__(self, log: Callable[[], Log]) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._store: tuple[Path, Store] | None = None
        self._older: tuple[tuple[Path, Path], bool] | None = None
        # Threads of our own: a long search must not keep the gateway from its tokens.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pages")

    @property
    def place(self) -> Path:
        """Where the records are: the database where there is one, else the JSONL log."""
        log = self._log()
        return Path(log.sqlite or log.path).expanduser()

    @property
    def capture(self) -> str:
        """How much is kept of a call now."""
        return self._log().capture

    def older(self) -> Path | None:
        """The JSONL log, where it has records from before the first of the database.

        The pages show the database alone. Asked of the files once. May raise LedgerError.
        """
        log = self._log()
        if log.sqlite is None:
            return None
        path, database = Path(log.path).expanduser(), self.place
        if self._older is None or self._older[0] != (path, database):
            first, kept = (_first(one) for one in (JsonlLedger(path), SqliteLedger(database)))
            is_older = first is not None and (kept is None or first < kept)
            self._older = (path, database), is_older
        return path if self._older[1] else None

    @property
    def store(self) -> Store:
        """The store; another one when the records go elsewhere."""
        place, is_database = self.place, self._log().sqlite is not None
        with self._lock:
            if self._store is None or self._store[0] != place:
                if self._store is not None:
                    self._store[1].close()
                self._store = place, Database(place) if is_database else Index(place)
            return self._store[1]

    async def work[T](self, task: Callable[[], T]) -> T:
        """Do what takes a while in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, task)


def _first(ledger: Ledger) -> str | None:
    """The time of the oldest record that a ledger begins with."""
    entries = ledger.read(Span(), Count(), newest_first=False)
    return next((entry.row.time for entry in entries), None)
