"""Sums over time for the dashboard, and their plots."""

from collections.abc import Iterator

import pytest
from llm_passthrough.columns import Row, of_record
from llm_passthrough.ledger import Span
from llm_passthrough.pages import charts
from llm_passthrough.pages.series import REST, series
from made import START, record, usage

from pages import samples

NOW = START + 3600


def rows(count: int, **facts: object) -> Iterator[Row]:
    for number in range(count):
        yield of_record(record(started=START + 60 * number, **facts))  # type: ignore[arg-type]


def test_calls_fall_into_pieces_of_time() -> None:
    found = series(rows(30, usage=usage(input_tokens=10)), "model", Span(START, NOW), NOW)
    assert found.step == 300
    assert sum(group.calls for group in found.by_piece) == 30
    assert max(group.calls for group in found.by_piece) == 5
    assert found.all.input_tokens == 300
    assert len(found.labels()) == len(found.starts) <= 51


@pytest.mark.parametrize(
    ("span", "step"),
    [
        pytest.param(3600.0, 300, id="an hour"),
        pytest.param(86_400.0, 1800, id="a day"),
        pytest.param(7 * 86_400.0, 6 * 3600, id="a week"),
        pytest.param(40 * 86_400.0, 86_400, id="a month"),
        pytest.param(50 * 365 * 86_400.0, 30 * 86_400, id="longer than there are pieces for"),
    ],
)
def test_pieces_are_as_long_as_the_time_asks_for(span: float, step: int) -> None:
    ends = [of_record(record(started=moment)) for moment in (NOW - span + 60, NOW - 60)]
    found = series(ends, "provider", Span(NOW - span, NOW), NOW)
    assert found.step == step
    assert len(found.starts) <= 501
    assert sum(group.calls for group in found.by_piece) == 2


def test_of_many_names_the_rest_is_one() -> None:
    many = [of_record(record(started=START + n, client=f"c{n % 20}")) for n in range(100)]
    found = series(many, "client", Span(), NOW)
    assert len(found.names) == 8
    assert found.names[-1] == REST
    assert found.all.calls == 100


def test_outcomes_that_are_not_ok_are_counted_by_piece() -> None:
    found = series(rows(3, outcome="timeout"), "model", Span(START, NOW), NOW)
    assert {name: sum(counts) for name, counts in found.failed.items()} == {"timeout": 3}


def test_nothing_is_no_reason_to_fail() -> None:
    found = series((), "model", Span(), NOW)
    assert (found.all.calls, found.names) == (0, [])
    for name in charts.CHARTS:
        assert b"nothing in this time" in charts.svg(name, found, dark=True)


@pytest.mark.parametrize("name", charts.CHARTS)
def test_a_plot_is_a_picture_and_nothing_else(name: str) -> None:
    records = [*samples.session(NOW - 900), samples.hostile(NOW - 60)]
    found = series(map(of_record, records), "model", Span(NOW - 3600, NOW), NOW)
    drawn = charts.svg(name, found, dark=False)
    assert b"<svg" in drawn[:200]
    for bad in (b"<script", b"href", b"@import", b"onload", b"xml-stylesheet"):
        assert bad not in drawn.replace(b"&lt;script", b"").replace(b"xlink", b"")
