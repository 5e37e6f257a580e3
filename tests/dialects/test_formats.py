"""What each wire format says, and where: one table of answers and the readings they should give."""

import base64
import json
from typing import Any

import pytest
from llm_passthrough.dialects import operation, reader
from llm_passthrough.usage import Usage

from .samples import (
    ANTHROPIC,
    CONVERSE,
    GEMINI,
    GEMINI_ARRAY,
    JSON,
    RESPONSE,
    RESPONSES,
    STREAMS,
    chunk,
    events,
    frame,
    plain,
    read,
)

RESPONSE_USAGE = Usage(
    input_tokens=20, output_tokens=12, cache_read_tokens=8, reasoning_tokens=5, total_tokens=32
)


@pytest.mark.parametrize(
    ("name", "model", "ident", "reasons", "tools", "usage"),
    [
        pytest.param(
            "chat", "gpt-4o-2024-08-06", "chatcmpl-1", ("stop",), (),
            Usage(input_tokens=9, output_tokens=2, total_tokens=11), id="chat",
        ),
        pytest.param(
            "messages", "claude-sonnet-4-5", "msg_1", ("tool_use",), ("weather",),
            Usage(
                input_tokens=140, output_tokens=25, cache_read_tokens=100, cache_write_tokens=30,
                cache_write_5m_tokens=10, cache_write_1h_tokens=20,
            ),
            id="messages: input holds the cache, the delta's output counts",
        ),
        pytest.param(
            "responses", "gpt-5-mini", "resp_1", ("completed",), ("weather", "web_search_call"),
            RESPONSE_USAGE, id="responses: one call told three times is one call",
        ),
        pytest.param(
            "gemini events", "gemini-2.5-flash", "r1", ("STOP",), ("weather", "weather"),
            Usage(
                input_tokens=10, output_tokens=9, cache_read_tokens=2, reasoning_tokens=4,
                tool_use_tokens=3, input_audio_tokens=6, total_tokens=19,
            ),
            id="gemini: thinking and tool use are added",
        ),
        pytest.param(
            "ollama", "llama3.2", None, ("stop",), (),
            Usage(input_tokens=31, output_tokens=5), id="ollama",
        ),
        pytest.param(
            "cohere", None, "c1", ("TOOL_CALL",), ("weather",),
            Usage(input_tokens=44, output_tokens=28, cache_read_tokens=1376),
            id="cohere: what is billed",
        ),
        pytest.param(
            "interactions", "gemini-2.5-flash", "v1_1", ("completed",), ("weather",),
            Usage(
                input_tokens=13, output_tokens=168, cache_read_tokens=1, reasoning_tokens=126,
                tool_use_tokens=2, input_audio_tokens=4, total_tokens=179,
            ),
            id="interactions",
        ),
        pytest.param(
            "converse", None, None, ("tool_use",), ("weather",),
            Usage(
                input_tokens=131, output_tokens=7, cache_read_tokens=100, cache_write_tokens=20
            ),
            id="converse: input holds the cache",
        ),
    ],
)  # fmt: skip
def test_a_stream_says_what_it_says(
    name: str,
    model: str | None,
    ident: str | None,
    reasons: tuple[str, ...],
    tools: tuple[str, ...],
    usage: Usage,
) -> None:
    path, kind, body = STREAMS[name]
    got = read(path, body, kind)
    assert (got.model, got.response_id) == (model, ident)
    assert (got.finish_reasons, got.tool_calls) == (reasons, tools)
    assert got.usage == usage


def test_a_gemini_array_reads_as_its_events_do() -> None:
    path = "/v1beta/models/g:streamGenerateContent"
    assert read(path, GEMINI_ARRAY, JSON) == read(path, GEMINI)


