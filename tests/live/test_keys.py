"""A ring with dead keys through the real gateway: what the SDKs notice of it, which is nothing."""

import asyncio
import contextlib
import http.client
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai.types import HttpOptions

from live.harness import (
    CLIENT_KEY,
    Gateway,
    Provider,
    Upstream,
    Wire,
    free_port,
    request,
)
from live.oracles import Heard, talk

pytestmark = pytest.mark.usefixtures("own_environment")

BAD, BAD_TOO, GOOD = "sk-BAD-KEY-0123456789", "sk-BAD-KEY-TOO-0123456789", "sk-GOOD-KEY-0123456789"
NAMES = {BAD: "bad", BAD_TOO: "bad-too", GOOD: "good"}
_CREDENTIAL = re.compile(rb"(?im)^(?:authorization: bearer|x-api-key:|x-goog-api-key:|api-key:) *")


@dataclass
class Desk:
    """Answers by key: what `faults` names for it, else what the demo provider answers."""

    provider: Provider
    faults: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upstream = Upstream(self.talk)

    def talk(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, ConnectionError, TimeoutError):
            while True:
                head, body = wire.message()
                key = _CREDENTIAL.split(head)[1].split(b"\r\n")[0].decode()
                self.seen.append(NAMES.get(key, key))
                self.heads.append(head)
                wire.send(self.faults.get(key) or self.relayed(head, body))

    def relayed(self, head: bytes, body: bytes) -> bytes:
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        connection = http.client.HTTPConnection("127.0.0.1", self.provider.port, timeout=10)
        headers = {"Content-Type": "application/json", "Anthropic-Version": "2023-06-01"}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        kind, content = answer.headers["content-type"], answer.read()
        connection.close()
        return reply(answer.status, content, f"Content-Type: {kind}")


