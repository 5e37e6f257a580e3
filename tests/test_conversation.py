"""Conversations: what was asked and answered as turns, from every format, plain and streamed."""

import base64
import json
from typing import Any

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.conversation import Part, Turn, turns
from llm_passthrough.conversation.assembly import assembled
from llm_passthrough.conversation.events import events

PNG = base64.b64encode(b"\x89PNG" + bytes(2996)).decode()


def conversation(asked: object = None, answered: object = None, **facts: Any) -> list[Turn]:
    """The turns of a real record with these bodies."""
    asked = {"model": "m"} if asked is None else asked
    return turns(made.told(made.record(asked=asked, answered=answered, **facts)))


def said(found: list[Turn]) -> list[tuple[str, ...]]:
    """Turns in short: the role, then kind and text (and name) of each part."""
    return [(turn.role, *(_short(part) for part in turn.parts)) for turn in found]


def _short(part: Part) -> str:
    name = f" {part.name}" if part.name else ""
    return f"{part.kind}{name}: {part.text}"


def answers(answered: object, **facts: Any) -> list[tuple[str, ...]]:
    return said([turn for turn in conversation(None, answered, **facts) if turn.answer])


def asks(asked: object) -> list[tuple[str, ...]]:
    return said([turn for turn in conversation(asked) if not turn.answer])


def sse(*values: object, named: bool = False, end: str = "\n\n") -> str:
    """Server-sent events as a provider writes them."""
    return "".join(
        (f"event: {value['type']}\n" if named and isinstance(value, dict) else "")
        + f"data: {value if isinstance(value, str) else json.dumps(value)}{end}"
        for value in values
    )


# -- requests ---------------------------------------------------------------------------------

CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": f"data:a/b;base64,{PNG}"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I should look.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"x":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
    ],
    "tools": [{"type": "function", "function": {"name": "look"}}, {"type": "web_search"}],
}
MESSAGES = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "x" * 100},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"x": "é"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "a cat"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                    ],
                },
                {
                    "type": "document",
                    "title": "Notes",
                    "source": {"type": "url", "url": "https://a/b"},
                },
            ],
        },
    ],
    "tools": [{"name": "look", "input_schema": {}}],
}
RESPONSES = {
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://a/b.png"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "x" * 2000},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"query": "q"}},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes"}],
        },
    ],
    "tools": [{"type": "function", "name": "look"}],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}],
        },
        {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"x": 1}}}]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"seen": "a cat"}}},
                {"file_data": {"file_uri": "https://a/files/1", "mime_type": "video/mp4"}},
            ],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "look"}, {"name": "go"}]}, {"googleSearch": {}}],
}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(
            CHAT,
            [
                ("tools", "note: look, web_search"),
                ("system", "text: Be brief."),
                (
                    "user",
                    "text: What is this?",
                    "media: image image/png, 3.0 kB",
                    "media: image https://example.com/a.png",
                    "media: audio wav, 3.0 kB",
                    "media: file a/b, 3.0 kB a.pdf",
                ),
                ("assistant", "thinking: I should look.", 'tool_call look: {"x":1}'),
                ("tool", "tool_result call_1: a cat"),
            ],
            id="chat",
        ),
        pytest.param(
            MESSAGES,
            [
                ("system", "text: Be brief."),
                ("tools", "note: look"),
                ("user", "text: Hi"),
                (
                    "assistant",
                    "thinking: Let me see.",
                    "thinking: [hidden, 100 B]",
                    'tool_call look: {"x": "é"}',
                ),
                (
                    "user",
                    "tool_result toolu_1: a cat\n[image image/png, 3.0 kB]",
                    "media: file https://a/b Notes",
                ),
            ],
            id="messages",
        ),
        pytest.param(
            RESPONSES,
            [
                ("system", "text: Be brief."),
                ("tools", "note: look"),
                ("user", "text: Hi", "media: image https://a/b.png"),
                ("assistant", "thinking: [hidden, 2.0 kB]", "tool_call look: {}"),
                ("tool", "tool_result c1: a cat"),
                ("assistant", 'tool_call web_search_call: {"action": {"query": "q"}}', "text: Yes"),
            ],
            id="responses",
        ),
        pytest.param(
            GEMINI,
            [
                ("system", "text: Be brief."),
                ("tools", "note: look, go, googleSearch"),
                ("user", "text: Hi", "media: data image/png, 3.0 kB"),
                ("model", 'tool_call look: {"x": 1}'),
                ("user", 'tool_result look: {"seen": "a cat"}', "media: file https://a/files/1"),
            ],
            id="generate_content",
        ),
        pytest.param({"input": "Hi"}, [("user", "text: Hi")], id="responses, a text"),
        pytest.param({"input": ["a", "b"]}, [("user", "text: a", "text: b")], id="embeddings"),
        pytest.param({"contents": "Hi"}, [("user", "text: Hi")], id="contents, a text"),
        pytest.param({"prompt": "Once"}, [("user", "text: Once")], id="completions"),
        pytest.param({"model": "m"}, [("request", 'raw: {"model": "m"}')], id="unknown object"),
        pytest.param("plain", [("request", "raw: plain")], id="no JSON"),
        pytest.param(b"\xff\xfe", [("request", "note: no text: 2 B")], id="no text"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "hologram", "x": 1}]}]},
            [("user", 'raw: {"type": "hologram", "x": 1}')],
            id="a part of a kind that is not known yet",
        ),
        pytest.param(
            {"messages": ["a", 7, None, {"content": 3}, {"role": 5, "content": {"text": "t"}}]},
            [
                ("user", "text: a"),
                ("user", "raw: 7"),
                ("user",),
                ("user", "raw: 3"),
                ("user", "text: t"),
            ],
            id="messages of wrong types",
        ),
    ],
)
def test_a_request_is_read_by_its_shape(asked: object, expected: list[object]) -> None:
    assert asks(asked) == expected


