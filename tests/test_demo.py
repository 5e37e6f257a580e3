"""The demo provider, asked by the real SDKs, by httpx where no SDK helps, by raw sockets below."""

import asyncio
import base64
import functools
import gzip
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import websockets
from google import genai
from google.genai import types
from live.authorities import Authority
from llm_passthrough.demo import DemoProvider, Seen

TOOL_TEXT = "use the tool please"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
OPENAI_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
HI: Any = [{"role": "user", "content": "hi there"}]
VERTEX = "/v1/projects/p/locations/us-east5"


class Running:
    """A provider in a loop of its own thread, so that blocking clients can talk to it."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("pace", 0.0)
        self.provider = DemoProvider(journal=True, **options)
        self.provider.bind()
        self.url = self.provider.base_url
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.provider.start(), self.loop).result(5)

    def last(self) -> Seen:
        return self.provider.seen[-1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.provider.stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture(scope="module", autouse=True)
def _one_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each client reads whom it trusts when it is made, in 0.1 s; here nobody needs to be."""
    with pytest.MonkeyPatch.context() as patch:
        ca_file = Authority(tmp_path_factory.mktemp("roots")).ca_file
        patch.setenv("SSL_CERT_FILE", str(ca_file))
        yield


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    running = Running()
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    running = Running(keys=frozenset({"sk-right"}))
    yield running
    running.close()


@pytest.fixture(scope="module")
def http(demo: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, trust_env=False, timeout=10) as client:
        yield client


@functools.cache
def openai_client(demo: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=demo.url + "/v1", api_key="demo", max_retries=0)


@functools.cache
def azure_client(demo: Running) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=demo.url, api_key="demo", api_version="2024-10-21", max_retries=0
    )


@functools.cache
def anthropic_client(demo: Running) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=demo.url, api_key="demo", max_retries=0)


@functools.cache  # a genai.Client that is dropped closes itself under its own last call
def gemini_client(demo: Running, version: str = "v1beta") -> genai.Client:
    options = types.HttpOptions(base_url=demo.url, api_version=version)
    return genai.Client(vertexai=False, api_key="demo", http_options=options)


@functools.cache
def vertex_client(demo: Running) -> genai.Client:
    return genai.Client(
        vertexai=True, api_key="demo", http_options=types.HttpOptions(base_url=demo.url)
    )


# -- OpenAI and Azure ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [openai_client, azure_client], ids=["openai", "azure"])
def test_chat_echoes_the_user_and_counts_tokens(demo: Running, make: Any) -> None:
    answer = make(demo).chat.completions.create(model="gpt-5", messages=HI)
    assert answer.choices[0].message.content.endswith("You said: hi there")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens > 0
    assert usage.completion_tokens_details.reasoning_tokens == 16
    assert answer._request_id


@pytest.mark.parametrize("make", [openai_client, azure_client], ids=["openai", "azure"])
@pytest.mark.parametrize("counts", [True, False], ids=["with-usage", "without-usage"])
def test_a_chat_stream_says_the_same_and_usage_only_when_asked(
    demo: Running, make: Any, counts: bool
) -> None:
    extra = {"stream_options": {"include_usage": True}} if counts else {}
    stream = make(demo).chat.completions.create(model="gpt-4o", messages=HI, stream=True, **extra)
    chunks = list(stream)
    deltas = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(deltas).endswith("hi there")
    assert [c for c in chunks if c.choices][-1].choices[0].finish_reason == "stop"
    assert [bool(c.usage) for c in chunks].count(True) == int(counts)
    assert bool(chunks[0].choices) is (make is openai_client)  # Azure's first chunk has none


def test_chat_calls_the_offered_tool_plain_and_streamed(demo: Running) -> None:
    client, asked = openai_client(demo), [{"role": "user", "content": TOOL_TEXT}]
    create: Any = client.chat.completions.create
    answer = create(model="gpt-4o", messages=asked, tools=OPENAI_TOOLS)
    call = answer.choices[0].message.tool_calls[0].function
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "demo"})
    assert answer.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(
        model="gpt-4o", messages=asked, tools=OPENAI_TOOLS
    ) as stream:  # type: ignore[arg-type]
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.arguments


def test_chat_answers_in_words_once_the_tool_has_answered(demo: Running) -> None:
    turns: Any = [
        {"role": "user", "content": TOOL_TEXT},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    create: Any = openai_client(demo).chat.completions.create
    answer = create(model="gpt-4o", messages=turns, tools=OPENAI_TOOLS)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("make", [openai_client, azure_client], ids=["openai", "azure"])
def test_responses_plain_and_streamed_end_with_usage(demo: Running, make: Any) -> None:
    client = make(demo)
    plain = client.responses.create(model="gpt-5", input="hi there")
    assert plain.output_text.endswith("hi there")
    assert plain.output[0].type == "reasoning"
    assert plain.usage.output_tokens_details.reasoning_tokens == 16
    events = list(client.responses.create(model="gpt-4o", input=HI, stream=True))
    assert events[0].type == "response.created"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta").endswith(
        "hi there"
    )
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.input_tokens_details.cached_tokens > 0
    assert [e.sequence_number for e in events] == list(range(len(events)))