def reply(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fault(status: int, *headers: str) -> bytes:
    error = {"message": "said by the provider", "type": "t", "code": status, "status": "SAID"}
    body = json.dumps({"type": "error", "error": error}).encode()
    return reply(status, body, "Content-Type: application/json", *headers)


def ring(*names: str) -> list[dict[str, Any]]:
    """Keys of which the good one has no weight: it is the last to be chosen."""
    values = {name: value for value, name in NAMES.items()}
    return [{"name": n, "value": values[n], "weight": 0 if n == "good" else 1} for n in names]


@pytest.fixture(scope="module")
def desk(provider: Provider) -> Iterator[Desk]:
    desk = Desk(provider)
    yield desk
    desk.upstream.stop()


@pytest.fixture(scope="module")
def keyed(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose providers have two keys each; a route of its own has three."""
    plain = Upstream(lambda wire: wire.send(b"220 no TLS is spoken here\r\n"))
    network = {"base_url": desk.upstream.url}
    both = ring("bad", "good")
    there = {"azure_key_config": {"endpoint": desk.upstream.url}}
    nowhere = {"azure_key_config": {"endpoint": f"http://127.0.0.1:{free_port()}"}}
    no_tls = {"azure_key_config": {"endpoint": f"https://localhost:{plain.port}"}}
    equal = [key | {"weight": 1} for key in both]
    config: dict[str, Any] = {
        "providers": {
            "openai": {"keys": both, "network_config": network},
            "anthropic": {"keys": both, "network_config": network},
            "gemini": {"keys": both, "network_config": network},
            "azure": {
                "keys": [
                    both[0] | nowhere,
                    both[0] | no_tls | {"name": "no-tls"},
                    both[1] | there,
                ]
            },
        },
        "routes": [
            {
                "prefix": "/three",
                "upstream": desk.upstream.url,
                "keys": ring("bad", "bad-too", "good"),
            },
            {"prefix": "/equal", "upstream": desk.upstream.url, "keys": equal},
        ],
    }
    gateway = Gateway(tmp_path_factory.mktemp("keyed"), config)
    yield gateway
    gateway.stop()
    plain.stop()


RESET = {
    "openai": ("/openai_passthrough/v1/models", "GET"),
    "anthropic": ("/anthropic_passthrough/v1/models", "GET"),
    "gemini": ("/genai_passthrough/v1beta/files", "GET"),
    "three": ("/three/v1/models", "GET"),
    "equal": ("/equal/v1/models", "GET"),
}


@pytest.fixture
def rested(desk: Desk, keyed: Gateway) -> Iterator[None]:
    """Afterwards all keys are as new: a good answer ends a rest, and a key can be asked by name."""
    desk.faults.clear()
    desk.seen.clear()
    yield
    desk.faults.clear()
    for name, told in states(keyed).items():
        for key, state in told.items() if name in RESET else ():
            if state != "ready":
                assert ask(keyed, name, f"x-passthrough-key: {key}").status == 200
                assert states(keyed)[name][key] == "ready"


def ask(gateway: Gateway, name: str, *headers: str) -> Heard:
    target, method = RESET[name]
    return talk(gateway.port, request(target, b"", method, headers))


def health(gateway: Gateway, query: str = "?keys") -> Heard:
    return talk(gateway.port, request(f"/health{query}", b"", "GET"))


def states(gateway: Gateway) -> dict[str, dict[str, str]]:
    told: dict[str, dict[str, str]] = json.loads(health(gateway).body)["keys"]
    return told


# -- one call each, with the SDKs' own settings for retries ---------------------------------------


def _user(text: str) -> Any:
    return [{"role": "user", "content": text}]


@cache
def openai_client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=CLIENT_KEY, timeout=20)


@cache
def anthropic_client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=CLIENT_KEY, timeout=20)


def openai_call(url: str) -> str:
    made = openai_client(url).chat.completions.create(model="gpt-4o", messages=_user("Hello!"))
    return made.choices[0].message.content or ""


def openai_stream(url: str) -> str:
    stream = openai_client(url).chat.completions.create(
        model="gpt-4o", messages=_user("Hello!"), stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def openai_async(url: str) -> str:
    async def call() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key=CLIENT_KEY, timeout=20) as client:
            made = await client.chat.completions.create(model="gpt-4o", messages=_user("Hello!"))
            return made.choices[0].message.content or ""

    return asyncio.run(call())


def anthropic_call(url: str) -> str:
    made = anthropic_client(url).messages.create(
        model="claude-x", max_tokens=64, messages=_user("Hello!")
    )
    return str(made.content[0].text)


def anthropic_stream(url: str) -> str:
    with anthropic_client(url).messages.stream(
        model="claude-x", max_tokens=64, messages=_user("Hello!")
    ) as stream:
        return "".join(stream.text_stream)


def anthropic_async(url: str) -> str:
    async def call() -> str:
        async with anthropic.AsyncAnthropic(base_url=url, api_key=CLIENT_KEY, timeout=20) as client:
            made = await client.messages.create(
                model="claude-x", max_tokens=64, messages=_user("Hello!")
            )
            return str(made.content[0].text)

    return asyncio.run(call())


FAULTS = {
    "401-revoked": (fault(401), "rests 600 s: answered 401"),
    "403-forbidden": (fault(403), "rests 600 s: answered 403"),
    "429-for-33-s": (fault(429, "Retry-After: 33"), "rests 33 s: answered 429"),
    "429-no-more": (fault(429, "x-should-retry: false"), "rests 1 s: answered 429"),
    "500": (fault(500), "rests 1 s: answered 500"),
    "529-overloaded": (fault(529, "Retry-After: 7"), "rests 7 s: answered 529"),
}
CALLS: dict[str, tuple[Callable[[str], str], str]] = {
    "openai": (openai_call, " ".join(FAULTS)),
    "openai-async": (openai_async, "401-revoked 500"),
    "openai-stream": (openai_stream, "401-revoked 429-for-33-s"),
    "anthropic": (anthropic_call, " ".join(FAULTS)),
    "anthropic-async": (anthropic_async, "401-revoked 500"),
    "anthropic-stream": (anthropic_stream, "401-revoked 429-for-33-s"),
}
PATHS = {"openai": "/openai_passthrough/v1", "anthropic": "/anthropic_passthrough"}


@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize(
    ("call", "name", "answer", "told"),
    [
        pytest.param(call, how.partition("-")[0], *FAULTS[what], id=f"{how}-{what}")
        for how, (call, faults) in CALLS.items()
        for what in faults.split()
    ],
)
def test_with_one_good_key_an_sdk_sees_no_error(
    desk: Desk,
    keyed: Gateway,
    call: Callable[[str], str],
    name: str,
    answer: bytes,
    told: str,
) -> None:
    desk.faults[BAD] = answer
    assert "Hello!" in call(keyed.url + PATHS[name])
    assert desk.seen == ["bad", "good"]
    # The clock goes on while we look: a rest may be a second shorter, or a short one over.
    seconds, why = re.fullmatch(r"rests (\d+) s: (.*)", told).groups()  # type: ignore[union-attr]
    state = states(keyed)[name]
    assert state["good"] == "ready"
    if int(seconds) > 5:
        found = re.fullmatch(rf"rests (\d+) s: {why}", state["bad"])
        assert found, state
        assert int(seconds) - 5 < int(found[1]) <= int(seconds)
        assert "Hello!" in call(keyed.url + PATHS[name])
        assert desk.seen == ["bad", "good", "good"]


@pytest.mark.usefixtures("rested")
def test_two_dead_keys_of_three_are_as_many_as_an_sdk_has_tries_for(
    desk: Desk, keyed: Gateway
) -> None:
    desk.faults |= {BAD: fault(401), BAD_TOO: fault(429, "Retry-After: 60")}
    assert "Hello!" in openai_call(f"{keyed.url}/three/v1")
    assert sorted(desk.seen[:2]) == ["bad", "bad-too"]
    assert desk.seen[2:] == ["good"]


@pytest.mark.usefixtures("rested")
def test_when_every_key_is_dead_the_providers_own_error_arrives(desk: Desk, keyed: Gateway) -> None:
    desk.faults |= {BAD: fault(401), GOOD: fault(401)}
    with pytest.raises(openai.AuthenticationError, match="said by the provider"):
        openai_call(f"{keyed.url}/openai_passthrough/v1")
    assert desk.seen == ["bad", "good"]
    # The key that is ready first is tried: it is what may have been mended.
    desk.faults.clear()
    assert "Hello!" in openai_call(f"{keyed.url}/openai_passthrough/v1")


@pytest.mark.usefixtures("rested")
def test_a_google_client_gets_the_providers_own_error_and_the_next_call_another_key(
    desk: Desk, keyed: Gateway
) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.1s"}
    error = {"code": 429, "message": "said", "status": "RESOURCE_EXHAUSTED", "details": [info]}
    body = json.dumps({"error": error}).encode()
    desk.faults[BAD] = reply(429, body, "Content-Type: application/json", "X-Own: 1")
    options = HttpOptions(base_url=f"{keyed.url}/genai_passthrough", timeout=20_000)
    client = genai.Client(api_key=CLIENT_KEY, http_options=options)
    with pytest.raises(genai_errors.ClientError) as raised:
        client.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
    answer = raised.value.response
    assert answer.headers["x-own"] == "1"
    assert not {"x-should-retry", "retry-after-ms"} & set(map(str.lower, answer.headers))
    found = re.fullmatch(r"rests (\d+) s: answered 429", states(keyed)["gemini"]["bad"])
    assert found
    assert 29 < int(found[1]) <= 35
    made = client.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
    assert "Hello!" in (made.text or "")
    assert desk.seen == ["bad", "good"]


def test_azure_resources_that_cannot_be_reached_stop_nobody(desk: Desk, keyed: Gateway) -> None:
    """Nothing listens at the first, and the second speaks no TLS."""
    desk.seen.clear()
    with openai.AzureOpenAI(
        azure_endpoint=f"{keyed.url}/azure_passthrough",
        api_key=CLIENT_KEY,
        api_version="2024-10-21",
        timeout=20,
    ) as client:
        made = client.chat.completions.create(model="gpt-4o", messages=_user("Hello!"))
    assert "Hello!" in (made.choices[0].message.content or "")
    assert desk.seen == ["good"]
    told = keyed.record_of('"azure", "detected_by": "prefix", "key": "good"')
    tries = [one for one in keyed.records() if one["provider"] == "azure"]
    assert tries[-1] == told
    assert [record["outcome"] for record in tries] == [*["upstream_error"] * 2, "ok"]
    codes = {record["error"]["type"] for record in tries if record["error"]}
    assert codes == {"upstream_unreachable", "upstream_tls"}


@pytest.mark.usefixtures("rested")
def test_a_pinned_key_is_used_although_it_rests_and_its_error_asks_for_no_retry(
    desk: Desk, keyed: Gateway
) -> None:
    desk.faults[BAD] = fault(429, "Retry-After: 9")
    for _ in range(2):
        heard = ask(keyed, "openai", "x-passthrough-key: bad")
        assert (heard.status, heard.header("retry-after")) == (429, "9")
        assert heard.header("x-should-retry") is None
    assert ask(keyed, "openai").status == 200
    assert ask(keyed, "openai", "X-Passthrough-Key: good").status == 200
    assert desk.seen == ["bad", "bad", "good", "good"]
    assert not [head for head in desk.heads if b"passthrough" in head.lower()]
    heard = ask(keyed, "openai", "x-passthrough-key: nobody")
    assert heard.status == 503
    assert b"keys: bad, good" in heard.body


@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize("header", ["X-Claude-Code-Session-Id", "session_id"])
def test_a_session_stays_on_its_key_and_comes_back_to_it(
    desk: Desk, keyed: Gateway, header: str
) -> None:
    sessions = [f"{header}: session-{number}" for number in range(8)]
    for session in sessions * 2:
        assert ask(keyed, "equal", session).status == 200
    first = desk.seen[:8]
    assert set(first) == {"bad", "good"}
    assert desk.seen == first * 2
    desk.faults[BAD] = fault(401)
    mine = sessions[first.index("bad")]
    assert ask(keyed, "equal", mine).status == 401
    assert ask(keyed, "equal", mine).status == 200
    assert desk.seen[-2:] == ["bad", "good"]
    desk.faults.clear()
    assert ask(keyed, "equal", "x-passthrough-key: bad").status == 200
    assert ask(keyed, "equal", mine).status == 200
    assert desk.seen[-1] == "bad"


@pytest.mark.usefixtures("rested")
def test_health_shows_names_and_states_of_keys_and_no_values(desk: Desk, keyed: Gateway) -> None:
    desk.faults[BAD] = fault(401)
    assert ask(keyed, "openai").header("x-should-retry") == "true"
    heard = health(keyed)
    told = json.loads(heard.body)["keys"]
    assert set(told) == {"openai", "anthropic", "azure", "gemini", "vertex", "three", "equal"}
    assert told["vertex"] == {}
    assert told["openai"]["bad"].endswith("s: answered 401")
    assert told["openai"]["good"] == "ready"
    assert not [value for value in NAMES if value.encode() in heard.data]
    assert "keys" not in json.loads(health(keyed, "").body)
    assert talk(keyed.port, request("/health?keys", b"", "GET", host="evil.test")).status == 421
