"""Records: what the real SDKs report of a call is what its record says, and what broke is named."""

import contextlib
import hashlib
import json
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from llm_passthrough import config
from llm_passthrough.build import build, writer_of
from llm_passthrough.record import Facts

from live.harness import (
    CLIENT_KEY,
    Gateway,
    Provider,
    Upstream,
    Wire,
    config_for,
    request,
)

pytestmark = pytest.mark.usefixtures("own_environment")

CHAT = "/openai_passthrough/v1/chat/completions"
MESSAGES = "/anthropic_passthrough/v1/messages"
RESPONSES = "/openai_passthrough/v1/responses"
GEMINI = "/genai_passthrough/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
OWN_PRICES = {"gpt-4o": {"input": 1000.0, "output": 2000.0, "cache_read": 500.0}}


@pytest.fixture
def say() -> str:
    """A text by which a record is found."""
    return f"marker-{uuid.uuid4().hex}"


def whole_lines(gateway: Gateway, count: int = 0, text: str = "") -> list[bytes]:
    """The lines with this text in them, once there are so many; one that is just being written
    is not yet a line."""
    end = time.monotonic() + 10
    while True:
        content = gateway.records_path.read_bytes() if gateway.records_path.exists() else b""
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        found = [line for line in lines if text.encode() in line]
        if len(found) >= count:
            return found
        assert time.monotonic() < end, f"{len(found)} of {count} records: {gateway.output}"
        time.sleep(0.02)


def record_of(gateway: Gateway, text: str) -> dict[str, Any]:
    """The newest record with this text in it; no other one is parsed."""
    record: dict[str, Any] = json.loads(whole_lines(gateway, 1, text)[-1])
    return record


def newest(gateway: Gateway, count: int) -> dict[str, Any]:
    """The record that is number `count`, once it is there."""
    record: dict[str, Any] = json.loads(whole_lines(gateway, count)[count - 1])
    return record


@pytest.fixture(scope="module")
def priced(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with prices of its own and a database beside its log."""
    folder = tmp_path_factory.mktemp("priced")
    log = {"sqlite": str(folder / "log" / "records.sqlite"), "capture": "usage"}
    gateway = Gateway(folder, config_for(provider.url, prices=OWN_PRICES, log=log))
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def raw_gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in front of the provider of raw bytes."""
    gateway = Gateway(tmp_path_factory.mktemp("raw"), config_for(upstream.url))
    yield gateway
    gateway.stop()


@cache
def _openai(url: str) -> openai.OpenAI:
    base = f"{url}/openai_passthrough/v1"
    return openai.OpenAI(base_url=base, api_key=CLIENT_KEY, timeout=20, max_retries=0)


@cache
def _azure(url: str) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=f"{url}/azure_passthrough",
        api_key=CLIENT_KEY,
        api_version="2024-10-21",
        timeout=20,
        max_retries=0,
    )


@cache
def _anthropic(url: str) -> anthropic.Anthropic:
    base = f"{url}/anthropic_passthrough"
    return anthropic.Anthropic(base_url=base, api_key=CLIENT_KEY, timeout=20, max_retries=0)


@cache
def _genai(url: str, vertexai: bool = False) -> genai.Client:
    http_options = types.HttpOptions(base_url=f"{url}/genai_passthrough", timeout=20_000)
    return genai.Client(api_key=CLIENT_KEY, vertexai=vertexai, http_options=http_options)


# -- what the SDKs report ------------------------------------------------------------------------


@dataclass
class Report:
    """What an SDK says about one call, in the record's words."""

    model: str | None
    id: str | None
    finish: list[str]
    tools: list[str]
    counts: Mapping[str, int | None]


type Call = Callable[[str, str], Report]


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
RESPONSE_TOOLS: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
MESSAGE_TOOLS: Any = [{"name": "weather", "input_schema": SCHEMA}]


