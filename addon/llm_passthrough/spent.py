"""What calls used: one that was just recorded, and all of this month, read from the records."""

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from llm_passthrough.allowance import DAY, Allowance, Past, PastError, Spent, day_of, month_begins
from llm_passthrough.allowance import month_of as month_number
from llm_passthrough.columns import Row, of_record, of_values
from llm_passthrough.config import Log
from llm_passthrough.ledger import Count, LedgerError, Span, open_ledger
from llm_passthrough.ledger.entries import rfc3339
from llm_passthrough.ledger.lines import epoch
from llm_passthrough.ledger.sqlite import columns_of, opened, within
from llm_passthrough.record import Record

# A client, whether it was today, and what it was.
type Told = tuple[str, bool, Spent]

_LOG = logging.getLogger(__name__)
# What providers ask money for; all else (lists, files, counting) is free, or billed elsewhere.
_PRICED = frozenset(
    "chat completions responses embeddings rerank images speech transcription videos realtime "
    "messages complete generate_content embed_content predict converse invoke interactions".split()
)
_HEAD = 2048
_IN_DOLLARS = "(cost IS NOT NULL AND currency IS 'USD')"
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
    days: dict[str, Spent] = defaultdict(Spent)
    months: dict[str, Spent] = defaultdict(Spent)
    try:
        for name, is_today, spent in _told(log, Span(month_begins(month), until), day):
            months[name] += spent
            if is_today:
                days[name] += spent
    except (LedgerError, OSError) as error:
        _LOG.error("what clients spent this month cannot be read: %s", error)
        raise PastError("the records cannot be read") from None
    return Past(day, month, days, months)


def _told(log: Log, span: Span, day: int) -> Iterable[Told]:
    """What was spent, by the database where it reaches back that far (it is much faster), else by
    the JSONL, which is always whole."""
    path = Path(log.sqlite).expanduser() if log.sqlite else None
    if path is not None and path.is_file():
        try:
            with closing(opened(path)) as connection:
                if _reaches_back(connection, span.since):
                    return list(_of_database(connection, path, span, day))
        except (sqlite3.Error, LedgerError) as error:
            _LOG.warning("%s cannot be read (%s); the records are", path, type(error).__name__)
    return _of_file(Path(log.path).expanduser(), span, day)


def _of_file(path: Path, span: Span, day: int) -> Iterator[Told]:
    for entry in open_ledger(path, must_exist=False).read(span, Count(), newest_first=False):
        row, began = entry.row, epoch(entry.row.time)
        fetched = row.cost is None and row.operation in _PRICED and _GET in entry.text()[:_HEAD]
        spent = of_row(row, "GET" if fetched else "POST")
        yield row.client or "", began is not None and day_of(began) == day, spent


def _reaches_back(connection: sqlite3.Connection, since: float) -> bool:
    query = "SELECT 1 FROM records WHERE time < ? LIMIT 1"
    return connection.execute(query, (rfc3339(since),)).fetchone() is not None


def _of_database(
    connection: sqlite3.Connection, path: Path, span: Span, day: int
) -> Iterator[Told]:
    """Sums of the calls whose price is known, then the others one by one."""
    columns = columns_of(connection, path)
    where, values = within(span)
    today = rfc3339(float(day * DAY)) or ""
    for name, is_today, *sums in connection.execute(
        "SELECT client, time >= ?, sum(NOT coalesce(turns, 0)), "  # noqa: S608 - names of ours
        "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), sum(cost) "
        f"FROM records WHERE {where} AND {_IN_DOLLARS} GROUP BY 1, 2",
        (today, *values),
    ):
        yield name or "", bool(is_today), Spent(*sums)
    head = f"CAST(substr(record, 1, {_HEAD}) AS TEXT)"
    for fetched, *columns_ in connection.execute(
        f"SELECT cost IS NULL AND instr({head}, '{_GET.decode()}'), {columns} "  # noqa: S608
        f"FROM records WHERE {where} AND NOT ({_IN_DOLLARS})",
        values,
    ):
        row = of_values(columns_)
        yield row.client or "", row.time >= today, of_row(row, "GET" if fetched else "POST")
