"""What is measured with: answers as providers send them, and a typical exchange."""

import json
import random

from llm_passthrough.record import Body, Facts

CHAT = (
    '{"id":"chatcmpl-AbCdEfGh","object":"chat.completion.chunk","created":1700000000,'
    '"model":"gpt-4o-2024-08-06","service_tier":"default","choices":[{"index":0,'
    '"delta":{"content":" hello %d"},"logprobs":null,"finish_reason":null}],"usage":null}'
)
MESSAGES = (
    '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" hello %d"}}'
)
RESPONSES = (
    '{"type":"response.output_text.delta","sequence_number":%d,"item_id":"msg_0123456789abcdef",'
    '"output_index":0,"content_index":0,"delta":" hello","logprobs":[]}'
)
GEMINI = (
    '{"candidates":[{"content":{"parts":[{"text":"hello %d"}],"role":"model"},"index":0}],'
    '"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":42,"totalTokenCount":51},'
    '"modelVersion":"gemini-2.5-flash","responseId":"abcdefgh"}'
)


def events(template: str, count: int, name: str = "", end: str = "\n") -> list[bytes]:
    """A stream of server-sent events, one a chunk."""
    named = f"event: {name}{end}" if name else ""
    return [f"{named}data: {template % number}{end}{end}".encode() for number in range(count)]


def text_answer() -> list[bytes]:
    """A chat answer of 100 KB, in the pieces in which it comes."""
    message = {"role": "assistant", "content": 'Lorem "ipsum"\n' * 6000}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return _pieces({"id": "x", "model": "gpt-4o", "choices": [{"message": message}]}, usage)


def number_answer() -> list[bytes]:
    """Embeddings, 100 KB of numbers."""
    rows = [
        {"index": row, "embedding": [place * 0.00731 - row for place in range(1536)]}
        for row in range(3)
    ]
    return _pieces({"data": rows}, {"prompt_tokens": 8, "total_tokens": 8})


def _pieces(answer: dict[str, object], usage: dict[str, int]) -> list[bytes]:
    body = json.dumps(answer | {"usage": usage}).encode()
    return [body[at : at + 16384] for at in range(0, len(body), 16384)]


_CHANCE = random.Random(7)  # noqa: S311 - the same in every run
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
SECRETS = tuple("sk-proj-" + "".join(_CHANCE.choices(_ALPHABET, k=80)) for _ in range(12))
"""A dozen configured keys that look like real ones."""

_ASKED = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Tell me of the sea. " * 45},
    ],
    "temperature": 0.2,
    "stream": False,
    "user": "u-1",
}
_ANSWERED = {
    "id": "chatcmpl-%012d",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It is wide. " * 35, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 219,
        "completion_tokens": 120,
        "total_tokens": 339,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_07871e2ad8",
}
_SENT = {
    "Host": "api.openai.com",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "OpenAI/Python 3.50.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "3.50.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.13.1",
    "x-stainless-async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
    "X-Session-Id": "0f9d3c52-54f3-4e11-9b0d-2b1b3f7b6c11",
    "OpenAI-Beta": "assistants=v2",
    "traceparent": "00-%032x-00f067aa0ba902b7-01",
    "baggage": "service.name=example",
    "Content-Length": "1070",
    "Authorization": "Bearer [openai/team]",
}
_GOT = {
    "Date": "Tue, 21 Oct 2025 10:00:%02d GMT",
    "Content-Type": "application/json",
    "Content-Length": "1027",
    "access-control-expose-headers": "X-Request-ID",
    "openai-organization": "org-example",
    "openai-processing-ms": "%d",
    "openai-project": "proj_AbCdEfGh",
    "openai-version": "2020-10-01",
    "x-envoy-upstream-service-time": "%d",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "30000000",
    "x-ratelimit-remaining-requests": "%d",
    "x-ratelimit-remaining-tokens": "29%06d",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "0s",
    "x-request-id": "req_%032x",
    "cf-cache-status": "DYNAMIC",
    "server": "cloudflare",
    "x-content-type-options": "nosniff",
    "cf-ray": "99%014x-FRA",
}


def exchange(number: int) -> Facts:
    """A finished chat call of 1 KB there and 1 KB back; what differs from call to call differs."""
    return _exchange(number, json.dumps(_ASKED).encode())


def large_exchange(number: int) -> Facts:
    """The same with a conversation of nearly 1 MB: code in it, tools and their results."""
    code = 'def f(x: int) -> str:\n\treturn f"{x}"  # a "quoted" comment\n' * 30
    messages = [{"role": ("user", "assistant")[turn % 2], "content": code} for turn in range(460)]
    return _exchange(number, json.dumps(_ASKED | {"messages": messages}).encode())


def _exchange(number: int, asked: bytes) -> Facts:
    answered = json.dumps(_ANSWERED).encode().replace(b"%012d", b"%012d" % number)
    return Facts(
        id=f"{number:028x}",
        started=1_760_000_000 + number / 100,
        method="POST",
        client_path=b"/openai_passthrough/v1/chat/completions",
        at=50.0,
        route="/openai_passthrough",
        provider="openai",
        detected_by="prefix",
        key="team",
        url="https://api.openai.com/v1/chat/completions",
        path=b"/v1/chat/completions",
        request_headers=_fields(_SENT, number),
        request=Body(asked, len(asked)),
        status=200,
        response_headers=_fields(_GOT, number),
        response=Body(answered, len(answered)),
        total=0.8123,
        first_byte=0.7,
        gateway=0.0011,
        secrets=("Bearer client-token-0123456789", "client-token-0123456789", SECRETS[0]),
    )


def _fields(headers: dict[str, str], number: int) -> tuple[tuple[bytes, bytes], ...]:
    texts = ((name, value % number if "%" in value else value) for name, value in headers.items())
    return tuple((name.encode(), value.encode()) for name, value in texts)