def _of_completion(made: Any) -> Report:
    (choice,), usage = made.choices, made.usage
    return Report(
        made.model,
        made.id,
        [choice.finish_reason],
        [call.function.name for call in choice.message.tool_calls or []],
        {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "cache_read_tokens": usage.prompt_tokens_details.cached_tokens,
            "reasoning_tokens": usage.completion_tokens_details.reasoning_tokens,
        },
    )


def chat(url: str, say: str) -> Report:
    made = _openai(url).chat.completions.create(model="gpt-4o", messages=user(say))
    return _of_completion(made)


def chat_reasoning(url: str, say: str) -> Report:
    made = _openai(url).chat.completions.create(
        model="gpt-5-mini", messages=user(say), reasoning_effort="low"
    )
    assert made.usage is not None
    details = made.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens
    return _of_completion(made)


def chat_tool(url: str, say: str) -> Report:
    made = _openai(url).chat.completions.create(
        model="gpt-4o", messages=user(f"use the tool {say}"), tools=CHAT_TOOLS
    )
    return _of_completion(made)


def _chat_stream(client: openai.OpenAI, **options: Any) -> Report:
    manager = client.chat.completions.stream(
        model="gpt-4o", stream_options={"include_usage": True}, **options
    )
    with manager as stream:
        return _of_completion(stream.get_final_completion())


def chat_stream(url: str, say: str) -> Report:
    return _chat_stream(_openai(url), messages=user(say))


def chat_stream_tool(url: str, say: str) -> Report:
    tool = {"type": "function", "function": {"name": "weather", "strict": True}}
    tool["function"]["parameters"] = {  # type: ignore[index]
        **SCHEMA, "required": ["city"], "additionalProperties": False
    }  # fmt: skip
    return _chat_stream(_openai(url), messages=user(f"use the tool {say}"), tools=[tool])


def azure_chat(url: str, say: str) -> Report:
    made = _azure(url).chat.completions.create(model="gpt-4o", messages=user(say))
    return _of_completion(made)


def azure_stream(url: str, say: str) -> Report:
    return _chat_stream(_azure(url), messages=user(say))


def _of_response(made: Any) -> Report:
    usage = made.usage
    return Report(
        made.model,
        made.id,
        [made.status],
        [item.name for item in made.output if item.type == "function_call"],
        {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.input_tokens_details.cached_tokens,
            "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        },
    )


def responses(url: str, say: str) -> Report:
    return _of_response(_openai(url).responses.create(model="gpt-4o", input=say))


def responses_tool(url: str, say: str) -> Report:
    made = _openai(url).responses.create(
        model="gpt-4o", input=f"use the tool {say}", tools=RESPONSE_TOOLS
    )
    return _of_response(made)


def responses_stream(url: str, say: str) -> Report:
    with _openai(url).responses.stream(model="gpt-5-mini", input=say) as stream:
        return _of_response(stream.get_final_response())


def embeddings(url: str, say: str) -> Report:
    made = _openai(url).embeddings.create(model="text-embedding-3-small", input=say)
    counts = {"input_tokens": made.usage.prompt_tokens}
    return Report(made.model, None, [], [], counts)


def _of_message(made: Any) -> Report:
    usage = made.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return Report(
        made.model,
        made.id,
        [made.stop_reason],
        [block.name for block in made.content if block.type == "tool_use"],
        {
            "input_tokens": usage.input_tokens + read + written,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
        },
    )


HAIKU: Any = {"model": "claude-haiku-4-5", "max_tokens": 64}


def messages(url: str, say: str) -> Report:
    return _of_message(_anthropic(url).messages.create(**HAIKU, messages=user(say)))


def messages_cached(url: str, say: str) -> Report:
    system: Any = [{"type": "text", "text": "long " * 400, "cache_control": {"type": "ephemeral"}}]
    made = _anthropic(url).messages.create(**HAIKU, system=system, messages=user(say))
    assert made.usage.cache_read_input_tokens
    assert made.usage.cache_creation_input_tokens
    return _of_message(made)


def _message_stream(url: str, **options: Any) -> Report:
    with _anthropic(url).messages.stream(**HAIKU | options) as stream:
        return _of_message(stream.get_final_message())


def messages_stream(url: str, say: str) -> Report:
    return _message_stream(url, messages=user(say))


def messages_stream_tool(url: str, say: str) -> Report:
    return _message_stream(url, messages=user(f"use the tool {say}"), tools=MESSAGE_TOOLS)


def messages_stream_thinking(url: str, say: str) -> Report:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    return _message_stream(url, messages=user(say), thinking=thinking, max_tokens=2048)


def _of_content(*chunks: Any) -> Report:
    parts = [
        part
        for chunk in chunks
        for part in (chunk.candidates[0].content and chunk.candidates[0].content.parts) or []
    ]
    last = chunks[-1]
    usage = last.usage_metadata
    thoughts = usage.thoughts_token_count or 0
    return Report(
        last.model_version,
        last.response_id,
        [last.candidates[0].finish_reason.value],
        [part.function_call.name for part in parts if part.function_call],
        {
            "input_tokens": usage.prompt_token_count,
            "output_tokens": usage.candidates_token_count + thoughts,
            "cache_read_tokens": usage.cached_content_token_count,
            "reasoning_tokens": usage.thoughts_token_count,
        },
    )


FLASH = "gemini-2.5-flash"
DECLARED = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters=types.Schema(
                type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}
            ),
        )
    ]
)


