"""The ledger: the same answers from JSONL and SQLite, in bounded memory, through torn lines."""

import io
import json
import math
import os
import shutil
import sqlite3
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.columns import of_record
from llm_passthrough.ledger import Count, Ledger, LedgerError, Span, jsonl, open_ledger
from llm_passthrough.ledger import lines as lines_of
from llm_passthrough.ledger.entries import span_of_ids
from llm_passthrough.ledger.sums import Group
from llm_passthrough.record import Cost, Record, Usage, line
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.sqlite import Sqlite

T = made.START


def as_jsonl(folder: Path, records: list[Record], rotate: int = 1 << 30) -> Path:
    """Records written by the real sink, each at the moment when its exchange ended."""
    moment = [T]
    sink = Jsonl(folder / "records.jsonl", rotate, 1e9, clock=lambda: moment[0])
    for one in records:
        moment[0] += 60
        sink.write(one, line(one))
    sink.close()
    return folder / "records.jsonl"


def as_rotated(folder: Path, records: list[Record]) -> Path:
    return as_jsonl(folder, records, rotate=4096)


def as_sqlite(folder: Path, records: list[Record]) -> Path:
    sink = Sqlite(folder / "records.sqlite")
    for one in records:
        sink.write(one, line(one))
    sink.close()
    return folder / "records.sqlite"


WAYS = pytest.mark.parametrize("write", [as_jsonl, as_rotated, as_sqlite])
type Write = Callable[[Path, list[Record]], Path]


def ids(ledger: Ledger, span: Span | None = None, *, newest_first: bool = True) -> list[str]:
    return [
        entry.row.id for entry in ledger.read(span or Span(), Count(), newest_first=newest_first)
    ]


def a_minute_each(count: int, **changes: Any) -> list[Record]:
    return made.series([(f"{number:04d}", T + number * 60) for number in range(count)], **changes)


def hourly() -> list[Record]:
    """A month, with an id for each hour."""
    return made.series([(f"{n:04d}", T + n * 3600) for n in range(720)], answered="x" * 3000)


def talk(id_: str, started: float, turns: int, **ending: Any) -> list[Record]:
    """A WebSocket as it is recorded: each turn a minute after the one before, then itself."""
    usage = Usage(input_tokens=10, output_tokens=20)
    cost = Cost(0.5, "USD", "list")
    told = [
        made.record(
            made.id_at(started + 60 * n, f"{n:016x}"), started + 60 * n, usage=usage, cost=cost,
            status=101, part_of=id_, turn=n,
        )
        for n in range(1, turns + 1)
    ]  # fmt: skip
    own = {"status": 101, "turns": turns, "total": 60.0 * turns + 30} | ending
    return [*told, made.record(id_, started, **own)]


# -- one way ----------------------------------------------------------------------------------


@WAYS
def test_both_orders_and_the_whole_record(write: Write, tmp_path: Path) -> None:
    records = a_minute_each(40)
    ledger = open_ledger(write(tmp_path, records))
    assert ids(ledger, newest_first=False) == [one.id for one in records]
    assert ids(ledger) == [one.id for one in reversed(records)]
    for entry, one in zip(ledger.read(Span(), Count(), newest_first=False), records, strict=True):
        assert entry.text() == line(one).rstrip(b"\n")
        assert entry.record() == json.loads(line(one))
        assert entry.row.model == "gpt-4o"


@WAYS
@pytest.mark.parametrize(
    ("since", "until", "first", "last"),
    [
        pytest.param(T + 600, math.inf, 10, 39, id="since"),
        pytest.param(-math.inf, T + 600, 0, 9, id="until, which is not included"),
        pytest.param(T + 600, T + 601, 10, 10, id="one"),
        pytest.param(T + 600.5, T + 660, None, None, id="between two"),
        pytest.param(T - 99, T + 99_999, 0, 39, id="more than there is"),
        pytest.param(T + 99_999, math.inf, None, None, id="after all"),
        pytest.param(-math.inf, T - 99_999, None, None, id="before all"),
        pytest.param(1e300, math.inf, None, None, id="beyond what can be written"),
        pytest.param(-1e300, 1e300, 0, 39, id="from there to there"),
        pytest.param(-math.inf, -1e300, None, None, id="before what can be written"),
    ],
)
def test_a_span_of_time(
    since: float, until: float, first: int | None, last: int, write: Write, tmp_path: Path
) -> None:
    records = a_minute_each(40)
    ledger = open_ledger(write(tmp_path, records))
    expected = [one.id for one in records[first : last + 1]] if first is not None else []
    assert ids(ledger, Span(since, until), newest_first=False) == expected
    assert ids(ledger, Span(since, until)) == expected[::-1]


