"""A request as a cache sees it: tools, system and messages of every format, without the marks."""

from typing import Any

import pytest
from llm_passthrough.pages.prompt import Prompt, prompt
from made import record, told


def of(body: object, **facts: Any) -> Prompt:
    return prompt(told(record(asked=body, **facts)))


CHAT = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "function": {"name": "look"}}],
}
MESSAGES = {
    "model": "claude",
    "system": [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"name": "look", "input_schema": {}}],
}
RESPONSES = {
    "model": "gpt-5",
    "instructions": "Be short.",
    "input": "Hi",
    "tools": [{"type": "function", "name": "look"}],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be short."}]},
    "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    "tools": [{"functionDeclarations": [{"name": "look"}]}],
}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(CHAT, id="chat completions"),
        pytest.param(MESSAGES, id="messages"),
        pytest.param(RESPONSES, id="responses"),
        pytest.param(GEMINI, id="gemini"),
    ],
)
def test_every_format_has_its_tools_system_and_messages(body: object) -> None:
    found = of(body)
    assert [tool.name for tool in found.tools] == ["look"]
    assert len(found.system) == 1
    assert "Be short." in found.system[0]
    assert [message.role for message in found.messages] == ["user"]
    assert found.read


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("Hi", [{"type": "text", "text": "Hi"}], True, id="a text is one block"),
        pytest.param(
            [{"type": "text", "text": "Hi"}],
            [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}],
            True,
            id="a mark for the cache",
        ),
        pytest.param(
            [{"type": "text", "text": "Hi"}],
            [{"text": "Hi", "type": "text"}],
            False,
            id="another order of fields is another text",
        ),
    ],
)
def test_messages_compare_as_a_cache_does(one: object, other: object, same: bool) -> None:
    first, second = (
        of({"messages": [{"role": "user", "content": content}]}).messages
        for content in (one, other)
    )
    assert (first == second) is same


@pytest.mark.parametrize(
    ("marks", "count", "ttl"),
    [
        pytest.param([], 0, None, id="none"),
        pytest.param([{"type": "ephemeral"}], 1, 300.0, id="five minutes"),
        pytest.param([{"type": "ephemeral"}, {"ttl": "1h"}], 2, 3600.0, id="the longest counts"),
    ],
)
def test_marks_are_counted_and_say_how_long(
    marks: list[object], count: int, ttl: float | None
) -> None:
    blocks = [{"type": "text", "text": "x", "cache_control": mark} for mark in marks]
    found = of({"system": blocks, "messages": []})
    assert (found.marks, found.ttl) == (count, ttl)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("no JSON", id="no JSON"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param({"messages": "x", "tools": 3, "system": 7}, id="wrong types"),
        pytest.param({"messages": [None, 1, [], {"content": None}]}, id="wrong messages"),
        pytest.param(b'{"a":' * 300 + b"1" + b"}" * 300, id="nested without end"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
    ],
)
def test_nothing_raises(body: object) -> None:
    assert isinstance(of(body), Prompt)


def test_a_record_without_its_body_was_not_read() -> None:
    found = of({"messages": []}, capture="usage")
    assert not found.read
    assert prompt({}) == Prompt(read=False, ok=False)


def test_headers_that_a_cache_looks_at_are_kept() -> None:
    headers = ((b"Anthropic-Beta", b"a,b"), (b"User-Agent", b"x"))
    assert of(MESSAGES, request_headers=headers).headers == {"anthropic-beta": "a,b"}
