"""The real SDKs, httpx and curl through the real gateway: what they return, what leaves."""

import asyncio
import io
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai.types import HttpOptions

from live.harness import (
    CLIENT_KEY,
    SIGNED,
    TOKEN,
    Gateway,
    Provider,
    clean_environment,
    config_for,
    credentials,
    curl,
    free_port,
)

pytestmark = pytest.mark.usefixtures("own_environment")

CHAT = "/v1/chat/completions"
DEPLOYMENT = "/openai/deployments/gpt-4o/chat/completions"
EXPRESS = "/v1beta1/publishers/google/models/gemini-2.5-flash"
CLAUDE = "/v1/projects/my-project/locations/us-east5/publishers/anthropic/models"


@dataclass
class Watch:
    """What one test sent: looks at the provider's journal and the records since it began."""

    provider: Provider
    gateway: Gateway
    seen_before: int = field(init=False)
    told_before: int = field(init=False)
    say: str = field(default_factory=lambda: f"marker-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.seen_before = len(self.provider.seen)
        self.told_before = len(self.gateway.records())

    @property
    def seen(self) -> list[Any]:
        return self.provider.seen[self.seen_before :]

    def records(self, count: int) -> list[dict[str, Any]]:
        """Exactly this many records were written."""
        found = self.gateway.records(self.told_before + count)[self.told_before :]
        assert len(found) == count, [record["request"]["client_path"] for record in found]
        return found

    def check_clean(self, name: str, key: str = CLIENT_KEY) -> None:
        """Every request had the provider's one credential and nothing of the client's."""
        for seen in self.seen:
            assert credentials(seen.headers) == [SIGNED[name]]
            assert key.encode() not in seen.head + seen.body


@pytest.fixture
def watch(provider: Provider, gateway: Gateway) -> Watch:
    return Watch(provider, gateway)


@pytest.fixture(scope="module")
def odd(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose openai and gemini are not there, whose azure and anthropic have no key, and
    whose vertex has an OAuth token and a project."""
    config = config_for(f"http://127.0.0.1:{free_port()}")
    place = {"project_id": "our-project", "region": "europe-west4"}
    config["providers"]["vertex"] = {
        "keys": [{"name": "oauth", "value": TOKEN, "vertex_key_config": place}],
        "network_config": {"base_url": provider.url},
    }
    config["providers"]["azure"]["keys"] = []
    config["providers"]["anthropic"]["keys"] = []
    gateway = Gateway(tmp_path_factory.mktemp("odd"), config)
    yield gateway
    gateway.stop()


# -- the clients, each with the key that must not get out; made once, as that takes long ----------


@cache
def openai_client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{url}/openai_passthrough/v1", api_key=CLIENT_KEY, timeout=20, **options
    )


@cache
def anthropic_client(url: str, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=f"{url}/anthropic_passthrough", api_key=CLIENT_KEY, timeout=20, **options
    )


@cache
def azure_client(url: str, **options: Any) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=f"{url}/azure_passthrough",
        api_key=CLIENT_KEY,
        api_version="2024-10-21",
        timeout=20,
        **options,
    )


@cache
def genai_client(url: str, **options: Any) -> genai.Client:
    http_options = HttpOptions(base_url=f"{url}/genai_passthrough", timeout=20_000)
    return genai.Client(**{"api_key": CLIENT_KEY} | options, http_options=http_options)


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


# -- one call each; every function returns text in which the marker has to come back --------------


def chat(url: str, say: str) -> str:
    made = openai_client(url).chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def chat_without_version(url: str, say: str) -> str:
    client = openai.OpenAI(base_url=f"{url}/openai_passthrough", api_key=CLIENT_KEY)
    made = client.chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def chat_of_an_organization(url: str, say: str) -> str:
    client = openai_client(url, organization="org-of-the-client", project="proj-of-the-client")
    made = client.chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def chat_stream(url: str, say: str) -> str:
    stream = openai_client(url).chat.completions.create(
        model="gpt-4o", messages=user(say), stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def chat_async(url: str, say: str) -> str:
    async def talk() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/openai_passthrough/v1", api_key=CLIENT_KEY
        ) as client:
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=user(say), stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return asyncio.run(talk())


def responses(url: str, say: str) -> str:
    return openai_client(url).responses.create(model="gpt-4o", input=say).output_text


def responses_stream(url: str, say: str) -> str:
    with openai_client(url).responses.stream(model="gpt-4o", input=say) as stream:
        return stream.get_final_response().output_text


def embeddings(url: str, say: str) -> str:
    made = openai_client(url).embeddings.create(model="text-embedding-3-small", input=say)
    return say if len(made.data[0].embedding) > 1 else ""


def openai_file(url: str, say: str) -> str:
    file = ("batch.jsonl", io.BytesIO(say.encode()))
    client = openai_client(url)
    made = client.files.create(file=file, purpose="batch")
    return client.files.content(made.id).text


def speech(url: str, say: str) -> str:
    sound = openai_client(url).audio.speech.create(model="tts-1", voice="alloy", input=say)
    return say if len(sound.read()) > 100 else ""


def transcription(url: str, say: str) -> str:
    made = openai_client(url).audio.transcriptions.create(
        model="whisper-1", file=("a.wav", b"RIFF" + bytes(range(256)) * 50), prompt=say
    )
    return say if made.text else ""


def openai_models(url: str, say: str) -> str:
    return say if openai_client(url).models.list().data else ""


def messages(url: str, say: str) -> str:
    made = anthropic_client(url).messages.create(
        model="claude-haiku-4-5", max_tokens=64, messages=user(say)
    )
    return str(made.content[0].text)


def messages_with_token(url: str, say: str) -> str:
    client = anthropic.Anthropic(
        base_url=f"{url}/anthropic_passthrough", auth_token=CLIENT_KEY, api_key=None
    )
    made = client.messages.create(model="claude-haiku-4-5", max_tokens=64, messages=user(say))
    return str(made.content[0].text)


def messages_stream(url: str, say: str) -> str:
    with anthropic_client(url).messages.stream(
        model="claude-haiku-4-5", max_tokens=64, messages=user(say)
    ) as stream:
        return "".join(stream.text_stream)


def messages_async(url: str, say: str) -> str:
    async def talk() -> str:
        base = f"{url}/anthropic_passthrough"
        async with anthropic.AsyncAnthropic(base_url=base, api_key=CLIENT_KEY) as client:
            made = await client.messages.create(
                model="claude-haiku-4-5", max_tokens=64, messages=user(say)
            )
            return str(made.content[0].text)

    return asyncio.run(talk())


def count_tokens(url: str, say: str) -> str:
    made = anthropic_client(url).messages.count_tokens(model="claude-haiku-4-5", messages=user(say))
    return say if made.input_tokens > 0 else ""


def anthropic_models(url: str, say: str) -> str:
    return say if anthropic_client(url).models.list().data else ""


def azure_stream(url: str, say: str) -> str:
    stream = azure_client(url).chat.completions.create(
        model="gpt-4o", messages=user(say), stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def azure_responses(url: str, say: str) -> str:
    return azure_client(url).responses.create(model="gpt-4o", input=say).output_text


def azure_with_both_credentials(url: str, say: str) -> str:
    made = azure_client(url).chat.completions.create(
        model="gpt-4o",
        messages=user(say),
        extra_headers={"Authorization": f"Bearer {CLIENT_KEY}", "Cookie": CLIENT_KEY},
    )
    return made.choices[0].message.content or ""


def azure_entra(url: str, say: str) -> str:
    client = openai.AzureOpenAI(
        azure_endpoint=f"{url}/azure_passthrough",
        azure_ad_token=f"eyJ{CLIENT_KEY}",
        api_version="2024-10-21",
    )
    made = client.chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def azure_v1(url: str, say: str) -> str:
    client = openai.OpenAI(base_url=f"{url}/azure_passthrough/openai/v1/", api_key=CLIENT_KEY)
    made = client.chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def azure_without_version(url: str, say: str) -> str:
    answer = httpx.post(
        f"{url}/azure_passthrough{DEPLOYMENT}",
        json={"messages": user(say)},
        headers={"api-key": CLIENT_KEY},
    )
    return str(answer.json()["choices"][0]["message"]["content"])


def generate(url: str, say: str) -> str:
    made = genai_client(url).models.generate_content(model="gemini-2.5-flash", contents=say)
    return made.text or ""


def generate_stream(url: str, say: str) -> str:
    stream = genai_client(url).models.generate_content_stream(
        model="gemini-2.5-flash", contents=say
    )
    return "".join(chunk.text or "" for chunk in stream)


def generate_async(url: str, say: str) -> str:
    async def talk() -> str:
        async with genai_client(url).aio as client:
            stream = await client.models.generate_content_stream(
                model="gemini-2.5-flash", contents=say
            )
            return "".join([chunk.text or "" async for chunk in stream])

    return asyncio.run(talk())


def gemini_embeddings(url: str, say: str) -> str:
    made = genai_client(url).models.embed_content(model="gemini-embedding-001", contents=say)
    return say if made.embeddings else ""


def gemini_tokens(url: str, say: str) -> str:
    made = genai_client(url).models.count_tokens(model="gemini-2.5-flash", contents=say)
    return say if made.total_tokens else ""


def gemini_models(url: str, say: str) -> str:
    return say if list(genai_client(url).models.list()) else ""


def gemini_by_hand(url: str, say: str) -> str:
    answer = httpx.post(
        f"{url}/genai_passthrough/v1beta/models/gemini-2.5-flash:generateContent?key={CLIENT_KEY}",
        json={"contents": [{"role": "user", "parts": [{"text": say}]}]},
    )
    return str(answer.json()["candidates"][0]["content"]["parts"][0]["text"])


def gemini_openai(url: str, say: str) -> str:
    client = openai.OpenAI(base_url=f"{url}/genai_passthrough/v1beta/openai", api_key=CLIENT_KEY)
    made = client.chat.completions.create(model="gemini-2.5-flash", messages=user(say))
    return made.choices[0].message.content or ""


def vertex_stream(url: str, say: str) -> str:
    stream = genai_client(url, vertexai=True).models.generate_content_stream(
        model="gemini-2.5-flash", contents=say
    )
    return "".join(chunk.text or "" for chunk in stream)


def vertex_with_project(url: str, say: str) -> str:
    client = genai_client(url, vertexai=True, project="my-project", location="us-east5")
    made = client.models.generate_content(model="gemini-2.5-flash", contents=say)
    return made.text or ""


def claude_on_vertex(url: str, say: str) -> str:
    answer = httpx.post(
        f"{url}/genai_passthrough{CLAUDE}/claude-sonnet-4@20250514:rawPredict",
        json={
            "anthropic_version": "vertex-2023-10-16",
            "max_tokens": 64,
            "messages": user(say),
        },
        headers={"Authorization": f"Bearer ya29.{CLIENT_KEY}"},
    )
    return str(answer.json()["content"][0]["text"])


def httpx_stream(url: str, say: str) -> str:
    with httpx.stream(
        "POST",
        f"{url}/openai_passthrough/v1/chat/completions",
        json={"model": "gpt-4o", "messages": user(say), "stream": True},
        headers={"Authorization": f"Bearer {CLIENT_KEY}"},
    ) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"] for line in lines]
    return "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)


def by_curl(url: str, say: str) -> str:
    body = {"model": "gpt-4o", "messages": user(say)}
    answer = run_curl(
        f"{url}/openai_passthrough/v1/chat/completions", f"Authorization: Bearer {CLIENT_KEY}", body
    )
    return str(json.loads(answer)["choices"][0]["message"]["content"])


def by_curl_stream(url: str, say: str) -> str:
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    body = {"contents": [{"parts": [{"text": say}], "role": "user"}]}
    return run_curl(f"{url}/genai_passthrough{path}", f"x-goog-api-key: {CLIENT_KEY}", body)


def run_curl(url: str, credential: str, body: Any) -> str:
    """What curl prints."""
    command = [curl(), "-sSN", "--compressed", url, "-d", json.dumps(body)]
    for header in (credential, "Content-Type: application/json"):
        command += ["-H", header]
    env = clean_environment()
    return subprocess.run(
        command, env=env, capture_output=True, check=True, text=True, timeout=20
    ).stdout


type Call = Callable[[str, str], str]

CALLS: list[tuple[Call, str, str, list[str], str | None, str | None]] = [
    # call, provider, detected_by, targets that the provider saw, operation and model of the first
    (chat, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (chat_without_version, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (chat_of_an_organization, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (chat_stream, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (chat_async, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (responses, "openai", "prefix", ["/v1/responses"], "responses", "gpt-4o"),
    (responses_stream, "openai", "prefix", ["/v1/responses"], "responses", "gpt-4o"),
    (embeddings, "openai", "prefix", ["/v1/embeddings"], "embeddings", "text-embedding-3-small"),
    (openai_file, "openai", "prefix", ["/v1/files", "/v1/files/*/content"], "files", None),
    (speech, "openai", "prefix", ["/v1/audio/speech"], "speech", "tts-1"),
    (transcription, "openai", "prefix", ["/v1/audio/transcriptions"], "transcription", "whisper-1"),
    (openai_models, "openai", "prefix", ["/v1/models"], "models", None),
    (messages, "anthropic", "prefix", ["/v1/messages"], "messages", "claude-haiku-4-5"),
    (messages_with_token, "anthropic", "prefix", ["/v1/messages"], "messages", "claude-haiku-4-5"),
    (messages_stream, "anthropic", "prefix", ["/v1/messages"], "messages", "claude-haiku-4-5"),
    (messages_async, "anthropic", "prefix", ["/v1/messages"], "messages", "claude-haiku-4-5"),
    (
        count_tokens,
        "anthropic",
        "prefix",
        ["/v1/messages/count_tokens"],
        "count_tokens",
        "claude-haiku-4-5",
    ),
    (anthropic_models, "anthropic", "prefix", ["/v1/models"], "models", None),
    (azure_stream, "azure", "prefix", [f"{DEPLOYMENT}?api-version=2024-10-21"], "chat", "gpt-4o"),
    (
        azure_responses,
        "azure",
        "prefix",
        ["/openai/responses?api-version=2024-10-21"],
        "responses",
        "gpt-4o",
    ),
    (
        azure_with_both_credentials,
        "azure",
        "prefix",
        [f"{DEPLOYMENT}?api-version=2024-10-21"],
        "chat",
        "gpt-4o",
    ),
    (azure_entra, "azure", "prefix", [f"{DEPLOYMENT}?api-version=2024-10-21"], "chat", "gpt-4o"),
    (azure_v1, "azure", "prefix", ["/openai/v1/chat/completions"], "chat", "gpt-4o"),
    (
        azure_without_version,
        "azure",
        "prefix",
        [f"{DEPLOYMENT}?api-version=2025-04-01-preview"],
        "chat",
        "gpt-4o",
    ),
    (
        generate,
        "gemini",
        "default",
        ["/v1/models/gemini-2.5-flash:generateContent"],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        generate_stream,
        "gemini",
        "default",
        ["/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        generate_async,
        "gemini",
        "default",
        ["/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        gemini_embeddings,
        "gemini",
        "default",
        ["/v1/models/gemini-embedding-001:batchEmbedContents"],
        "embed_content",
        "gemini-embedding-001",
    ),
    (
        gemini_tokens,
        "gemini",
        "default",
        ["/v1/models/gemini-2.5-flash:countTokens"],
        "count_tokens",
        "gemini-2.5-flash",
    ),
    (gemini_models, "gemini", "default", ["/v1/models*"], "models", None),
    (
        gemini_by_hand,
        "gemini",
        "default",
        ["/v1beta/models/gemini-2.5-flash:generateContent"],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        gemini_openai,
        "gemini",
        "default",
        ["/v1beta/openai/chat/completions"],
        "chat",
        "gemini-2.5-flash",
    ),
    (
        vertex_stream,
        "vertex",
        "path",
        [f"{EXPRESS}:streamGenerateContent?alt=sse"],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        vertex_with_project,
        "vertex",
        "path",
        [
            "/v1beta1/projects/my-project/locations/us-east5"
            "/publishers/google/models/gemini-2.5-flash:generateContent"
        ],
        "generate_content",
        "gemini-2.5-flash",
    ),
    (
        claude_on_vertex,
        "vertex",
        "path",
        [f"{CLAUDE}/claude-sonnet-4@20250514:rawPredict"],
        "messages",
        "claude-sonnet-4@20250514",
    ),
    (httpx_stream, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (by_curl, "openai", "prefix", [CHAT], "chat", "gpt-4o"),
    (
        by_curl_stream,
        "gemini",
        "default",
        ["/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"],
        "generate_content",
        "gemini-2.5-flash",
    ),
]


@pytest.mark.parametrize(
    ("call", "name", "rule", "targets", "operation", "model"),
    [pytest.param(*row, id=row[0].__name__) for row in CALLS],
)
def test_a_call_returns_what_the_provider_said_and_carries_our_key_alone(
    watch: Watch,
    call: Call,
    name: str,
    rule: str,
    targets: list[str],
    operation: str | None,
    model: str | None,
) -> None:
    assert watch.say in call(watch.gateway.url, watch.say)
    assert [fits(seen.target, target) for seen, target in zip(watch.seen, targets, strict=True)]
    watch.check_clean(name)
    for seen in watch.seen:
        assert b"of-the-client" not in seen.head
    first, *rest = watch.records(len(targets))
    assert {record["outcome"] for record in (first, *rest)} == {"ok"}
    assert (first["provider"], first["detected_by"]) == (name, rule)
    assert first["key"] == f"{name}-main"
    assert first["operation"] == operation
    assert first["model"]["requested"] == model
    assert CLIENT_KEY not in json.dumps([first, *rest])
    assert SIGNED[name][1].split()[-1] not in json.dumps([first, *rest])


def fits(target: str, pattern: str) -> bool:
    """Whether a target is the pattern, in which `*` stands for one changing part."""
    head, star, tail = pattern.partition("*")
    assert target.startswith(head)
    assert target.endswith(tail) if star else target == head
    return True


def test_anthropic_vertex_needs_no_other_shape_than_its_own(watch: Watch) -> None:
    try:
        from anthropic import AnthropicVertex

        client = AnthropicVertex(
            base_url=f"{watch.gateway.url}/genai_passthrough/v1",
            project_id="my-project",
            region="us-east5",
            access_token=f"ya29.{CLIENT_KEY}",
        )
        made = client.messages.create(
            model="claude-sonnet-4@20250514", max_tokens=64, messages=user(watch.say)
        )
        said = str(made.content[0].text)
    except ImportError:  # google-auth is an extra; the same shape by hand
        said = claude_on_vertex(watch.gateway.url, watch.say)
    assert watch.say in said
    assert [seen.target for seen in watch.seen] == [f"{CLAUDE}/claude-sonnet-4@20250514:rawPredict"]
    watch.check_clean("vertex")
    assert watch.records(1)[0]["provider"] == "vertex"


def test_a_file_goes_up_to_gemini_through_the_gateway_in_all_its_pieces(watch: Watch) -> None:
    """The SDK follows X-Goog-Upload-URL without a credential; that URL has to be ours."""
    data = os.urandom(9 << 20)  # two pieces of 8 MiB at most
    client = genai_client(watch.gateway.url)
    made = client.files.upload(file=io.BytesIO(data), config={"mime_type": "video/mp4"})
    assert made.size_bytes == len(data)
    start, *pieces = watch.seen
    assert start.target.startswith("/upload/v1")
    assert b"".join(piece.body for piece in pieces) == data
    assert len(pieces) == 2
    watch.check_clean("gemini")
    records = watch.records(3)
    assert [record["outcome"] for record in records] == ["ok"] * 3
    assert {record["operation"] for record in records} == {"uploads"}
    assert [record["request"]["bytes"] for record in records[1:]] == [8 << 20, 1 << 20]


def test_a_vertex_token_gets_the_keys_project_and_the_clients_region(
    provider: Provider, odd: Gateway
) -> None:
    before, told = len(provider.seen), len(odd.records())
    express = genai_client(odd.url, vertexai=True)
    express.models.generate_content(model="gemini-2.5-flash", contents="x")
    placed = genai_client(odd.url, vertexai=True, project="theirs", location="us-east5")
    placed.models.generate_content(model="gemini-2.5-flash", contents="x")
    model = "publishers/google/models/gemini-2.5-flash:generateContent"
    assert [seen.target for seen in provider.seen[before:]] == [
        f"/v1beta1/projects/our-project/locations/europe-west4/{model}",
        f"/v1beta1/projects/our-project/locations/us-east5/{model}",
    ]
    for seen in provider.seen[before:]:
        assert credentials(seen.headers) == [("authorization", f"Bearer {TOKEN}")]
    assert {record["key"] for record in odd.records(told + 2)[told:]} == {"oauth"}


# -- errors of the provider -----------------------------------------------------------------------


ERRORS: list[tuple[Call, int, type[Exception], int, str]] = [
    # call, status that the provider gives, what the SDK raises, requests it sends, provider
    (chat, 429, openai.RateLimitError, 3, "openai"),
    (chat, 401, openai.AuthenticationError, 1, "openai"),
    (chat, 404, openai.NotFoundError, 1, "openai"),
    (chat, 400, openai.BadRequestError, 1, "openai"),
    (chat_stream, 500, openai.InternalServerError, 3, "openai"),
    (azure_stream, 429, openai.RateLimitError, 3, "azure"),
    (azure_stream, 403, openai.PermissionDeniedError, 1, "azure"),
    (messages, 401, anthropic.AuthenticationError, 1, "anthropic"),
    (messages, 429, anthropic.RateLimitError, 3, "anthropic"),
    (messages_stream, 529, anthropic.InternalServerError, 3, "anthropic"),
    (messages, 413, anthropic.RequestTooLargeError, 1, "anthropic"),
    (generate, 429, genai_errors.ClientError, 1, "gemini"),
    (generate_stream, 503, genai_errors.ServerError, 1, "gemini"),
    (vertex_stream, 403, genai_errors.ClientError, 1, "vertex"),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDKs' pauses before a retry take no time."""
    for base in (openai._base_client.BaseClient, anthropic._base_client.BaseClient):
        monkeypatch.setattr(base, "_calculate_retry_timeout", lambda *_, **__: 0.0)
    return


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("call", "status", "raised", "attempts", "name"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[1]}") for row in ERRORS],
)
def test_an_error_of_the_provider_is_the_sdks_own_typed_error(
    watch: Watch, call: Call, status: int, raised: type[Exception], attempts: int, name: str
) -> None:
    with pytest.raises(raised) as caught:
        call(watch.gateway.url, f"error:{status} {watch.say}")
    found = getattr(caught.value, "status_code", None) or getattr(caught.value, "code", None)
    assert found == status
    assert len(watch.seen) == attempts
    watch.check_clean(name)
    records = watch.records(attempts)
    assert {record["outcome"] for record in records} == {"upstream_error"}
    assert {record["response"]["status"] for record in records} == {status}
    if name in ("openai", "anthropic", "azure"):
        assert [record["attempt"] for record in records] == list(range(attempts))


@pytest.mark.parametrize("call", [chat_stream, messages_stream, generate_stream])
def test_a_stream_that_the_provider_cuts_is_an_error_in_the_sdk_too(
    watch: Watch, call: Call
) -> None:
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnect|connection"):
        call(watch.gateway.url, f"error:cut {watch.say}")
    assert len(watch.seen) == 1
    (record,) = watch.records(1)
    assert record["outcome"] == "upstream_abort"
    assert record["response"]["status"] == 200
    assert record["response"]["bytes"] > 0


# -- our own refusals -----------------------------------------------------------------------------


def chat_at_no_route(url: str, say: str) -> str:
    client = openai.OpenAI(base_url=f"{url}/openapi_passthrough/v1", api_key=CLIENT_KEY)
    made = client.chat.completions.create(model="gpt-4o", messages=user(say))
    return made.choices[0].message.content or ""


def messages_at_no_route(url: str, say: str) -> str:
    client = anthropic.Anthropic(base_url=f"{url}/antropic_passthrough", api_key=CLIENT_KEY)
    made = client.messages.create(model="m", max_tokens=64, messages=user(say))
    return str(made.content[0].text)


def generate_at_no_route(url: str, say: str) -> str:
    options = HttpOptions(base_url=f"{url}/gena_passthrough")
    client = genai.Client(api_key=CLIENT_KEY, http_options=options)
    return client.models.generate_content(model="m", contents=say).text or ""


def generate_with_ambient_project(url: str, say: str) -> str:
    """With project and location from the environment alone the SDK drops the whole path."""
    os.environ |= {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "us-east5"}
    try:
        options = HttpOptions(base_url=f"{url}/genai_passthrough")
        client = genai.Client(vertexai=True, http_options=options)
        return client.models.generate_content(model="m", contents=say).text or ""
    finally:
        del os.environ["GOOGLE_CLOUD_PROJECT"], os.environ["GOOGLE_CLOUD_LOCATION"]


REFUSALS: list[tuple[Call, type[Exception], int, str, int, str]] = [
    # call, what the SDK raises, status, a part of the message, attempts, outcome
    (chat_at_no_route, openai.NotFoundError, 404, "/openai_passthrough", 1, "refused"),
    (messages_at_no_route, anthropic.NotFoundError, 404, "/openai_passthrough", 1, "refused"),
    (generate_at_no_route, genai_errors.ClientError, 404, "/openai_passthrough", 1, "refused"),
    (generate_with_ambient_project, genai_errors.ClientError, 404, "project=", 1, "refused"),
    (azure_stream, openai.InternalServerError, 503, "AZURE_OPENAI_ENDPOINT", 1, "refused"),
    (messages, anthropic.InternalServerError, 503, "ANTHROPIC_API_KEY", 1, "refused"),
    (chat, openai.InternalServerError, 502, "could not be reached", 3, "upstream_error"),
    (chat_stream, openai.InternalServerError, 502, "could not be reached", 3, "upstream_error"),
    (generate, genai_errors.ServerError, 502, "could not be reached", 1, "upstream_error"),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("call", "raised", "status", "text", "attempts", "outcome"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[2]}") for row in REFUSALS],
)
def test_a_refusal_of_ours_is_the_sdks_own_typed_error_with_a_message_that_helps(
    odd: Gateway,
    call: Call,
    raised: type[Exception],
    status: int,
    text: str,
    attempts: int,
    outcome: str,
) -> None:
    before = len(odd.records())
    with pytest.raises(raised, match=text) as caught:
        call(odd.url, "x")
    found = getattr(caught.value, "status_code", None) or getattr(caught.value, "code", None)
    assert found == status
    records = odd.records(before + attempts)[before:]
    assert len(records) == attempts
    assert {record["outcome"] for record in records} == {outcome}
    assert {record["response"]["status"] for record in records} == {status}
    assert CLIENT_KEY not in str(caught.value) + json.dumps(records)
