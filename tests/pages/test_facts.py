"""What is known of a call: facts, usage, its times as a drawing, what was not kept."""

from typing import Any

import pytest
from llm_passthrough.pages import facts
from made import START, record, told

from pages import samples


@pytest.mark.parametrize(
    ("timing", "spans"),
    [
        pytest.param({}, [], id="nothing is known"),
        pytest.param({"total": 0}, [], id="it took no time"),
        pytest.param(
            {"total": 100, "first_byte": 40},
            [("waiting for the first byte", 0, 400), ("answer", 400, 600)],
            id="a plain answer",
        ),
        pytest.param(
            {"total": 100, "gateway": 10, "first_byte": 40, "first_token": 60},
            [
                ("gateway", 0, 100),
                ("waiting for the first byte", 100, 300),
                ("to the first token", 400, 200),
                ("tokens", 600, 400),
            ],
            id="a stream",
        ),
        pytest.param(
            {"total": 100, "gateway": 10, "connect": 5, "tls": 15, "first_byte": 40},
            [
                ("gateway", 0, 100),
                ("connecting", 100, 50),
                ("TLS", 150, 150),
                ("waiting for the first byte", 300, 100),
                ("answer", 400, 600),
            ],
            id="on a new connection",
        ),
        pytest.param(
            {"total": 100, "first_byte": 500, "first_token": 20},
            [
                ("waiting for the first byte", 0, 1000),
                ("to the first token", 1000, 0),
                ("tokens", 1000, 0),
            ],
            id="times that cannot be stay inside",
        ),
        pytest.param({"total": "long", "first_byte": None}, [], id="no numbers"),
    ],
)
def test_times_follow_one_another(timing: dict[str, Any], spans: list[Any]) -> None:
    found = facts.timeline({"timing_ms": timing})
    assert [(span.name, span.x, span.width) for span in found] == spans


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"capture": "usage"}, "capture usage", id="usage alone"),
        pytest.param({"capture": "none"}, "capture none", id="nothing"),
        pytest.param({}, "", id="everything was kept"),
        pytest.param({"capture": "none", "asked": b"", "status": None}, "", id="there was no body"),
    ],
)
def test_a_call_without_bodies_says_why(more: dict[str, Any], words: str) -> None:
    given = {"answered": {"model": "gpt-4o", "choices": []}} | more
    told_why = facts.kept(told(record(**given)))
    assert words in told_why
    assert bool(told_why) == bool(words)


def test_usage_is_told_in_the_usual_order_and_unknown_is_left_out() -> None:
    one = told(samples.session(START)[1])
    assert facts.usage(one) == [
        ("in", "3580"),
        ("from cache", "3160"),
        ("to cache", "380"),
        ("out", "100"),
        ("cost", "$0.005438"),
    ]
    assert facts.usage({}) == []
    assert facts.speed(one) == "56 tokens/s"
    assert facts.speed({"timing_ms": {"total": 5}}) == ""


def test_request_and_answer_are_shown_as_they_went() -> None:
    request, answer = facts.raw(told(samples.chat(START, "Hello?", "Hi.")))
    assert request[1].startswith("POST https://api.openai.com/v1/chat/completions\nContent-Type:")
    assert "Bearer [openai/team]" in request[1]
    assert '"Hello?"' in request[2]
    assert answer[1].startswith("200\n")
    bare = list(facts.raw(told(record(capture="usage"))))
    assert "not kept" in bare[0][1] + bare[0][2]


@pytest.mark.parametrize("value", [{}, {"request": 1, "usage": [], "cost": "x", "timing_ms": None}])
def test_nothing_raises(value: dict[str, Any]) -> None:
    for tell in (facts.facts, facts.usage, facts.error, facts.kept, facts.timeline, facts.speed):
        tell(value)
    list(facts.raw(value))
    assert facts.model(value) == "a call"
