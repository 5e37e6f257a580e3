"""Why a prompt cache was hit or missed, as a table: two prompts, what is said of the second."""

from dataclasses import replace

import pytest
from llm_passthrough.lineage import Message
from llm_passthrough.pages.cachewhy import report
from llm_passthrough.pages.difference import difference
from llm_passthrough.pages.prompt import Prompt, Tool

BEFORE = Prompt(
    id="1",
    provider="anthropic",
    model="claude-sonnet-4-5",
    key="team",
    tools=(Tool("read", "read 1"), Tool("run", "run 1")),
    system=("You are a coding agent.",),
    messages=(Message("user", "a"),),
    headers={"anthropic-beta": "x"},
    marks=2,
    ttl=300.0,
    began=1000.0,
    ended=1005.0,
    input_tokens=10_050,
    cache_read=0,
    cache_write=10_000,
)
NOW = replace(
    BEFORE,
    id="2",
    messages=(*BEFORE.messages, Message("assistant", "b"), Message("user", "c")),
    began=1030.0,
    ended=1033.0,
    input_tokens=10_500,
    cache_read=10_000,
    cache_write=450,
)
MISSED = replace(NOW, cache_read=0, cache_write=10_450)
OPENAI = replace(
    BEFORE, provider="openai", marks=0, ttl=None, headers={}, cache_write=None, input_tokens=4000
)


def said(now: Prompt, before: Prompt | None) -> tuple[str, list[str]]:
    changed = difference(before, now) if before else None
    found = report(now, before, changed)
    return found.verdict, [reason.what for reason in found.reasons]


@pytest.mark.parametrize(
    ("now", "before", "verdict", "reasons"),
    [
        pytest.param(NOW, BEFORE, "hit", [], id="all that was written is read"),
        pytest.param(replace(NOW, cache_read=None), BEFORE, "unknown", [], id="no count"),
        pytest.param(
            replace(MISSED, began=9000.0),
            BEFORE,
            "missed",
            ["too late"],
            id="more than five minutes later",
        ),
        pytest.param(
            replace(MISSED, began=2900.0),
            replace(BEFORE, ttl=3600.0),
            "missed",
            ["nothing that can be seen here changed"],
            id="within the hour that was asked for",
        ),
        pytest.param(
            replace(MISSED, began=5000.0),
            replace(BEFORE, ttl=3600.0),
            "missed",
            ["too late"],
            id="after the hour that was asked for",
        ),
        pytest.param(
            replace(MISSED, model="claude-opus-4-5"),
            BEFORE,
            "missed",
            ["another model"],
            id="model",
        ),
        pytest.param(replace(MISSED, key="other"), BEFORE, "missed", ["another key"], id="key"),
        pytest.param(
            replace(MISSED, headers={"anthropic-beta": "y"}),
            BEFORE,
            "missed",
            ["another header"],
            id="anthropic-beta",
        ),
        pytest.param(
            replace(MISSED, tools=(Tool("read", "read 2"), Tool("run", "run 1"))),
            BEFORE,
            "missed",
            ["other tools"],
            id="a tool is declared in another way",
        ),
        pytest.param(
            replace(MISSED, tools=BEFORE.tools[::-1]),
            BEFORE,
            "missed",
            ["the tools stand in another order"],
            id="order of the tools",
        ),
        pytest.param(
            replace(MISSED, tools=(Tool("read", '{"b": 1, "a": 2}'),)),
            replace(BEFORE, tools=(Tool("read", '{"a": 2, "b": 1}'),)),
            "missed",
            ["a tool is written in another order of its fields"],
            id="order of a tool's fields",
        ),
        pytest.param(
            replace(MISSED, system=("You are a coding agent. It is 10:31.",)),
            BEFORE,
            "missed",
            ["another system prompt"],
            id="a clock in the system prompt",
        ),
        pytest.param(
            replace(MISSED, messages=(Message("user", "A"), *NOW.messages[1:])),
            BEFORE,
            "missed",
            ["an earlier message is another one"],
            id="a message was rewritten",
        ),
        pytest.param(
            replace(MISSED, messages=()),
            BEFORE,
            "missed",
            ["messages were taken away at the end"],
            id="messages are gone",
        ),
        pytest.param(
            replace(MISSED, settings={"tool_choice": "any"}),
            BEFORE,
            "missed",
            ["other settings"],
            id="tool_choice",
        ),
        pytest.param(
            replace(MISSED, marks=0),
            BEFORE,
            "missed",
            ["nothing is marked for the cache"],
            id="marks",
        ),
        pytest.param(
            replace(MISSED, began=1002.0), BEFORE, "missed", ["at the same time"], id="two at once"
        ),
        pytest.param(
            MISSED, replace(BEFORE, ok=False), "missed", ["the call before failed"], id="failed"
        ),
        pytest.param(
            replace(NOW, cache_read=4000, system=("You are another agent.",)),
            BEFORE,
            "partly",
            ["another system prompt"],
            id="a part of it was there",
        ),
        pytest.param(
            replace(MISSED, model="m", system=("x",), began=9000.0),
            BEFORE,
            "missed",
            ["another model", "another system prompt", "too late"],
            id="several, the first of the prompt first",
        ),
        pytest.param(
            replace(OPENAI, messages=NOW.messages, cache_read=3968, began=1030.0),
            OPENAI,
            "hit",
            [],
            id="openai counts in steps, which is no miss",
        ),
        pytest.param(
            replace(OPENAI, messages=NOW.messages, cache_read=0, input_tokens=900, began=1030.0),
            replace(OPENAI, input_tokens=850),
            "missed",
            ["the call before was too short to be cached", "too short"],
            id="too short to be cached",
        ),
        pytest.param(
            replace(OPENAI, messages=NOW.messages, cache_read=0, input_tokens=1900, began=1030.0),
            replace(OPENAI, input_tokens=850),
            "missed",
            ["the call before was too short to be cached"],
            id="the one before was too short",
        ),
        pytest.param(
            MISSED,
            replace(BEFORE, cache_write=0),
            "missed",
            ["the call before cached nothing"],
            id="the one before left nothing",
        ),
        pytest.param(replace(NOW, cache_read=10_000), None, "hit", [], id="read from one unknown"),
        pytest.param(MISSED, None, "first", [], id="the first of all"),
        pytest.param(
            replace(MISSED, marks=0),
            None,
            "first",
            ["nothing is marked for the cache"],
            id="the first of all, and never to be cached",
        ),
    ],
)
def test_what_became_of_the_cache(
    now: Prompt, before: Prompt | None, verdict: str, reasons: list[str]
) -> None:
    assert said(now, before) == (verdict, reasons)


def test_the_place_where_a_system_prompt_parts_is_shown() -> None:
    now = replace(MISSED, system=("You are a coding agent! It is 10:31.",))
    (reason,) = report(now, BEFORE, difference(BEFORE, now)).reasons
    assert reason.detail == "from character 22 on"
    assert reason.change is not None
    assert (reason.change.before, reason.change.now) == (
        "You are a coding agent.",
        "You are a coding agent! It is 10:31.",
    )
