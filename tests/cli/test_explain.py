"""`llm-passthrough explain`: what it says is what a live gateway then does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live.authorities import NAMES, Authority
from live.harness import (
    CLIENT_KEY,
    KEYS,
    TOKEN,
    Gateway,
    Provider,
    body_of,
    names_addon,
    raw,
    status_of,
)
from llm_passthrough import config
from llm_passthrough.build import Parts, build
from llm_passthrough.cli import app
from llm_passthrough.cli.explain import Explanation, explanation
from typer.testing import CliRunner

RESOURCE = "projects/theirs/locations/us-central1"
FLASH = "publishers/google/models/gemini-2.5-flash"
DEPLOYMENT = "/azure_passthrough/openai/deployments/gpt-4o/chat/completions"
CHAT = b'{"model":"gpt-4o","messages":[]}'
BEARER = f"Authorization: Bearer {CLIENT_KEY}"
GOOGLE = f"x-goog-api-key: {CLIENT_KEY}"
OAUTH, EXPRESS = "x-passthrough-key: oauth", "x-passthrough-key: express"


def document() -> dict[str, Any]:
    """Providers at their own hosts: an OAuth token and an express key for Vertex, two models that
    are told apart at openai, a route of its own without a key, and no key for anthropic."""
    place = {"project_id": "our-project", "region": "europe-west4"}
    azure = {"endpoint": "https://my-resource.openai.azure.com"}
    return {
        "providers": {
            "openai": {
                "keys": [
                    {
                        "name": "main",
                        "value": KEYS["openai"],
                        "models": ["gpt-*"],
                        "organization": "org-ours",
                    },
                    {"name": "other", "value": "sk-OTHER-0123456789", "models": ["o3"]},
                ],
                "network_config": {"extra_headers": {"X-Team": "research"}},
            },
            "azure": {
                "keys": [{"name": "azure", "value": KEYS["azure"], "azure_key_config": azure}]
            },
            "gemini": {"keys": [{"name": "gemini", "value": KEYS["gemini"]}]},
            "vertex": {
                "keys": [
                    {"name": "oauth", "value": TOKEN, "vertex_key_config": place},
                    {"name": "express", "value": KEYS["vertex"], "weight": 0},
                ]
            },
        },
        "routes": [{"prefix": "/groq", "upstream": "https://api.openai.com/base"}],
        "prefixes": {"openai": ["/oai"]},
        "limits": {"request_buffer": 4096},
    }


@pytest.fixture(scope="module")
def gateway(
    tls_provider: Provider, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("explained")
    names = names_addon(folder, dict.fromkeys(NAMES, tls_provider.port))
    args = ("-s", str(names), "--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}")
    gateway = Gateway(folder / "gateway", document(), args=args)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def parts(gateway: Gateway) -> Parts:
    settings, _ = config.load(gateway.folder / "gateway.yaml", {})
    return build(settings, {}, "gateway.yaml")


def said(
    parts: Parts, method: str, target: str, headers: tuple[str, ...], body: bytes
) -> Explanation:
    return explanation(parts, method, target, pairs(headers), body)


def pairs(headers: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, _, value in (line.partition(": ") for line in headers)
    )


def lines(headers: list[list[str]]) -> list[str]:
    return sorted(f"{name}: {value}" for name, value in headers)


def row(
    method: str, target: str, *headers: str, body: bytes = b"", id: str
) -> Any:  # a case as pytest takes it
    return pytest.param(method, target, headers, body, id=id)


SERVED = [
    row(
        "POST",
        "https://api.openai.com/v1/chat/completions",
        BEARER,
        body=CHAT,
        id="a provider's host",
    ),
    row("GET", "https://us-central1-aiplatform.googleapis.com/v1/x", id="a region's host"),
    row("POST", "/openai_passthrough/v1/chat/completions", BEARER, body=CHAT, id="openai"),
    row("POST", "/oai/chat/completions", BEARER, body=CHAT, id="openai: alias, no version"),
    row(
        "POST",
        "/openai_passthrough/v1/responses?api_key=K&a=1&&b=%2F+",
        "OpenAI-Organization: org-theirs",
        "X-Forwarded-For: 1.2.3.4",
        body=b'{"model":"o3"}',
        id="openai: model of another key, credential in the query",
    ),
    row(
        "GET",
        "/openai_passthrough/v1/models",
        f"X_Api_Key: {CLIENT_KEY}",
        f"Cookie: a={CLIENT_KEY}",
        "x-team: theirs",
        "x-passthrough-key: main",
        id="openai: pinned, credentials in odd places",
    ),
    row(
        "POST",
        "/openai_passthrough/v1/files",
        "x-passthrough-key: other",
        body=b'{"model":"gpt-4o","x":"' + b"x" * 5000 + b'"}',
        id="openai: a long file goes with any key",
    ),
    row("POST", f"{DEPLOYMENT}?api-version=2024-10-21", "api-key: K", id="azure: own version"),
    row("POST", DEPLOYMENT, BEARER, id="azure: version put in"),
    row("POST", f"{DEPLOYMENT}?", id="azure: version behind an empty query"),
    row("GET", "/azure_passthrough/openai/v1/models", id="azure: no version under v1"),
    row("POST", "/azure_passthrough/anthropic/v1/messages", id="azure: Claude"),
    row("POST", "/genai_passthrough/v1beta/models/m:generateContent", GOOGLE, id="gemini"),
    row("POST", "/genai_passthrough/models/m:generateContent?key=K", id="gemini: no version"),
    row("GET", "/genai_passthrough/v1beta/files?pageSize=1&key=K", id="gemini: files"),
    row("POST", f"/genai_passthrough/v1beta1/{FLASH}:generateContent", GOOGLE, OAUTH, id="vertex"),
    row(
        "POST", f"/genai_passthrough/v1beta1/{FLASH}:generateContent", EXPRESS, id="vertex: express"
    ),
    row(
        "POST",
        f"/genai_passthrough/v1/{RESOURCE}/{FLASH}:generateContent",
        "Authorization: Bearer ya29.theirs-0123456789",
        "x-goog-user-project: theirs",
        OAUTH,
        body=b'{"cachedContent" : "projects/theirs/locations/us-central1/cachedContents/7"}',
        id="vertex: project, location, a cache in the body",
    ),
    row(
        "POST",
        "/genai_passthrough/v1beta/models/m:countTokens",
        OAUTH,
        body=b'{"model":"projects/theirs/locations/us-central1/publishers/google/models/m"}',
        id="vertex: by the body",
    ),
    row(
        "POST",
        "/genai_passthrough/v1beta/models/m:generateContent",
        "Authorization: Bearer ya29.theirs-0123456789",
        OAUTH,
        id="vertex: by the token",
    ),
    row("GET", f"/genai_passthrough/v1beta1/{FLASH}", OAUTH, id="vertex: nobody's model"),
    row(
        "POST",
        f"/genai_passthrough/v1/{RESOURCE}:retrieveContexts",
        OAUTH,
        body=b"{}",
        id="vertex: a method of a location",
    ),
    row(
        "POST",
        f"/genai_passthrough/v1/{RESOURCE.replace('us-central1', 'global')}/{FLASH}:rawPredict",
        OAUTH,
        id="vertex: global",
    ),
    row("POST", "/groq/v1/x%2Fy//z?a=b;c", BEARER, body=b"{}", id="a route of one's own, no key"),
]

REFUSED = [
    row("GET", "/nowhere/v1/models", BEARER, id="no route"),
    row("GET", "/openai_passthroughX/v1/models", id="a prefix ends at a slash"),
    row("GET", "//openai_passthrough/v1/models", id="two slashes are no route"),
    row("GET", "/openai_passthrough/v1/../x", id="dots"),
    row("GET", "/openai_passthrough/v1/x#y", id="a fragment"),
    row("GET", "/openai_passthrough/v1/\xe9", id="a raw 8-bit byte"),
    row("POST", "/genai_passthrough", id="google-genai without a path"),
    row("POST", "/anthropic_passthrough/v1/messages", body=b"{}", id="no key"),
    row(
        "POST",
        "/openai_passthrough/v1/chat/completions",
        body=b'{"model":"o1"}',
        id="no key for the model",
    ),
    row("GET", "/openai_passthrough/v1/models", "x-passthrough-key: x", id="no key of the name"),
    row(
        "POST",
        f"/genai_passthrough/v1/{RESOURCE.replace('us-central1', 'evil.test')}/{FLASH}:x",
        OAUTH,
        id="a location that is none",
    ),
    row(
        "POST",
        "/openai_passthrough/v1/chat/completions",
        body=b'{"model":"gpt-4o","x":"' + b"x" * 5000 + b'"}',
        id="a body too long to look for its model",
    ),
    row("get", "/openai_passthrough/v1/models", id="a method in small letters"),
    row("TRACE", "/openai_passthrough/v1/models", id="a method that is not served"),
    row("GET", "/openai_passthrough/v1/models", "Origin: https://evil.test", id="a web page"),
    row("GET", "/openai_passthrough/v1/models", "Host: evil.test", id="another Host"),
    row("GET", "/openai_passthrough/v1/models", "X-A: a\x01b", id="a control character"),
    row("GET", "http://api.openai.com/v1/models", BEARER, id="plain HTTP to a provider"),
    row("GET", "http://169.254.169.254/x\\y", id="another host and a target that is none"),
    row("GET", "/health", id="our own page: health"),
    row("GET", "/", id="our own page: the routes"),
    row("HEAD", "/anthropic_passthrough", id="our own page: a bare prefix"),
]


def asked(
    gateway: Gateway, method: str, target: str, headers: tuple[str, ...], body: bytes
) -> tuple[bytes, tuple[str, ...]]:
    """The answer of the live gateway to the same request, and the headers that it was sent."""
    own = headers
    if not any(line.lower().startswith("host:") for line in own):
        own = ("Host: localhost", *own)
    if body:
        own = (*own, f"Content-Length: {len(body)}")
    own = (*own, "Connection: close")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *own, "", ""])
    return raw(gateway.port, head.encode("latin-1") + body), own


@pytest.mark.parametrize(("method", "target", "headers", "body"), SERVED)
def test_a_request_goes_where_it_was_said_to_go(
    gateway: Gateway,
    tls_provider: Provider,
    parts: Parts,
    method: str,
    target: str,
    headers: tuple[str, ...],
    body: bytes,
) -> None:
    before, records = len(tls_provider.seen), len(gateway.records())
    answer, whole = asked(gateway, method, target, headers, body)
    told = said(parts, method, target, whole, body)
    assert b"x-passthrough-error" not in answer
    (seen,) = tls_provider.seen[before:]
    record = gateway.records(records + 1)[-1]
    assert told.answered is None
    assert (told.route, told.provider, told.detected_by, told.key, told.method, told.url) == (
        record["route"],
        record["provider"],
        record["detected_by"],
        record["key"],
        record["request"]["method"],
        record["request"]["url"],
    )
    host = next(value for name, value in seen.headers if name.lower() == "host")
    assert told.url == f"https://{host}{seen.target}"
    assert (told.body == "as it is") is (seen.body == body)
    # What was sent, less what is said to be taken off, with what is said to be put on.
    gone = {line.partition(":")[0] for line in told.removed}
    replaced = {line.partition(":")[0].lower() for line in told.added}
    left = [line for line in whole if not {line.partition(":")[0]} & gone]
    left = [line for line in left if line.partition(":")[0].lower() not in replaced]
    assert sorted([*left, *told.added]) == lines(record["request"]["headers"])
    assert CLIENT_KEY not in repr(told)


@pytest.mark.parametrize(("method", "target", "headers", "body"), REFUSED)
def test_a_request_is_answered_as_it_was_said_to_be(
    gateway: Gateway,
    tls_provider: Provider,
    parts: Parts,
    method: str,
    target: str,
    headers: tuple[str, ...],
    body: bytes,
) -> None:
    before = len(tls_provider.seen)
    answer = asked(gateway, method, target, headers, body)[0]
    told = said(parts, method, target.replace("\xe9", "\udce9"), headers, body)
    assert tls_provider.seen[before:] == []
    assert status_of(answer) == told.status
    if told.error is None:
        assert told.answered == "by the gateway: its own page"
        assert b"x-passthrough-error" not in answer
    else:
        code, _, message = told.error.partition(": ")
        assert f"x-passthrough-error: {code}\r\n".encode() in answer
        assert json.loads(body_of(answer))["error"]["message"] == message
    assert CLIENT_KEY not in repr(told)


def run(*arguments: str, file: Path | None = None, stdin: bytes = b"") -> str:
    options = ["--config", str(file)] if file else []
    result = CliRunner().invoke(app, ["explain", *arguments, *options], input=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(document()))
    path.chmod(0o600)
    return path


def test_it_prints_lines_for_people(file: Path, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(CHAT)
    target = "/openai_passthrough/v1/chat/completions?key=K"
    shown = run("POST", target, "-H", BEARER, "--body", str(body), file=file)
    found = dict(line.split(None, 1) for line in shown.splitlines() if not line.startswith(" "))
    assert found["route"].strip() == "/openai_passthrough"
    assert found["key"].strip() == "main"
    assert found["url"].strip() == "https://api.openai.com/v1/chat/completions"
    assert found["detected_by"].strip() == "prefix"
    for line in (
        "Authorization: ...",
        "the query's credential",
        "Authorization: Bearer [openai/main]",
        "OpenAI-Organization: org-ours",
        "X-Team: research",
    ):
        assert line in shown
    assert not [secret for secret in (*KEYS.values(), CLIENT_KEY) if secret in shown]


def test_it_prints_json_for_programs(file: Path) -> None:
    target = "/openai_passthrough/v1/chat/completions"
    shown = json.loads(run("POST", target, "--json", "--body", "-", file=file, stdin=CHAT))
    assert shown["url"] == f"https://api.openai.com{target.removeprefix('/openai_passthrough')}"
    assert shown["key"] == "main"
    assert "Authorization: Bearer [openai/main]" in shown["added"]
    refused = json.loads(run("GET", "/nowhere", "--json", file=file))
    assert (refused["status"], refused["answered"]) == (404, "by the gateway: refused")
    assert refused["error"].startswith("no_route: no route for this path; routes: ")


def test_a_url_of_the_gateway_is_as_good_as_a_path(file: Path) -> None:
    for url in ("http://localhost:8080/oai/v1/models", "http://127.0.0.1/oai/v1/models"):
        assert json.loads(run("GET", url, "--json", file=file))["route"] == "/oai"


@pytest.mark.parametrize(
    "header",
    [
        f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{CLIENT_KEY}",
        f"X_API_KEY: {CLIENT_KEY}",
        f"authorization: Bearer {CLIENT_KEY}]",
        f"Cookie: {CLIENT_KEY}]",
    ],
)
def test_a_credential_of_the_clients_is_said_to_go_but_not_shown(file: Path, header: str) -> None:
    shown = json.loads(run("GET", "/oai/v1/realtime", "-H", header, "--json", file=file))
    assert f"{header.partition(':')[0]}: ..." in shown["removed"]
    assert CLIENT_KEY not in json.dumps(shown)


def test_a_key_whose_token_has_yet_to_be_fetched_is_explained_without_one(tmp_path: Path) -> None:
    entra = {
        "endpoint": "https://my-resource.openai.azure.com",
        "tenant_id": "contoso.test",
        "client_id": "c",
        "client_secret": "SECRET-0123456789",
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(
        json.dumps({"providers": {"azure": {"keys": [{"name": "e", "azure_key_config": entra}]}}})
    )
    path.chmod(0o600)
    shown = run("GET", "/azure_passthrough/openai/v1/models", "--json", file=path)
    assert "Authorization: Bearer [azure/e]" in json.loads(shown)["added"]
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["GET", "/x", "-H", "no colon"], 'a header is "Name: value"'),
        (["POST", "/x", "--body", "/not/there"], "No such file"),
    ],
)
def test_what_it_cannot_read_it_says(file: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["explain", *arguments, "--config", str(file)])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_another_host_is_said_to_be_passed_on_as_it_is(parts: Parts) -> None:
    told = said(parts, "GET", "http://example.com/x", (), b"")
    assert told.answered == "sent on as it came, without a key"
    assert (told.route, told.provider, told.key) == ("host:example.com", None, None)


def test_a_url_without_a_host_is_ours(parts: Parts) -> None:
    assert said(parts, "GET", "https://:x/v1", (), b"").error is not None


HASHED = f"sha256:{'0' * 64}"
RULED = {"routes": ["/openai_passthrough", "api.openai.com"], "models": ["gpt-4o"]}


@pytest.mark.parametrize(
    ("name", "url", "error"),
    [
        pytest.param("ruled", "/openai_passthrough/v1/chat/completions", None, id="its own"),
        pytest.param("ruled", "https://api.openai.com/v1/chat/completions", None, id="by host"),
        pytest.param("ruled", DEPLOYMENT, "route_denied", id="another route"),
        pytest.param("ruled", "http://example.com/x", "forward_blocked", id="another host"),
        pytest.param("ruled", "/openai_passthrough/v1/batches", None, id="a model where it is"),
        pytest.param("other", "/openai_passthrough/v1/x", "model_denied", id="another model"),
        pytest.param("off", "/openai_passthrough/v1/x", "client_disabled", id="switched off"),
    ],
)
def test_it_explains_by_the_rules_of_a_client(
    tmp_path: Path, name: str, url: str, error: str | None
) -> None:
    rules: dict[str, dict[str, Any]] = {
        "ruled": RULED,
        "other": {"models": ["x"]},
        "off": {"enabled": False},
    }
    clients = [
        {"name": who, "tokens": [HASHED.replace("0", str(number), 1)]} | more
        for number, (who, more) in enumerate(rules.items())
    ]
    path, body = tmp_path / "gateway.yaml", tmp_path / "body"
    path.write_text(json.dumps(document() | {"clients": clients}))
    path.chmod(0o600)
    body.write_bytes(CHAT)
    shown = json.loads(run("POST", url, "--json", "--client", name, "--body", str(body), file=path))
    assert (shown["error"] or "None").partition(":")[0] == str(error)


def test_a_client_that_is_not_there_is_said(file: Path) -> None:
    arguments = ["explain", "GET", "/x", "--config", str(file), "--client", "x"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "there are: none" in " ".join(result.output.replace("│", " ").split())
