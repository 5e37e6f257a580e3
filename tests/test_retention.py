"""Retention: what is removed, in which order, and what is never touched."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import made
import pytest
from llm_passthrough.columns import of_record
from llm_passthrough.record import line
from llm_passthrough.retention import (
    Pruned,
    family,
    log_of,
    prune_jsonl,
    prune_sqlite,
    rotated,
    used_bytes,
)
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.sqlite import Sqlite

DAY = 86_400
NOW = datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp()


def name(days_old: float, number: int = 0) -> str:
    moment = datetime.fromtimestamp(NOW - days_old * DAY, UTC)
    return f"records-{moment:%Y%m%dT%H%M%SZ}{f'-{number}' if number else ''}.jsonl"


def folder_of(path: Path, sizes: dict[str, int]) -> Path:
    """A folder with files of these sizes; their times of change say nothing."""
    for file, size in sizes.items():
        (path / file).write_bytes(b"x" * size)
        os.utime(path / file, (NOW, NOW))
    return path


def left(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


@pytest.mark.parametrize(
    ("sizes", "age", "most", "removed"),
    [
        pytest.param({name(9): 5, name(1): 5}, 7 * DAY, None, {name(9)}, id="too old"),
        pytest.param({name(9): 5, name(1): 5}, None, None, set(), id="no bound"),
        pytest.param({name(3): 40, name(2): 40, name(1): 40}, None, 90, {name(3)}, id="oldest"),
        pytest.param(
            {name(3): 5, name(2): 90, name(1): 5}, None, 20, {name(3), name(2)}, id="order"
        ),
        pytest.param({name(2): 40, "records.jsonl": 100}, None, 50, {name(2)}, id="live counts"),
        pytest.param({"records.jsonl": 100}, 0, 0, set(), id="the live file always stays"),
        pytest.param({name(2): 10}, 7 * DAY, 10, set(), id="exactly as much as may be"),
        pytest.param(
            {name(2): 9, name(2, 1): 9, name(2, 2): 9, name(2, 10): 9},
            None,
            18,
            {name(2), name(2, 1)},
            id="of one second, by their number",
        ),
        pytest.param({name(9): 50, name(1): 50}, 7 * DAY, 60, {name(9)}, id="age makes room"),
        pytest.param({name(-1): 5}, 7 * DAY, None, set(), id="from the future"),
        pytest.param(
            {
                "records-20200101T000000Z.jsonl.gz": 5,
                "records-20200101.jsonl": 5,
                "records-20201301T000000Z.jsonl": 5,
                "other-20200101T000000Z.jsonl": 5,
                "records-old-20200101T000000Z.jsonl": 5,
                "records-20200101T000000Z-x.jsonl": 5,
                "records-20200101T000000Z.txt": 5,
                "notes.jsonl": 5,
            },
            1,
            0,
            set(),
            id="other names are not ours",
        ),
    ],
)
def test_rotated_files_go_by_age_then_by_size(
    sizes: dict[str, int], age: float | None, most: int | None, removed: set[str], tmp_path: Path
) -> None:
    folder_of(tmp_path, sizes)
    pruned = prune_jsonl(tmp_path, "records", age, most, NOW)
    assert left(tmp_path) == set(sizes) - removed
    assert pruned == Pruned(len(removed), sum(sizes[one] for one in removed))


def test_the_files_of_all_workers_are_one_log(tmp_path: Path) -> None:
    """Its live files stay, but one that no worker has written for days."""
    other = name(3).replace("records-", "records-w2-")
    gone = "records-w3.jsonl"
    sizes = {"records.jsonl": 9, name(2): 40, "records-w2.jsonl": 9, other: 40, gone: 40}
    sizes |= {"records-w4.jsonl": 9, "records-w1.jsonl": 9, "records-w2x.jsonl": 9}
    folder_of(tmp_path, sizes)
    for file in (gone, "records-w4.jsonl"):
        os.utime(tmp_path / file, (NOW - 8 * DAY, NOW - 8 * DAY))
        (tmp_path / f"{file}.lock").touch()
    held = Jsonl(tmp_path / "records-w4.jsonl", 1 << 20, 1e9)
    assert family(tmp_path / "records.jsonl") == [
        tmp_path / file
        for file in ("records.jsonl", "records-w2.jsonl", "records-w3.jsonl", "records-w4.jsonl")
    ]
    assert prune_jsonl(tmp_path, "records", 7 * DAY, None, NOW) == Pruned(1, 40)
    assert prune_jsonl(tmp_path, "records", None, 70, NOW) == Pruned(1, 40)
    locks = {f"{file}.lock" for file in (gone, "records-w4.jsonl")}
    assert left(tmp_path) == sizes.keys() - {gone, other} | locks
    held.close()


def test_a_link_and_a_folder_of_such_a_name_stay(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / name(9)).symlink_to(precious)
    (logs / name(8)).mkdir()
    assert prune_jsonl(logs, "records", 1, 0, NOW) == Pruned()
    assert left(logs) == {name(9), name(8)}


def test_what_cannot_be_removed_is_told_after_the_rest_was(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        prune_jsonl(tmp_path / "missing", "records", 1, 0, NOW)


def test_it_knows_the_names_that_the_sink_gives(tmp_path: Path) -> None:
    moment = [NOW]
    sink = Jsonl(tmp_path / "records.jsonl", 1, 1e9, clock=lambda: moment[0])
    for number in range(4):
        one = made.record(started=NOW + number)
        moment[0] = NOW + number // 2
        sink.write(one, line(one))
    sink.close()
    files = rotated(tmp_path, "records")
    assert [file.path.name for file in files] == [
        name(0),
        name(-1 / DAY),
        name(-1 / DAY, 1),
    ]
    assert all(log_of(file.path) == ("records", True) for file in files)
    assert log_of(tmp_path / "records.jsonl") == ("records", False)


# -- SQLite -----------------------------------------------------------------------------------


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database with an hour between records, from ten days ago until now."""
    sink = Sqlite(tmp_path / "r.sqlite")
    for hour in range(240):
        one = made.record(started=NOW - hour * 3600, answered="x" * 3000)
        sink.write(one, line(one))
    sink.close()
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as opened:
        yield opened


