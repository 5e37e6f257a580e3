"""Small answers in every dialect, written for the tests, and hands to read them."""

import json
from collections.abc import Iterable
from typing import Any

from llm_passthrough.dialects import reader
from llm_passthrough.usage import Reading

SSE = "text/event-stream"
JSON = "application/json"


def events(*values: Any, done: bool = False, named: bool = False, end: str = "\n") -> bytes:
    """Values as server-sent events; `named` puts their type in front, as Anthropic does."""
    text = ""
    for value in values:
        if named:
            text += f"event: {value['type']}{end}"
        text += f"data: {json.dumps(value, ensure_ascii=False)}{end}{end}"
    return (text + (f"data: [DONE]{end}{end}" if done else "")).encode()


def read(
    path: str,
    body: bytes | Iterable[bytes],
    kind: str = SSE,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
) -> Reading:
    """The reading of an answer; each piece of it comes a second after the one before."""
    it = reader(path.encode(), None, "openai", kind, status, headers)
    assert it is not None
    for at, piece in enumerate([body] if isinstance(body, bytes) else body):
        it.feed(piece, float(at))
    return it.end()


def plain(path: str, value: Any, status: int = 200) -> Reading:
    return read(path, json.dumps(value).encode(), JSON, status)


def chunk(content: str | None = None, **more: Any) -> dict[str, Any]:
    """A chat event."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-2024-08-06",
        "choices": [choice | {k: v for k, v in more.items() if k in ("delta", "finish_reason")}],
    } | {k: v for k, v in more.items() if k not in ("delta", "finish_reason")}


CHAT = events(
    chunk("", delta={"role": "assistant", "content": ""}),
    chunk("Grüße 👋"),
    chunk(" you"),
    chunk(finish_reason="stop"),
    chunk(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
    done=True,
)
ANTHROPIC = events(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-4-5",
            "content": [],
            "stop_reason": None,
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 20,
                },
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Grüße 👋"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '{"a": 1}'},
    },
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use"},
        "usage": {"output_tokens": 25},
    },
    {"type": "message_stop"},
    named=True,
)
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5-mini",
    "status": "completed",
    "service_tier": "default",
    "error": None,
    "output": [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"},
        {"type": "web_search_call", "id": "ws_1"},
    ],
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 32,
    },
}
RESPONSES = events(
    {
        "type": "response.created",
        "response": RESPONSE
        | {"status": "in_progress", "output": [], "usage": None, "service_tier": "auto"},
    },
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"},
    },
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"},
    },
    {"type": "response.completed", "response": RESPONSE},
    named=True,
)
GEMINI_CHUNKS: list[dict[str, Any]] = [
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Grüße ["}]}}],
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    },
    {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": '"}] \\ 👋'},
                        {"functionCall": {"name": "weather", "args": {}}},
                        {"functionCall": {"name": "weather", "args": {}}},
                    ],
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 7,
            "toolUsePromptTokenCount": 3,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 4,
            "cachedContentTokenCount": 2,
            "totalTokenCount": 19,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 1},
                {"modality": "AUDIO", "tokenCount": 6},
            ],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    },
]
GEMINI = events(*GEMINI_CHUNKS, end="\r\n")
GEMINI_ARRAY = json.dumps(GEMINI_CHUNKS, indent=1, ensure_ascii=False).encode()
OLLAMA = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"model": "llama3.2", "message": {"role": "assistant", "content": ""}, "done": False},
        {"model": "llama3.2", "message": {"role": "assistant", "content": "Hi"}, "done": False},
        {
            "model": "llama3.2",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 31,
            "eval_count": 5,
        },
    )
)
COHERE = events(
    {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I"}}},
    {
        "type": "tool-call-start",
        "index": 0,
        "delta": {"message": {"tool_calls": {"id": "t", "function": {"name": "weather"}}}},
    },
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "TOOL_CALL",
            "usage": {
                "billed_units": {"input_tokens": 44, "output_tokens": 28},
                "tokens": {"input_tokens": 1476, "output_tokens": 58},
                "cached_tokens": 1376,
            },
        },
    },
    named=True,
    done=True,
)
INTERACTION = events(
    {
        "event_type": "interaction.created",
        "interaction": {"id": "v1_1", "status": "in_progress", "model": "gemini-2.5-flash"},
    },
    {"event_type": "step.start", "index": 0, "step": {"type": "function_call", "name": "weather"}},
    {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "Hi"}},
    {
        "event_type": "interaction.completed",
        "interaction": {
            "id": "v1_1",
            "status": "completed",
            "usage": {
                "total_tokens": 179,
                "total_input_tokens": 11,
                "total_cached_tokens": 1,
                "total_output_tokens": 42,
                "total_tool_use_tokens": 2,
                "total_thought_tokens": 126,
                "input_tokens_by_modality": [{"modality": "audio", "tokens": 4}],
            },
        },
    },
    done=True,
)


def frame(event: str, payload: bytes, *, exception: bool = False) -> bytes:
    """One frame of an AWS event stream; the checksums are zeros."""
    kind = ":exception-type" if exception else ":event-type"
    headers = b""
    for name, value in ((kind, event), (":content-type", "application/json")):
        headers += bytes([len(name)]) + name.encode() + b"\x07"
        headers += len(value).to_bytes(2, "big") + value.encode()
    total = 16 + len(headers) + len(payload)
    prelude = total.to_bytes(4, "big") + len(headers).to_bytes(4, "big") + bytes(4)
    return prelude + headers + payload + bytes(4)


CONVERSE = b"".join(
    frame(event, json.dumps(value).encode())
    for event, value in (
        ("messageStart", {"role": "assistant", "p": "abc"}),
        (
            "contentBlockStart",
            {"contentBlockIndex": 0, "start": {"toolUse": {"name": "weather", "toolUseId": "t"}}},
        ),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hi"}}),
        ("messageStop", {"stopReason": "tool_use"}),
        (
            "metadata",
            {
                "usage": {
                    "inputTokens": 11,
                    "outputTokens": 7,
                    "cacheReadInputTokens": 100,
                    "cacheWriteInputTokenCount": 20,
                }
            },
        ),
    )
)

# path, content type, answer: a stream of every dialect
STREAMS: dict[str, tuple[str, str, bytes]] = {
    "chat": ("/v1/chat/completions", SSE, CHAT),
    "messages": ("/v1/messages", SSE, ANTHROPIC),
    "responses": ("/v1/responses", SSE, RESPONSES),
    "gemini events": ("/v1beta/models/g:streamGenerateContent", SSE, GEMINI),
    "gemini array": ("/v1beta/models/g:streamGenerateContent", JSON, GEMINI_ARRAY),
    "ollama": ("/api/chat", "application/x-ndjson", OLLAMA),
    "cohere": ("/v2/chat", SSE, COHERE),
    "interactions": ("/v1beta/interactions", SSE, INTERACTION),
    "converse": (
        "/model/amazon.nova/converse-stream",
        "application/vnd.amazon.eventstream",
        CONVERSE,
    ),
}