@pytest.mark.parametrize(
    ("path", "value", "usage"),
    [
        pytest.param(
            "/v1/chat/completions",
            {"prompt_tokens": 432, "completion_tokens": 68, "total_tokens": 636,
             "completion_tokens_details": {"reasoning_tokens": 136}},
            Usage(input_tokens=432, output_tokens=204, reasoning_tokens=136, total_tokens=636),
            id="xAI's chat leaves reasoning out, as its total shows",
        ),
        pytest.param(
            "/v1/chat/completions",
            {"prompt_tokens": 10, "completion_tokens": 68, "total_tokens": 78,
             "completion_tokens_details": {"reasoning_tokens": 60}},
            Usage(input_tokens=10, output_tokens=68, reasoning_tokens=60, total_tokens=78),
            id="others count it in",
        ),
        pytest.param(
            "/v1/chat/completions",
            {"prompt_tokens": 23, "completion_tokens": 5, "total_tokens": 28,
             "prompt_tokens_details": {"cached_tokens": 190}},
            Usage(output_tokens=5, cache_read_tokens=190, total_tokens=28),
            id="more cached than asked: the input is not known",
        ),
        pytest.param(
            "/chat/completions",
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_cache_hit_tokens": 4},
            Usage(input_tokens=5, output_tokens=1, cache_read_tokens=4), id="DeepSeek",
        ),
        pytest.param(
            "/v1/embeddings", {"total_tokens": 3}, Usage(input_tokens=3, total_tokens=3),
            id="embeddings that tell a total only",
        ),
        pytest.param(
            "/v1/audio/transcriptions", {"type": "duration", "seconds": 3.7},
            Usage(audio_seconds=3.7), id="audio by its length",
        ),
        pytest.param(
            "/v1/audio/transcriptions",
            {"type": "tokens", "input_tokens": 37, "output_tokens": 4,
             "input_token_details": {"audio_tokens": 30, "text_tokens": 7}},
            Usage(input_tokens=37, output_tokens=4, input_audio_tokens=30), id="audio by tokens",
        ),
        pytest.param(
            "/v1/images/generations",
            {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106,
             "input_tokens_details": {"image_tokens": 40, "text_tokens": 10}},
            Usage(input_tokens=50, output_tokens=1056, input_image_tokens=40, total_tokens=1106),
            id="images",
        ),
        pytest.param(
            "/v1/messages", {"input_tokens": 5.0, "output_tokens": 6.0},
            Usage(input_tokens=5, output_tokens=6), id="whole numbers with a point",
        ),
        pytest.param("/v1/chat/completions", None, None, id="null"),
        pytest.param("/v1/chat/completions", {}, None, id="empty"),
        pytest.param("/v1/chat/completions", {"queue_time": 0.1}, None, id="no counts in it"),
    ],
)  # fmt: skip
def test_usage_is_inclusive_and_never_guessed(path: str, value: Any, usage: Usage | None) -> None:
    assert plain(path, {"id": "x", "usage": value}).usage == usage