def generate(url: str, say: str) -> Report:
    return _of_content(_genai(url).models.generate_content(model=FLASH, contents=say))


def generate_tool(url: str, say: str) -> Report:
    made = _genai(url).models.generate_content(
        model=FLASH,
        contents=f"use the tool {say}",
        config=types.GenerateContentConfig(
            tools=[DECLARED],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    )
    return _of_content(made)


def generate_stream(url: str, say: str) -> Report:
    return _of_content(*_genai(url).models.generate_content_stream(model=FLASH, contents=say))


def vertex(url: str, say: str) -> Report:
    return _of_content(_genai(url, True).models.generate_content(model=FLASH, contents=say))


def vertex_stream(url: str, say: str) -> Report:
    stream = _genai(url, True).models.generate_content_stream(model=FLASH, contents=say)
    return _of_content(*stream)


def array_stream(url: str, say: str) -> Report:
    """Without alt=sse a stream of Gemini's is one JSON array that grows."""
    answer = httpx.post(
        f"{url}{GEMINI.partition('?')[0]}",
        json={"contents": [{"role": "user", "parts": [{"text": say}]}]},
    )
    chunks = [types.GenerateContentResponse.model_validate(row) for row in answer.json()]
    return _of_content(*chunks)


CALLS: list[tuple[Call, str, str, bool]] = [
    # call, provider, operation, stream
    (chat, "openai", "chat", False),
    (chat_reasoning, "openai", "chat", False),
    (chat_tool, "openai", "chat", False),
    (chat_stream, "openai", "chat", True),
    (chat_stream_tool, "openai", "chat", True),
    (responses, "openai", "responses", False),
    (responses_tool, "openai", "responses", False),
    (responses_stream, "openai", "responses", True),
    (embeddings, "openai", "embeddings", False),
    (azure_chat, "azure", "chat", False),
    (azure_stream, "azure", "chat", True),
    (messages, "anthropic", "messages", False),
    (messages_cached, "anthropic", "messages", False),
    (messages_stream, "anthropic", "messages", True),
    (messages_stream_tool, "anthropic", "messages", True),
    (messages_stream_thinking, "anthropic", "messages", True),
    (generate, "gemini", "generate_content", False),
    (generate_tool, "gemini", "generate_content", False),
    (generate_stream, "gemini", "generate_content", True),
    (array_stream, "gemini", "generate_content", True),
    (vertex, "vertex", "generate_content", False),
    (vertex_stream, "vertex", "generate_content", True),
]


def listed_price(provider: str, report: Report) -> float:
    """What genai-prices says about the SDK's own counts."""
    genai_prices = pytest.importorskip("genai_prices")
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    usage = genai_prices.Usage(**{name: report.counts.get(name) for name in names})
    provider = {"gemini": "google", "vertex": "google"}.get(provider, provider)
    return float(
        genai_prices.calc_price(usage, str(report.model), provider_id=provider).total_price
    )


@pytest.mark.parametrize(
    ("call", "provider_name", "operation", "stream"),
    [pytest.param(*row, id=row[0].__name__) for row in CALLS],
)
def test_a_record_says_what_the_sdk_reports(
    gateway: Gateway, say: str, call: Call, provider_name: str, operation: str, stream: bool
) -> None:
    report = call(gateway.url, say)
    record = record_of(gateway, say)
    assert (record["outcome"], record["error"], record["unread"]) == ("ok", None, None)
    assert (record["provider"], record["operation"]) == (provider_name, operation)
    assert record["stream"] is stream
    assert record["model"]["requested"] == record["model"]["response"] == report.model
    assert record["response_id"] == report.id
    assert record["finish_reasons"] == report.finish
    assert record["tool_calls"] == report.tools
    assert report.tools == (["weather"] if call.__name__.endswith("tool") else [])
    counts = {name: record["usage"][name] for name in report.counts}
    assert counts == report.counts
    timing = record["timing_ms"]
    if stream:
        assert 0 < timing["first_byte"] <= timing["first_token"] <= timing["total"]
    else:
        assert timing["first_token"] is None
        assert 0 < timing["first_byte"] <= timing["total"]
    assert 0 <= timing["gateway"] < timing["total"]
    assert record["cost"]["currency"] == "USD"
    assert record["cost"]["source"].startswith("genai-prices ")
    assert record["cost"]["amount"] == pytest.approx(listed_price(provider_name, report))


def test_a_stream_without_counts_has_no_usage_and_no_price(gateway: Gateway, say: str) -> None:
    stream = _openai(gateway.url).chat.completions.create(
        model="gpt-4o", messages=user(say), stream=True
    )
    assert list(stream)
    record = record_of(gateway, say)
    assert (record["usage"], record["cost"]) == (None, None)
    assert record["finish_reasons"] == ["stop"]
    assert record["outcome"] == "ok"


def test_an_unknown_model_costs_null(gateway: Gateway, say: str) -> None:
    _openai(gateway.url).chat.completions.create(model="our-own-model", messages=user(say))
    record = record_of(gateway, say)
    assert record["usage"]["input_tokens"] > 0
    assert record["cost"] is None


# -- prices of one's own, the database, the reload ------------------------------------------------


def _cost_of_chat(gateway: Gateway) -> tuple[dict[str, Any], Report]:
    before = len(whole_lines(gateway))
    report = chat(gateway.url, "x")
    return newest(gateway, before + 1), report


def test_prices_of_the_configuration_win(priced: Gateway) -> None:
    record, report = _cost_of_chat(priced)
    given = report.counts["input_tokens"] or 0
    made, cached = report.counts["output_tokens"] or 0, report.counts["cache_read_tokens"] or 0
    amount = ((given - cached) * 1000 + cached * 500 + made * 2000) / 1_000_000
    assert record["cost"]["source"] == "config"
    assert record["cost"]["amount"] == pytest.approx(amount)


def test_a_model_without_a_price_of_its_own_keeps_the_listed_one(priced: Gateway) -> None:
    before = len(whole_lines(priced))
    report = messages(priced.url, "x")
    record = newest(priced, before + 1)
    assert record["cost"]["amount"] == pytest.approx(listed_price("anthropic", report))


def test_new_prices_are_read_without_a_restart(provider: Provider, tmp_path: Path) -> None:
    document = config_for(provider.url)
    gateway = Gateway(tmp_path, document)
    try:
        record, _ = _cost_of_chat(gateway)
        assert record["cost"]["source"].startswith("genai-prices ")
        document["prices"] = {"gpt-*": {"input": 0.0, "output": 0.0}}
        (tmp_path / "gateway.yaml").write_text(json.dumps(document))
        gateway.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while record["cost"]["source"] != "config" and time.monotonic() < end:
            record, _ = _cost_of_chat(gateway)
        assert record["cost"] == {"amount": 0.0, "currency": "USD", "source": "config"}
    finally:
        gateway.stop()


def test_the_database_has_the_same_records_as_the_log(priced: Gateway) -> None:
    for call in (chat, messages_stream, generate):
        call(priced.url, "x")
    with pytest.raises(openai.RateLimitError):
        chat(priced.url, "error:429")
    httpx.get(f"{priced.url}/nowhere-at-the-end")
    priced.record_of("nowhere-at-the-end")  # the last one: nothing is on its way any more
    lines = {record["id"]: record for record in map(json.loads, whole_lines(priced, 5))}
    file = priced.records_path.with_name("records.sqlite")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        rows = {row["id"]: dict(row) for row in database.execute("select * from records")}
        database.close()
        if len(rows) >= len(lines):
            break
        time.sleep(0.02)
    assert set(rows) == set(lines)
    for ident, record in lines.items():
        row = rows[ident]
        assert json.loads(row["record"]) == record
        assert row["outcome"] == record["outcome"]
        assert row["model_response"] == record["model"]["response"]
        assert row["input_tokens"] == (record["usage"] or {}).get("input_tokens")
        assert row["cost"] == (record["cost"] or {}).get("amount")
        assert row["status"] == record["response"]["status"]


# -- errors ---------------------------------------------------------------------------------------


ERRORS: list[tuple[Call, int, str, str | None]] = [
    # call, status, type and code in the record
    (chat, 429, "requests", "rate_limit_exceeded"),
    (chat, 401, "invalid_request_error", "invalid_api_key"),
    (chat_stream, 500, "server_error", None),
    (responses_stream, 404, "invalid_request_error", None),
    (azure_chat, 403, "403", "403"),
    (azure_chat, 400, "invalid_request_error", None),
    (messages, 529, "overloaded_error", None),
    (messages_stream, 429, "rate_limit_error", None),
    (generate, 429, "RESOURCE_EXHAUSTED", "429"),
    (generate_stream, 503, "UNAVAILABLE", "503"),
    (vertex_stream, 403, "PERMISSION_DENIED", "403"),
]


@pytest.mark.parametrize(
    ("call", "status", "kind", "code"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[1]}") for row in ERRORS],
)
def test_an_error_of_the_provider_is_told_as_it_said_it(
    gateway: Gateway, say: str, call: Call, status: int, kind: str, code: str | None
) -> None:
    with pytest.raises(
        (openai.APIStatusError, anthropic.APIStatusError, genai_errors.APIError)
    ) as caught:
        call(gateway.url, f"error:{status} {say}")
    record = record_of(gateway, say)
    error = record["error"]
    assert record["outcome"] == "upstream_error"
    assert record["response"]["status"] == status
    assert (error["type"], error["code"], error["origin"]) == (kind, code, "upstream")
    assert error["message"]
    assert error["message"] in str(caught.value)
    assert (record["usage"], record["cost"], record["finish_reasons"]) == (None, None, [])


def test_a_refusal_of_ours_is_told_as_ours(gateway: Gateway, say: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        openai.OpenAI(
            base_url=f"{gateway.url}/nowhere/{say}", api_key=CLIENT_KEY, max_retries=0
        ).models.list()
    error = record_of(gateway, say)["error"]
    assert (error["type"], error["origin"]) == ("no_route", "gateway")
    assert error["message"] in str(caught.value)


# -- streams that go wrong ------------------------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


def data(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


_DELTA = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}
CHUNK = data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
              "model": "gpt-4o", "choices": [_DELTA]})  # fmt: skip