def test_responses_call_the_offered_tool(demo: Running) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    with openai_client(demo).responses.stream(model="gpt-4o", input=TOOL_TEXT, tools=tools) as s:
        final = s.get_final_response()
    assert final.output[0].type == "function_call"
    assert json.loads(final.output[0].arguments) == {"city": "demo"}


def test_embeddings_are_unit_vectors_in_floats_and_in_base64(demo: Running) -> None:
    create = openai_client(demo).embeddings.create
    floats = create(model="e", input=["a", "b"], dimensions=8, encoding_format="float").data
    packed = create(model="e", input="a", dimensions=8, encoding_format="base64").data[0].embedding
    assert len(floats) == 2
    assert sum(x * x for x in floats[0].embedding) == pytest.approx(1)
    unpacked = struct.unpack("<8f", base64.b64decode(packed))  # type: ignore[arg-type]
    assert unpacked == pytest.approx(floats[0].embedding, abs=1e-6)
    assert len(create(model="e", input="a").data[0].embedding) == 1536  # the SDK asks for base64


OPENAI_CALLS: dict[str, Callable[[openai.OpenAI], bool]] = {
    "models": lambda c: "gpt-4o" in [m.id for m in c.models.list()],
    "one-model": lambda c: c.models.retrieve("ft:gpt-4o:org::x").id == "ft:gpt-4o:org::x",
    "completions": lambda c: "hi" in c.completions.create(model="m", prompt="hi").choices[0].text,
    "text-stream": lambda c: (
        [
            x.choices[0].finish_reason
            for x in c.completions.create(model="m", prompt="hi", stream=True)
        ][-1]
        == "stop"
    ),
    "speech": lambda c: (
        c.audio.speech.create(model="tts-1", voice="alloy", input="hi").read()[:2] == b"\xff\xfb"
    ),
    "transcription": lambda c: (
        "a.wav" in c.audio.transcriptions.create(model="w", file=("a.wav", b"RIFF")).text
    ),
    "image": lambda c: bool(c.images.generate(prompt="hi", model="gpt-image-1").data[0].b64_json),  # type: ignore[index]
    "moderation": lambda c: not c.moderations.create(input="hi").results[0].flagged,
    "batch": lambda c: (
        c.batches.create(
            input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h"
        ).status
        == "validating"
    ),
    "one-batch": lambda c: c.batches.retrieve("batch_1").status == "completed",
    "input-tokens": lambda c: (
        c.responses.input_tokens.count(model="m", input="hi").input_tokens > 0
    ),
    "old-response": lambda c: c.responses.retrieve("resp_1").id == "resp_1",
}


@pytest.mark.parametrize("call", OPENAI_CALLS.values(), ids=OPENAI_CALLS.keys())
def test_the_openai_sdk_can_call(demo: Running, call: Callable[[openai.OpenAI], bool]) -> None:
    assert call(openai_client(demo))


def test_an_uploaded_openai_file_comes_back_byte_for_byte(demo: Running) -> None:
    files, data = openai_client(demo).files, bytes(range(256)) * 9 + b"\r\n--x\r\n"
    made = files.create(file=("a.bin", data), purpose="batch")
    assert (made.filename, made.bytes, made.purpose) == ("a.bin", len(data), "batch")
    assert files.content(made.id).read() == data
    assert made.id in [f.id for f in files.list()]
    assert files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        files.retrieve(made.id)


@pytest.mark.asyncio
async def test_the_async_openai_sdk_streams(demo: Running) -> None:
    client = openai.AsyncOpenAI(base_url=demo.url + "/v1", api_key="demo")
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
    text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text.endswith("hi there")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/openai/deployments/d/chat/completions", 404),
        ("/openai/deployments/d/chat/completions?api-version=1", 200),
        ("/openai/deployments/my%20dep%2Fx/chat/completions?api-version=1", 200),
        ("/openai/responses", 404),
        ("/openai/v1/chat/completions", 200),
        ("/openai/v1/deployments/d/chat/completions?api-version=1", 404),
    ],
)
def test_azure_needs_an_api_version_except_below_v1(
    http: httpx.Client, path: str, status: int
) -> None:
    answer = http.post(path, json={"model": "m", "messages": HI})
    assert answer.status_code == status
    if status == 404:
        assert answer.json() == {"error": {"code": "404", "message": "Resource not found"}}
    assert "apim-request-id" in answer.headers