# -- plain answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        pytest.param(
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "Hello",
                            "reasoning": "Greet.",
                            "refusal": None,
                            "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}],
                        },
                    },
                    {"index": 1, "message": {"role": "assistant", "refusal": "No."}},
                ]
            },
            [
                ("assistant", "thinking: Greet.", "text: Hello", "tool_call look: {}"),
                ("assistant", "refusal: No."),
            ],
            id="chat, two choices",
        ),
        pytest.param(
            {
                "choices": [
                    {
                        "message": {
                            "content": [
                                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                                {"type": "text", "text": "Yes"},
                            ]
                        }
                    }
                ]
            },
            [("assistant", "thinking: Hm.", "text: Yes")],
            id="chat, thinking as a part",
        ),
        pytest.param(
            {
                "choices": [
                    {
                        "message": {
                            "content": None,
                            "function_call": {"name": "f", "arguments": "{}"},
                        }
                    }
                ]
            },
            [("assistant", "tool_call f: {}")],
            id="chat, a call of the old kind",
        ),
        pytest.param(
            {"choices": [{"text": "Once"}]}, [("assistant", "text: Once")], id="completions"
        ),
        pytest.param(
            {
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [
                            {"type": "output_text", "text": "Hello"},
                            {"type": "refusal", "refusal": "No."},
                        ],
                    },
                    {"type": "image_generation_call", "result": PNG},
                ],
                "error": None,
            },
            [
                (
                    "assistant",
                    "thinking: Hm.",
                    "text: Hello",
                    "refusal: No.",
                    'tool_call image_generation_call: {"result": "4.0 kB"}',
                )
            ],
            id="responses",
        ),
        pytest.param(
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "The sky is "},
                    {"type": "text", "text": "blue", "citations": []},
                    {"type": "server_tool_use", "name": "web_search", "input": {"query": "q"}},
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "s1",
                        "content": [{"type": "web_search_result", "title": "Sky"}],
                    },
                ],
            },
            [
                (
                    "assistant",
                    "text: The sky is blue",
                    'tool_call web_search: {"query": "q"}',
                    "tool_result s1: ",
                )
            ],
            id="messages",
        ),
        pytest.param(
            {
                "candidates": [
                    {
                        "content": {
                            "role": "model",
                            "parts": [
                                {"text": "Hm.", "thought": True},
                                {"text": "Hello"},
                                {"thoughtSignature": "c2ln"},
                                {"executableCode": {"language": "PYTHON", "code": "1+1"}},
                                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
                            ],
                        }
                    }
                ]
            },
            [
                (
                    "model",
                    "thinking: Hm.",
                    "text: Hello",
                    "tool_call code PYTHON: 1+1",
                    "tool_result OUTCOME_OK: 2",
                )
            ],
            id="generate_content",
        ),
        pytest.param(
            {"promptFeedback": {"blockReason": "SAFETY"}},
            [("model", "refusal: the prompt was blocked: SAFETY")],
            id="generate_content, blocked",
        ),
        pytest.param(
            {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]},
            [("model", "note: said nothing")],
            id="nothing was said",
        ),
        pytest.param(
            {"error": {"message": "bad", "type": "invalid_request_error"}},
            [("error", "error invalid_request_error: bad")],
            id="error",
        ),
        pytest.param(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            [("error", "error overloaded_error: Overloaded")],
            id="error, messages",
        ),
        pytest.param({"error": "bad"}, [("error", "error: bad")], id="error, a text"),
        pytest.param(
            {"data": [1]}, [("answer", 'raw: {"data": [1]}')], id="unknown shapes become one turn"
        ),
        pytest.param("<html>", [("answer", "raw: <html>")], id="no JSON"),
    ],
)
def test_a_plain_answer_is_read_by_its_shape(answered: object, expected: list[object]) -> None:
    assert answers(answered) == expected