@pytest.mark.parametrize(
    ("path", "value", "usage", "reasons", "tools"),
    [
        pytest.param(
            "/v1/chat",
            {"generation_id": "g", "text": "Hi", "finish_reason": "COMPLETE",
             "meta": {"billed_units": {"input_tokens": 7.0, "output_tokens": 100.0}}},
            Usage(input_tokens=7, output_tokens=100), ("COMPLETE",), (), id="Cohere's first chat",
        ),
        pytest.param(
            "/v1/chat",
            {"id": "g", "choices": [{"finish_reason": "stop", "message": {"content": "Hi"}}],
             "usage": {"prompt_tokens": 7, "completion_tokens": 1}},
            Usage(input_tokens=7, output_tokens=1), ("stop",), (), id="a compatible one, same path",
        ),
        pytest.param(
            "/model/amazon.titan/invoke",
            {"inputTextTokenCount": 5,
             "results": [{"tokenCount": 9, "completionReason": "FINISH"}]},
            Usage(input_tokens=5, output_tokens=9), ("FINISH",), (), id="Titan",
        ),
        pytest.param(
            "/model/meta.llama3/invoke",
            {"generation": "Hi", "prompt_token_count": 8, "generation_token_count": 35,
             "stop_reason": "stop"},
            Usage(input_tokens=8, output_tokens=35), ("stop",), (), id="Llama",
        ),
        pytest.param(
            "/model/us.anthropic.claude/invoke",
            {"id": "g", "type": "message", "stop_reason": "tool_use",
             "content": [{"type": "tool_use", "id": "t", "name": "weather"}],
             "usage": {"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 44}},
            Usage(input_tokens=12, output_tokens=44, cache_read_tokens=9), ("tool_use",),
            ("weather",), id="Claude on Bedrock",
        ),
        pytest.param(
            "/model/amazon.nova/invoke",
            {"output": {"message": {"content": [{"toolUse": {"name": "weather"}}]}},
             "stopReason": "tool_use",
             "usage": {"inputTokens": 8, "outputTokens": 4, "cacheReadInputTokenCount": 2}},
            Usage(input_tokens=10, output_tokens=4, cache_read_tokens=2), ("tool_use",),
            ("weather",), id="Nova",
        ),
        pytest.param(
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude:rawPredict",
            {"id": "g", "type": "message", "stop_reason": "end_turn",
             "usage": {"input_tokens": 3, "output_tokens": 4}},
            Usage(input_tokens=3, output_tokens=4), ("end_turn",), (), id="Claude on Vertex",
        ),
        pytest.param(
            "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict",
            {"id": "g", "choices": [{"finish_reason": "stop"}],
             "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
            Usage(input_tokens=3, output_tokens=4), ("stop",), (), id="Mistral on Vertex",
        ),
        pytest.param(
            "/v1/projects/p/locations/l/publishers/google/models/text-embedding:predict",
            {"predictions": [{"embeddings": {"statistics": {"token_count": 4.0}}},
                             {"embeddings": {"statistics": {"token_count": 6.0}}}]},
            Usage(input_tokens=10), (), (), id="Vertex embeddings",
        ),
        pytest.param(
            "/v1beta/models/g:generateContent",
            {"candidates": [{"finishReason": 2, "index": 1}, {"finishReason": 1, "index": 0}]},
            None, ("STOP", "MAX_TOKENS"), (), id="Gemini's enums as numbers, in order",
        ),
        pytest.param(
            "/v1beta/models/g:generateContent",
            {"promptFeedback": {"blockReason": "SAFETY"},
             "usageMetadata": {"promptTokenCount": 4}},
            Usage(input_tokens=4), ("SAFETY",), (), id="Gemini blocks the prompt",
        ),
        pytest.param(
            "/v1/responses", RESPONSE | {"status": "incomplete",
                                         "incomplete_details": {"reason": "max_output_tokens"}},
            RESPONSE_USAGE, ("max_output_tokens",), ("weather", "web_search_call"),
            id="an incomplete response",
        ),
        pytest.param(
            "/v1/responses/compact", {"id": "r", "object": "response.compaction",
                                      "usage": {"input_tokens": 3, "output_tokens": 4}},
            Usage(input_tokens=3, output_tokens=4), (), (), id="a compaction",
        ),
        pytest.param(
            "/v1/chat/completions",
            {"choices": [{"index": 1, "finish_reason": "length"},
                         {"index": 0, "finish_reason": "stop"}]},
            None, ("stop", "length"), (), id="several choices",
        ),
        pytest.param(
            "/v2/rerank", {"id": "r", "meta": {"billed_units": {"search_units": 2}}},
            Usage(search_units=2), (), (), id="ranking",
        ),
    ],
)  # fmt: skip
def test_a_whole_answer_says_what_it_says(
    path: str, value: Any, usage: Usage | None, reasons: tuple[str, ...], tools: tuple[str, ...]
) -> None:
    got = plain(path, value)
    assert (got.usage, got.finish_reasons, got.tool_calls) == (usage, reasons, tools)
    assert (got.complete, got.first_token_at) == (True, None)


def test_pieces_of_tool_calls_are_put_together() -> None:
    def call(index: int, ident: str | None, name: str | None) -> dict[str, Any]:
        piece = {"index": index, "id": ident, "function": {"name": name, "arguments": "{"}}
        return chunk(delta={"tool_calls": [piece]})

    body = events(
        call(0, "a", "add"), call(0, None, None), call(0, "a", "add"),  # a name told twice
        call(1, "b", "add"), call(0, "c", "mul"),  # a service that numbers all of them 0
        done=True,
    )  # fmt: skip
    assert read("/v1/chat/completions", body).tool_calls == ("add", "add", "mul")


def test_running_counts_are_the_last_that_were_told() -> None:
    body = events(
        chunk("a", usage={"prompt_tokens": 22, "completion_tokens": None}),
        chunk("b", usage={"prompt_tokens": 22, "completion_tokens": 7}),
        chunk("c", usage={"prompt_tokens": 22, "completion_tokens": None}),
    )
    assert read("/v1/chat/completions", body).usage == Usage(input_tokens=22, output_tokens=7)


def test_groqs_own_place_for_usage_counts() -> None:
    body = events(chunk("a"), chunk(x_groq={"usage": {"prompt_tokens": 2, "completion_tokens": 3}}))
    assert read("/v1/chat/completions", body).usage == Usage(input_tokens=2, output_tokens=3)


def test_an_empty_name_does_not_stand_when_a_better_one_comes() -> None:
    body = events(chunk(id="", model="", choices=[]), chunk("a"))
    got = read("/v1/chat/completions", body)
    assert (got.model, got.response_id) == ("gpt-4o-2024-08-06", "chatcmpl-1")


def test_the_tier_that_served_the_call_is_told() -> None:
    assert read("/v1/responses", RESPONSES).service_tier == "default"
    assert read("/v1/messages", ANTHROPIC).service_tier == "standard"


def test_transcription_events_are_read() -> None:
    body = events(
        {"type": "transcript.text.delta", "delta": "Hi"},
        {"type": "transcript.text.done", "text": "Hi", "usage": {"input_tokens": 3}},
    )
    got = read("/v1/audio/transcriptions", [body[:20], body[20:]])
    assert (got.usage, got.complete, got.first_token_at) == (Usage(input_tokens=3), True, 1.0)


def test_responses_on_a_websocket_add_up() -> None:
    it = reader(b"/v1/responses", "openai", "openai", "", 101)
    assert it is not None
    for line in RESPONSES.splitlines():
        if line.startswith(b"data: "):
            it.feed(line[6:], 1.0)
            it.feed(line[6:], 1.0)
    got = it.end()
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens) == (40, 24)
    assert got.model == "gpt-5-mini"


def test_gemini_live_adds_its_turns_up() -> None:
    path = b"/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    it = reader(path, "gemini", "google", "", 101)
    assert it is not None
    it.feed(b'{"setupComplete": {}}', 0.0)
    it.feed(b'{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"data":"AA"}}]}}}', 1.0)
    it.feed(b'{"toolCall":{"functionCalls":[{"name":"weather","id":"1"}]}}', 2.0)
    for _ in range(2):
        it.feed(b'{"usageMetadata":{"promptTokenCount":4,"responseTokenCount":6}}', 3.0)
    got = it.end()
    assert got.usage == Usage(input_tokens=8, output_tokens=12)
    assert (got.tool_calls, got.first_token_at) == (("weather",), 1.0)


def test_counts_between_serve_where_the_model_tells_none() -> None:
    inner = b'{"completion":" Hi","stop_reason":"stop_sequence","amazon-bedrock-invocationMetrics":'
    inner += b'{"inputTokenCount":25,"outputTokenCount":4}}'
    body = frame("chunk", b'{"bytes":"%s","p":"ab"}' % base64.b64encode(inner))
    path = "/model/anthropic.claude-v2/invoke-with-response-stream"
    got = read(path, body, "application/vnd.amazon.eventstream")
    assert got.usage == Usage(input_tokens=25, output_tokens=4)
    headers = [
        ("x-amzn-bedrock-input-token-count", "5"),
        ("x-amzn-bedrock-output-token-count", "6"),
    ]
    path = "/model/cohere.command/invoke"
    got = read(path, b'{"generations":[]}', JSON, headers=headers)
    assert got.usage == Usage(input_tokens=5, output_tokens=6)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff" * 200, id="no frames"),
        pytest.param(CONVERSE[:12] + b"\x00" * 60 + CONVERSE, id="headers of nothing"),
        pytest.param(frame("messageStop", b"oops"), id="no JSON inside"),
        pytest.param(frame("x", b"{}" + b" " * 400_000) + CONVERSE, id="a frame too long"),
        pytest.param(frame("a b", b"{}"), id="an odd event"),
        pytest.param(frame("chunk", b'{"bytes": 7}'), id="bytes that are none"),
        pytest.param(frame("chunk", b"oops"), id="a chunk of something else"),
    ],
)
def test_odd_frames_never_raise(body: bytes) -> None:
    for pieces in ([body], [body[i : i + 1] for i in range(min(len(body), 2000))]):
        read("/model/m/converse-stream", pieces, "application/vnd.amazon.eventstream")