# -- Anthropic -----------------------------------------------------------------------------------


def test_anthropic_messages_plain_and_streamed_say_the_same(demo: Running) -> None:
    client = anthropic_client(demo)
    plain = client.messages.create(model="claude-x", max_tokens=99, messages=HI)
    with client.messages.stream(model="claude-x", max_tokens=99, messages=HI) as stream:
        streamed = stream.get_final_message()
    assert plain.content[0].text == streamed.content[0].text  # type: ignore[union-attr]
    assert plain.usage.output_tokens == streamed.usage.output_tokens
    assert plain.usage.input_tokens == streamed.usage.input_tokens
    assert (plain.stop_reason, streamed.stop_reason) == ("end_turn", "end_turn")
    assert plain._request_id.startswith("req_01")  # type: ignore[union-attr]


def test_anthropic_events_come_in_the_real_order(http: httpx.Client) -> None:
    body = {"model": "c", "max_tokens": 9, "messages": HI, "stream": True}
    answer = http.post("/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"})
    names = [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")]
    start, end = ["message_start", "content_block_start", "ping"], ["message_delta", "message_stop"]
    assert names[:3] == start
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", *end]


def test_anthropic_thinks_uses_tools_and_counts_the_cache(demo: Running) -> None:
    system: Any = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    with anthropic_client(demo).messages.stream(
        model="claude-x",
        max_tokens=2000,
        system=system,
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=[{"name": "weather", "input_schema": SCHEMA}],  # type: ignore[typeddict-item]
        messages=[{"role": "user", "content": TOOL_TEXT}],
    ) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "tool_use"]
    assert final.content[1].input == {"city": "demo"}  # type: ignore[union-attr]
    assert final.stop_reason == "tool_use"
    assert final.usage.cache_read_input_tokens
    assert final.usage.cache_creation_input_tokens


ANTHROPIC_CALLS: dict[str, Callable[[anthropic.Anthropic], bool]] = {
    "count": lambda c: c.messages.count_tokens(model="m", messages=HI).input_tokens > 0,
    "models": lambda c: "claude-sonnet-4-5" in [m.id for m in c.models.list()],
    "one-model": lambda c: c.models.retrieve("claude-x").id == "claude-x",
    "batch": lambda c: (
        c.messages.batches.create(
            requests=[{"custom_id": "1", "params": {"model": "m", "max_tokens": 1, "messages": HI}}]
        ).processing_status
        == "in_progress"
    ),
    "one-batch": lambda c: c.messages.batches.retrieve("b").processing_status == "ended",
    "results": lambda c: [r.custom_id for r in c.messages.batches.results("b")] == ["demo-1"],
    "files": lambda c: c.beta.files.upload(file=("a.txt", b"abc", "text/plain")).size_bytes == 3,
}


@pytest.mark.parametrize("call", ANTHROPIC_CALLS.values(), ids=ANTHROPIC_CALLS.keys())
def test_the_anthropic_sdk_can_call(
    demo: Running, call: Callable[[anthropic.Anthropic], bool]
) -> None:
    assert call(anthropic_client(demo))


@pytest.mark.asyncio
async def test_the_async_anthropic_sdk_streams(demo: Running) -> None:
    client = anthropic.AsyncAnthropic(base_url=demo.url, api_key="demo")
    async with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
        assert "".join([t async for t in stream.text_stream]).endswith("hi there")


def test_foundry_serves_claude_below_the_azure_host(demo: Running) -> None:
    client = anthropic.Anthropic(base_url=demo.url + "/anthropic", api_key="demo")
    answer = client.messages.with_raw_response.create(model="m", max_tokens=9, messages=HI)
    assert "apim-request-id" in answer.headers


def test_anthropic_without_a_version_is_refused_in_its_own_shape(http: httpx.Client) -> None:
    answer = http.post("/v1/messages", json={"model": "m", "max_tokens": 1, "messages": HI})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "anthropic-version: header is required"
    assert answer.json()["request_id"] == answer.headers["request-id"]


# -- Gemini and Vertex ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_gemini_generates_plain_and_streamed(demo: Running, version: str) -> None:
    models = gemini_client(demo, version).models
    plain = models.generate_content(model="gemini-2.5-flash", contents="hi there")
    chunks = list(models.generate_content_stream(model="gemini-2.5-flash", contents="hi there"))
    assert plain.text == "".join(c.text or "" for c in chunks)
    assert plain.usage_metadata == chunks[-1].usage_metadata
    usage: Any = plain.usage_metadata
    assert usage.thoughts_token_count == 16
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + 16
    assert [c.candidates[0].finish_reason for c in chunks][-1] == types.FinishReason.STOP  # type: ignore[index]