# -- streams ----------------------------------------------------------------------------------


def chunk(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}


def call(
    index: int, arguments: str, id_: str | None = None, name: str | None = None
) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return chunk(tool_calls=[{"index": index, "id": id_, "function": function}])


CHAT_STREAM = (
    chunk(role="assistant", content=""),
    chunk(reasoning_content="Let "),
    chunk(reasoning_content="me see."),
    chunk(content="Hel"),
    chunk(content="lo"),
    call(0, "", "call_1", "look"),
    call(0, '{"x"'),
    call(0, ":1}"),
    call(1, "{}", "call_2", "go"),
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 1}},
    "[DONE]",
)
MESSAGES_STREAM = (
    {"type": "message_start", "message": {"role": "assistant", "content": []}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "x"},
    },
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "name": "look", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": ""},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"x'},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '":1}'},
    },
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
)
OUTPUT = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
    {"type": "function_call", "name": "look", "arguments": '{"x":1}'},
]
RESPONSES_STREAM = (
    {"type": "response.created", "response": {"output": []}},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "reasoning", "summary": []},
    },
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Hm"},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "."},
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "message", "role": "assistant", "content": []},
    },
    {"type": "response.output_text.delta", "output_index": 1, "delta": "Hel"},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "lo"},
    {
        "type": "response.output_item.added",
        "output_index": 2,
        "item": {"type": "function_call", "name": "look", "arguments": ""},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"x":1}'},
)
GEMINI_STREAM = (
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hm", "thought": True}]}}]},
    {"candidates": [{"content": {"role": "model", "parts": [{"text": ".", "thought": True}]}}]},
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "lo"}]}}], "usageMetadata": {}},
    {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"name": "look", "args": {"x": 1}}}]},
                "finishReason": "STOP",
            }
        ]
    },
)
WHOLE = ("thinking: Hm.", "text: Hello", 'tool_call look: {"x":1}')


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        pytest.param(
            sse(*CHAT_STREAM),
            [
                (
                    "assistant",
                    "thinking: Let me see.",
                    "text: Hello",
                    'tool_call look: {"x":1}',
                    "tool_call go: {}",
                )
            ],
            id="chat",
        ),
        pytest.param(
            sse(*CHAT_STREAM, end="\r\n\r\n"),
            [
                (
                    "assistant",
                    "thinking: Let me see.",
                    "text: Hello",
                    'tool_call look: {"x":1}',
                    "tool_call go: {}",
                )
            ],
            id="chat, CRLF",
        ),
        pytest.param(
            sse(chunk(content="a"), chunk(1, content="b"), chunk(content="A")),
            [("assistant", "text: aA"), ("assistant", "text: b")],
            id="chat, two choices",
        ),
        pytest.param(
            sse(call(0, "{}", "a", "one"), call(0, "{}", "b", "two")),
            [("assistant", "tool_call one: {}", "tool_call two: {}")],
            id="chat, whole calls that all say index 0",
        ),
        pytest.param(
            sse(
                {"choices": [{"index": 0, "text": "On"}]}, {"choices": [{"index": 0, "text": "ce"}]}
            ),
            [("assistant", "text: Once")],
            id="completions",
        ),
        pytest.param(
            ": keep-alive\n\n"
            + sse(chunk(content="Hi"), {"error": {"message": "broke", "type": "server_error"}}),
            [("assistant", "text: Hi"), ("error", "error server_error: broke")],
            id="chat, an error in the middle",
        ),
        pytest.param(sse(*MESSAGES_STREAM, named=True), [("assistant", *WHOLE)], id="messages"),
        pytest.param(
            sse(
                *MESSAGES_STREAM[:8],
                {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
                named=True,
            ),
            [
                ("assistant", "thinking: Hm.", "text: Hello"),
                ("error", "error overloaded_error: Overloaded"),
            ],
            id="messages, an error in the middle",
        ),
        pytest.param(
            sse(*MESSAGES_STREAM[:8], *MESSAGES_STREAM[:8], named=True),
            [("assistant", "thinking: Hm.", "text: Hello", "thinking: Hm.", "text: Hello")],
            id="messages, several in one stream",
        ),
        pytest.param(
            sse(*RESPONSES_STREAM, named=True), [("assistant", *WHOLE)], id="responses, broken off"
        ),
        pytest.param(
            sse(*RESPONSES_STREAM, {"type": "response.completed", "response": {"output": OUTPUT}}),
            [("assistant", *WHOLE)],
            id="responses",
        ),
        pytest.param(
            sse(
                *(
                    {"type": "response.output_item.done", "output_index": n, "item": item}
                    for n, item in enumerate(OUTPUT)
                ),
                {"type": "response.completed", "response": {"output": []}},
            ),
            [("assistant", *WHOLE)],
            id="responses, nothing in the last event",
        ),
        pytest.param(
            sse(
                {"type": "response.created", "response": {}},
                {"type": "error", "code": "x", "message": "broke"},
            ),
            [("error", "error error: broke")],
            id="responses, an error",
        ),
        pytest.param(
            sse(*GEMINI_STREAM),
            [("model", *WHOLE[:2], 'tool_call look: {"x": 1}')],
            id="generate_content, SSE",
        ),
        pytest.param(
            json.dumps(GEMINI_STREAM, indent=2),
            [("model", *WHOLE[:2], 'tool_call look: {"x": 1}')],
            id="generate_content, a JSON array",
        ),
        pytest.param(
            "\n".join(map(json.dumps, GEMINI_STREAM)),
            [("model", *WHOLE[:2], 'tool_call look: {"x": 1}')],
            id="generate_content, JSON lines",
        ),
        pytest.param(
            sse(
                {
                    "candidates": [
                        {
                            "content": {
                                "parts": [{"functionCall": {"name": "f", "willContinue": True}}]
                            }
                        }
                    ]
                },
                *(
                    {
                        "candidates": [
                            {
                                "content": {
                                    "parts": [
                                        {
                                            "functionCall": {
                                                "partialArgs": [
                                                    {
                                                        "jsonPath": "$.a",
                                                        "stringValue": text,
                                                        "willContinue": True,
                                                    }
                                                ],
                                                "willContinue": True,
                                            }
                                        }
                                    ]
                                }
                            }
                        ]
                    }
                    for text in ("one ", "two")
                ),
                {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
            ),
            [("model", 'tool_call f: {"$.a": "one two"}')],
            id="generate_content, streamed arguments",
        ),
        pytest.param(
            'data: {"choices":\ndata: [{"delta": {"content": "Hi"}}]}\n\n',
            [("assistant", "text: Hi")],
            id="data of several lines",
        ),
        pytest.param(sse({"x": 1}), [("answer", 'raw: data: {"x": 1}\n\n')], id="unknown events"),
    ],
)
def test_a_stream_reads_like_the_plain_answer(answered: str, expected: list[object]) -> None:
    assert answers(answered) == expected


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(sse(*CHAT_STREAM), id="chat"),
        pytest.param(sse(*MESSAGES_STREAM, named=True), id="messages"),
        pytest.param(sse(*RESPONSES_STREAM, named=True), id="responses"),
        pytest.param(json.dumps(GEMINI_STREAM), id="JSON array"),
    ],
)
def test_a_stream_may_be_cut_anywhere(stream: str) -> None:
    """What is said never shrinks as more of it is there."""
    longest = 0
    for cut in range(0, len(stream) + 1, 7):
        stood = events(stream[:cut])
        answer = assembled(stood) if stood else None
        told = json.dumps(answer)
        length = sum(told.count(word) for word in ("Hm", "Hel", "lo", "look"))
        assert length >= longest
        longest = length
    assert longest >= 3


