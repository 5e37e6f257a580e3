"""Real clients that know a proxy and its authority by their usual variables, and nothing else."""

import json
import os
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from live.harness import KEYS, credentials, curl
from live.test_forward import Desk

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "gpt-4o-mini", "messages": HELLO}
URL = "https://api.openai.com/v1/chat/completions"
PLACEHOLDER = "placeholder-0123456789"
SIGNED = {
    "openai": ("authorization", f"Bearer {KEYS['openai']}"),
    "anthropic": ("x-api-key", KEYS["anthropic"]),
    "gemini": ("x-goog-api-key", KEYS["gemini"]),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("clients") / "a")
    yield desk
    desk.stop()


@pytest.fixture
def variables(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that a person sets for a proxy."""
    authority = str(desk.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem")
    found = {"HTTPS_PROXY": desk.gateway.url, "https_proxy": desk.gateway.url}
    found |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), authority)
    found |= dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), PLACEHOLDER)
    for name in [name for name in os.environ if "PROXY" in name.upper() or "BASE_URL" in name]:
        monkeypatch.delenv(name)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def with_httpx() -> Any:
    return httpx.post(URL, json=CHAT, headers={"Authorization": f"Bearer {PLACEHOLDER}"}).json()


def with_requests() -> Any:
    headers = {"Authorization": f"Bearer {PLACEHOLDER}"}
    return requests.post(URL, json=CHAT, headers=headers, timeout=20).json()


def with_urllib() -> Any:
    headers = {"Authorization": f"Bearer {PLACEHOLDER}", "Content-Type": "application/json"}
    request = urllib.request.Request(URL, json.dumps(CHAT).encode(), headers)
    with urllib.request.urlopen(request, context=ssl.create_default_context()) as answer:
        return json.load(answer)


def with_curl() -> Any:
    command = [curl(), "-sS", URL, "-H", f"Authorization: Bearer {PLACEHOLDER}"]
    command += ["-H", "Content-Type: application/json", "-d", json.dumps(CHAT)]
    done = subprocess.run(command, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Node's own clients take no proxy from the environment; programs open the tunnel like this.
NODE = """
const http = require("http"), tls = require("tls"), body = process.argv[1];
const {hostname, port} = new URL(process.env.HTTPS_PROXY);
http.request({host: hostname, port, method: "CONNECT", path: "api.openai.com:443"})
  .on("connect", (answer, socket) => {
    const secure = tls.connect({socket, servername: "api.openai.com"}, () => {
      secure.write("POST /v1/chat/completions HTTP/1.1\\r\\nHost: api.openai.com\\r\\n" +
        "Authorization: Bearer placeholder-0123456789\\r\\nContent-Type: application/json\\r\\n" +
        `Connection: close\\r\\nContent-Length: ${Buffer.byteLength(body)}\\r\\n\\r\\n${body}`);
    });
    let heard = "";
    secure.on("data", (data) => heard += data);
    secure.on("end", () => console.log(heard));
  }).end();
"""


def node(script: str, *arguments: str, **more: str) -> str:
    """What a script for Node prints."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no Node on this machine")
    env = dict(os.environ) | {"NODE_EXTRA_CA_CERTS": os.environ["SSL_CERT_FILE"]} | more
    command = [program, "-e", script, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_node() -> Any:
    heard = node(NODE, json.dumps(CHAT))  # in chunks
    return json.loads(heard[heard.index("{") : heard.rindex("}") + 1])


@pytest.mark.parametrize(
    "call", [with_httpx, with_requests, with_urllib, with_curl, with_node], ids=lambda c: c.__name__
)
def test_a_client_that_knows_the_proxy_only_gets_our_key(
    desk: Desk, variables: dict[str, str], call: Callable[[], Any]
) -> None:
    desk.oracles.mark()
    assert call()["choices"][0]["message"]["content"]
    (seen,) = desk.oracles.new()
    assert credentials(seen.headers) == [SIGNED["openai"]]
    assert PLACEHOLDER.encode() not in seen.head
    (record,) = desk.oracles.new_records(1)
    assert (record["route"], record["outcome"]) == ("host:api.openai.com", "ok")
    desk.oracles.check()


def test_nodes_fetch_reaches_the_gateway_by_tls_on_its_port(
    desk: Desk, variables: dict[str, str]
) -> None:
    desk.oracles.mark()
    script = """
        fetch(process.argv[1], {method: "POST", body: process.argv[2],
          headers: {"content-type": "application/json", "authorization": "Bearer x"}})
        .then((answer) => answer.text()).then(console.log)
    """
    url = f"https://localhost:{desk.gateway.port}/openai_passthrough/v1/chat/completions"
    assert json.loads(node(script, url, json.dumps(CHAT)))["choices"]
    (seen,) = desk.oracles.new()
    assert credentials(seen.headers) == [SIGNED["openai"]]
    desk.oracles.check(records=1)


def openai_sdk() -> str:
    from openai import OpenAI

    with OpenAI() as client:
        return client.chat.completions.create(**CHAT).choices[0].message.content  # type: ignore[call-overload, no-any-return]


def anthropic_sdk() -> str:
    from anthropic import Anthropic

    with Anthropic() as client:
        answer = client.messages.create(model="claude-haiku-4-5", max_tokens=20, messages=HELLO)  # type: ignore[arg-type]
    return answer.content[0].text  # type: ignore[union-attr]


def google_sdk() -> str:
    from google import genai

    client = genai.Client(api_key=PLACEHOLDER)
    return client.models.generate_content(model="gemini-2.5-flash", contents="hello").text or ""


@pytest.mark.parametrize(
    ("call", "provider"),
    [
        pytest.param(openai_sdk, "openai", id="openai"),
        pytest.param(anthropic_sdk, "anthropic", id="anthropic"),
        pytest.param(google_sdk, "gemini", id="google-genai"),
    ],
)
def test_a_stock_sdk_needs_no_base_url(
    desk: Desk, variables: dict[str, str], call: Callable[[], str], provider: str
) -> None:
    desk.oracles.mark()
    assert call()
    (seen,) = desk.oracles.new()
    assert credentials(seen.headers) == [SIGNED[provider]]
    (record,) = desk.oracles.new_records(1)
    assert (record["provider"], record["detected_by"]) == (provider, "host")
    assert record["usage"]["output_tokens"] > 0
    desk.oracles.check()


async def test_the_google_sdk_talks_live_through_the_proxy(
    desk: Desk, variables: dict[str, str]
) -> None:
    from google import genai

    desk.oracles.mark()
    client = genai.Client(api_key=PLACEHOLDER)
    heard = ""
    async with client.aio.live.connect(
        model="gemini-live-2.5-flash", config={"response_modalities": ["TEXT"]}
    ) as session:
        turns = {"role": "user", "parts": [{"text": "live and well"}]}
        await session.send_client_content(turns=turns, turn_complete=True)
        async for message in session.receive():
            heard += message.text or ""
    assert "live and well" in heard
    records = desk.oracles.new_records(2)
    assert {record["route"] for record in records} == {"host:generativelanguage.googleapis.com"}
    assert records[0]["usage"]["output_tokens"] > 0
    assert not any("key=" in record["request"]["url"] for record in records)
    desk.oracles.check()


def test_the_openai_sdk_talks_realtime_through_the_proxy(
    desk: Desk, variables: dict[str, str]
) -> None:
    from openai import OpenAI

    desk.oracles.mark()
    with OpenAI() as client, client.realtime.connect(model="gpt-realtime") as talk:
        item = {"type": "message", "role": "user"}
        talk.conversation.item.create(
            item=item | {"content": [{"type": "input_text", "text": "hello"}]}  # type: ignore[arg-type]
        )
        talk.response.create()
        kinds = []
        for event in talk:
            kinds.append(event.type)
            if event.type == "response.done":
                break
    assert "session.created" in kinds
    turn, own = desk.oracles.new_records(2)
    for record in (turn, own):
        assert (record["route"], record["operation"]) == ("host:api.openai.com", "realtime")
    desk.oracles.check()


def test_a_file_goes_up_to_gemini_and_stays_on_the_proxy(
    desk: Desk, variables: dict[str, str], tmp_path: Path
) -> None:
    from google import genai

    file = tmp_path / "note.txt"
    file.write_text("a note")
    desk.oracles.mark()
    client = genai.Client(api_key=PLACEHOLDER)
    assert client.files.upload(file=file).name
    seen = desk.oracles.new()
    assert [credentials(one.headers) for one in seen] == [[SIGNED["gemini"]]] * len(seen)
    assert len(seen) == 2
    desk.oracles.check(records=2)