def test_gemini_calls_the_offered_function(demo: Running) -> None:
    function = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[function])])
    answer = gemini_client(demo).models.generate_content(
        model="gemini-2.5-flash", contents=TOOL_TEXT, config=config
    )
    assert answer.function_calls[0].args == {"city": "demo"}  # type: ignore[index]


GOOGLE_CALLS: dict[str, Callable[[genai.Client], bool]] = {
    "count": lambda c: bool(c.models.count_tokens(model="m", contents="hi").total_tokens),
    "embed": lambda c: len(c.models.embed_content(model="m", contents=["a", "b"]).embeddings) == 2,  # type: ignore[arg-type]
    "models": lambda c: "models/gemini-2.5-flash" in [m.name for m in c.models.list()],
    "one-model": lambda c: c.models.get(model="gemini-x").name == "models/gemini-x",
    "cache": lambda c: c.caches.create(model="m").name.startswith("cachedContents/"),  # type: ignore[union-attr]
    "one-cache": lambda c: c.caches.get(name="cachedContents/x").name == "cachedContents/x",
    "files": lambda c: isinstance(list(c.files.list()), list),
    "interaction": lambda c: (
        "hi"
        in c.interactions.create(model="gemini-2.5-flash", input="hi").steps[-1].content[0].text
    ),
    "interaction-stream": lambda c: (
        [e.event_type for e in c.interactions.create(model="m", input="hi", stream=True)][-1]
        == "interaction.completed"
    ),
}


@pytest.mark.parametrize("call", GOOGLE_CALLS.values(), ids=GOOGLE_CALLS.keys())
def test_the_gemini_sdk_can_call(demo: Running, call: Callable[[genai.Client], bool]) -> None:
    assert call(gemini_client(demo))


def test_a_gemini_upload_in_pieces_ends_as_an_active_file(demo: Running, tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    path.write_bytes(b"0123456789" * 900_000)  # more than one 8 MiB piece
    client = gemini_client(demo)
    made = client.files.upload(file=path)
    assert (made.size_bytes, made.mime_type) == (9_000_000, "text/plain")
    assert client.files.get(name=made.name or "").state == types.FileState.ACTIVE


def test_the_upload_url_is_on_the_host_that_the_client_named(http: httpx.Client) -> None:
    headers = {"X-Goog-Upload-Command": "start", "Host": "gateway.test:8080"}
    answer = http.post("/upload/v1beta/files", headers=headers, json={"file": {}})
    url = answer.headers["X-Goog-Upload-URL"]
    assert url.startswith("http://gateway.test:8080/upload/v1beta/files?upload_id=")


def test_google_sse_ends_lines_with_crlf_and_without_alt_it_is_one_array(
    http: httpx.Client,
) -> None:
    path, body = (
        "/v1beta/models/m:streamGenerateContent",
        {"contents": [{"parts": [{"text": "hi"}]}]},
    )
    sse = http.post(path + "?alt=sse", json=body)
    assert sse.headers["content-type"].startswith("text/event-stream")
    assert all(json.loads(event[6:]) for event in sse.text.split("\r\n\r\n")[:-1])
    assert len(http.post(path, json=body).json()) == len(sse.text.split("\r\n\r\n")) - 1


def test_gemini_speaks_openai_too(demo: Running) -> None:
    client = openai.OpenAI(base_url=demo.url + "/v1beta/openai", api_key="demo")
    answer = client.chat.completions.create(model="gemini-2.5-flash", messages=HI)
    assert answer.choices[0].message.content


@pytest.mark.asyncio
async def test_the_async_gemini_sdk_streams(demo: Running) -> None:
    options = types.HttpOptions(base_url=demo.url)
    client = genai.Client(vertexai=False, api_key="demo", http_options=options)
    stream = await client.aio.models.generate_content_stream(model="m", contents="hi")
    assert "".join([chunk.text or "" async for chunk in stream]).endswith("hi")


def test_vertex_express_generates_and_counts(demo: Running) -> None:
    models = vertex_client(demo).models
    assert models.generate_content(model="gemini-2.5-flash", contents="hi").text
    assert demo.last().target.startswith("/v1beta1/publishers/google/models/")
    assert models.count_tokens(model="gemini-2.5-flash", contents="hi").total_tokens


def test_claude_on_vertex_answers_plain_streamed_and_counts(demo: Running) -> None:
    client = anthropic.AnthropicVertex(
        region="us-east5", project_id="p", access_token="ya29.x", base_url=demo.url + "/v1"
    )
    model = "claude-sonnet-4@20250514"
    assert client.messages.create(model=model, max_tokens=9, messages=HI).usage.output_tokens
    with client.messages.stream(model=model, max_tokens=9, messages=HI) as stream:
        assert stream.get_final_text().endswith("hi there")
    assert ":streamRawPredict" in demo.last().target
    assert client.messages.count_tokens(model=model, messages=HI).input_tokens


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/publishers/google/models/m:predict", {"instances": [{"content": "a"}]}, "predictions"),
        (
            "/publishers/google/models/m:embedContent",
            {"content": {"parts": [{"text": "a"}]}},
            "embedding",
        ),
        ("/endpoints/openapi/chat/completions", {"model": "m", "messages": HI}, "choices"),
        ("/cachedContents", {"model": "m"}, "name"),
        ("/batchPredictionJobs", {}, None),
        (":anything", {}, None),
    ],
)
def test_vertex_serves_below_a_location(
    http: httpx.Client, path: str, body: Any, key: str | None
) -> None:
    answer = http.post(VERTEX + path, json=body)
    assert answer.status_code == 200
    assert key in answer.json() if key else answer.json() == {}


