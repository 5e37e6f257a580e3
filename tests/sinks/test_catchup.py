"""Catching up: after a crash the database has what the log has, whatever was left out."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import made
import pytest
from llm_passthrough.errors import ConfigError
from llm_passthrough.ledger import lines
from llm_passthrough.record import Record, line
from llm_passthrough.sinks import catchup, table
from llm_passthrough.sinks.sqlite import Sqlite

LARGE = "x" * 60_000


def records(count: int, first: int = 0) -> list[Record]:
    return [made.record(started=made.START + 10 * n) for n in range(first, first + count)]


@contextmanager
def sink(path: Path, **options: object) -> Iterator[Sqlite]:
    opened = Sqlite(path, **({"patience": 0.05, "pause": 0.01} | options))  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        with suppress(OSError):
            opened.close()


def stored(path: Path) -> list[tuple[object, ...]]:
    """All rows with all columns, in the order in which they were put in."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM records ORDER BY rowid").fetchall()


def written(path: Path, some: list[Record]) -> list[tuple[object, ...]]:
    """What a database has into which these were written one by one."""
    with sink(path) as sqlite:
        for one in some:
            sqlite.write(one, line(one))
    return stored(path)


@pytest.mark.parametrize("lacks", [0, 1, 7, 29])
@pytest.mark.parametrize("rotated", [0, 25], ids=["one file", "rotated shortly before"])
def test_what_a_crash_left_out_is_put_in_at_the_next_start(
    tmp_path: Path, lacks: int, rotated: int, caplog: pytest.LogCaptureFixture
) -> None:
    """K15: and the rows are those that would have been written."""
    every = records(30)
    log, path = tmp_path / "records.jsonl", tmp_path / "r.sqlite"
    if rotated:
        made.log(tmp_path / "records-20260921T141722Z.jsonl", every[:rotated])
    made.log(log, every[rotated:])
    with log.open("ab") as file:
        file.write(b'{"schema":"llm-passthrough.record/1","id":"torn')
    written(path, every[: 30 - lacks])
    with sink(path, log=log) as sqlite:
        assert sqlite.flush(20)
        assert sqlite.state() == "ok"
    assert stored(path) == written(tmp_path / "other.sqlite", every)
    told = [text for text in caplog.messages if "only the log had" in text]
    assert told == ([f"{log}: {lacks} records that only the log had were put in the database"] * 1
                    if lacks else [])  # fmt: skip


def test_exchanges_that_ended_late_are_among_them(tmp_path: Path) -> None:
    """K15: lines stand in the order of their ends, ids in that of their beginnings."""
    short = records(5)
    long = made.record(started=made.START - 3000, total=3100.0)
    log, path = made.log(tmp_path / "records.jsonl", [*short, long]), tmp_path / "r.sqlite"
    written(path, short)
    with sink(path, log=log) as sqlite:
        assert sqlite.flush(20)
    assert stored(path) == written(tmp_path / "other.sqlite", [*short, long])


@pytest.mark.parametrize("there", [True, False], ids=["a log", "no log yet"])
def test_a_database_that_was_just_switched_on_begins_with_the_next_record(
    tmp_path: Path, there: bool
) -> None:
    log = tmp_path / "records.jsonl"
    if there:
        made.log(log, records(5))
    with sink(tmp_path / "r.sqlite", log=log) as sqlite:
        (one,) = records(1, 5)
        sqlite.write(one, line(one))
        assert sqlite.flush(20)
    assert len(stored(tmp_path / "r.sqlite")) == 1


def test_what_found_no_room_is_put_in_when_the_trouble_is_over(tmp_path: Path) -> None:
    """K04: the log has it; the order is that of the log."""
    log, path = tmp_path / "records.jsonl", tmp_path / "r.sqlite"
    every = [made.record(started=made.START + 10 * n, answered=LARGE) for n in range(12)]
    faults = set()
    with sink(path, log=log, held_bytes=200_000) as sqlite, log.open("ab") as file:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for one in every:
                file.write(line(one))
                file.flush()
                try:
                    sqlite.write(one, line(one))
                except OSError as error:
                    faults.add(error.strerror.partition("; ")[2])
            other.execute("ROLLBACK")
        assert sqlite.flush(20)
        assert sqlite.state() == "ok"
    assert "this record is put in later, from the log" in faults
    assert stored(path) == written(tmp_path / "other.sqlite", every)


def test_a_database_that_was_made_from_the_log_gets_what_came_meanwhile(tmp_path: Path) -> None:
    """K15: it takes the place of the one that is written to."""
    every = records(12)
    log, path, other = tmp_path / "records.jsonl", tmp_path / "r.sqlite", tmp_path / "new.sqlite"
    with sink(path, log=log) as sqlite:
        for number, one in enumerate(every):
            made.log(log, every[: number + 1])
            if number == 6:
                table.make(other, log.read_bytes().splitlines())
            if number == 9:
                other.rename(path)
            sqlite.write(one, line(one))
            assert sqlite.flush(20)
    assert stored(path) == written(tmp_path / "right.sqlite", every)


def test_what_is_locked_until_the_end_is_put_in_at_the_next_start(tmp_path: Path) -> None:
    """K15: that too is told."""
    every = records(4)
    log, path = made.log(tmp_path / "records.jsonl", every[:1]), tmp_path / "r.sqlite"
    written(path, every[:1])
    sqlite = Sqlite(path, patience=0.01, pause=0.01, log=log)
    assert sqlite.flush(20)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        made.log(log, every)
        for one in every[1:]:
            with suppress(OSError):
                sqlite.write(one, line(one))
        with pytest.raises(OSError, match="3 records are put in at the next start"):
            sqlite.close()
    with sink(path, log=log) as again:
        assert again.flush(20)
    assert stored(path) == written(tmp_path / "other.sqlite", every)


def test_a_log_that_cannot_be_read_is_told_and_does_not_stop_the_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, path = tmp_path / "records.jsonl", tmp_path / "r.sqlite"
    written(path, records(1))
    log.mkdir()
    with sink(path, log=log) as sqlite:
        (one,) = records(1, 1)
        sqlite.write(one, line(one))
        assert sqlite.flush(20)
    assert len(stored(path)) == 2
    assert f"{log}: the database cannot catch up with it: LedgerError" in caplog.messages


def test_where_the_log_cannot_be_caught_up_with_it_does_not_start(tmp_path: Path) -> None:
    """So that what clients have spent is never read from a part of the records."""
    log, path = made.log(tmp_path / "records.jsonl", records(3)), tmp_path / "r.sqlite"
    written(path, records(2))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
        with pytest.raises(ConfigError, match="full; move this file away, or name another"):
            Sqlite(path, log=log)
        other.execute("DROP TRIGGER full")
    Sqlite(path, log=log).close()
    assert len(stored(path)) == 3


def test_it_looks_back_a_bounded_way_when_it_knows_none_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "_FARTHEST", 5_000)
    monkeypatch.setattr(lines, "_NEAR", 1_000)
    log, path = made.log(tmp_path / "records.jsonl", records(60)), tmp_path / "r.sqlite"
    written(path, [made.record(started=made.START - 86_400)])
    with sink(path, log=log) as sqlite:
        assert sqlite.flush(20)
    times = [row[1] for row in stored(path)[1:]]
    assert 5 < len(times) < 30
    assert times == [one.time for one in records(60)][-len(times) :]


def test_what_is_no_record_is_none(tmp_path: Path) -> None:
    assert table.item_of_line(b"{torn") is None
    assert table.item_of_line(b"{}") is None