def test_a_body_that_was_cut_is_read_as_far_as_it_goes() -> None:
    asked = {"messages": [{"role": "user", "content": "a" * 500}]}
    found = said(
        conversation(asked, {"choices": [{"message": {"content": "b" * 500}}]}, body_limit=300)
    )
    assert found[0][0] == "user"
    assert found[0][1].startswith("text: aaa")
    assert found[1] == (
        "request",
        f"note: the recording is cut off here; {len(json.dumps(asked))} B went by",
    )
    assert found[2][1].startswith("text: bbb")
    assert found[3][1].startswith("note: the recording is cut off here")


@pytest.mark.parametrize("capture", ["usage", "none"])
def test_what_was_not_recorded_is_said(capture: str) -> None:
    found = said(conversation({"messages": []}, {"choices": []}, capture=capture))
    assert found == [
        ("request", "note: not recorded: 16 B"),
        ("answer", "note: not recorded: 15 B"),
    ]


def test_no_answer_is_no_turn() -> None:
    assert [turn.role for turn in conversation({"input": "Hi"}, None, status=None)] == ["user"]


# -- nothing raises ---------------------------------------------------------------------------

_NAMES = sorted(
    """type role content text parts messages input contents system instructions systemInstruction
    tools function name arguments tool_calls function_call choices message delta index output
    candidates functionCall functionResponse partialArgs jsonPath willContinue inlineData data
    image_url url source file error response item output_index content_block thinking summary
    prompt promptFeedback blockReason args thought refusal audio id""".split()
)
_WORDS = sorted(
    """text message function_call tool_use tool_result thinking reasoning image file document
    response.output_item.added response.output_item.done response.completed error user assistant
    response.output_text.delta response.function_call_arguments.delta message_start
    content_block_start content_block_delta message_delta text_delta input_json_delta""".split()
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(_WORDS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=6)
    ),
    max_leaves=25,
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=6)