_USED = {"input_tokens": 40, "cache_read_input_tokens": 2, "output_tokens": 1}
START = named(
    "message_start",
    message={
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": _USED,
    },
) + named("content_block_start", index=0, content_block={"type": "text", "text": ""}) + named(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}
)  # fmt: skip
_RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-4o", "output": []}
CREATED = named("response.created", response=_RESPONSE | {"status": "in_progress"})
CONTENT = data(
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    }
)


def ask(target: str, marker: str) -> bytes:
    """A streaming request in no dialect's way wrong, with a text to find its record by."""
    body = {"model": "gpt-4o", "stream": True, "messages": user(marker)}
    return request(target, json.dumps(body).encode())


def serve(upstream: Upstream, *pieces: bytes, then: Callable[[Wire], object] | None = None) -> None:
    """Let the provider answer every request with these pieces, one chunk each."""

    def talk(wire: Wire) -> None:
        wire.message()
        wire.send(HEAD + b"".join(map(chunk, pieces)))
        if then is None:
            wire.send(LAST)
        else:
            then(wire)

    upstream.talk = talk


FAULTS = [
    pytest.param(
        CHAT,
        [CHUNK, data({"error": {"message": "Broke", "type": "server_error", "code": "c1"}})],
        ("server_error", "c1", "Broke"),
        id="chat",
    ),
    pytest.param(
        RESPONSES,
        [CREATED, named("error", code="server_error", message="Broke", param=None)],
        ("server_error", "server_error", "Broke"),
        id="responses, an error event",
    ),
    pytest.param(
        RESPONSES,
        [
            CREATED,
            named(
                "response.failed",
                response=_RESPONSE
                | {"status": "failed", "error": {"code": "rate_limit", "message": "Broke"}},
            ),
        ],
        ("rate_limit", "rate_limit", "Broke"),
        id="responses, a failed response",
    ),
    pytest.param(
        MESSAGES,
        [START, named("error", error={"type": "overloaded_error", "message": "Broke"})],
        ("overloaded_error", None, "Broke"),
        id="messages",
    ),
    pytest.param(
        GEMINI,
        [CONTENT, data({"error": {"code": 503, "message": "Broke", "status": "UNAVAILABLE"}})],
        ("UNAVAILABLE", "503", "Broke"),
        id="Gemini",
    ),
]