def times(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT time FROM records ORDER BY time")]


@pytest.mark.parametrize(
    ("age", "most", "count"),
    [
        pytest.param(None, None, 0, id="no bound"),
        pytest.param(DAY, None, 215, id="age"),
        pytest.param(30 * DAY, 1 << 40, 0, id="nothing too old, nothing too much"),
        pytest.param(-1, None, 240, id="everything"),
    ],
)
def test_rows_go_by_age(
    age: float | None, most: int | None, count: int, connection: sqlite3.Connection
) -> None:
    before = times(connection)
    pruned = prune_sqlite(connection, age, most, NOW)
    assert pruned.count == count
    assert times(connection) == before[count:]


def test_rows_go_by_size_the_oldest_first(connection: sqlite3.Connection) -> None:
    before, size = times(connection), used_bytes(connection)
    pruned = prune_sqlite(connection, None, size // 2, NOW)
    assert used_bytes(connection) <= size // 2
    assert pruned.bytes == size - used_bytes(connection)
    assert 0 < pruned.count < 240
    assert times(connection) == before[pruned.count :]
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_one_call_does_a_bounded_part_of_the_work(connection: sqlite3.Connection) -> None:
    assert prune_sqlite(connection, -1, None, NOW, batches=1).count == 100
    assert prune_sqlite(connection, -1, None, NOW, batches=1).count == 100
    assert prune_sqlite(connection, -1, None, NOW, batches=1).count == 40
    assert prune_sqlite(connection, -1, None, NOW, batches=1).count == 0


def test_a_bound_that_nothing_can_meet_ends(connection: sqlite3.Connection) -> None:
    assert prune_sqlite(connection, None, 0, NOW).count == 240


def test_a_record_knows_its_own_columns() -> None:
    assert of_record(made.record()).time == "2026-09-21T14:13:20.000Z"