def test_v1_models_belongs_to_whom_the_headers_name(http: httpx.Client) -> None:
    cases = [
        ({}, "object"),
        ({"anthropic-version": "1"}, "first_id"),
        ({"x-goog-api-key": "k"}, "models"),
    ]
    for headers, key in cases:
        assert key in http.get("/v1/models", headers=headers).json()


# -- errors on request ---------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[Running, str], Any], type[Exception]]] = {
    "openai": (
        lambda d, t: openai_client(d).chat.completions.create(
            model="m", messages=[{"role": "user", "content": t}]
        ),
        openai.RateLimitError,
    ),
    "responses": (
        lambda d, t: openai_client(d).responses.create(model="m", input=t, stream=True),
        openai.RateLimitError,
    ),
    "azure": (
        lambda d, t: azure_client(d).embeddings.create(model="m", input=t),
        openai.RateLimitError,
    ),
    "anthropic": (
        lambda d, t: anthropic_client(d).messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": t}]
        ),
        anthropic.RateLimitError,
    ),
    "gemini": (
        lambda d, t: gemini_client(d).models.generate_content(model="m", contents=t),
        genai.errors.ClientError,
    ),
}


@pytest.mark.parametrize(("call", "expected"), ERRORS.values(), ids=ERRORS.keys())
def test_an_asked_for_429_is_each_sdks_own_rate_limit_error(
    demo: Running, call: Callable[[Running, str], Any], expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        call(demo, "please error:429 now")
    assert "429" in str(caught.value)


A_VERSION = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("path", "headers", "status", "where", "expected"),
    [
        ("/v1/messages", A_VERSION, 529, ("error", "type"), "overloaded_error"),
        ("/v1/chat/completions", {}, 503, ("error", "type"), "service_unavailable"),
        ("/v1/chat/completions", {}, 429, ("error", "code"), "rate_limit_exceeded"),
        ("/v1beta/models/m:generateContent", {}, 503, ("error", "status"), "UNAVAILABLE"),
        (VERTEX + "/publishers/google/models/m:generateContent", {}, 403, ("error", "code"), 403),
        ("/openai/v1/chat/completions", {}, 429, ("error", "code"), "429"),
    ],
)
def test_an_error_asked_for_in_the_query_has_the_providers_shape(
    http: httpx.Client,
    path: str,
    headers: Any,
    status: int,
    where: tuple[str, str],
    expected: object,
) -> None:
    answer = http.post(f"{path}?demo_error={status}", headers=headers, json={})
    assert answer.status_code == status
    assert answer.json()[where[0]][where[1]] == expected
    assert (answer.headers.get("retry-after") == "1") or status != 429


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("POST", "/v1/nothing", 404, {"type": "invalid_request_error"}),
        ("GET", "/", 404, {"message": "Invalid URL (GET /)"}),
        ("GET", "/v1/chat/completions", 405, {"code": "method_not_supported"}),
        ("POST", "/openai/nothing", 404, {"code": "404", "message": "Resource not found"}),
        ("POST", "/v1/messages/nothing", 404, {"type": "not_found_error"}),
        ("POST", "/v1beta/nothing", 404, {"status": "NOT_FOUND"}),
        ("POST", "/v1beta1/projects/p/nothing", 404, {"status": "NOT_FOUND"}),
    ],
)
def test_an_unknown_path_gets_the_providers_own_refusal(
    http: httpx.Client, method: str, path: str, status: int, part: dict[str, str]
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert part.items() <= answer.json()["error"].items()


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"messages": 5}', b'{"model": "m", "messages": [1], "tools": {"a": 1}}'],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent"]
)
def test_a_malformed_body_is_a_400_and_never_a_crash(
    http: httpx.Client, path: str, body: bytes
) -> None:
    answer = http.post(path, content=body, headers=A_VERSION)
    assert answer.status_code == 400 or (b"tools" in body and answer.status_code == 200)