@given(asked=_VALUES, answered=_VALUES | st.lists(_OBJECTS, max_size=5))
def test_no_shape_raises(asked: object, answered: object) -> None:
    side = {"bytes": 9, "encoding": "utf-8", "truncated": False}
    text = json.dumps(answered)
    stream = sse(*answered) if isinstance(answered, list) else text
    for body in (text, stream, stream[:-3]):
        found = turns(
            {"request": side | {"body": json.dumps(asked)}, "response": side | {"body": body}}
        )
        for turn in found:
            assert isinstance(turn.role, str)
            assert all(isinstance(part.text, str) for part in turn.parts)
            assert all(isinstance(part.name, str) for part in turn.parts)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({}, id="empty"),
        pytest.param({"request": None, "response": None}, id="nulls"),
        pytest.param({"request": [], "response": "x"}, id="wrong types"),
        pytest.param(
            {"request": {"body": 5, "bytes": "x"}, "response": {"body": {}}}, id="wrong fields"
        ),
        pytest.param({"request": {"body": "[" * 100_000, "bytes": 1}}, id="nested deeply"),
        pytest.param({"response": {"body": "data: " * 10_000, "bytes": 1}}, id="no JSON in data"),
        pytest.param(
            {"response": {"body": '{"choices":[{"message":' * 50_000, "bytes": 1}},
            id="objects in objects",
        ),
    ],
)
def test_no_record_raises(record: dict[str, Any]) -> None:
    assert isinstance(turns(record), list)