@WAYS
def test_newest_first_is_by_when_a_call_began_not_by_when_it_ended(
    write: Write, tmp_path: Path
) -> None:
    """A call of ten minutes is written long after those that began after it."""
    began_and_took = [(10, 5), (0, 60), (70, 1), (30, 90), (20, 700), (710, 20), (705, 30)]
    records = [
        made.record(f"{began:04d}", T + began, total=float(took))
        for began, took in sorted(began_and_took, key=lambda pair: sum(pair))
    ]
    ledger = open_ledger(write(tmp_path, records))
    assert ids(ledger) == ["0710", "0705", "0070", "0030", "0020", "0010", "0000"]


@WAYS
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        pytest.param(made.id_at(T + 60), 1, id="whole id"),
        pytest.param(made.id_at(T + 60)[:12], 1, id="its moment"),
        pytest.param(made.id_at(T + 60)[:3], 40, id="few digits"),
        pytest.param("by-hand", 1, id="an id that is not ours"),
        pytest.param("0" * 12, 0, id="a moment when there was nothing"),
        pytest.param("%", 0, id="no pattern"),
        pytest.param("ü", 0, id="no ASCII"),
    ],
)
def test_a_record_is_found_by_the_beginning_of_its_id(
    prefix: str, expected: int, write: Write, tmp_path: Path
) -> None:
    records = [made.record(started=T + number * 60) for number in range(40)]
    ledger = open_ledger(write(tmp_path, [*records, made.record("by-hand-1", T + 5000)]))
    found = [(entry.row.id, entry.record()["id"]) for entry in ledger.find(prefix, Count())]
    assert len(found) == expected
    assert all(one == other and one.startswith(prefix) for one, other in found)


@WAYS
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "still open"])
def test_the_turns_of_a_websocket_come_in_their_order(
    write: Write, closed: bool, tmp_path: Path
) -> None:
    one, other = made.id_at(T), made.id_at(T + 1)
    pairs = zip(talk(one, T, 3), talk(other, T + 1, 3), strict=True)
    records = [record for pair in pairs for record in pair]
    ledger = open_ledger(write(tmp_path, records if closed else records[:-2]))
    found = [(entry.row, entry.record()["turn"]) for entry in ledger.turns(one, Count())]
    assert [(row.part_of, row.turn) for row, _ in found] == [(one, n) for n in (1, 2, 3)]
    assert [turn for _, turn in found] == [1, 2, 3]
    assert list(ledger.turns("no such id", Count())) == []