@pytest.mark.parametrize(("target", "pieces", "error"), FAULTS)
@pytest.mark.parametrize("ending", ["in order", "by a hang-up of the client"])
def test_an_error_inside_a_good_stream_is_the_providers(
    upstream: Upstream,
    raw_gateway: Gateway,
    say: str,
    target: str,
    pieces: list[bytes],
    error: tuple[str, str | None, str],
    ending: str,
) -> None:
    """J10."""
    serve(upstream, *pieces, then=None if ending == "in order" else Wire.rest)
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(target, say))
        wire.until(b"Broke")
        if ending == "in order":
            wire.rest()
    record = record_of(raw_gateway, say)
    assert record["response"]["status"] == 200
    found = record["error"]
    assert record["outcome"] == "upstream_error"
    assert (found["type"], found["code"], found["message"]) == error
    assert found["origin"] == "upstream"


@pytest.mark.parametrize(
    ("target", "pieces"),
    [
        pytest.param(CHAT, [CHUNK], id="chat"),
        pytest.param(RESPONSES, [CREATED], id="responses"),
        pytest.param(MESSAGES, [START], id="messages"),
        pytest.param(GEMINI, [CONTENT], id="Gemini"),
    ],
)
def test_a_stream_that_ends_without_its_last_event_was_broken_off(
    upstream: Upstream, raw_gateway: Gateway, say: str, target: str, pieces: list[bytes]
) -> None:
    """J10."""
    serve(upstream, *pieces)
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(target, say))
        assert wire.rest().endswith(LAST)
    record = record_of(raw_gateway, say)
    assert record["outcome"] == "upstream_abort"
    assert record["error"]["origin"] == "upstream"


