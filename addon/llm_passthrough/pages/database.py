"""The records of a SQLite database for the pages: lists by its columns, nothing held in memory."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from llm_passthrough.columns import SQL_TYPES, Row, of_values
from llm_passthrough.ledger import Entry, LedgerError
from llm_passthrough.ledger.filters import Filter
from llm_passthrough.ledger.sqlite import columns_of, opened, within
from llm_passthrough.pages.store import REPEATS, Names, Page, State, Trait, searched
from llm_passthrough.pages.wishes import PAGE, Wish

_NAMES = 200
_BATCH = 500
_NOT_SUMMED = frozenset(
    "route operation status stream first_byte_ms request_bytes response_bytes part_of turn".split()
)
_GLOB = frozenset("*?[")


class Database:
    """A store over the table `records` of one database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self) -> State:
        """See Store.state."""
        try:
            with self._connection() as connection:
                count = connection.execute("SELECT count(*) FROM records").fetchone()[0]
        except LedgerError as error:
            return State(fault=str(error))
        return State(count=count)

    def page(self, wish: Wish) -> Page:
        """See Store.page."""
        if wish.filter.grep is not None:
            return searched(self._entries(wish), wish)
        where, values = _where(wish)
        first = (wish.page - 1) * PAGE
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            total = connection.execute(
                f"SELECT count(*) FROM records WHERE {where}",  # noqa: S608 - names of ours
                values,
            ).fetchone()[0]
            rows = connection.execute(
                f"SELECT {columns} FROM records WHERE {where} "  # noqa: S608 - names of ours
                f"ORDER BY {_order(wish)} LIMIT {PAGE} OFFSET {first}",
                values,
            ).fetchall()
        found = [row for row in map(of_values, rows) if row.id and row.time]
        return Page(found, total, total > first + PAGE)

    def find(self, id_: str) -> Entry | None:
        """See Store.find."""
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            found = connection.execute(
                f"SELECT {columns} FROM records WHERE id = ?",  # noqa: S608 - names of ours
                (id_,),
            ).fetchone()
        return self._entry(of_values(found)) if found else None

    def rows(self, wish: Wish) -> Iterator[Row]:
        """See Store.rows."""
        if wish.filter.grep is not None:
            yield from (entry.row for entry in self._entries(wish) if wish.filter.finds(entry))
            return
        where, values = _where(wish)
        with self._connection() as connection:
            columns = _summed(columns_of(connection, self._path))
            query = f"SELECT {columns} FROM records WHERE {where}"  # noqa: S608 - names of ours
            yield from map(of_values, connection.execute(query, values))

    def kin(
        self, row: Row, name: Trait, values: Sequence[object], *, later: bool
    ) -> Iterator[Entry]:
        """See Store.kin."""
        beyond, order = (">", "ASC") if later else ("<", "DESC")
        for value in values:
            # A plus keeps an index from being used: the one of `name` finds the fewest.
            found = self._found(
                name,
                f"{name} = ? AND (time, id) {beyond} (?, ?) AND +client IS ? AND +provider IS ? "
                f"AND +operation IS ? ORDER BY time {order}, id {order} LIMIT {_BATCH}",
                (value, row.time, row.id, row.client, row.provider, row.operation),
            )
            yield from map(self._entry, found)

    def repeats(self, id_: str) -> list[Row]:
        """See Store.repeats."""
        condition = f"replay_of = ? ORDER BY time DESC, id DESC LIMIT {REPEATS}"
        return self._found("replay_of", condition, (id_,))

    def since(self, cursor: int | None) -> tuple[list[Entry], int]:
        """See Store.since; the cursor is a row number."""
        with self._connection() as connection:
            top = connection.execute("SELECT max(rowid) FROM records").fetchone()[0] or 0
            if cursor is None or top <= cursor:
                return [], top
            columns = columns_of(connection, self._path)
            rows = connection.execute(
                f"SELECT {columns} FROM records WHERE rowid > ? ORDER BY rowid LIMIT {_BATCH}",  # noqa: S608
                (max(cursor, top - _BATCH),),
            ).fetchall()
        return [self._entry(row) for row in map(of_values, rows)], top

    def names(self) -> Names:
        """See Store.names."""
        found = []
        with self._connection() as connection:
            for column in ("provider", "model_requested", "client"):
                rows = connection.execute(
                    f"SELECT DISTINCT {column} FROM records "  # noqa: S608 - names of ours
                    f"WHERE {column} IS NOT NULL ORDER BY 1 LIMIT {_NAMES}"
                )
                found.append([str(row[0]) for row in rows])
        return Names(*found)

    def close(self) -> None:
        """Nothing is held."""

    def _entries(self, wish: Wish) -> Iterator[Entry]:
        """All entries of a list in its order, batch by batch; each batch is its own reading."""
        where, values = _where(wish)
        first = 0
        while True:
            with self._connection() as connection:
                columns = columns_of(connection, self._path)
                found = connection.execute(
                    f"SELECT record, {columns} FROM records WHERE {where} "  # noqa: S608
                    f"ORDER BY {_order(wish)} LIMIT {_BATCH} OFFSET {first}",
                    values,
                ).fetchall()
            for text, *row in found:
                record = text.encode("utf-8", "replace") if isinstance(text, str) else text or b""
                yield Entry(of_values(row), partial(bytes, record))
            if len(found) < _BATCH:
                return
            first += _BATCH

    def _entry(self, row: Row) -> Entry:
        def load() -> bytes:
            with self._connection() as connection:
                query = "SELECT record FROM records WHERE id = ?"
                found = connection.execute(query, (row.id,)).fetchone()
            value = found[0] if found else b""
            return value.encode("utf-8", "replace") if isinstance(value, str) else value or b""

        return Entry(row, load)

    def _found(self, name: str, condition: str, values: tuple[object, ...]) -> list[Row]:
        """The rows that a condition on the column `name` finds; an older database has it not."""
        with self._connection() as connection:
            columns = columns_of(connection, self._path)
            there = {row[1] for row in connection.execute("PRAGMA table_info(records)")}
            if name not in there:
                return []
            query = f"SELECT {columns} FROM records WHERE {condition}"  # noqa: S608 - names of ours
            return list(map(of_values, connection.execute(query, values)))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(opened(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: cannot be read: {error}") from None


def _summed(columns: str) -> str:
    """The columns, but null for those that nothing is summed up of."""
    return ", ".join("NULL" if name in _NOT_SUMMED else name for name in columns.split(", "))


def _where(wish: Wish) -> tuple[str, list[object]]:
    """The condition on the columns, as Filter.takes judges them."""
    time, values = within(wish.span)
    conditions, all_values = [time], list[object](values)
    for condition, value in _conditions(wish.filter):
        conditions.append(condition)
        all_values += value
    return " AND ".join(conditions), all_values


def _conditions(filter_: Filter) -> Iterator[tuple[str, list[object]]]:
    if filter_.provider is not None:
        yield "provider = ?", [filter_.provider]
    if filter_.client is not None:
        yield "client = ?", [filter_.client]
    if filter_.outcome:
        yield f"outcome IN ({_marks(filter_.outcome)})", list(filter_.outcome)
    if filter_.status:
        ranges = [_range(status) for status in filter_.status]
        one = "status BETWEEN ? AND ?"
        yield f"({' OR '.join([one] * len(ranges))})", [bound for pair in ranges for bound in pair]
    if filter_.model is not None:
        wanted = filter_.model.lower()
        name = "lower(model_requested)", "lower(model_response)"
        if _GLOB & set(wanted):
            yield f"({name[0]} GLOB ? OR {name[1]} GLOB ?)", [_glob(wanted)] * 2
        else:
            yield f"(instr({name[0]}, ?) OR instr({name[1]}, ?))", [wanted] * 2


def _glob(pattern: str) -> str:
    """Python's pattern as SQLite writes it (https://www.sqlite.org/lang_expr.html#glob)."""
    return pattern.replace("[!", "[^")


def _range(status: str) -> tuple[int, int]:
    if status.endswith("xx"):
        return int(status[0]) * 100, int(status[0]) * 100 + 99
    return int(status), int(status)


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))


def _order(wish: Wish) -> str:
    """The order of a list; what is unknown comes last."""
    column = wish.column
    assert column in SQL_TYPES
    direction = "ASC" if wish.ascending else "DESC"
    if column == "time":
        return f"time {direction}, id {direction}"
    return f"{column} IS NULL, {column} {direction}, time DESC"
