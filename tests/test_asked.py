"""What a request asks for, and what of its body is odd."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.asked import Asked, read_messages, read_request

JSON = "application/json"


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


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        pytest.param([], Asked(None, True), id="nothing was said"),
        pytest.param([{"setup": {"model": "m", "tools": [{}]}}], Asked("m", True, 1), id="Live"),
        pytest.param(
            [{"type": "response.create", "model": "m", "previous_response_id": "r"}],
            Asked("m", True, 0, {"previous_response_id": "r"}), id="Responses",
        ),
        pytest.param(
            [
                {"type": "session.update", "session": {"model": "m", "tools": [{}, {}]}},
                {"type": "response.create", "response": {"conversation": "none"}},
            ],
            Asked("m", True, 2), id="Realtime, where `none` is no conversation",
        ),
        pytest.param([{"setup": ["m"], "session": None}], Asked(None, True, 0), id="odd"),
    ],
)  # fmt: skip
def test_messages_ask_together(messages: list[Any], asked: Asked) -> None:
    assert read_messages(b"/v1/realtime", "openai", messages) == asked


@pytest.mark.parametrize("name", ["model", "deployment"])
def test_a_handshake_names_its_model_in_the_query(name: str) -> None:
    path = f"/v1/realtime?intent=x&{name}=gpt%2Drealtime".encode()
    assert read_request(path, "openai", b"").model == "gpt-realtime"


def test_a_huge_body_is_read_to_its_end() -> None:
    body = b'{"messages":[{"content":"' + b"QUJD" * 5_000_000 + b'"}],"model":"m","stream":true}'
    assert read_request(b"/v1/chat/completions", "openai", body) == Asked("m", True, 0)


@given(st.binary(max_size=100) | st.from_regex(rb'\{"(model|tools|metadata|user)":[\[\]{}1"a]*'))
def test_no_body_raises(body: bytes) -> None:
    for path in (b"/v1/chat/completions", b"", b"/models/%ff:x", b"?"):
        read_request(path, "openai", body)


# -- what is odd ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "unread"),
    [
        pytest.param('{"model":"a","messages":[]}', JSON, None, id="nothing"),
        pytest.param("", JSON, None, id="no body"),
        pytest.param(
            '{"model":"a","model":"b"}', JSON, "named more than once: model", id="a name twice"
        ),
        pytest.param(
            '{"model" : "a",\n"mod\\u0065l":"b"}', JSON, "named more than once: model",
            id="a name twice, once in another spelling",
        ),
        pytest.param(
            '{"a":1,"a":1,"b":1,"b":1,"c":1,"c":1,"d":1,"d":1}', JSON,
            "named more than once: a, b, c", id="many names, not all of which are told",
        ),
        pytest.param(
            '{"model":"a","user":"user","messages":[{"role":"user"}]}', JSON, None,
            id="a name that is a value too",
        ),
        pytest.param(
            '{"text":"a","input":{"text":1,"text":2}}', JSON, None, id="twice, but deeper"
        ),
        pytest.param('{"a":"\\u0041"}', JSON, None, id="an escape in a value"),
        pytest.param(
            "{" + ",".join(f'"k{n % 99}":0' for n in range(100)) + "}", JSON,
            "named more than once: k0", id="so many names that they are not counted one by one",
        ),
        pytest.param(
            '{"model":"a","x":"' + "x" * (64 << 10) + '","model":"b"}', JSON, None,
            id="too long to be looked through",
        ),
        pytest.param(
            '{"temperature":NaN}', JSON, "NaN or Infinity, which JSON does not have", id="NaN"
        ),
        pytest.param('["model"]', JSON, "the JSON is no object", id="a list"),
        pytest.param('{"a":1}', "application/vnd.x+json", None, id="another kind of JSON"),
        pytest.param(
            '{"model":"a"}', "Text/Plain; charset=x", "JSON under the content type text/plain",
            id="JSON as text",
        ),
        pytest.param(
            '{"a":1,"a":2}', "application/x-www-form-urlencoded",
            "JSON under the content type application/x-www-form-urlencoded;"
            " named more than once: a",
            id="two things at once",
        ),
        pytest.param("a=1", "application/x-www-form-urlencoded", None, id="a form"),
        pytest.param('{"a":1}\n{"b":2}', "application/jsonl", None, id="lines of JSON"),
        pytest.param('{"a":1,"a":2}', None, None, id="not all of the body is there"),
        pytest.param("--x", "multipart/form-data", None, id="parts"),
    ],
)  # fmt: skip
def test_what_others_may_read_in_another_way_is_told(
    body: str, kind: str | None, unread: str | None
) -> None:
    asked = read_request(b"/v1/chat/completions", "openai", body.encode(), kind)
    assert asked.unread == unread


@pytest.mark.parametrize(
    ("body", "model"),
    [
        pytest.param(b'{"model":"a"', "a", id="cut short"),
        pytest.param(b"model=a", None, id="not JSON at all"),
        pytest.param(b'{"a":' * 300 + b"1" + b"}" * 300, None, id="deep"),
        pytest.param(b'{"model":"a","n":' + b"9" * 5000 + b"}", None, id="a huge number"),
        pytest.param(b'{"model":"a","x":"\xff"}', "a", id="no UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"model":"a"}', None, id="a byte order mark"),
        pytest.param(b'{"model":"a"}{"model":"b"}', "a", id="two in one"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(body: bytes, model: str | None) -> None:
    for kind in (JSON, "application/json; charset=utf-8", "Application/X+JSON"):
        asked = read_request(b"/v1/chat/completions", "openai", body, kind)
        assert asked.unread is not None
        assert re.fullmatch("cannot be read as JSON: .* at line 1 column [0-9]+", asked.unread)
        assert asked.model == model
    assert read_request(b"/v1/x", "openai", body, "application/octet-stream").unread is None
