"""The summary of a command's calls: what it called, by provider and model, on one screen."""

import json
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.cli import summary
from llm_passthrough.columns import Row
from llm_passthrough.record import Cost, Usage, line
from made import START, record
from rich.console import Console


def shown(rows: list[Row]) -> list[list[str]]:
    console = Console(width=120, file=None)
    with console.capture() as capture:
        console.print(summary.table(rows))
    return [text.split() for text in capture.get().splitlines()]


def row(model: str = "m", provider: str = "openai", **more: Any) -> Row:
    given = {"outcome": "ok", "model_requested": model} | more
    return Row("id", "2026-09-21T14:13:20.000Z", provider=provider, **given)


def test_calls_are_summed_by_provider_and_model_the_most_expensive_first() -> None:
    rows = [
        row("small", input_tokens=10, output_tokens=1, cost=0.01, currency="USD"),
        row("large", input_tokens=20, output_tokens=2, cost=3.0, currency="USD"),
        row("large", outcome="upstream_error"),
        row("large", provider="azure", outcome="ok"),
    ]
    assert shown(rows) == [
        ["provider", "model", "calls", "errors", "in", "out", "cost"],
        ["openai", "large", "2", "1", "20", "2", "$3.00", "(1/2)"],
        ["openai", "small", "1", "0", "10", "1", "$0.0100"],
        ["azure", "large", "1", "0", "-", "-", "-"],
        ["all", "4", "1", "30", "3", "$3.01", "(2/4)"],
    ]


def test_one_kind_of_call_has_no_line_for_all() -> None:
    assert len(shown([row(), row()])) == 2


@pytest.mark.parametrize(
    ("row", "shown_as"),
    [
        pytest.param(Row("id", "t"), ["-", "-"], id="refused"),
        pytest.param(
            Row("id", "t", provider="p", operation="models"), ["p", "models"], id="a list"
        ),
        pytest.param(Row("id", "t", route="host:a.test"), ["a.test", "-"], id="a tunnel"),
    ],
)
def test_a_call_without_a_model_is_named_by_what_it_has(row: Row, shown_as: list[str]) -> None:
    assert shown([row])[1][:3] == [*shown_as, "1"]


def test_it_fits_on_a_screen_however_much_was_called() -> None:
    rows = [row(f"model-{number}", cost=float(number)) for number in range(40)]
    lines = shown(rows)
    assert len(lines) == 1 + 12 + 1
    assert lines[-2] == ["...", "29", "more", "29", "0", "-", "-", "$406.00"]
    assert lines[-1][:2] == ["all", "40"]


def test_nothing_from_outside_reaches_the_terminal_raw() -> None:
    console = Console(width=120, force_terminal=True)
    with console.capture() as capture:
        console.print(summary.table([row("evil\x1b]0;title\x07", provider="p\x9b31m")]))
    assert "\x1b]" not in capture.get()
    assert "\x9b" not in capture.get()


# -- records --------------------------------------------------------------------------------------


def test_only_calls_since_the_command_began_are_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    usage = Usage(input_tokens=5, output_tokens=7)
    made = [
        record(started=START + seconds, usage=usage, cost=Cost(0.5, "USD", "list"), model="m")
        for seconds in (-10, -0.5, 0, 3.25)
    ]
    path.write_bytes(b"".join(line(one) for one in made))
    rows = summary.rows_since(path, START)
    assert len(rows) == 2
    assert {(row.input_tokens, row.output_tokens, row.cost) for row in rows} == {(5, 7, 0.5)}


def test_a_log_that_is_not_there_has_no_calls(tmp_path: Path) -> None:
    assert summary.rows_since(tmp_path / "records.jsonl", START) == []


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"torn {\n" + line(record(started=START)) + json.dumps({"a": 1}).encode())
    assert len(summary.rows_since(path, START)) == 1


def test_it_is_printed_on_stderr_and_only_when_there_is_something(
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary.show([], "heading")
    assert capsys.readouterr() == ("", "")
    summary.show([row()], "heading")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "heading"