def test_error_cut_drops_the_stream_after_a_few_events(demo: Running) -> None:
    stream = openai_client(demo).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "error:cut"}], stream=True
    )
    got: list[Any] = []
    with pytest.raises(openai.APIConnectionError):
        got.extend(iter(stream))
    assert [chunk.choices[0].delta.content for chunk in got] == ["", "Hello", " from"]


def test_error_cut_also_cuts_a_plain_answer(http: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions?demo_error=cut", json={"model": "m", "messages": HI})


def test_error_stall_sends_the_head_and_then_nothing(http: httpx.Client) -> None:
    started = time.monotonic()
    with http.stream("GET", "/v1/models?demo_error=stall", timeout=0.3) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            answer.read()
    assert time.monotonic() - started < 2


def test_error_slow_waits_before_the_first_byte(http: httpx.Client) -> None:
    started = time.monotonic()
    assert http.get("/v1/models?demo_error=slow").status_code == 200
    assert 1.9 < time.monotonic() - started < 4


# -- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/models", {"Authorization": "Bearer sk-right"}, 200),
        ("/v1/models", {"Authorization": "Bearer sk-wrong"}, 401),
        ("/v1/models", {"Authorization": "sk-right"}, 200),
        ("/v1/models", {}, 401),
        ("/v1/models", {"x-api-key": "sk-right"}, 401),
        ("/v1/models", {"Authorization": "Bearer sk-right", "x-api-key": "leaked"}, 401),
        ("/v1/models", A_VERSION | {"x-api-key": "sk-right"}, 200),
        ("/openai/v1/models", {"api-key": "sk-right"}, 200),
        ("/v1beta/models?key=sk-right", {}, 200),
        ("/v1beta/models?key=leaked", {"x-goog-api-key": "sk-right"}, 401),
        ("/v1beta/models", {"x-goog-api-key": "sk-right"}, 200),
        ("/v1beta1/publishers/google/models", {"Authorization": "Bearer sk-wrong"}, 401),
    ],
)
def test_only_the_right_key_in_the_right_place_and_no_other_gets_in(
    guarded: Running, path: str, headers: dict[str, str], status: int
) -> None:
    answer = httpx.get(guarded.url + path, headers=headers, trust_env=False, verify=False)
    assert answer.status_code == status
    assert status == 200 or "sk-" not in answer.text


def test_an_upload_goes_on_without_a_key(guarded: Running, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abc")
    options = types.HttpOptions(base_url=guarded.url, api_version="v1beta")
    client = genai.Client(vertexai=False, api_key="sk-right", http_options=options)
    assert client.files.upload(file=path).size_bytes == 3


# -- HTTP/1.1 ------------------------------------------------------------------------------------


def exchange(demo: Running, *pieces: bytes) -> bytes:
    """Send the pieces with a pause between, read until the server closes."""
    host, port = demo.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        for piece in pieces:
            raw.sendall(piece)
            time.sleep(0.02)
        return b"".join(iter(lambda: raw.recv(65536), b""))


CLOSE = b"Host: x\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /v1/models HTTP/1.1\r\n" + CLOSE + b"\r\n", b"HTTP/1.1 200 OK"),
        (b"\r\n\r\nGET /v1/models HTTP/1.1\r\n" + CLOSE + b"\r\n", b"HTTP/1.1 200 OK"),
        (b"GET http://x/v1/models HTTP/1.1\r\n" + CLOSE + b"\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /v1/models HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\n" + CLOSE + b" folded\r\n\r\n", b"HTTP/1.1 400"),
        (b"POST / HTTP/1.1\r\n" + CLOSE + b"Content-Length: +3\r\n\r\nabc", b"HTTP/1.1 400"),
        (
            b"POST / HTTP/1.1\r\n"
            + CLOSE
            + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 400",
        ),
        (
            b"POST / HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 400",
        ),
    ],
)
def test_a_request_is_read_strictly(demo: Running, sent: bytes, expected: bytes) -> None:
    assert exchange(demo, sent).startswith(expected)


def test_a_chunked_body_with_trailers_is_journalled_without_its_framing(demo: Running) -> None:
    head = b"POST /v1/moderations HTTP/1.1\r\n" + CLOSE + b"transfer-ENCODING: chunked\r\n\r\n"
    body = b'2;x=1\r\n{"\r\n11\r\ninput": "abcdef"}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    got = exchange(demo, head[:20], head[20:], *[body[i : i + 7] for i in range(0, len(body), 7)])
    assert got.startswith(b"HTTP/1.1 200")
    seen = demo.last()
    assert (seen.method, seen.target) == ("POST", "/v1/moderations")
    assert seen.head == head
    assert seen.body == b'{"input": "abcdef"}'
    assert ("transfer-ENCODING", "chunked") in seen.headers
    assert abs(seen.started - time.time()) < 5