def test_an_older_database_has_no_turns(tmp_path: Path) -> None:
    path = as_sqlite(tmp_path, a_minute_each(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX records_by_part_of")
        for name in ("part_of", "turn", "turns"):
            connection.execute(f"ALTER TABLE records DROP COLUMN {name}")
    ledger = open_ledger(path)
    assert list(ledger.turns("0000", Count())) == []
    assert ids(ledger) == ["0000"]


@pytest.mark.parametrize(
    ("ending", "calls", "errors"),
    [
        pytest.param({}, 3, 0, id="closed well: three calls"),
        pytest.param({"outcome": "upstream_abort"}, 4, 1, id="broken off: a call that failed"),
    ],
)
def test_sums_count_a_websocket_by_its_turns(
    ending: dict[str, Any], calls: int, errors: int
) -> None:
    late = Usage(input_tokens=1, output_tokens=2)
    group = Group()
    for one in talk(made.id_at(T), T, 3, usage=late, **ending):
        group.add(of_record(one))
    assert (group.calls, group.errors) == (calls, errors)
    assert (group.input_tokens, group.output_tokens) == (31, 62)
    assert group.cost == {"USD": 1.5}
    assert group.total.buckets.total() == 3


def test_an_id_says_when_to_look() -> None:
    span = span_of_ids(made.id_at(T))
    assert span is not None
    assert span.holds(T)
    assert span.until - span.since < 130
    assert span_of_ids("01a2") is None
    assert span_of_ids("not-hexadecimal") is None


# -- JSONL ------------------------------------------------------------------------------------

GOOD = line(made.record("good-1", T)), line(made.record("good-2", T + 60))


@pytest.mark.parametrize(
    ("bad", "skipped"),
    [
        pytest.param(GOOD[0][:200] + b"\n", 1, id="torn in the middle"),
        pytest.param(GOOD[0][:-2] + b"\n", 1, id="torn before its last brace"),
        pytest.param(b"\n\r\n\n", 0, id="empty lines are nothing"),
        pytest.param(b"null\n[]\n7\n", 3, id="JSON that is no record"),
        pytest.param(
            b'{"id": "x", "time": "yesterday", "timing_ms": {"total": 1}}\n', 1, id="time"
        ),
        pytest.param(b'{"id": "x", "time": "2026-09-21T14:13:20"}\n', 1, id="no offset, no total"),
        pytest.param(b"\xff\xfe\x00\x80\n", 1, id="no text"),
        pytest.param(b"[" * 100_000 + b"\n", 1, id="nested deeply"),
        pytest.param(b'{"a":' * 5000 + b"\n", 1, id="nested objects"),
        pytest.param(GOOD[0].replace(b'"total":1000.0', b'"total":NaN'), 0, id="no number"),
        pytest.param(GOOD[0].replace(b'"total":1000.0', b'"total":1e999'), 0, id="endless"),
        pytest.param(b"\x00" * 5000 + b"\n", 1, id="zeroes of a lost block"),
    ],
)
@pytest.mark.parametrize("newest_first", [False, True], ids=["forwards", "backwards"])
def test_what_is_no_record_is_passed_over_and_counted(
    bad: bytes, skipped: int, newest_first: bool, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(GOOD[0] + bad + GOOD[1])
    count = Count()
    found = [
        entry.row.id for entry in open_ledger(path).read(Span(), count, newest_first=newest_first)
    ]
    assert {"good-1", "good-2"} == set(found)
    assert count.skipped == skipped


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(GOOD[0] + GOOD[1][:-30])
    count = Count()
    assert [entry.row.id for entry in open_ledger(path).read(Span(), count)] == ["good-1"]
    assert count.skipped == 1


@pytest.mark.parametrize("newest_first", [False, True], ids=["forwards", "backwards"])
def test_a_line_that_never_ends_is_not_held(
    newest_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_of, "LONGEST", 1 << 20)
    path = tmp_path / "records.jsonl"
    with path.open("wb") as file:
        file.write(GOOD[0] + b'{"body":"')
        for _ in range(30):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + GOOD[1])
    count = Count()
    tracemalloc.start()
    found = {e.row.id for e in open_ledger(path).read(Span(), count, newest_first=newest_first)}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"good-1", "good-2"}
    assert count.skipped == 1
    assert peak < 6 << 20


def test_json_that_another_program_wrote_anew_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    values = [json.loads(one) for one in GOOD]
    path.write_text("".join(json.dumps(one, sort_keys=True) + "\n" for one in values))
    assert ids(open_ledger(path)) == ["good-2", "good-1"]
    assert ids(open_ledger(path), Span(T + 1)) == ["good-2"]
    assert [entry.row.id for entry in open_ledger(path).find("good-1", Count())] == ["good-1"]


def test_text_inside_of_a_body_is_never_taken_for_the_record_itself(tmp_path: Path) -> None:
    tricky = '"timing_ms":{"total":86400000000.0}, "timing_ms":{"total":1}'
    one = made.record("tricky", T, answered=tricky, session={"timing_ms": '{"total":5'})
    ended = lines_of.moments(line(one))
    assert ended == (T, T + 1)


def test_a_rotated_file_alone_a_log_or_a_folder(tmp_path: Path) -> None:
    records = a_minute_each(40)
    path = as_rotated(tmp_path, records)
    other = made.record("other", T + 605)
    made.log(tmp_path / "second.jsonl", [other])
    first = sorted(tmp_path.glob("records-*"))[0]
    assert 0 < len(ids(open_ledger(first))) < 10
    assert len(ids(open_ledger(path))) == 40
    everything = ids(open_ledger(tmp_path))
    assert len(everything) == 41
    assert everything.index("other") == everything.index("0010") - 1


def test_the_files_of_several_workers_are_one_log(tmp_path: Path) -> None:
    records = a_minute_each(40)
    path = as_jsonl(tmp_path, records[::2])
    second = Jsonl(tmp_path / "records-w2.jsonl", 4096, 1e9)
    for one in records[1::2]:
        second.write(one, line(one))
    second.close()
    expected = [one.id for one in records]
    for place in (path, tmp_path):
        assert ids(open_ledger(place), newest_first=False) == expected
        assert ids(open_ledger(place)) == expected[::-1]
    assert ids(open_ledger(path), Span(T + 600, T + 721)) == ["0012", "0011", "0010"]
    alone = open_ledger(tmp_path / "records-w2.jsonl")
    assert ids(alone, newest_first=False) == expected[1::2]
    path.unlink()
    assert set(ids(open_ledger(path))) >= set(expected[1::2])


def test_a_log_whose_last_file_is_gone_still_has_the_rotated_ones(tmp_path: Path) -> None:
    path = as_rotated(tmp_path, a_minute_each(40))
    path.unlink()
    assert len(ids(open_ledger(path))) > 30


def test_what_is_rotated_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    path = as_jsonl(tmp_path, a_minute_each(40))
    reading = open_ledger(path).read(Span(), Count(), newest_first=True)
    found = [next(reading).row.id]
    path.rename(tmp_path / "records-20260921T200000Z.jsonl")
    made.log(path, [made.record("later", T + 99_999)])
    found += [entry.row.id for entry in reading]
    assert found == [f"{number:04d}" for number in reversed(range(40))]


def test_a_file_that_retention_removes_meanwhile_is_no_fault(tmp_path: Path) -> None:
    path = as_rotated(tmp_path, a_minute_each(40))
    reading = open_ledger(path).read(Span(), Count())
    first = next(reading).row.id
    for file in tmp_path.glob("records-*"):
        file.unlink()
    left = [entry.row.id for entry in reading]
    assert first == "0039"
    assert len(left) < 39


@pytest.mark.parametrize("newest_first", [False, True], ids=["forwards", "backwards"])
def test_a_span_is_sought_not_read(newest_first: bool, tmp_path: Path) -> None:
    """Of a log of a month, an hour costs the hour and the day behind it, at most."""
    path = as_jsonl(tmp_path, hourly())
    touched = Count()
    read = lines_of.forwards if not newest_first else lines_of.backwards
    with path.open("rb") as file:
        size = path.stat().st_size
        start, end = lines_of.bounds(file, size, T + 300 * 3600, T + 301 * 3600)
        touched.done = sum(len(text or b"") for _, text in read(file, start, end))
    assert touched.done < size / 8
    span = Span(T + 300 * 3600, T + 302 * 3600)
    assert ids(open_ledger(path), span, newest_first=newest_first) in (
        ["0300", "0301"],
        ["0301", "0300"],
    )


@pytest.mark.parametrize("wrong_by", [-40 * 86_400, 40 * 86_400], ids=["back", "ahead"])
def test_one_wrong_clock_hides_no_record_beside_it(wrong_by: float, tmp_path: Path) -> None:
    strange = [("wrong", T + number * 3600 + wrong_by) for number in range(0, 720, 7)]
    records = hourly()
    records[::7] = made.series(strange, answered="x" * 3000)
    path = as_jsonl(tmp_path, records)
    for number in (1, 100, 355, 400, 719):
        if number % 7:
            found = ids(open_ledger(path), Span(T + number * 3600, T + number * 3600 + 1))
            assert f"{number:04d}" in found


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        with (folder / "records.jsonl").open("wb") as file:
            moments = [(made.id_at(T + number), T + number) for number in range(count)]
            file.writelines(map(line, made.series(moments, answered="x" * 20_000)))
        ledger = open_ledger(folder)
        tracemalloc.start()
        for newest_first in (False, True):
            read = ledger.read(Span(), Count(), newest_first=newest_first)
            assert sum(1 for _ in read) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        shutil.rmtree(folder)
        return most

    small, large = peak(50), peak(300)  # 1 MB and 6 MB
    assert large < small + (1 << 20)
    assert large < 4 << 20


def test_a_thousand_calls_at_once_are_not_all_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_MOST_HELD", 1 << 20)
    records = made.series([(f"{n:04d}", T) for n in range(1000)], answered="x" * 8_000)
    ledger = open_ledger(made.log(tmp_path / "records.jsonl", records))
    del records
    tracemalloc.start()
    assert sum(1 for _ in ledger.read(Span(), Count())) == 1000
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()


@given(
    calls=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3000)), max_size=25),
    since=st.integers(-10, 5100),
    length=st.integers(0, 5100),
)
def test_jsonl_gives_what_sorting_everything_would(
    calls: list[tuple[int, int]], since: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    records = [
        made.record(f"{number}", T + began, total=float(took))
        for number, (began, took) in enumerate(sorted(calls, key=sum))
    ]
    ledger = open_ledger(made.log(folder / "records.jsonl", records))
    span = Span(T + since, T + since + length)
    expected = sorted((one.time for one in records), reverse=True)
    assert [e.row.time for e in ledger.read(Span(), Count())] == expected
    inside = {one.id for one in records if span.holds(lines_of.epoch(one.time) or 0)}
    assert set(ids(ledger, span)) == inside
    shutil.rmtree(folder)


@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n", b"d" * 70, b"\xff"]), max_size=60)
)
def test_backwards_is_forwards_reversed(data: list[bytes]) -> None:
    whole = b"".join(data)
    ahead = [pair for pair in lines_of.forwards(io.BytesIO(whole), 0, len(whole)) if pair[1]]
    back = [pair for pair in lines_of.backwards(io.BytesIO(whole), 0, len(whole)) if pair[1]]
    assert back == ahead[::-1]


