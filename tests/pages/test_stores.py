"""Both stores, the index of a JSONL log and the database, answer alike; and each one alone."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from llm_passthrough.columns import of_record
from llm_passthrough.ledger import LedgerError
from llm_passthrough.lineage import Lineage, hashes, split
from llm_passthrough.pages import store as stores
from llm_passthrough.pages.database import Database
from llm_passthrough.pages.index import Index
from llm_passthrough.pages.store import Store, Trait
from llm_passthrough.pages.wishes import Wish, read
from llm_passthrough.record import Cost, Record
from llm_passthrough.sinks.sqlite import Sqlite
from made import START, id_at, line, log, record, usage

NOW = datetime.fromtimestamp(START + 1000, UTC)
type Make = Callable[[list[Record]], Store]


def wish(**words: str) -> Wish:
    return read(words, NOW)


def filled(index: Index) -> Index:
    """An index that has read everything; its thread is not needed for that."""
    while index.look():
        pass
    return index


def database(path: Path, records: list[Record]) -> Database:
    sink = Sqlite(path)
    for one in records:
        sink.write(one, line(one))
    sink.close()
    return Database(path)


@pytest.fixture(params=["jsonl", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Store] = []

    def of(records: list[Record]) -> Store:
        if request.param == "jsonl":
            made.append(filled(Index(log(tmp_path / "records.jsonl", records))))
        else:
            made.append(database(tmp_path / "records.sqlite", records))
        return made[-1]

    yield of
    for one in made:
        one.close()


def call(number: int, **facts: object) -> Record:
    return record(started=START + number, **facts)  # type: ignore[arg-type]


CALLS = [
    call(0, model="gpt-4o", client="ci", cost=Cost(0.5, "USD", "x"), usage=usage(input_tokens=9)),
    call(1, model="gpt-4o-mini", provider="azure", outcome="timeout", status=None),
    call(2, model="claude-haiku-4-5", provider="anthropic", status=429, outcome="upstream_error"),
    call(3, model="gpt-4o", cost=Cost(0.1, "USD", "x"), asked="the NEEDLE in a body"),
    call(4, model="gemini-2.5-flash", provider="gemini", usage=usage(input_tokens=5)),
]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        pytest.param({}, [4, 3, 2, 1, 0], id="the newest first"),
        pytest.param({"order": "up"}, [0, 1, 2, 3, 4], id="the oldest first"),
        pytest.param({"sort": "cost"}, [0, 3, 4, 2, 1], id="by cost, the unknown last"),
        pytest.param({"sort": "cost", "order": "up"}, [3, 0, 4, 2, 1], id="the cheapest first"),
        pytest.param({"sort": "in"}, [0, 4, 3, 2, 1], id="by tokens"),
        pytest.param({"model": "4o-MINI"}, [1], id="a part of the model"),
        pytest.param({"model": "claude-*-4-5"}, [2], id="a glob"),
        pytest.param({"provider": "azure"}, [1], id="provider"),
        pytest.param({"client": "ci"}, [0], id="client"),
        pytest.param({"status": "4xx"}, [2], id="statuses of a class"),
        pytest.param({"status": "429,200"}, [4, 3, 2, 0], id="several statuses"),
        pytest.param({"outcome": "failed"}, [2, 1], id="what failed"),
        pytest.param({"since": "998s", "until": "996s"}, [3, 2], id="a span of time"),
        pytest.param({"grep": "needle"}, [3], id="a text in a body, in any case"),
        pytest.param({"grep": "needle", "provider": "azure"}, [], id="text and filter together"),
    ],
)
def test_a_list_is_filtered_and_sorted(
    make: Make, words: dict[str, str], numbers: list[int]
) -> None:
    store = make(CALLS)
    page = store.page(wish(**words))
    assert [row.id for row in page.rows] == [CALLS[number].id for number in numbers]
    assert page.total == len(numbers)
    assert sorted(row.id for row in store.rows(wish(**words))) == sorted(r.id for r in page.rows)


def test_a_page_is_a_hundred_calls(make: Make) -> None:
    records = [call(number) for number in range(250)]
    store = make(records)
    pages = [store.page(wish(page=str(number))) for number in (1, 2, 3, 4)]
    assert [len(page.rows) for page in pages] == [100, 100, 50, 0]
    assert [page.more for page in pages] == [True, True, False, False]
    assert pages[1].rows[0].id == records[149].id
    found = store.page(wish(page="2", grep="gpt-4o"))
    assert (len(found.rows), found.more, found.total) == (100, True, None)


def test_a_record_is_found_whole_by_its_id(make: Make) -> None:
    store = make(CALLS)
    entry = store.find(CALLS[3].id)
    assert entry is not None
    assert entry.record()["request"]["body"] == "the NEEDLE in a body"
    assert store.find("0" * 28) is None
    assert store.find("' OR 1=1 --") is None


def asked(*texts: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_kin_are_of_the_same_kind_by_the_order_of_values_then_nearest_first(make: Make) -> None:
    records = [
        call(n, client="ci" if n % 2 else "me", asked=asked("a") if n < 6 else asked("a", "b"))
        for n in range(12)
    ]
    store = make(records)
    entry = store.find(records[4].id)
    assert entry is not None
    texts = [message.text for message in split(asked("a", "b"))[1]]
    one, both = hashes(texts)

    def found(name: Trait, values: list[int], *, later: bool) -> list[int]:
        ids = [one.row.id for one in store.kin(entry.row, name, values, later=later)]
        return [number for id_ in ids for number in range(12) if records[number].id == id_]

    assert found("opening_hash", [one], later=False) == [2, 0]
    assert found("opening_hash", [one], later=True) == [6, 8, 10]
    assert found("messages_hash", [both, one], later=True) == [6, 8, 10]
    assert found("messages_hash", [7, one, both], later=False) == [2, 0]
    assert found("response_id", [7], later=False) == []


def test_repetitions_are_found_by_the_call_that_they_repeat(make: Make) -> None:
    first = call(0)
    again = [call(n, replay_of=first.id) for n in range(1, 30)]
    store = make([first, *again, call(50, replay_of="another")])
    assert [row.id for row in store.repeats(first.id)] == [one.id for one in again[:-21:-1]]
    assert store.repeats(again[0].id) == []


def test_a_database_of_an_older_version_has_no_kin_and_no_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE records (id TEXT PRIMARY KEY, time TEXT, record TEXT)")
    row = of_record(CALLS[0])
    assert Database(path).repeats(row.id) == []
    assert list(Database(path).kin(row, "opening_hash", [1], later=False)) == []


@pytest.mark.parametrize("name", ["replay_of", *Lineage._fields])
def test_what_records_are_found_by_has_an_index(tmp_path: Path, name: str) -> None:
    database(tmp_path / "r.sqlite", CALLS)
    query = f"SELECT id FROM records WHERE {name} = ? AND (time, id) < (?, ?) AND +client IS ?"
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (1, "", "", "")).fetchall()
    assert f"USING INDEX records_by_{name}" in str(plan)


def test_what_is_written_later_is_news(make: Make, tmp_path: Path) -> None:
    store = make(CALLS[:2])
    _, cursor = store.since(None)
    assert store.since(cursor) == ([], cursor)
    if isinstance(store, Index):
        with (tmp_path / "records.jsonl").open("ab") as file:
            file.write(line(CALLS[2]) + line(CALLS[3])[:40])
        filled(store)
    else:
        database(tmp_path / "records.sqlite", [CALLS[2]])
    fresh, after = store.since(cursor)
    assert [entry.row.id for entry in fresh] == [CALLS[2].id]
    assert fresh[0].record()["id"] == CALLS[2].id
    assert store.since(after) == ([], after)
    assert store.state().count == 3


def test_names_to_filter_by_are_those_that_occur(make: Make) -> None:
    names = make(CALLS).names()
    assert names.provider == ["anthropic", "azure", "gemini", "openai"]
    assert names.client == ["ci", "default"]
    assert "gpt-4o" in names.model


def test_a_search_stops_in_time_and_says_where(make: Make) -> None:
    store = make(CALLS)
    entries = (store.find(one.id) for one in reversed(CALLS))
    ticks = iter(range(100))
    found = stores.searched(
        (entry for entry in entries if entry), wish(grep="nothing"), 2.5, lambda: next(ticks)
    )
    assert found.rows == []
    assert found.stopped == CALLS[2].time


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    index = filled(Index(tmp_path / "none" / "records.jsonl"))
    assert index.page(wish()).total == 0
    assert index.state().ready
    index.close()
    state = Database(tmp_path / "none.sqlite").state()
    assert state.fault is not None
    with pytest.raises(LedgerError):
        Database(tmp_path / "none.sqlite").page(wish())


# -- the index alone --------------------------------------------------------------------------


def test_the_newest_are_read_first_and_the_oldest_left_out(tmp_path: Path) -> None:
    records = [call(number) for number in range(30)]
    index = Index(log(tmp_path / "records.jsonl", records), most=10)
    filled(index)
    page = index.page(wish())
    assert [row.id for row in page.rows] == [one.id for one in reversed(records[20:])]
    assert index.state().left_out
    assert index.state().ready
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b"".join(line(call(number)) for number in range(30, 40)))
    filled(index)
    assert index.page(wish()).rows[0].id == id_at(START + 39)
    # What is read in several looks may stand a tenth above the most between two cuts.
    assert 10 <= index.page(wish()).total <= 11
    index.close()


def test_files_that_were_rotated_out_belong_to_the_log(tmp_path: Path) -> None:
    log(tmp_path / "records-20260921T141330Z.jsonl", CALLS[:2])
    path = log(tmp_path / "records.jsonl", CALLS[2:3])
    index = filled(Index(path))
    assert index.page(wish()).total == 3
    _, cursor = index.since(None)
    # Rotated while somebody looks: nothing is lost, nothing comes twice, what is new is news.
    path.rename(tmp_path / "records-20260921T141430Z.jsonl")
    log(path, CALLS[3:4])
    filled(index)
    assert [entry.row.id for entry in index.since(cursor)[0]] == [CALLS[3].id]
    assert index.page(wish()).total == 4
    entry = index.find(CALLS[2].id)
    assert entry is not None
    assert entry.record()["id"] == CALLS[2].id
    # Removed by retention: its records go with it.
    (tmp_path / "records-20260921T141330Z.jsonl").unlink()
    filled(index)
    assert index.page(wish()).total == 2
    assert index.find(CALLS[0].id) is None
    index.close()


def test_the_files_of_several_workers_are_one_log(tmp_path: Path) -> None:
    path = log(tmp_path / "records.jsonl", CALLS[::2])
    log(tmp_path / "records-w2.jsonl", CALLS[1:2])
    index = filled(Index(path))
    assert [row.id for row in index.page(wish()).rows] == [
        CALLS[number].id for number in (4, 2, 1, 0)
    ]
    _, cursor = index.since(None)
    log(tmp_path / "records-w3.jsonl", CALLS[3:4])
    filled(index)
    assert [entry.row.id for entry in index.since(cursor)[0]] == [CALLS[3].id]
    assert [row.id for row in index.page(wish()).rows] == [one.id for one in CALLS[::-1]]


def test_a_log_that_was_emptied_begins_anew(tmp_path: Path) -> None:
    path = log(tmp_path / "records.jsonl", CALLS)
    index = filled(Index(path))
    entry = index.find(CALLS[0].id)
    os.truncate(path, 0)
    filled(index)
    assert index.page(wish()).total == 0
    assert entry is not None
    assert entry.record() == {}
    index.close()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"id": "torn', id="a torn line"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b"[1]\n\n{}\n", id="no records"),
        pytest.param(b'{"id": 7, "time": []}\n', id="wrong types"),
    ],
)
def test_what_is_no_record_is_passed_over(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line(CALLS[0]) + bad.rstrip(b"\n") + b"\n" + line(CALLS[1]))
    index = filled(Index(path))
    assert index.page(wish()).total == 2
    index.close()


def test_the_thread_reads_by_itself_while_somebody_looks(tmp_path: Path) -> None:
    index = Index(log(tmp_path / "records.jsonl", CALLS))
    end = time.monotonic() + 10
    while not index.state().ready and time.monotonic() < end:
        time.sleep(0.01)
    assert index.page(wish()).total == 5
    index.close()