def test_an_sdk_that_hangs_up_after_the_last_event_has_heard_all(
    upstream: Upstream, raw_gateway: Gateway, say: str
) -> None:
    """The provider's last chunk never comes: the SDKs do not wait for it."""
    gone = threading.Event()

    def then(wire: Wire) -> None:
        wire.rest()
        gone.set()

    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    last = json.loads(CHUNK.removeprefix(b"data: ")) | {"choices": [], "usage": usage}
    serve(upstream, CHUNK, data(last), b"data: [DONE]\n\n", then=then)
    client = openai.OpenAI(
        base_url=f"{raw_gateway.url}/openai_passthrough/v1", api_key=CLIENT_KEY, max_retries=0
    )
    with (
        client,
        client.chat.completions.create(model="gpt-4o", messages=user(say), stream=True) as stream,
    ):
        assert [chunk.usage.total_tokens for chunk in stream if chunk.usage] == [7]
    assert gone.wait(10)
    record = record_of(raw_gateway, say)
    assert (record["outcome"], record["error"]) == ("ok", None)
    assert record["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("target", "pieces", "seen"),
    [
        pytest.param(CHAT, [CHUNK], None, id="chat: it is told at the end only"),
        pytest.param(MESSAGES, [START], (42, 1), id="messages: the input is told at once"),
        pytest.param(GEMINI, [CONTENT], (9, 3), id="Gemini: it runs along"),
    ],
)
def test_a_client_who_leaves_in_the_middle_has_used_what_was_told_so_far(
    upstream: Upstream,
    raw_gateway: Gateway,
    say: str,
    target: str,
    pieces: list[bytes],
    seen: tuple[int, int] | None,
) -> None:
    serve(upstream, *pieces, then=Wire.rest)
    with Wire.to(raw_gateway.port) as wire:
        wire.send(ask(target, say))
        wire.until(b"Hello")
    record = record_of(raw_gateway, say)
    assert record["outcome"] == "client_abort"
    assert record["error"]["origin"] == "client"
    usage = record["usage"]
    assert (usage and (usage["input_tokens"], usage["output_tokens"])) == seen
    assert record["timing_ms"]["first_token"] is not None


