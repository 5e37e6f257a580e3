"""Counts by tables, and what a request asks for."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_passthrough.usage import Asked, Counts, Usage, read_request


@pytest.mark.parametrize(
    ("rows", "raw", "value"),
    [
        pytest.param("a", {"a": 0}, 0, id="a zero that is told is a zero"),
        pytest.param("a", {}, None, id="what is not told is not known"),
        pytest.param("a b", {"b": 2}, 2, id="the first place that has one"),
        pytest.param("a b", {"a": 0, "b": 2}, 0, id="a zero is a number"),
        pytest.param("a.b", {"a": {"b": 3}}, 3, id="a key in a key"),
        pytest.param("a.b", {"a": 7}, None, id="no key in a number"),
        pytest.param("a+b", {"a": 1, "b": 2}, 3, id="a sum"),
        pytest.param("a+b", {"b": 2}, 2, id="a sum of one"),
        pytest.param("a+b", {}, None, id="a sum of nothing"),
        pytest.param("a+b|c", {"a": 1, "c": 4}, 5, id="a sum with a choice in it"),
        pytest.param("a.AUDIO", {"a": [{"modality": "AUDIO", "tokenCount": 5}]}, 5, id="modality"),
        pytest.param("a.AUDIO", {"a": [{"modality": 4, "tokenCount": 5}]}, 5, id="by number"),
        pytest.param("a.AUDIO", {"a": [{"modality": "audio", "tokens": 5}]}, 5, id="small"),
        pytest.param("a", {"a": 3.0}, 3, id="a whole number with a point"),
    ],
)
def test_a_row_finds_its_count(rows: str, raw: dict[str, Any], value: int | None) -> None:
    notes: list[str] = []
    usage = Counts(input_tokens=rows).read(raw, notes)
    assert (usage and usage.input_tokens) == value
    assert notes == []


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", [], float("nan"), 1 << 60])
def test_what_is_no_count_is_not_known_and_is_noted(value: object) -> None:
    notes: list[str] = []
    assert Counts(input_tokens="a").read({"a": value}, notes) is None
    assert notes == ["usage: a is not a count"]


def test_usages_add_up_and_what_is_not_known_stays_so() -> None:
    total = Usage(input_tokens=1, output_tokens=2) + Usage(input_tokens=4)
    assert total == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize(
    ("path", "shape", "body", "asked"),
    [
        pytest.param(
            "/v1/chat/completions", "openai",
            {"model": "gpt-4o", "stream": True, "tools": [{}, {}], "user": "u",
             "prompt_cache_key": "k"},
            Asked("gpt-4o", True, 2, {"user": "u", "prompt_cache_key": "k"}), id="chat",
        ),
        pytest.param(
            "/openai/deployments/my-gpt/chat/completions", "openai", {"model": None},
            Asked("my-gpt", False, 0), id="Azure: the deployment",
        ),
        pytest.param(
            "/models/chat/completions", "openai", {"model": "grok"}, Asked("grok", False, 0),
            id="Azure: a path that only looks like a model",
        ),
        pytest.param(
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "google",
            {"tools": [{"functionDeclarations": [{}, {}, {}]}, {"googleSearch": {}}]},
            Asked("gemini-2.5-flash", True, 4), id="Gemini",
        ),
        pytest.param(
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude@2:streamRawPredict",
            "google", {"anthropic_version": "v"}, Asked("claude@2", True, 0), id="Claude on Vertex",
        ),
        pytest.param(
            "/v1/responses", "openai",
            {"model": "m", "conversation": {"id": "conv_1"}, "previous_response_id": "resp_0"},
            Asked("m", False, 0, {"conversation_id": "conv_1", "previous_response_id": "resp_0"}),
            id="responses",
        ),
        pytest.param(
            "/v1/messages", "anthropic",
            {"model": "m", "metadata": {"user_id": "user_1_account__session_0a1b2c3d-4e5f"}},
            Asked("m", False, 0, {"user_id": "user_1_account__session_0a1b2c3d-4e5f",
                                  "session_id": "0a1b2c3d-4e5f"}),
            id="Claude Code's session",
        ),
        pytest.param(
            "/v1/messages", "anthropic",
            {"model": "m", "metadata": {"user_id": '{"device_id":"d","session_id":"s-1"}'}},
            Asked("m", False, 0, {"user_id": '{"device_id":"d","session_id":"s-1"}',
                                  "session_id": "s-1"}),
            id="Claude Code's session in JSON",
        ),
        pytest.param(
            "/model/anthropic.claude-v2%3A1/invoke", "openai", {"prompt": "x"},
            Asked("anthropic.claude-v2:1", False, 0), id="Bedrock",
        ),
        pytest.param("/v1/realtime?model=gpt-realtime", "openai", None, Asked("gpt-realtime"),
                     id="a websocket"),
        pytest.param("/v1/models", "openai", None, Asked(), id="no body"),
    ],
)  # fmt: skip
def test_a_request_is_read(path: str, shape: str, body: Any, asked: Asked) -> None:
    raw = b"" if body is None else json.dumps(body).encode()
    assert read_request(path.encode(), shape, raw) == asked


def test_a_form_names_its_model() -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--'
    assert read_request(b"/v1/audio/transcriptions", "openai", form).model == "whisper-1"


def test_a_huge_body_is_read_to_its_end() -> None:
    body = b'{"messages":[{"content":"' + b"QUJD" * 5_000_000 + b'"}],"model":"m","stream":true}'
    assert read_request(b"/v1/chat/completions", "openai", body) == Asked("m", True, 0)


@settings(deadline=None)
@given(st.binary(max_size=100) | st.from_regex(rb'\{"(model|tools|metadata|user)":[\[\]{}1"a]*'))
def test_no_body_raises(body: bytes) -> None:
    for path in (b"/v1/chat/completions", b"", b"/models/%ff:x", b"?"):
        read_request(path, "openai", body)
