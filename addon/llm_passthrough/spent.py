"""What calls used: one that was just recorded, and all of this month, read from the records."""

import logging
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from llm_passthrough.allowance import Allowance, Past, PastError, Spent, day_of, month_begins
from llm_passthrough.allowance import month_of as month_number
from llm_passthrough.columns import Row, of_record
from llm_passthrough.config import Log
from llm_passthrough.ledger import Count, Entry, LedgerError, Span, open_ledger
from llm_passthrough.ledger.entries import rfc3339
from llm_passthrough.ledger.lines import epoch
from llm_passthrough.ledger.sqlite import opened
from llm_passthrough.record import Record

_LOG = logging.getLogger(__name__)
# What providers ask money for; all else (lists, files, counting) is free, or billed elsewhere.
_PRICED = frozenset(
    "chat completions responses embeddings rerank images speech transcription videos realtime "
    "messages complete generate_content embed_content predict converse invoke interactions".split()
)
_HEAD = 2048
_WEBSOCKET = 101
_GET = b'"request":{"method":"GET"'


class Meter:
    """A sink that tells an allowance what each call used."""

    name = "allowance"
    durable = False

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def write(self, record: Record, line: bytes) -> None:
        """Count one record."""
        self._allowance.spend(record.client, of_row(of_record(record), record.request.method))

    def close(self) -> None:
        """Nothing is held."""


def of_row(row: Row, method: str = "POST") -> Spent:
    """What a call used. One that was answered, but whose cost nobody knows, is unpriced.

    What is fetched (`method` GET) is not paid for, unless it is a WebSocket. That one is paid for
    by its turns: when it is closed well nothing is left, and a turn that failed at once is free.
    """
    tokens = (row.input_tokens or 0) + (row.output_tokens or 0)
    calls = int(not row.turns)
    if row.cost is not None and row.currency == "USD":
        return Spent(calls, tokens, row.cost)
    answered = row.status is not None and row.status < 400
    if row.outcome == "ok":
        answered = answered and not row.turns
    elif row.turn:
        answered = row.first_token_ms is not None
    paid = row.operation in _PRICED and (method != "GET" or row.status == _WEBSOCKET)
    return Spent(calls, tokens, 0.0, int(answered and paid and row.outcome != "refused"))


def before(log: Log, until: float) -> Past:
    """What each client spent in the month of `until`, up to then; blocks while it reads.

    Raises PastError.
    """
    month, day = month_number(until), day_of(until)
    span = Span(month_begins(month), until)
    days: dict[str, Spent] = defaultdict(Spent)
    months: dict[str, Spent] = defaultdict(Spent)
    try:
        ledger = open_ledger(_log_of(log, span.since), must_exist=False)
        for entry in ledger.read(span, Count(), newest_first=False):
            name, spent = entry.row.client or "", _of_entry(entry)
            months[name] += spent
            began = epoch(entry.row.time)
            if began is not None and day_of(began) == day:
                days[name] += spent
    except (LedgerError, OSError) as error:
        _LOG.error("what clients spent this month cannot be read: %s", error)
        raise PastError("the records cannot be read") from None
    return Past(day, month, days, months)


def _of_entry(entry: Entry) -> Spent:
    row = entry.row
    fetched = row.cost is None and row.operation in _PRICED and _GET in entry.text()[:_HEAD]
    return of_row(row, "GET" if fetched else "POST")


def _log_of(log: Log, since: float) -> Path:
    """The database where it reaches back that far, else the JSONL: that is always whole."""
    path = Path(log.sqlite).expanduser() if log.sqlite else None
    if path is not None and path.is_file():
        try:
            with closing(opened(path)) as connection:
                found = connection.execute(
                    "SELECT 1 FROM records WHERE time < ? LIMIT 1", (rfc3339(since),)
                )
                if found.fetchone():
                    return path
        except sqlite3.Error:
            pass
    return Path(log.path).expanduser()