@pytest.mark.parametrize("call", [messages_stream, generate_stream])
def test_usage_of_a_stream_that_the_provider_cuts_is_kept(
    gateway: Gateway, say: str, call: Call
) -> None:
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnect|connection"):
        call(gateway.url, f"error:cut {say}")
    record = record_of(gateway, say)
    assert record["outcome"] == "upstream_abort"
    assert record["usage"]["input_tokens"] > 0


# -- sessions -------------------------------------------------------------------------------------


UUID = "01234567-89ab-cdef-0123-456789abcdef"
CLAUDE_USER = f"user_aa_account_bb_session_{UUID}"


def test_sessions_of_a_messages_client_are_told(gateway: Gateway, say: str) -> None:
    _anthropic(gateway.url).messages.create(
        **HAIKU,
        messages=user(say),
        metadata={"user_id": CLAUDE_USER},
        extra_headers={"X-Claude-Code-Session-Id": "cc-1"},
    )
    assert record_of(gateway, say)["session"] == {
        "x-claude-code-session-id": "cc-1",
        "user_id": CLAUDE_USER,
        "session_id": UUID,
    }


def test_sessions_of_a_responses_client_are_told(gateway: Gateway, say: str) -> None:
    _openai(gateway.url).responses.create(
        model="gpt-4o",
        input=say,
        previous_response_id="resp_0",
        prompt_cache_key="cache-1",
        extra_headers={"session_id": "s-1", "conversation-id": "c-1"},
    )
    assert record_of(gateway, say)["session"] == {
        "session_id": "s-1",
        "conversation-id": "c-1",
        "previous_response_id": "resp_0",
        "prompt_cache_key": "cache-1",
    }


