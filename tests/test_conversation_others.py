"""Conversations in formats beside those of OpenAI, Anthropic and Gemini; tools; odd bytes."""

import base64
import json
import struct
import zlib
from typing import Any

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.conversation import Tool, Turn, answered, asked, parameters, tools, turns

PIXEL = base64.b64encode(bytes(89)).decode()


def said(found: list[Turn]) -> list[tuple[str, ...]]:
    """Turns in short: the role, then kind, name and text of each part."""
    return [
        (turn.role, *(f"{f'{part.kind} {part.name}'.strip()}: {part.text}" for part in turn.parts))
        for turn in found
    ]


def frame(kind: str, payload: object, **more: str) -> bytes:
    """One frame of an AWS event stream, as its documentation lays it out."""
    headers = {":event-type": kind, ":message-type": "event"} | more
    block = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text.encode()
        for name, text in headers.items()
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(block) + len(data), len(block))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + data
    return body + struct.pack(">I", zlib.crc32(body))


def chunk(value: object) -> bytes:
    """A frame of InvokeModelWithResponseStream: the model's own event in base64."""
    return frame("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode()})


def sse(*values: object) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(value).encode() for value in values)


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


CONVERSE_STREAM = b"".join(
    (
        frame("messageStart", {"role": "assistant"}),
        frame("contentBlockDelta", _delta := {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
        frame("contentBlockDelta", _delta | {"delta": {"text": "lo"}}),
        frame("contentBlockStop", {"contentBlockIndex": 0}),
        frame(
            "contentBlockStart",
            {"contentBlockIndex": 1, "start": {"toolUse": {"name": "look", "toolUseId": "t1"}}},
        ),
        frame(
            "contentBlockDelta",
            _call := {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"x'}}},
        ),
        frame("contentBlockDelta", _call | {"delta": {"toolUse": {"input": '":1}'}}}),
        frame("messageStop", {"stopReason": "tool_use"}),
    )
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            CONVERSE_STREAM,
            [("assistant", "text: Hello", 'tool_call look: {"x":1}')],
            id="converse",
        ),
        pytest.param(
            CONVERSE_STREAM[:-200],
            [("assistant", "text: Hello", 'tool_call look: {"x')],
            id="converse, cut inside a frame",
        ),
        pytest.param(
            frame(
                "contentBlockDelta",
                {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}},
            ),
            [("assistant", "thinking: Hm.")],
            id="converse, thinking",
        ),
        pytest.param(
            frame("messageStart", {"role": "assistant"})
            + frame("", {"message": "Too many"}, **{":exception-type": "throttlingException"}),
            [("error", "error throttlingException: Too many")],
            id="converse, an exception in the stream",
        ),
        pytest.param(
            json.dumps(
                {
                    "output": {
                        "message": {
                            "role": "assistant",
                            "content": [
                                {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
                                {"text": "Hello"},
                                {"toolUse": {"name": "look", "toolUseId": "t1", "input": {"x": 1}}},
                            ],
                        }
                    }
                }
            ).encode(),
            [("assistant", "thinking: Hm.", "text: Hello", 'tool_call look: {"x": 1}')],
            id="converse, whole",
        ),
        pytest.param(
            chunk({"type": "message_start", "message": {"role": "assistant"}})
            + chunk(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": "Hello"},
                }
            ),
            [("assistant", "text: Hello")],
            id="Claude on Bedrock",
        ),
        pytest.param(
            chunk({"outputText": "Hel"}) + chunk({"outputText": "lo"}),
            [("assistant", "text: Hello")],
            id="Titan",
        ),
        pytest.param(
            chunk({"generation": "Hel"}) + chunk({"generation": "lo"}),
            [("assistant", "text: Hello")],
            id="Llama",
        ),
        pytest.param(
            chunk({"text": "a", "index": 0, "is_finished": False})
            + chunk({"text": "b", "index": 1, "is_finished": False})
            + chunk({"text": "A", "index": 0, "is_finished": True}),
            [("assistant", "text: aA"), ("assistant", "text: b")],
            id="Cohere on Bedrock, two texts",
        ),
        pytest.param(
            chunk({"completion": "", "stop_reason": "stop"}),
            [("assistant", "note: said nothing")],
            id="Claude before messages, nothing said",
        ),
        pytest.param(
            lines(
                {"message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
                {"message": {"role": "assistant", "content": "Hel"}, "done": False},
                {"message": {"role": "assistant", "content": "lo"}, "done": True},
            ),
            [("assistant", "thinking: Hm.", "text: Hello")],
            id="Ollama's chat",
        ),
        pytest.param(
            lines({"response": "Hel", "done": False}, {"response": "lo", "done": True}),
            [("assistant", "text: Hello")],
            id="Ollama's generate",
        ),
        pytest.param(
            lines(
                {
                    "message": {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
                    },
                    "done": True,
                }
            ),
            [("assistant", 'tool_call f: {"x": 1}')],
            id="Ollama, a call in the only line",
        ),
        pytest.param(
            sse(
                {
                    "type": "message-start",
                    "delta": {"message": {"role": "assistant", "content": []}},
                },
                {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Look"}}},
                {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": " first."}}},
                {
                    "type": "tool-call-start",
                    "index": 0,
                    "delta": {
                        "message": {
                            "tool_calls": {
                                "id": "c1",
                                "function": {"name": "look", "arguments": ""},
                            }
                        }
                    },
                },
                {
                    "type": "tool-call-delta",
                    "index": 0,
                    "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}},
                },
                {
                    "type": "content-start",
                    "index": 0,
                    "delta": {"message": {"content": {"type": "text", "text": ""}}},
                },
                {
                    "type": "content-delta",
                    "index": 0,
                    "delta": {"message": {"content": {"text": "Hello"}}},
                },
            ),
            [("assistant", "thinking: Look first.", "text: Hello", "tool_call look: {}")],
            id="Cohere",
        ),
        pytest.param(
            lines(
                {"event_type": "stream-start"},
                {"event_type": "text-generation", "text": "Hel"},
                {"event_type": "text-generation", "text": "lo"},
                {"event_type": "stream-end", "response": {"text": "Hello", "generation_id": "g"}},
            ),
            [("assistant", "text: Hello")],
            id="Cohere's first version",
        ),
        pytest.param(
            json.dumps(
                {"text": "Hi", "tool_calls": [{"name": "f", "parameters": {"x": 1}}]}
            ).encode(),
            [("assistant", "text: Hi"), ("assistant", 'tool_call f: {"x": 1}')],
            id="Cohere's first version, whole",
        ),
        pytest.param(
            sse(
                {"event_type": "interaction.created", "interaction": {"id": "v1", "model": "m"}},
                {"event_type": "step.start", "index": 0, "step": {"type": "thought"}},
                {
                    "event_type": "step.delta",
                    "index": 0,
                    "delta": {
                        "type": "thought_summary",
                        "content": {"type": "text", "text": "Hm."},
                    },
                },
                {
                    "event_type": "step.delta",
                    "index": 0,
                    "delta": {"type": "thought_signature", "signature": "c2ln"},
                },
                {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
                {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "Hel"}},
                {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "lo"}},
                {
                    "event_type": "step.delta",
                    "index": 1,
                    "delta": {"type": "image", "mime_type": "image/png", "data": PIXEL},
                },
                {
                    "event_type": "step.start",
                    "index": 2,
                    "step": {"type": "function_call", "name": "look", "arguments": {}},
                },
                {
                    "event_type": "step.delta",
                    "index": 2,
                    "delta": {"type": "arguments_delta", "arguments": '{"x":1}'},
                },
                {"event_type": "interaction.completed", "interaction": {"id": "v1"}},
            ),
            [
                (
                    "model",
                    "thinking: Hm.",
                    "text: Hello",
                    "media: image image/png, 89 B",
                    'tool_call look: {"x":1}',
                )
            ],
            id="interactions",
        ),
        pytest.param(
            json.dumps(
                {
                    "steps": [
                        {"type": "user_input", "content": [{"type": "text", "text": "Hi"}]},
                        {"type": "model_output", "content": [{"type": "text", "text": "Hello"}]},
                    ]
                }
            ).encode(),
            [("user", "text: Hi"), ("model", "text: Hello")],
            id="interactions, whole",
        ),
        pytest.param(
            sse(
                {"type": "transcript.text.delta", "delta": "Hel"},
                {"type": "transcript.text.delta", "delta": "lo"},
                {"type": "transcript.text.done", "text": "Hello"},
            ),
            [("assistant", "text: Hello")],
            id="a transcript",
        ),
        pytest.param(
            b'{"message": "The model is unknown."}',
            [("error", "error: The model is unknown.")],
            id="an error that is a message and nothing else",
        ),
        pytest.param(b'{"detail": "No."}', [("error", "error: No.")], id="or a detail"),
        pytest.param(b'{"x": 1}', [], id="an unknown object"),
        pytest.param(b"\x00\x00\x00\x10\x00\x00\x00\x00nope", [], id="no frames"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_an_answer_is_read_by_its_shape(content: bytes, expected: list[object]) -> None:
    assert said(answered(content)) == expected


def test_a_character_that_was_cut_in_two_is_whole_again() -> None:
    halves = '"\\ud83d"', '"\\ude00 \\ud83d"'
    content = b"".join(
        b'data: {"choices": [{"delta": {"content": %s}}]}\n\n' % half.encode() for half in halves
    )
    assert said(answered(content)) == [("assistant", "text: 😀 \ufffd")]


def test_what_a_record_has_of_an_event_stream_is_read() -> None:
    told = made.told(
        made.record(
            answered=CONVERSE_STREAM,
            response_headers=((b"Content-Type", b"application/vnd.amazon.eventstream"),),
        )
    )
    assert told["response"]["encoding"] == "base64"
    assert said(turns(told))[-1] == ("assistant", "text: Hello", 'tool_call look: {"x":1}')


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(
            {
                "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"text": "Hi"},
                            {"image": {"format": "png", "source": {"bytes": PIXEL}}},
                            {
                                "document": {
                                    "name": "Notes",
                                    "format": "pdf",
                                    "source": {"s3Location": {"uri": "s3://a/b"}},
                                }
                            },
                            {"guardContent": {"text": {"text": "guarded"}}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "toolResult": {
                                    "toolUseId": "t1",
                                    "content": [{"json": {"seen": 1}}, {"text": "a cat"}],
                                }
                            }
                        ],
                    },
                ],
                "toolConfig": {"tools": [{"toolSpec": {"name": "look"}}]},
            },
            [
                ("system", "text: Be brief."),
                ("tools", "note: look"),
                (
                    "user",
                    "text: Hi",
                    "media: image png, 89 B",
                    "media: document s3://a/b Notes",
                    "text: guarded",
                ),
                ("user", 'tool_result t1: {"seen": 1}\na cat'),
            ],
            id="converse",
        ),
        pytest.param(
            {
                "preamble": "Be brief.",
                "chat_history": [{"role": "CHATBOT", "message": "Yes?"}],
                "message": "Hi",
            },
            [("system", "text: Be brief."), ("chatbot", "text: Yes?"), ("user", "text: Hi")],
            id="Cohere's first version",
        ),
        pytest.param({"inputText": "Hi"}, [("user", "text: Hi")], id="Titan"),
        pytest.param(
            {
                "input": [
                    {"type": "text", "text": "Hi"},
                    {"type": "image", "mime_type": "image/png", "data": PIXEL},
                    {"type": "model_output", "content": [{"type": "text", "text": "Yes?"}]},
                    {"type": "function_result", "call_id": "c1", "name": "look", "result": "a cat"},
                ]
            },
            [
                ("user", "text: Hi", "media: image image/png, 89 B"),
                ("model", "text: Yes?"),
                ("tool", "tool_result look: a cat"),
            ],
            id="interactions",
        ),
    ],
)
def test_a_request_is_read_by_its_shape(request_: object, expected: list[object]) -> None:
    assert said(asked(request_)) == expected


