"""What calls used: told by each record, and read back from the records after a start."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.allowance import Memory, PastError, Spent, day_of, month_of
from llm_passthrough.columns import of_record
from llm_passthrough.config import Log
from llm_passthrough.record import Cost, Fault, Record, Usage, line
from llm_passthrough.sinks.sqlite import Sqlite
from llm_passthrough.spent import Meter, before, of_row
from made import id_at, log, record

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
USAGE = Usage(input_tokens=100, output_tokens=20)


def call(
    started: float = NOON, amount: float | None = 0.5, client: str = "alice", **facts: object
) -> Record:
    cost = None if amount is None else Cost(amount, "USD", "config")
    usage = None if amount is None else USAGE
    given = {"id": id_at(started, f"{hash((started, client)) % 16**16:016x}")} | facts
    return record(started=started, client=client, cost=cost, usage=usage, **given)  # type: ignore[arg-type]


def spent(made: Record) -> Spent:
    return of_row(of_record(made), made.request.method)


def talk(**more: Any) -> Record:
    """A WebSocket's own record."""
    return call(amount=None, path=b"/v1/realtime", method="GET", status=101, **more)


def turn(usage: Usage | None = None, cost: Cost | None = None, **more: Any) -> Record:
    """The record of one of its turns."""
    first = more.pop("first_token", None)
    made = talk(turn=1, part_of="0" * 28, **more)
    made.timing_ms.first_token = first
    return replace(made, usage=usage, cost=cost)


FREE = Spent(1)
UNPRICED = Spent(1, 0, 0.0, 1)


@pytest.mark.parametrize(
    ("made", "used"),
    [
        pytest.param(call(), Spent(1, 120, 0.5), id="a call"),
        pytest.param(call(amount=None), UNPRICED, id="nobody knows its price"),
        pytest.param(
            replace(call(), cost=Cost(1.0, "EUR", "x")), Spent(1, 120, 0.0, 1), id="other money"
        ),
        pytest.param(call(amount=None, outcome="client_abort"), UNPRICED, id="the client left"),
        pytest.param(call(amount=None, outcome="timeout"), UNPRICED, id="it took too long"),
        pytest.param(call(amount=None, status=429), FREE, id="the provider refused"),
        pytest.param(
            call(amount=None, status=None, outcome="upstream_error"), FREE, id="no answer"
        ),
        pytest.param(
            call(amount=None, status=403, outcome="refused", fault=Fault("x", "x", "gateway")),
            FREE,
            id="we refused",
        ),
        pytest.param(call(amount=None, path=b"/v1/files"), FREE, id="a file"),
        pytest.param(call(amount=None, path=b"/v1/models", method="GET"), FREE, id="a list"),
        pytest.param(call(amount=None, path=b"/v1/responses/1", method="GET"), FREE, id="fetched"),
        pytest.param(
            call(amount=None, path=b"/v1/realtime", method="GET", status=101), UNPRICED, id="talk"
        ),
        pytest.param(turn(usage=USAGE), Spent(1, 120, 0.0, 1), id="a turn of a talk"),
        pytest.param(
            turn(cost=Cost(0.5, "USD", "x")), Spent(1, 0, 0.5), id="a turn with its price"
        ),
        pytest.param(turn(outcome="upstream_error"), FREE, id="a turn that failed at once"),
        pytest.param(
            turn(outcome="upstream_error", first_token=1.0), UNPRICED, id="a turn that failed later"
        ),
        pytest.param(talk(turns=0), UNPRICED, id="a talk without turns"),
        pytest.param(talk(turns=2), Spent(0), id="a talk that its turns told"),
        pytest.param(
            talk(turns=2, outcome="client_abort"), Spent(0, 0, 0.0, 1), id="left in an answer"
        ),
        pytest.param(call(amount=None, provider=None), FREE, id="another host"),
    ],
)
def test_what_a_call_used_is_in_its_record(made: Record, used: Spent) -> None:
    assert spent(made) == used


def test_each_record_is_told_to_the_allowance() -> None:
    kept = Memory()
    meter = Meter(kept)
    for made in (call(), call(client="bob"), call(amount=None)):
        meter.write(made, b"")
    meter.close()
    assert kept.used("alice").month == Spent(2, 120, 0.5, 1)
    assert kept.used("bob").day == Spent(1, 120, 0.5)


RECORDS = [
    call(NOON - 40 * DAY),  # another month
    call(NOON - 20 * DAY),
    call(NOON - 13 * 3600),  # yesterday
    call(NOON - 11 * 3600),
    call(NOON - 3600, None),
    call(NOON - 60, None, method="GET", path=b"/v1/responses/1"),
    call(NOON - 10, client="bob"),
    call(NOON + 1),  # by this process
]
TODAY = {"alice": Spent(3, 120, 0.5, 1), "bob": Spent(1, 120, 0.5)}
MONTH = {"alice": Spent(5, 360, 1.5, 1), "bob": Spent(1, 120, 0.5)}


def database(path: Path, records: list[Record]) -> None:
    sink = Sqlite(path)
    for made in records:
        sink.write(made, line(made))
    sink.close()


@pytest.mark.parametrize(
    ("in_jsonl", "in_sqlite"),
    [
        pytest.param(RECORDS, None, id="the file"),
        pytest.param([], RECORDS, id="the database"),
        pytest.param(RECORDS, RECORDS[-2:], id="the file, as the database is younger"),
    ],
)
def test_the_sums_of_this_day_and_month_are_read_back(
    tmp_path: Path, in_jsonl: list[Record], in_sqlite: list[Record] | None
) -> None:
    log(tmp_path / "records.jsonl", in_jsonl)
    settings = Log(path=str(tmp_path / "records.jsonl"))
    if in_sqlite is not None:
        database(tmp_path / "records.sqlite", in_sqlite)
        settings = settings.model_copy(update={"sqlite": str(tmp_path / "records.sqlite")})
    past = before(settings, NOON)
    assert (past.day, past.month) == (day_of(NOON), month_of(NOON))
    assert (past.days, past.months) == (TODAY, MONTH)


def test_without_any_record_nothing_was_spent(tmp_path: Path) -> None:
    assert before(Log(path=str(tmp_path / "none.jsonl")), NOON).months == {}


def test_a_database_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    log(tmp_path / "records.jsonl", RECORDS)
    (tmp_path / "records.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    settings = Log(path=str(tmp_path / "records.jsonl"), sqlite=str(tmp_path / "records.sqlite"))
    assert before(settings, NOON).days == TODAY


def test_records_that_cannot_be_read_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "records.jsonl").mkdir()
    (tmp_path / "records.jsonl" / "a.sqlite").write_bytes(b"")
    (tmp_path / "records.jsonl" / "b.sqlite").write_bytes(b"")
    with pytest.raises(PastError):
        before(Log(path=str(tmp_path / "records.jsonl")), NOON)
    assert "cannot be read" in caplog.text