# -- how much is captured -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "reads", "keeps"),
    [
        pytest.param("none", False, False, id="none"),
        pytest.param("usage", True, False, id="usage"),
        pytest.param("full", True, True, id="full"),
        pytest.param("nonsense", True, True, id="something else"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_may_ask_for_less_to_be_captured(
    gateway: Gateway, provider: Provider, wish: str, reads: bool, keeps: bool, stream: bool
) -> None:
    before = len(whole_lines(gateway))
    made = _anthropic(gateway.url).messages.create(
        **HAIKU,
        messages=user("x"),
        stream=stream,
        extra_headers={"x-passthrough-capture": wish},
    )
    if stream:
        assert list(made)
    record = newest(gateway, before + 1)
    assert record["outcome"] == "ok"
    assert (record["usage"] is not None) is reads
    assert (record["model"]["requested"] is not None) is reads
    for part in (record["request"], record["response"]):
        assert (part["body"] is not None) is keeps
        assert (part["headers"] is not None) is keeps
        assert part["bytes"] > 0
        assert part["sha256"]
    assert "x-passthrough" not in provider.last().head.decode().lower()


@pytest.mark.parametrize("wish", [None, "full", "none"])
def test_a_request_may_not_ask_for_more_than_the_configuration(
    priced: Gateway, wish: str | None
) -> None:
    before = len(whole_lines(priced))
    headers = {"x-passthrough-capture": wish} if wish else {}
    _openai(priced.url).chat.completions.create(
        model="gpt-4o", messages=user("x"), extra_headers=headers
    )
    record = newest(priced, before + 1)
    assert record["request"]["body"] is None
    assert record["response"]["headers"] is None
    assert (record["usage"] is None) is (wish == "none")


def test_a_compressed_answer_is_told_readable_with_its_length_on_the_wire(
    gateway: Gateway, say: str
) -> None:
    wire_bytes = b""
    body = {"model": "text-embedding-3-small", "input": say}
    with httpx.stream(
        "POST",
        f"{gateway.url}/openai_passthrough/v1/embeddings",
        json=body,
        headers={"accept-encoding": "gzip"},
    ) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        wire_bytes = b"".join(answer.iter_raw())
    record = record_of(gateway, say)
    told = record["response"]
    assert told["bytes"] == len(wire_bytes)
    assert told["sha256"] == hashlib.sha256(wire_bytes).hexdigest()
    assert told["encoding"] == "utf-8"
    assert json.loads(told["body"])["usage"]["prompt_tokens"] == record["usage"]["input_tokens"]


# -- what is kept, and for how long ---------------------------------------------------------------


def _stamp(ago: timedelta) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        pytest.param({"keep_days": 2}, ["young"], id="by age"),
        pytest.param({"keep_bytes": 100_000}, ["young"], id="by size"),
        pytest.param({"keep_days": 0.01}, [], id="all are too old"),
        pytest.param({}, ["old", "young"], id="for ever"),
    ],
)
def test_old_records_are_given_up(tmp_path: Path, option: dict[str, Any], kept: list[str]) -> None:
    """As the configuration says it, in the file and in the database, at the first record."""
    log, file = tmp_path / "records.jsonl", tmp_path / "records.sqlite"
    ages = {"old": timedelta(days=3), "young": timedelta(days=1)}
    names = {tmp_path / f"records-{_stamp(age)}.jsonl": name for name, age in ages.items()}
    for path in names:
        path.write_bytes(b"{}\n" + b" " * 70_000)
    document = {"log": {"path": str(log), "sqlite": str(file)} | option}
    parts = build(config.parse(document, "file")[0], {}, "file")
    for name, age in (ages if not (option.get("keep_bytes")) else {}).items():
        earlier = writer_of(
            build(
                config.parse(
                    {"log": {"path": str(tmp_path / name / "r.jsonl"), "sqlite": str(file)}}, "file"
                )[0],
                {},
                "file",
            ),
            None,
        )
        earlier.start()
        started = time.time() - age.total_seconds()
        earlier.put(Facts(name, started, "GET", b"/x"))
        assert earlier.close()
    writer = writer_of(parts, None)
    writer.start()
    writer.put(Facts("now", time.time(), "GET", b"/x"))
    assert writer.close()
    assert sorted(names[path] for path in names if path.exists()) == kept
    assert log.read_bytes().count(b"\n") == 1
    with contextlib.closing(sqlite3.connect(file)) as database:
        rows = {row[0] for row in database.execute("select id from records")}
    expected = {"now"} if option.get("keep_bytes") else {"now", *kept}
    assert rows == expected