def test_no_more_turns_are_read_than_are_wanted() -> None:
    many = {"messages": [{"role": "user", "content": str(number)} for number in range(9)]}
    assert said(asked(many, most=4)) == [("user", "text: 0"), ("user", "text: 1")]
    assert len(asked(many)) == 9


SCHEMA = {"type": "object", "properties": {"x": {}, "y": {}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": "Does.", "parameters": SCHEMA},
                    },
                    {"type": "web_search"},
                ]
            },
            [Tool("f", "Does.", ("x", "y?")), Tool("web_search")],
            id="chat",
        ),
        pytest.param(
            {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]},
            [Tool("f", "", ("x", "y?"))],
            id="responses",
        ),
        pytest.param(
            {"tools": [{"name": "f", "description": "Does.", "input_schema": SCHEMA}]},
            [Tool("f", "Does.", ("x", "y?"))],
            id="messages",
        ),
        pytest.param(
            {
                "tools": [
                    {"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]},
                    {"googleSearch": {}},
                ]
            },
            [Tool("f", "", ("x", "y?")), Tool("googleSearch")],
            id="generate_content",
        ),
        pytest.param(
            {
                "toolConfig": {
                    "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": SCHEMA}}}]
                }
            },
            [Tool("f", "", ("x", "y?"))],
            id="converse",
        ),
        pytest.param(
            {"functions": [{"name": "f", "parameters": {"properties": {"x": {}}}}]},
            [Tool("f", "", ("x",))],
            id="chat before tools, and nothing said of what is required",
        ),
        pytest.param(
            {"tools": [{"name": "f", "parameter_definitions": {"x": {"type": "str"}}}]},
            [Tool("f", "", ("x",))],
            id="Cohere's first version",
        ),
        pytest.param({"tools": 5}, [], id="no list"),
        pytest.param({"tools": [None, 5, "x", {}]}, [Tool("?")] * 4, id="no tools"),
        pytest.param(None, [], id="no request"),
    ],
)
def test_tools_are_told_with_their_parameters(request_: Any, expected: list[Tool]) -> None:
    assert tools(request_) == expected


def test_the_parameters_are_what_is_neither_said_nor_offered() -> None:
    request_ = {"model": "m", "messages": [], "tools": [], "temperature": 0, "stream": True}
    assert parameters(request_) == {"model": "m", "temperature": 0, "stream": True}
    assert parameters("x") == {}


@given(
    st.binary(max_size=60)
    | st.binary(max_size=40).map(lambda data: CONVERSE_STREAM[:150] + data)
    | st.text(alphabet='{}[]":,\\udata: 19x\n', max_size=60).map(str.encode)
)
def test_no_bytes_raise(content: bytes) -> None:
    for turn in answered(content):
        assert turn.parts