def test_a_frame_too_long_is_passed_over_and_the_next_are_read() -> None:
    body = frame("x", b"{}" + b" " * 400_000) + CONVERSE
    kind = "application/vnd.amazon.eventstream"
    for size in (len(body), 1000):
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        got = read("/model/m/converse-stream", pieces, kind)
        assert (got.complete, got.unread) == (True, "1 messages were too long to be read")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/chat", "chat"),
        ("/v2/chat", "chat"),
        ("/api/generate", "completions"),
        ("/v1/responses/compact", "responses"),
        ("/api/embed", "embeddings"),
        ("/v1/rerank", "rerank"),
        ("/api/v1/images", "images"),
        ("/v1/videos/generations", "videos"),
        ("/v1/complete", "complete"),
        ("/model/us.amazon.nova-v1%3A0/converse-stream", "converse"),
        ("/model/meta.llama3/invoke-with-response-stream", "invoke"),
        ("/model/m/count-tokens", "count_tokens"),
        ("/v1/threads/t/runs/r", "assistants"),
        ("/v1/vector_stores/vs/files", "vector_stores"),
        ("/v1/fine_tuning/jobs", "fine_tuning"),
        ("/v1/conversations/c/items", "conversations"),
    ],
)
def test_compatible_services_have_operations_too(path: str, name: str) -> None:
    assert operation(path) == name


@pytest.mark.parametrize("kind", ["application/stream+json", "text/event-stream", JSON])
def test_coheres_first_stream_is_read(kind: str) -> None:
    rows = [
        {"event_type": "stream-start", "generation_id": "g"},
        {"event_type": "text-generation", "text": "Hi"},
        {"event_type": "tool-calls-generation", "tool_calls": [{"name": "weather"}]},
        {
            "event_type": "stream-end",
            "finish_reason": "COMPLETE",
            "response": {
                "generation_id": "g",
                "meta": {"billed_units": {"input_tokens": 2, "output_tokens": 3}},
            },
        },
    ]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    got = read("/v1/chat", body, kind)
    assert (got.response_id, got.finish_reasons, got.tool_calls) == (
        "g",
        ("COMPLETE",),
        ("weather",),
    )
    assert got.usage == Usage(input_tokens=2, output_tokens=3)
