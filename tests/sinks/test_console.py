"""The console: one line a call, and nothing from outside that a terminal would obey."""

import io
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from llm_passthrough.record import Body, Facts, Fault, Record
from llm_passthrough.recorder import build
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.console import ConsoleSink, plain, row
from rich.console import Console


def record(**changes: Any) -> Record:
    ordinary = Facts(
        id="1",
        started=1_700_000_000.0,
        method="POST",
        client_path=b"/openai_passthrough/v1/chat/completions",
        provider="openai",
        path=b"/v1/chat/completions",
        request=Body(b'{"model":"gpt-4o"}', 18),
        status=200,
        response=Body(b"x" * 10, 1_500_000, "0" * 64),
        total=1.2345,
    )
    return build(replace(ordinary, **changes), Redactor([]))


def printed(told: Record) -> str:
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, force_terminal=True, width=60, color_system="standard"))
    sink.write(told, b"")
    sink.close()
    return out.getvalue()


def test_a_call_is_one_line() -> None:
    time = datetime.fromtimestamp(1_700_000_000).strftime("%H:%M:%S")
    assert row(record()).plain == (
        f"{time} default    openai     gpt-4o                           200 "
        " 1234 ms     18 B up   1.5 MB down"
    )


def test_a_line_is_not_broken_where_the_terminal_ends() -> None:
    assert printed(record()).count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({}, "gpt-4o", id="the model"),
        pytest.param({"request": Body()}, "chat", id="without a model the operation"),
        pytest.param(
            {"request": Body(), "path": b"/v1/x"},
            "/openai_passthrough/v1/chat/comp",
            id="without an operation the path",
        ),
    ],
)
def test_it_says_what_was_asked_for(changes: dict[str, Any], what: str) -> None:
    assert f" {what}" in row(record(**changes)).plain


@pytest.mark.parametrize(
    ("changes", "shown", "colour"),
    [
        pytest.param({}, " 200 ", "green", id="ok"),
        pytest.param(
            {
                "status": 404,
                "provider": None,
                "outcome": "refused",
                "fault": Fault("no_route", "no route for this path", "gateway"),
            },
            "  refused: no route for this path",
            "yellow",
            id="refused",
        ),
        pytest.param(
            {"status": None, "outcome": "client_abort"}, "  client_abort", "yellow", id="left"
        ),
        pytest.param(
            {"status": 500, "outcome": "upstream_error"}, "  upstream_error", "red", id="failed"
        ),
    ],
)
def test_it_says_how_it_went(changes: dict[str, Any], shown: str, colour: str) -> None:
    text = row(record(**changes))
    assert shown in text.plain
    assert colour in {str(span.style) for span in text.spans}


def test_without_an_answer_there_is_no_status() -> None:
    assert " --- " in row(record(status=None, response=Body())).plain


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        pytest.param(0.0004, "0 ms", id="nothing"),
        pytest.param(9.999, "9999 ms", id="milliseconds"),
        pytest.param(10.04, "10.0 s", id="seconds"),
        pytest.param(3600.0, "3600.0 s", id="an hour"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert f" {shown} " in row(record(total=seconds)).plain


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(999, "999 B", id="bytes"),
        pytest.param(1000, "1.0 kB", id="kilobytes"),
        pytest.param(2_500_000, "2.5 MB", id="megabytes"),
        pytest.param(12_000_000_000, "12.0 GB", id="gigabytes"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert row(record(response=Body(b"", size))).plain.endswith(f" {shown} down")


EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x00\u202e[bold]x"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"path": b"/v1/models/" + EVIL.encode()}, id="the model"),
        pytest.param(
            {"request": Body(), "path": b"/v1/x", "client_path": EVIL.encode()}, id="the path"
        ),
        pytest.param({"client": EVIL}, id="the client"),
        pytest.param({"outcome": "error", "fault": Fault("x", EVIL, "upstream")}, id="the error"),
    ],
)
def test_nothing_from_outside_reaches_the_terminal_raw(changes: dict[str, Any]) -> None:
    told = record(**changes)
    assert row(told).plain.isprintable()
    shown = printed(told)
    assert "[bold]x" in shown, "it is no markup"
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown
    assert "\u202e" not in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("gpt-4o", "gpt-4o", id="plain"),
        pytest.param("grüß 🙂", "grüß 🙂", id="letters of the world"),
        pytest.param("a\tb", "a?b", id="a tab"),
        pytest.param("x" * 60, "x" * 60, id="as long as it may be"),
        pytest.param("x" * 61, "x" * 59 + "…", id="longer"),
        pytest.param("\x1b" * 10_000, "?" * 59 + "…", id="endless"),
    ],
)
def test_text_from_outside_is_made_plain_and_short(text: str, shown: str) -> None:
    assert plain(text) == shown
