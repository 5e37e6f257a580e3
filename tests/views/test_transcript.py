"""Transcripts: what is long is told instead of shown, and nothing of what was said is lost."""

import json
from typing import Any

import pytest
from llm_passthrough.views.transcript import Answer, answer, brief, event, request

CHAT = "/v1/chat/completions"
DEEP: Any = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param("short", "short", id="a short text"),
        pytest.param("QUJD" * 300, "[base64, 900 B]", id="base64"),
        pytest.param("data:image/png;base64," + "QUJD" * 300, "[base64, 900 B]", id="a data URL"),
        pytest.param("word " * 30, "word " * 30, id="words are no base64"),
        pytest.param("ä" * 5000, "ä" * 4000 + "\n[10.0 kB in all]", id="a long text"),
        pytest.param([1] * 60, [1] * 50 + ["[10 more]"], id="a long list"),
        pytest.param({"a": [None, True, 0.5]}, {"a": [None, True, 0.5]}, id="what is short"),
    ],
)
def test_what_is_long_is_told(value: object, told: object) -> None:
    assert brief(value) == told


def test_what_is_nested_deeply_becomes_json() -> None:
    found = brief(DEEP)
    for name in "abcdefg":
        found = found[name]
    assert found == {"h": '{"i": 1}'}


def test_arguments_of_a_call_keep_their_lines_and_their_length() -> None:
    code = "print(1)\n" * 1000
    calls = [{"function": {"name": "run", "arguments": json.dumps({"code": code})}}]
    shown = answer(
        Answer(json.dumps({"choices": [{"message": {"tool_calls": calls}}]}).encode()), CHAT
    )
    assert shown is not None
    assert shown["answer"] == [{"assistant": [{"tool_call": "run", "arguments": {"code": code}}]}]


def test_arguments_that_are_no_json_are_a_text() -> None:
    calls = [{"function": {"name": "run", "arguments": "not json"}}]
    shown = answer(
        Answer(json.dumps({"choices": [{"message": {"tool_calls": calls}}]}).encode()), CHAT
    )
    assert shown is not None
    assert shown["answer"] == [{"assistant": [{"tool_call": "run", "arguments": "not json"}]}]


def test_a_text_without_end_is_cut_and_that_is_said() -> None:
    shown = request(json.dumps({"messages": [{"content": "x " * 200_000}]}).encode(), CHAT)
    assert shown is not None
    (turn,) = shown["conversation"]
    assert turn["user"].endswith("\n[400.0 kB in all]")
    assert len(turn["user"]) < 201_000


def test_more_turns_than_anybody_reads_are_not_read() -> None:
    many = [{"role": "user", "content": "x"}] * 6000
    shown = request(json.dumps({"messages": many}).encode(), CHAT)
    assert shown is not None
    assert len(shown["conversation"]) == 5001
    assert shown["conversation"][-1] == {"note": "there may be more turns than are shown here"}


def test_more_parts_than_anybody_reads_are_counted() -> None:
    many = [{"type": "text", "text": "x"}] * 10_005
    shown = request(json.dumps({"messages": [{"content": many}]}).encode(), CHAT)
    assert shown is not None
    assert shown["conversation"][0]["user"][-1] == {"note": "5 more parts"}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", "gpt-4o"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        ("/model/anthropic.claude-v2%3A1/converse", "anthropic.claude-v2:1"),
    ],
)
def test_a_model_in_the_path_is_told(path: str, model: str) -> None:
    shown = request(b'{"messages": [{"content": "Hi"}]}', path)
    assert shown is not None
    assert shown["model"] == model


def test_an_object_that_says_nothing_is_shown_as_it_is() -> None:
    assert request(b'{"a": 1}', CHAT) == {"a": 1}
    assert answer(Answer(b'{"id": "x", "deleted": true}'), CHAT) == {"id": "x", "deleted": True}
    assert event(b'{"type": "ping"}') == {"type": "ping"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"text", b"\xff"])
def test_what_is_no_object_is_left_to_others(content: bytes) -> None:
    assert request(content, CHAT) is None
    assert answer(Answer(content), CHAT) is None
    assert event(content) is None


def test_an_error_says_its_kind() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    shown = answer(Answer(json.dumps(body).encode(), 529, "application/json"), "/v1/messages")
    assert shown is not None
    assert shown["answer"] == [{"error": [{"error": "overloaded_error", "message": "Overloaded"}]}]