def test_expect_100_is_answered_before_the_body_is_read(demo: Running) -> None:
    head = b"POST /v1/moderations HTTP/1.1\r\n" + CLOSE + b"Content-Length: 2\r\n"
    got = exchange(demo, head + b"Expect: 100-continue\r\n\r\n", b"{}")
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_two_pipelined_requests_are_answered_in_order(demo: Running) -> None:
    first = b"GET /v1/models/first HTTP/1.1\r\nHost: x\r\n\r\n"
    got = exchange(demo, first + b"GET /v1/models/second HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert 0 < got.index(b'"first"') < got.index(b'"second"')


@pytest.mark.parametrize(
    ("framing", "has", "lacks"),
    [
        ("length", "content-length", "transfer-encoding"),
        ("close", "connection", "content-length"),
        (None, "transfer-encoding", "content-length"),
    ],
)
def test_the_framing_of_a_plain_answer_can_be_chosen(
    http: httpx.Client, framing: str | None, has: str, lacks: str
) -> None:
    answer = http.get("/v1/models", headers={"x-demo-framing": framing} if framing else {})
    assert has in answer.headers
    assert lacks not in answer.headers
    assert answer.json()["object"] == "list"
    assert (answer.headers["connection"] == "close") is (framing == "close")


def test_head_has_the_headers_of_get_and_no_body(http: httpx.Client) -> None:
    answer = http.head("/v1/models", headers={"x-demo-framing": "length"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100
    assert http.get("/v1/models").status_code == 200  # the connection is still in step


@pytest.mark.parametrize(
    ("accepts", "zipped"), [("gzip, deflate", True), ("br, gzip;q=0", False), ("identity", False)]
)
def test_long_json_is_zipped_when_the_client_takes_gzip(
    http: httpx.Client, accepts: str, zipped: bool
) -> None:
    body = {"model": "m", "input": "hi", "dimensions": 400}
    with http.stream(
        "POST", "/v1/embeddings", json=body, headers={"accept-encoding": accepts}
    ) as a:
        raw = b"".join(a.iter_raw())
    assert (a.headers.get("content-encoding") == "gzip") is zipped
    assert json.loads(gzip.decompress(raw) if zipped else raw)["object"] == "list"


@pytest.mark.parametrize(
    ("path", "headers", "names"),
    [
        ("/v1/models", {}, ["x-request-id", "openai-organization", "x-ratelimit-limit-requests"]),
        ("/v1/models", A_VERSION, ["request-id", "anthropic-ratelimit-requests-limit"]),
        ("/openai/v1/models", {}, ["apim-request-id", "x-ms-region"]),
        ("/v1beta/models", {}, ["server-timing"]),
    ],
)
def test_answers_carry_the_providers_headers_and_what_a_gateway_must_strip(
    http: httpx.Client, path: str, headers: dict[str, str], names: list[str]
) -> None:
    answer = http.get(path, headers=headers)
    for name in [*names, "set-cookie", "alt-svc", "strict-transport-security"]:
        assert name in answer.headers


@pytest.mark.asyncio
async def test_events_come_one_by_one_at_the_pace() -> None:
    provider = DemoProvider(pace=0.02)
    provider.bind()
    await provider.start()
    body = {"model": "m", "messages": HI, "stream": True}
    async with (
        httpx.AsyncClient(base_url=provider.base_url, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        moments = [time.monotonic() async for _ in answer.aiter_raw()]
    await provider.stop()
    assert len(moments) > 20
    assert moments[-1] - moments[0] > 0.02 * 20


@pytest.mark.asyncio
async def test_stop_ends_open_connections_and_the_port_can_be_bound_again() -> None:
    provider = DemoProvider()
    port = provider.bind()
    await provider.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.02)
    await asyncio.wait_for(provider.stop(), 2)
    assert await reader.read() == b""
    writer.close()
    assert provider.bind(port=port) == port
    await provider.stop()


def test_without_bind_there_is_no_address() -> None:
    with pytest.raises(RuntimeError, match="before bind"):
        _ = DemoProvider().base_url


def test_it_speaks_tls_with_a_certificate(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    make += f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    subprocess.run(make.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    running = Running(ssl_context=context)
    try:
        trust = ssl.create_default_context(cafile=cert)
        answer = httpx.get(running.url + "/v1/models", verify=trust, trust_env=False)
        assert running.url.startswith("https://")
        assert answer.status_code == 200
    finally:
        running.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_alone_it_prints_its_url_and_ends_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "llm_passthrough.demo", "--pace", "0"]
    addon = str(Path(__file__).parents[1] / "addon")
    env = os.environ | {"PYTHONPATH": addon}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        url = process.stdout.readline().split()[3]
        assert httpx.get(url + "/v1/models", trust_env=False).status_code == 200
        process.send_signal(number)
        assert process.wait(5) == 0


# -- WebSocket -----------------------------------------------------------------------------------


def test_the_openai_sdk_holds_a_realtime_conversation(demo: Running) -> None:
    item: Any = {"type": "message", "role": "user"}
    item["content"] = [{"type": "input_text", "text": "hi there"}]
    with openai_client(demo).realtime.connect(model="gpt-realtime") as talk:
        assert talk.recv().type == "session.created"
        talk.conversation.item.create(item=item)
        talk.response.create()
        events: list[Any] = []
        while not events or events[-1].type != "response.done":
            events.append(talk.recv())
    words = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(words).endswith("hi there")
    assert events[-1].response.usage.input_token_details.cached_tokens > 0


def ws(demo: Running, path: str) -> str:
    return demo.url.replace("http", "ws", 1) + path


@pytest.mark.asyncio
async def test_responses_over_websocket_send_the_same_events(demo: Running) -> None:
    async with websockets.connect(ws(demo, "/v1/responses"), proxy=None) as talk:
        await talk.send(json.dumps({"type": "response.create", "model": "m", "input": "hi"}))
        kinds = [json.loads(await talk.recv())["type"]]
        while kinds[-1] != "response.completed":
            kinds.append(json.loads(await talk.recv())["type"])
        await talk.send(json.dumps({"type": "response.create", "input": "error:429"}))
        assert json.loads(await talk.recv())["error"]["code"] == "rate_limit_exceeded"
    assert kinds[0] == "response.created"


LIVE = [
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k",
    "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", LIVE, ids=["gemini", "vertex"])
@pytest.mark.parametrize("style", ["camel", "snake"])
async def test_google_live_takes_turns_in_binary_frames(
    demo: Running, path: str, style: str
) -> None:
    turns = [{"role": "user", "parts": [{"text": "hi"}]}]
    content: Any = {"clientContent": {"turns": turns, "turnComplete": True}}
    if style == "snake":
        content = {"client_content": {"turns": turns, "turn_complete": True}}
    async with websockets.connect(ws(demo, path), proxy=None) as talk:
        await talk.send(json.dumps({"setup": {"model": "models/m"}}))
        first = await talk.recv()
        assert isinstance(first, bytes)
        assert "setupComplete" in json.loads(first)
        await talk.send(json.dumps(content))
        messages = [json.loads(await talk.recv())]
        while not messages[-1]["serverContent"].get("turnComplete"):
            messages.append(json.loads(await talk.recv()))
    assert messages[0]["serverContent"]["modelTurn"]["parts"][0]["text"] == "Hello"
    assert messages[-1]["usageMetadata"]["thoughtsTokenCount"] == 16


@pytest.mark.asyncio
async def test_only_the_realtime_subprotocol_is_chosen(demo: Running) -> None:
    offered: Any = ["openai-insecure-api-key.k", "realtime"]
    path = "/openai/realtime?api-version=1&deployment=d"
    async with websockets.connect(ws(demo, path), subprotocols=offered, proxy=None) as talk:
        assert talk.subprotocol == "realtime"
        assert json.loads(await talk.recv())["session"]["model"] == "d"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nothing", 404),
        ("/openai/realtime", 404),
        ("/v1/realtime?demo_error=429", 429),
    ],
)
async def test_a_websocket_can_be_refused_over_http(demo: Running, path: str, status: int) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(ws(demo, path), proxy=None)
    assert caught.value.response.status_code == status


async def _until_closed(talk: websockets.ClientConnection) -> websockets.ConnectionClosed:
    try:
        while True:
            await talk.recv()
    except websockets.ConnectionClosed as closed:
        return closed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("no json", 1007),
        ('{"clientContent": 5}', 1007),
        ('{"realtimeInput": {"text": "error:503"}}', 1011),
        ('{"realtimeInput": {"text": "error:cut"}}', 1006),
    ],
)
async def test_a_live_conversation_ends_with_the_due_close_code(
    demo: Running, sent: str, code: int
) -> None:
    async with websockets.connect(ws(demo, LIVE[0]), proxy=None) as talk:
        await talk.send(sent)
        closed = await asyncio.wait_for(_until_closed(talk), 5)
    assert (closed.rcvd.code if closed.rcvd else 1006) == code
