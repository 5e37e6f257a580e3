"""The SQLite sink: what it stores, what it survives, and that it never holds up its caller."""

import json
import math
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import made
import pytest
from llm_passthrough.columns import Row
from llm_passthrough.errors import ConfigError
from llm_passthrough.lineage import Lineage
from llm_passthrough.record import Cost, Record, line
from llm_passthrough.sinks.sqlite import Sqlite

LARGE = "x" * 200_000


@contextmanager
def sink(path: Path, **options: float) -> Iterator[Sqlite]:
    """A sink with a short patience, closed at the end whatever happened."""
    opened = Sqlite(path, **({"patience": 0.05, "pause": 0.01} | options))  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        with suppress(OSError):
            opened.close()


def put(sqlite: Sqlite, *records: Record) -> None:
    for one in records:
        sqlite.write(one, line(one))


def rows(path: Path, query: str = "SELECT * FROM records ORDER BY time") -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query).fetchall()


def until(true: object, seconds: float = 20.0) -> None:
    """Wait for something to come true; how long it takes does not matter."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


# -- what is stored ---------------------------------------------------------------------------


def test_a_record_stands_in_columns_and_whole(tmp_path: Path) -> None:
    one = made.record(
        answered={"id": "1"},
        usage=made.usage(input_tokens=120, output_tokens=30, cache_read_tokens=100),
        cost=Cost(0.0125, "USD", "genai-prices"),
        model="gpt-4o-2024-08-06",
        first_token=612.5,
    )
    with sink(tmp_path / "records.sqlite") as sqlite:
        put(sqlite, one)
    (row,) = rows(tmp_path / "records.sqlite")
    assert dict(row) == {
        "id": one.id,
        "time": "2026-09-21T14:13:20.000Z",
        "client": "default",
        "route": "/openai_passthrough",
        "provider": "openai",
        "key": "team",
        "operation": "chat",
        "model_requested": "gpt-4o",
        "model_response": "gpt-4o-2024-08-06",
        "status": 200,
        "outcome": "ok",
        "stream": 0,
        "input_tokens": 120,
        "output_tokens": 30,
        "cache_read_tokens": 100,
        "cost": 0.0125,
        "currency": "USD",
        "total_ms": 1000.0,
        "first_byte_ms": 500.0,
        "first_token_ms": 612.5,
        "request_bytes": one.request.bytes,
        "response_bytes": 11,
        "part_of": None,
        "turn": None,
        "turns": None,
        "replay_of": None,
        "response_id": "1",
        "previous_response_id": None,
        "opening_hash": None,
        "messages_hash": None,
        "record": line(one).decode().rstrip("\n"),
    }


def test_what_is_unknown_is_null(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record(status=None, outcome="client_abort", first_byte=None))
    (row,) = rows(tmp_path / "r.sqlite")
    unknown = ("status", "stream", "input_tokens", "cost", "first_token_ms", "response_bytes")
    assert [row[name] for name in unknown] == [None] * len(unknown)


def test_the_json_can_be_queried_in_sqlite(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record(asked={"model": "gpt-4o", "messages": [{"content": "Grüße"}]}))
    query = (
        "SELECT json_extract(json_extract(record, '$.request.body'), '$.messages[0].content') "
        "AS said FROM records"
    )
    assert rows(tmp_path / "r.sqlite", query)[0]["said"] == "Grüße"


@pytest.mark.parametrize(
    ("changes", "column", "stored"),
    [
        pytest.param({"input_tokens": 1 << 63}, "input_tokens", None, id="a count beyond 64 bits"),
        pytest.param({"input_tokens": (1 << 63) - 1}, "input_tokens", (1 << 63) - 1, id="largest"),
        pytest.param({"output_tokens": 10**400}, "output_tokens", None, id="a count beyond floats"),
        pytest.param({"input_tokens": 0}, "input_tokens", 0, id="zero is not unknown"),
    ],
)
def test_an_odd_count_never_breaks_it(
    changes: dict[str, int], column: str, stored: int | None, tmp_path: Path
) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record(usage=made.usage(**changes)))
    (row,) = rows(tmp_path / "r.sqlite")
    assert row[column] == stored
    assert json.loads(row["record"])["usage"][column] == changes[column]


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf], ids=str)
def test_an_amount_that_is_no_number_is_null(amount: float, tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record(cost=Cost(amount, "USD", "table")))
    assert rows(tmp_path / "r.sqlite")[0]["cost"] is None


def test_a_list_of_the_newest_does_not_read_the_table(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record())
    for query in (
        "SELECT id FROM records WHERE time >= '2026' ORDER BY time DESC LIMIT 50",
        "SELECT id FROM records WHERE client = 'a' AND time >= '2026' ORDER BY time DESC LIMIT 50",
        "SELECT id FROM records WHERE id >= 'a' AND id < 'b'",
    ):
        plan = " ".join(
            row["detail"] for row in rows(tmp_path / "r.sqlite", f"EXPLAIN QUERY PLAN {query}")
        )
        assert "SEARCH records USING" in plan
        assert "TEMP B-TREE" not in plan


def test_a_database_of_an_older_version_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE records (id TEXT PRIMARY KEY, time TEXT, record TEXT, note TEXT)")
    with sink(path) as sqlite:
        put(sqlite, made.record())
    (row,) = rows(path)
    assert set(row.keys()) == {*Row._fields, *Lineage._fields, "record", "note"}


# -- the file ---------------------------------------------------------------------------------


def test_everything_is_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    old = os.umask(0)
    try:
        with sink(folder / "r.sqlite") as sqlite:
            put(sqlite, made.record())
            assert sqlite.flush()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"r.sqlite": 0o600, "r.sqlite-wal": 0o600, "r.sqlite-shm": 0o600}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700] * 2


def _symlink(path: Path) -> None:
    (path.parent / "other.sqlite").touch()
    path.symlink_to("other.sqlite")


def _wal_symlink(path: Path) -> None:
    Path(f"{path}-wal").symlink_to("elsewhere")


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(_symlink, "is a symbolic link; name the file itself", id="symbolic link"),
        pytest.param(_wal_symlink, "r.sqlite-wal beside it is no regular file", id="its -wal is"),
        pytest.param(lambda path: os.mkfifo(path), "not a regular file", id="a pipe"),
        pytest.param(lambda path: path.mkdir(), "Is a directory", id="a folder"),
        pytest.param(_below_a_file, "name a file in a folder", id="below a file"),
        pytest.param(
            lambda path: path.write_bytes(b"{}\n" * 400), "is not a SQLite database", id="JSONL"
        ),
    ],
)
def test_what_cannot_be_had_at_start_is_told_with_the_mend(
    prepare: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "r.sqlite"
    path.parent.mkdir()
    prepare(path)  # type: ignore[operator]
    with pytest.raises(ConfigError) as caught:
        Sqlite(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"log.sqlite: {path}: ")


def test_what_opens_the_file_elsewhere_reads_while_it_is_written(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, made.record(started=made.START))
        assert sqlite.flush()
        assert len(rows(tmp_path / "r.sqlite")) == 1
        put(sqlite, made.record(started=made.START + 1))
        assert sqlite.flush()
        assert len(rows(tmp_path / "r.sqlite")) == 2


# -- trouble ----------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes to the database, and does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_while_it_is_locked_records_wait_and_it_is_said(tmp_path: Path) -> None:
    """K04."""
    with sink(tmp_path / "r.sqlite") as sqlite:
        with locked(tmp_path / "r.sqlite"):
            put(sqlite, made.record(started=made.START))
            until(lambda: sqlite._fault)
            with pytest.raises(OSError, match="database is locked; 2 records wait"):
                put(sqlite, made.record(started=made.START + 1))
            assert sqlite.state() == "database is locked; 2 records wait"
        assert sqlite.flush()
        assert sqlite.state() == "ok"
        put(sqlite, made.record(started=made.START + 2))
    assert len(rows(tmp_path / "r.sqlite")) == 3


def test_a_lock_never_holds_up_who_writes(tmp_path: Path) -> None:
    """K04."""
    with sink(tmp_path / "r.sqlite", patience=30.0) as sqlite:
        with locked(tmp_path / "r.sqlite"):
            begun = time.monotonic()
            for number in range(50):
                put(sqlite, made.record(started=made.START + number))
            assert time.monotonic() - begun < 15.0  # it would be 30 s for the first alone
        assert sqlite.flush(30)
    assert len(rows(tmp_path / "r.sqlite")) == 50


def test_what_finds_no_room_is_lost_loudly_and_only_there(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite", held_bytes=300_000) as sqlite:
        with locked(tmp_path / "r.sqlite"):
            put(sqlite, made.record(started=made.START, answered=LARGE))
            with pytest.raises(OSError, match="this record is lost here"):
                put(sqlite, made.record(started=made.START + 1, answered=LARGE))
        assert sqlite.flush()
        put(sqlite, made.record(started=made.START + 2))
    assert len(rows(tmp_path / "r.sqlite")) == 2


def test_what_is_still_locked_at_the_end_is_counted(tmp_path: Path) -> None:
    sqlite = Sqlite(tmp_path / "r.sqlite", patience=0.01, pause=0.01)
    with locked(tmp_path / "r.sqlite"):
        put(sqlite, made.record())
        with pytest.raises(OSError, match="database is locked; 1 records are lost here"):
            sqlite.close()
    sqlite.close()  # a second time is nothing


def test_a_full_disk_is_said_and_passes(tmp_path: Path) -> None:
    """K04: a limit on the size of files is a full disk for one process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with sink(tmp_path / "r.sqlite") as sqlite:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
        try:
            put(sqlite, made.record(started=made.START, answered=LARGE))
            until(lambda: sqlite._fault)
            with pytest.raises(OSError, match="2 records wait"):
                put(sqlite, made.record(started=made.START + 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert sqlite.flush(20)
        put(sqlite, made.record(started=made.START + 2))
    assert len(rows(tmp_path / "r.sqlite")) == 3


@pytest.mark.parametrize(
    "remove",
    [
        pytest.param(lambda path: [one.unlink() for one in path.parent.iterdir()], id="removed"),
        pytest.param(lambda path: path.rename(path.with_name("moved")), id="moved away"),
        pytest.param(lambda path: shutil.rmtree(path.parent), id="with its folder"),
    ],
)
def test_a_database_that_is_taken_away_is_made_anew(remove: object, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "r.sqlite"
    with sink(path) as sqlite:
        put(sqlite, made.record(started=made.START))
        assert sqlite.flush()
        remove(path)  # type: ignore[operator]
        put(sqlite, made.record(started=made.START + 1))
        assert sqlite.flush()
    assert [row["time"] for row in rows(path)] == ["2026-09-21T14:13:21.000Z"]


def test_a_damaged_page_is_said_and_ends_nothing(tmp_path: Path) -> None:
    """K04."""
    path = tmp_path / "r.sqlite"
    with sink(path) as sqlite:
        put(sqlite, *(made.record(started=made.START + number) for number in range(200)))
    damaged = bytearray(path.read_bytes())
    damaged[4096 * 2 :] = b"\xa5" * (len(damaged) - 4096 * 2)
    path.write_bytes(damaged)
    with sink(path) as sqlite:
        put(sqlite, made.record(started=made.START + 200))
        until(lambda: sqlite._fault)
        with pytest.raises(OSError, match="malformed; 2 records wait"):
            put(sqlite, made.record(started=made.START + 201))


def _restore(path: Path, saved: bytes) -> None:
    """Put another file into its place, as one who restores a copy does."""
    path.with_name("restored").write_bytes(saved)
    path.with_name("restored").rename(path)


def test_a_database_that_is_put_in_its_place_is_not_mixed_with_the_one_that_was(
    tmp_path: Path,
) -> None:
    """K04: what SQLite has not folded back yet belongs to the file that is gone."""
    path = tmp_path / "r.sqlite"
    with sink(path) as sqlite:
        put(sqlite, *(made.record(f"old-{n}", made.START + n) for n in range(20)))
    saved = path.read_bytes()
    path.unlink()
    with sink(path) as sqlite:
        put(sqlite, *(made.record(f"new-{n}", made.START + n) for n in range(200)))
        assert sqlite.flush()
        _restore(path, saved)
        put(sqlite, made.record("last", made.START + 300))
        assert sqlite.flush()
        query = "PRAGMA integrity_check"
        assert [row[0] for row in rows(path, query)] == ["ok"]
    assert [row["id"] for row in rows(path)] == [*(f"old-{n}" for n in range(20)), "last"]


def test_without_its_wal_others_read_it_again_with_the_next_record(tmp_path: Path) -> None:
    """K04: also while somebody reads it, who keeps SQLite from folding back what it has."""
    path = tmp_path / "r.sqlite"
    with sink(path) as sqlite:
        for number in range(0, 40, 2):
            put(sqlite, made.record(started=made.START + number))
            assert sqlite.flush()
            with closing(sqlite3.connect(path)) as reader:
                reader.execute("BEGIN").execute("SELECT * FROM records").fetchone()
                Path(f"{path}-wal").unlink()
                put(sqlite, made.record(started=made.START + number + 1))
                assert sqlite.flush()
                assert len(rows(path)) == number + 2
    assert [row[0] for row in rows(path, "PRAGMA integrity_check")] == ["ok"]


def test_a_database_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "r.sqlite", tmp_path / "precious"
    other.write_text("precious")
    with sink(path) as sqlite:
        put(sqlite, made.record(started=made.START))
        assert sqlite.flush()
        path.unlink()
        path.symlink_to(other)
        put(sqlite, made.record(started=made.START + 1))
        until(lambda: sqlite._fault)
        with pytest.raises(OSError, match="symbolic links"):
            put(sqlite, made.record(started=made.START + 2))
    assert other.read_text() == "precious"


def test_two_gateways_may_write_to_one_database(tmp_path: Path) -> None:
    with (
        sink(tmp_path / "r.sqlite", patience=10) as one,
        sink(tmp_path / "r.sqlite", patience=10) as two,
    ):
        for number in range(100):
            put(one, made.record(f"a{number}", made.START + number))
            put(two, made.record(f"b{number}", made.START + number))
        assert one.flush(20)
        assert two.flush(20)
    assert len(rows(tmp_path / "r.sqlite")) == 200


_KILLED = """
import sys, time
from pathlib import Path
import made
from llm_passthrough.record import line
from llm_passthrough.sinks.sqlite import Sqlite
sink = Sqlite(Path(sys.argv[1]))
for number in range(100):
    one = made.record(started=made.START + number)
    sink.write(one, line(one))
sink.flush()
print("written", flush=True)
time.sleep(60)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    tests = Path(made.__file__).parent
    env = os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'addon'}"}
    command = [sys.executable, "-c", _KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert len(rows(path)) == 100
    with sink(path) as sqlite:
        put(sqlite, made.record(started=made.START + 1000))
    assert len(rows(path)) == 101


# -- retention --------------------------------------------------------------------------------


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, *(made.record(started=made.START + hour * 3600) for hour in range(10)))
        sqlite.prune(max_age_seconds=3 * 3600, max_bytes=None, now=made.START + 9 * 3600)
        assert sqlite.flush()
    hours = [row["time"][11:13] for row in rows(tmp_path / "r.sqlite")]
    assert hours == ["20", "21", "22", "23"]


def test_what_is_too_much_goes_and_the_file_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with sink(path, held_bytes=1 << 30) as sqlite:
        put(
            sqlite,
            *(made.record(started=made.START + n, answered="x" * 20_000) for n in range(500)),
        )
        assert sqlite.flush(20)
        assert path.stat().st_size + Path(f"{path}-wal").stat().st_size > 10_000_000
        for _ in range(10):
            sqlite.prune(max_age_seconds=None, max_bytes=4_000_000, now=made.START)
            assert sqlite.flush(20)
    assert 1_500_000 < path.stat().st_size <= 4_000_000
    left = [row["time"] for row in rows(path)]
    assert left[-1] == "2026-09-21T14:21:39.000Z"  # the newest stays
    assert 100 <= len(left) < 250


def test_a_reader_in_the_middle_is_no_fault_of_pruning(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with sink(path) as sqlite:
        put(sqlite, *(made.record(started=made.START + n) for n in range(50)))
        assert sqlite.flush()
        with closing(sqlite3.connect(path)) as reader:
            cursor = reader.execute("SELECT id FROM records")
            cursor.fetchone()
            sqlite.prune(max_age_seconds=0, max_bytes=None, now=made.START + 1000)
            assert sqlite.flush()
            put(sqlite, made.record(started=made.START + 2000))
            assert sqlite.flush()
            assert len(cursor.fetchall()) == 49
    assert len(rows(path)) == 1


def test_a_record_that_comes_again_is_there_once(tmp_path: Path) -> None:
    one = made.record()
    with sink(tmp_path / "r.sqlite") as sqlite:
        put(sqlite, one, replace(one, client="later"))
    assert [row["client"] for row in rows(tmp_path / "r.sqlite")] == [one.client]