# -- follow -----------------------------------------------------------------------------------


class Steps:
    """What happens between the looks of a follower, one step each; then it ends."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)

    def __call__(self) -> bool:
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


def append(path: Path, data: bytes) -> Callable[[], object]:
    def step() -> None:
        with path.open("ab") as file:
            file.write(data)

    return step


def followed(path: Path, *steps: Callable[[], object], last: int = 10) -> list[str]:
    ledger = open_ledger(path, must_exist=False)
    return [entry.row.id for entry in ledger.follow(last, Steps(*steps))]


def test_follow_begins_with_the_last_ones_and_goes_on(tmp_path: Path) -> None:
    path = made.log(tmp_path / "records.jsonl", a_minute_each(5))
    new = append(path, line(made.record("new", T + 999)))
    assert followed(path, new, last=2) == ["0003", "0004", "new"]
    assert followed(path, last=0) == []


def test_follow_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    text = line(made.record("slow", T))
    steps = (append(path, text[:100]), append(path, text[100:-1]), append(path, b"\n"))
    path.touch()
    assert followed(path, *steps) == ["slow"]
    ended = [True]
    assert followed(path, lambda: ended.clear(), append(path, text[:50])) == ["slow"]


def test_follow_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert followed(path, append(path, GOOD[0]), append(path, GOOD[1])) == ["good-1", "good-2"]


def test_follow_goes_through_rotations_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    moment = [T]
    sink = Jsonl(path, 4096, 1e9, clock=lambda: moment[0])
    records = a_minute_each(60)
    waiting = iter(records)

    def write(count: int) -> Callable[[], object]:
        def step() -> None:
            for _ in range(count):
                moment[0] += 1
                one = next(waiting)
                sink.write(one, line(one))

        return step

    found = followed(path, write(1), write(2), write(10), write(30), write(0), write(17))
    sink.close()
    assert len(list(tmp_path.glob("records-*.jsonl"))) > 5
    assert found == [one.id for one in records]


def test_follow_begins_anew_when_a_file_is_cut_or_removed(tmp_path: Path) -> None:
    path = made.log(tmp_path / "records.jsonl", a_minute_each(3))
    steps = (
        lambda: os.truncate(path, 0),
        append(path, GOOD[0]),
        path.unlink,
        append(path, GOOD[1]),
    )
    assert followed(path, *steps, last=0) == ["good-1", "good-2"]


def test_follow_passes_over_what_is_no_record(tmp_path: Path) -> None:
    path = made.log(tmp_path / "records.jsonl", [])
    assert followed(path, append(path, b"torn{\n\n"), append(path, GOOD[0])) == ["good-1"]


def test_follow_sees_each_log_of_a_folder(tmp_path: Path) -> None:
    one = made.log(tmp_path / "one.jsonl", [made.record("a", T)])
    two = tmp_path / "two.jsonl"
    steps = (append(two, GOOD[0]), append(one, GOOD[1]))
    assert followed(tmp_path, *steps) == ["a", "good-1", "good-2"]


def test_follow_sees_what_all_workers_write_in_the_order_of_time(tmp_path: Path) -> None:
    path = made.log(tmp_path / "records.jsonl", [made.record("a", T)])
    second = tmp_path / "records-w2.jsonl"

    def both() -> None:
        append(path, line(made.record("d", T + 9)))()
        for name, moment in (("b", 5), ("c", 7), ("e", 11)):
            append(second, line(made.record(name, T + moment)))()

    assert followed(path, both) == ["a", "b", "c", "d", "e"]


def test_follow_on_sqlite(tmp_path: Path) -> None:
    path = as_sqlite(tmp_path, a_minute_each(5))

    def more(id_: str) -> Callable[[], object]:
        return lambda: as_sqlite(tmp_path, [made.record(id_, T + 999)])

    def emptied() -> None:
        sink = Sqlite(path)
        sink.prune(0, None, T + 9999)
        assert sink.flush()
        sink.close()

    steps = (more("new"), lambda: None, more("newer"), emptied, lambda: None, more("again"))
    assert followed(path, *steps, last=2) == ["0003", "0004", "new", "newer", "again"]


def test_follow_waits_for_a_database(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    step = lambda: as_sqlite(tmp_path, [made.record("first", T)])  # noqa: E731
    assert followed(path, step) == ["first"]


# -- SQLite -----------------------------------------------------------------------------------


def test_sqlite_is_read_page_by_page_while_it_is_written_and_pruned(tmp_path: Path) -> None:
    path = as_sqlite(tmp_path, made.series([(f"{n:04d}", T + n) for n in range(1200)]))
    reading = open_ledger(path).read(Span(), Count(), newest_first=False)
    found = [next(reading).row.id for _ in range(10)]
    as_sqlite(tmp_path, [made.record("9999", T + 9999)])
    found += [entry.row.id for entry in reading]
    assert found == [*(f"{n:04d}" for n in range(1200)), "9999"]


def test_sqlite_is_read_where_nothing_may_be_written(tmp_path: Path) -> None:
    """A copy without its -wal and -shm, in a folder that is not ours to write to."""
    path = as_sqlite(tmp_path, a_minute_each(3))
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert len(ids(open_ledger(path))) == 3
    finally:
        tmp_path.chmod(0o700)


def test_reading_leaves_the_gateways_lock_alone(tmp_path: Path) -> None:
    path = as_sqlite(tmp_path, a_minute_each(1000))
    sink = Sqlite(path, patience=0.05)
    reading = open_ledger(path).read(Span(), Count())
    next(reading)
    one = made.record("meanwhile", T + 99_999)
    sink.write(one, line(one))
    assert sink.flush()
    sink.close()


# -- what is no log ---------------------------------------------------------------------------


def _other_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()


def _damaged(path: Path) -> None:
    as_sqlite(path.parent, a_minute_each(300)).rename(path)
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(
            lambda path: None, "no records here yet; name a file with --file", id="nothing"
        ),
        pytest.param(lambda path: path.mkdir(), "no records in this folder", id="an empty folder"),
        pytest.param(lambda path: os.mkfifo(path), "is neither a file nor a folder", id="a pipe"),
        pytest.param(_other_table, "has no table `records`", id="another database"),
        pytest.param(_damaged, "cannot be read: ", id="a damaged database"),
    ],
)
def test_what_is_no_log_is_told(
    prepare: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    prepare(path)
    with pytest.raises(LedgerError, match=words):
        ids(open_ledger(path))


def test_a_folder_with_one_database_is_that_database(tmp_path: Path) -> None:
    as_sqlite(tmp_path, a_minute_each(2))
    assert len(ids(open_ledger(tmp_path))) == 2
    shutil.copy(tmp_path / "records.sqlite", tmp_path / "copy.sqlite")
    with pytest.raises(LedgerError, match=r"several databases \(copy.sqlite, records.sqlite\)"):
        open_ledger(tmp_path)


def test_an_empty_file_is_a_log_without_records(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").touch()
    assert ids(open_ledger(tmp_path / "records.jsonl")) == []


def test_a_reader_and_a_writer_at_once(tmp_path: Path) -> None:
    """Whatever is caught in the middle: each record comes once, in order, none is torn."""
    path = tmp_path / "records.jsonl"
    sink = Jsonl(path, 30_000, 1e9)
    records = made.series([(f"{n:04d}", T + n) for n in range(300)])

    def write() -> None:
        for one in records:
            sink.write(one, line(one))

    thread = threading.Thread(target=write)
    ledger = open_ledger(path)
    thread.start()
    while thread.is_alive():
        count = Count()
        found = [e.row.id for e in ledger.read(Span(), count, newest_first=False)]
        assert found == [one.id for one in records[: len(found)]]
    thread.join()
    sink.close()
    assert len(ids(ledger)) == 300
