"""The verdict: which upstream, which key, and what exactly goes on the wire."""

import json
import random
from dataclasses import dataclass
from typing import Any

import pytest
from llm_passthrough import config
from llm_passthrough.build import build
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import NAMELESS, Client
from llm_passthrough.routes import Routes
from llm_passthrough.seal import Sealed
from llm_passthrough.verdict import Question, Verdict, decide
from llm_passthrough.wire import strip
from mitmproxy.connection import Server

CLIENT = "sk-CLIENT-CANARY"
KEYS = {name: f"{name}-REAL-KEY" for name in ("openai", "anthropic", "azure", "gemini", "vertex")}
TOKEN = "ya29.REAL-TOKEN"
ENDPOINT = {"endpoint": "https://res.openai.azure.com"}
PROJECT = {"project_id": "ours", "region": "europe-west4"}
MODEL = "publishers/google/models/gemini-2.5-flash:generateContent"
VERTEX_URL = "https://europe-west4-aiplatform.googleapis.com"
HOST = (b"Host", b"127.0.0.1:8080")

type Fields = list[tuple[bytes, bytes]]


def providers(**more: Any) -> dict[str, Any]:
    """One key for each of the five, and what a test wants otherwise."""
    table: dict[str, Any] = {name: {"keys": [{"value": key}]} for name, key in KEYS.items()}
    table["azure"]["keys"][0]["azure_key_config"] = ENDPOINT
    return {"providers": table | more}


OAUTH = {"vertex": {"keys": [{"value": TOKEN, "vertex_key_config": PROJECT}]}}


def routes(document: dict[str, Any]) -> Routes:
    return build(config.parse(document, "test")[0], {}, "test").routes


@dataclass(frozen=True)
class Judged:
    """A verdict and the headers that it is sealed into."""

    verdict: Verdict
    headers: Sealed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.verdict, name)


def judge(
    target: str,
    fields: Fields | None = None,
    body: bytes | None = b"{}",
    document: dict[str, Any] | None = None,
    method: str = "POST",
) -> Judged:
    """What the front door does with a request, without the front door."""
    stripped = strip((HOST, *(fields or [])), target.encode())
    table = routes(document or providers())
    route, path, query = table.choose(stripped.target)
    question = Question(route, path, query, method, stripped, body)
    verdict = decide(question, random.Random(3))
    return Judged(verdict, verdict.sealed(stripped.fields, verdict.secret))


def url(verdict: Judged) -> str:
    return str(verdict.target.origin) + verdict.target.path.decode()


def wire(verdict: Judged) -> Fields:
    """The header fields as the upstream sees them."""
    origin = verdict.target.origin
    tls = origin.scheme == "https"
    server = Server(address=(origin.host, origin.port), tls=tls, sni=origin.host)
    server.timestamp_tls_setup = 1.0 if tls else None
    assert verdict.headers.unlock(server)
    lines = bytes(verdict.headers).split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def bearer(value: str) -> tuple[bytes, bytes]:
    return b"Authorization", f"Bearer {value}".encode()


# -- where it goes: what the SDKs send, and what the provider sees ----------------------------


@pytest.mark.parametrize(
    ("target", "sent", "credential"),
    [
        pytest.param(
            "/openai_passthrough/v1/chat/completions",
            "https://api.openai.com/v1/chat/completions",
            bearer(KEYS["openai"]),
            id="openai",
        ),
        pytest.param(
            "/openai_passthrough/responses?a=b+c&a",
            "https://api.openai.com/v1/responses?a=b+c&a",
            bearer(KEYS["openai"]),
            id="openai without v1",
        ),
        pytest.param(
            "/anthropic_passthrough/v1/messages?beta=true",
            "https://api.anthropic.com/v1/messages?beta=true",
            (b"x-api-key", KEYS["anthropic"].encode()),
            id="anthropic",
        ),
        pytest.param(
            "/azure_passthrough/openai/deployments/my%20dep%2Fx/chat/completions",
            "https://res.openai.azure.com/openai/deployments/my%20dep%2Fx/chat/completions"
            "?api-version=2025-04-01-preview",
            (b"api-key", KEYS["azure"].encode()),
            id="azure",
        ),
        pytest.param(
            "/azure_passthrough/anthropic/v1/messages",
            "https://res.openai.azure.com/anthropic/v1/messages",
            (b"x-api-key", KEYS["azure"].encode()),
            id="Claude on azure",
        ),
        pytest.param(
            "/genai_passthrough/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            "https://generativelanguage.googleapis.com"
            "/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            (b"x-goog-api-key", KEYS["gemini"].encode()),
            id="gemini",
        ),
        pytest.param(
            f"/genai_passthrough/v1beta1/{MODEL}",
            f"https://aiplatform.googleapis.com/v1beta1/{MODEL}",
            (b"x-goog-api-key", KEYS["vertex"].encode()),
            id="vertex with an API key",
        ),
    ],
)
def test_a_request_goes_to_its_provider_with_our_key_alone(
    target: str, sent: str, credential: tuple[bytes, bytes]
) -> None:
    verdict = judge(target)
    assert url(verdict) == sent
    fields = wire(verdict)
    assert fields[0] == (b"Host", verdict.target.origin.authority)
    assert fields[-1] == credential
    assert [value for _, value in fields if b"REAL" in value] == [credential[1]]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        pytest.param(
            f"v1beta1/{MODEL}",
            f"/v1beta1/projects/ours/locations/europe-west4/{MODEL}",
            id="a project where there is none",
        ),
        pytest.param(
            f"v1/projects/theirs/locations/europe-west4/{MODEL}",
            f"/v1/projects/ours/locations/europe-west4/{MODEL}",
            id="ours where there is another",
        ),
    ],
)
def test_an_oauth_key_of_vertex_is_a_bearer_token(target: str, sent: str) -> None:
    verdict = judge(f"/genai_passthrough/{target}", document=providers(**OAUTH))
    assert url(verdict) == VERTEX_URL + sent
    assert wire(verdict)[-1] == bearer(TOKEN)


# -- which of Google's two --------------------------------------------------------------------

VERTEX_MODEL = "projects/p/locations/us-central1/publishers/google/models/m"


@pytest.mark.parametrize(
    ("path", "fields", "body", "provider", "rule"),
    [
        pytest.param("v1/models/m:x", [], {"model": VERTEX_MODEL}, "vertex", "body", id="body"),
        pytest.param(
            "v1/models/m:x",
            [],
            {"model": "publishers/a/models/m"},
            "vertex",
            "body",
            id="publisher",
        ),
        pytest.param("v1/models/m:x", [], {"model": "models/m"}, "gemini", "default", id="a name"),
        pytest.param(
            "v1/models/m:x", [], {"a": {"model": VERTEX_MODEL}}, "gemini", "default", id="inside"
        ),
        pytest.param("v1/models/m:x", [], {"model": 1}, "gemini", "default", id="no text"),
        pytest.param("v1/models/m:x", [], [VERTEX_MODEL], "gemini", "default", id="no object"),
        pytest.param("v1/files", [], {"model": VERTEX_MODEL}, "gemini", "path", id="path first"),
        pytest.param(
            "v1/models/m:x",
            [(b"authorization", b"Bearer ya29.CLI")],
            {},
            "vertex",
            "token",
            id="token",
        ),
        pytest.param(
            "v1/models/m:x",
            [(b"x-goog-api-key", b"AIza"), (b"Authorization", b"Bearer ya29.CLI")],
            {"model": VERTEX_MODEL},
            "vertex",
            "body",
            id="body before token",
        ),
    ],
)
def test_body_and_token_decide_where_the_path_does_not(
    path: str, fields: Fields, body: object, provider: str, rule: str
) -> None:
    verdict = judge(f"/genai_passthrough/{path}", fields, json.dumps(body).encode())
    assert (verdict.upstream.provider.name, verdict.detected_by) == (provider, rule)
    assert not any(b"CLI" in value for _, value in wire(verdict))


def test_the_region_of_the_bodys_model_is_used() -> None:
    body = json.dumps({"model": VERTEX_MODEL}).encode()
    verdict = judge("/genai_passthrough/v1/models/m:x", body=body, document=providers(**OAUTH))
    assert url(verdict) == (
        "https://us-central1-aiplatform.googleapis.com"
        "/v1/projects/ours/locations/us-central1/publishers/google/models/m:x"
    )


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        pytest.param(None, "default", id="a body that streams is not awaited"),
        pytest.param(
            b'{"contents":"' + b"x" * 70_000 + b'","model":"publishers/a/b"}',
            "default",
            id="a model far behind is not looked for",
        ),
        pytest.param(
            b'{"model":"publishers/a/b","contents":"' + b"x" * 70_000, "body", id="one in front is"
        ),
        pytest.param(b'{"model":"publishers/a/b', "default", id="half a name is none"),
        pytest.param(b"\xff\xfe", "default", id="no JSON"),
        pytest.param(b"", "default", id="no body"),
        pytest.param(b"[" * 70_000, "default", id="nothing but brackets"),
    ],
)
def test_only_the_beginning_of_a_body_is_looked_at(body: bytes | None, rule: str) -> None:
    assert judge("/genai_passthrough/v1/models/m:x", body=body).detected_by == rule


def test_a_region_of_the_body_that_is_none_is_refused() -> None:
    body = b'{"model": "projects/p/locations/evil.test/publishers/x"}'
    with pytest.raises(Refusal) as caught:
        judge("/genai_passthrough/v1/models/m:x", body=body, document=providers(**OAUTH))
    assert caught.value.code == "bad_region"


# -- credentials ------------------------------------------------------------------------------

EVERY_CREDENTIAL: Fields = [
    (b"Authorization", f"Bearer {CLIENT}".encode()),
    (b"AUTHORIZATION", f"Bearer {CLIENT}2".encode()),
    (b"x-api-key", CLIENT.encode()),
    (b"X_Api_Key", CLIENT.encode()),
    (b"Api-Key", CLIENT.encode()),
    (b"x-goog-api-key", CLIENT.encode()),
    (b"Proxy-Authorization", CLIENT.encode()),
    (b"Ocp-Apim-Subscription-Key", CLIENT.encode()),
    (b"Cookie", CLIENT.encode()),
    (b"OpenAI-Organization", f"org-{CLIENT}".encode()),
    (b"OpenAI-Project", f"proj-{CLIENT}".encode()),
    (b"x-goog-user-project", CLIENT.encode()),
    (b"Connection", b"keep-alive, authorization, x-api-key"),
]
TARGETS = [
    "/openai_passthrough/v1/x",
    "/anthropic_passthrough/v1/x",
    "/azure_passthrough/openai/x",
    "/genai_passthrough/v1/models/m:x",
    f"/genai_passthrough/v1beta1/{MODEL}",
    "/own/x",
    "/open/x",
]
OWN_ROUTES: dict[str, Any] = {
    "routes": [
        {
            "prefix": "/own",
            "upstream": "https://own.test",
            "keys": [{"value": "own-REAL-KEY"}],
            "auth": {"header": "X-Own", "form": "Key {key}"},
        },
        {"prefix": "/open", "upstream": "http://127.0.0.1:11434"},
    ]
}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_the_clients_credentials_goes_on(target: str) -> None:
    query = f"?key={CLIENT}&a=1&KEY={CLIENT}&api_key={CLIENT}&access_token={CLIENT}"
    own: Fields = [(b"X-Own", CLIENT.encode()), (b"x_own", CLIENT.encode())]
    fields = EVERY_CREDENTIAL + (own if target == "/own/x" else [])
    verdict = judge(target + query, fields, document=providers() | OWN_ROUTES)
    assert CLIENT.encode() not in b"".join(value for _, value in wire(verdict))
    assert CLIENT not in url(verdict)
    assert url(verdict).endswith("?a=1")
    sent = [value for _, value in wire(verdict) if b"REAL" in value]
    assert len(sent) == (0 if target == "/open/x" else 1)


def test_a_route_of_ones_own_sends_its_key_as_it_is_told() -> None:
    verdict = judge("/own/v1/x", document=OWN_ROUTES)
    assert wire(verdict)[-1] == (b"X-Own", b"Key own-REAL-KEY")
    assert url(verdict) == "https://own.test/v1/x"


def test_a_route_without_a_key_sends_no_credential_at_all() -> None:
    verdict = judge("/open/v1/x", EVERY_CREDENTIAL, document=OWN_ROUTES)
    assert (verdict.key, verdict.secret) == (None, None)
    assert wire(verdict) == [(b"Host", b"127.0.0.1:11434")]


def test_the_secret_is_in_nothing_that_is_shown() -> None:
    verdict = judge("/openai_passthrough/v1/x")
    assert KEYS["openai"] not in repr(verdict) + str(verdict.headers.fields)
    assert (b"Authorization", b"Bearer [openai/key-1]") in verdict.headers.fields


@pytest.mark.parametrize(
    ("fields", "versions"),
    [
        pytest.param([], [b"2023-06-01"], id="none"),
        pytest.param([(b"Anthropic-Version", b"2026-10-21")], [b"2026-10-21"], id="the client's"),
    ],
)
def test_anthropics_version_is_the_clients_where_he_has_one(
    fields: Fields, versions: list[bytes]
) -> None:
    beta = (b"anthropic-beta", b"a,b")
    sent = wire(judge("/anthropic_passthrough/v1/messages", [*fields, beta]))
    assert [v for name, v in sent if name.lower() == b"anthropic-version"] == versions
    assert beta in sent


def test_a_version_of_the_configuration_takes_the_place_of_the_clients() -> None:
    entry = {
        "keys": [{"value": KEYS["anthropic"]}],
        "network_config": {"extra_headers": {"Anthropic-Version": "2024-01-01"}},
    }
    sent = wire(
        judge(
            "/anthropic_passthrough/v1/messages",
            [(b"anthropic-version", b"2026-10-21")],
            document=providers(anthropic=entry),
        )
    )
    assert [v for name, v in sent if name.lower() == b"anthropic-version"] == [b"2024-01-01"]


def test_the_account_of_our_key_takes_the_place_of_the_clients() -> None:
    entry = {"keys": [{"value": KEYS["openai"], "organization": "org-ours", "project": "proj"}]}
    sent = wire(
        judge("/openai_passthrough/v1/x", EVERY_CREDENTIAL, document=providers(openai=entry))
    )
    account = [(name, v) for name, v in sent if name.lower().startswith(b"openai-")]
    assert account == [(b"OpenAI-Organization", b"org-ours"), (b"OpenAI-Project", b"proj")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-Forwarded-Host", b"evil.test"),
        (b"X-Original-URL", b"http://evil.test/"),
        (b"X-Rewrite-URL", b"/evil"),
        (b"X-HTTP-Method-Override", b"DELETE"),
        (b"Forwarded", b"host=evil.test"),
        (b"X-Passthrough-Key", b"key-1"),
        (b"Proxy-Connection", b"keep-alive"),
    ],
)
def test_what_would_steer_the_next_hop_stops_here(name: bytes, value: bytes) -> None:
    verdict = judge("/openai_passthrough/v1/x", [(name, value)])
    assert url(verdict) == "https://api.openai.com/v1/x"
    assert [n for n, _ in wire(verdict)] == [b"Host", b"Authorization"]


def test_what_a_client_says_of_an_endpoint_is_data_and_steers_nothing() -> None:
    verdict = judge(
        "/azure_passthrough/openai/x?endpoint=https://evil.test&api-base=evil.test",
        [(b"azure-endpoint", b"https://evil.test")],
        b'{"api_base": "https://evil.test", "base_url": "https://evil.test", "resource": "evil"}',
    )
    assert verdict.target.origin.host == "res.openai.azure.com"
    assert url(verdict).endswith("?endpoint=https://evil.test&api-base=evil.test")


# -- the client's own credential, where the configuration passes it on ------------------------

FORWARD = {"client_credentials": "forward", "keys": [{"value": "never-REAL-used"}]}


@pytest.mark.parametrize(
    ("target", "provider", "fields", "credentials"),
    [
        pytest.param(
            "/openai_passthrough/v1/x",
            "openai",
            [(b"Authorization", b"Bearer CLI"), (b"OpenAI-Organization", b"org")],
            [(b"openai-organization", b"org"), (b"authorization", b"Bearer CLI")],
            id="with his account",
        ),
        pytest.param(
            "/anthropic_passthrough/v1/messages",
            "anthropic",
            [(b"X-Api-Key", b"CLI"), (b"Cookie", b"session=CLI2")],
            [(b"x-api-key", b"CLI")],
            id="without his cookies",
        ),
        pytest.param(
            "/openai_passthrough/v1/x",
            "openai",
            [(b"x-api-key", b"CLI2"), (b"authorization", b"Bearer CLI")],
            [(b"authorization", b"Bearer CLI")],
            id="one of two",
        ),
        pytest.param(
            "/genai_passthrough/v1/models/m:x?key=CLI&a",
            "gemini",
            [],
            [(b"x-goog-api-key", b"CLI")],
            id="from the query into a header",
        ),
        pytest.param(
            "/openai_passthrough/v1/realtime",
            "openai",
            [
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key.CLI"),
            ],
            [(b"authorization", b"Bearer CLI")],
            id="from a WebSocket's subprotocol",
        ),
        pytest.param("/openai_passthrough/v1/x", "openai", [], [], id="none"),
    ],
)
def test_where_it_is_forwarded_the_clients_credential_goes_once_and_ours_never(
    target: str, provider: str, fields: Fields, credentials: Fields
) -> None:
    verdict = judge(target, fields, document=providers(**{provider: FORWARD}))
    sent = wire(verdict)
    assert [f for f in sent if b"CLI" in f[1] or f[0].startswith(b"openai-")] == credentials
    assert not any(b"REAL" in value for _, value in sent)
    assert "CLI" not in url(verdict)
    assert "CLI" not in repr(verdict.headers.fields)


# -- the key ----------------------------------------------------------------------------------

TWO = {
    "keys": [
        {"name": "small", "value": "small-REAL", "models": ["*mini*", "whisper-*"]},
        {"name": "large", "value": "large-REAL", "blacklisted_models": ["*mini*", "whisper-*"]},
    ]
}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("target", "kind", "body", "name"),
    [
        pytest.param("v1/chat", b"application/json", b'{"model":"gpt-mini"}', "small", id="JSON"),
        pytest.param("v1/chat", b"application/json", b'{"model":"gpt-5"}', "large", id="another"),
        pytest.param("v1/chat", b"application/json", b'{"model":"GPT-MINI"}', "small", id="case"),
        pytest.param("v1/audio", b"multipart/form-data; boundary=b", FORM, "small", id="a form"),
        pytest.param("v1/models/gpt-mini", b"", b"", "small", id="the path"),
        pytest.param("v1/%6Dodels/gpt-mini", b"", b"", "small", id="an escaped path"),
        pytest.param(
            "v1/models/gpt-5",
            b"application/json",
            b'{"model":"gpt-mini"}',
            "large",
            id="path first",
        ),
    ],
)
def test_the_key_is_chosen_by_the_model(target: str, kind: bytes, body: bytes, name: str) -> None:
    for _ in range(5):
        verdict = judge(
            f"/openai_passthrough/{target}",
            [(b"Content-Type", kind)],
            body,
            providers(openai=TWO),
        )
        assert verdict.key is not None
        assert verdict.key.name == name
        assert wire(verdict)[-1] == bearer(f"{name}-REAL")


def test_a_request_may_name_its_key() -> None:
    pin = (b"x-passthrough-key", b"large")
    verdict = judge("/openai_passthrough/v1/files", [pin], document=providers(openai=TWO))
    assert wire(verdict)[-1] == bearer("large-REAL")


@pytest.mark.parametrize(
    ("pin", "body"),
    [
        pytest.param(b"large", b'{"model":"gpt-mini"}', id="a key that forbids the model"),
        pytest.param(b"other", b"{}", id="a key that does not exist"),
        pytest.param(b"\xff", b"{}", id="no name"),
    ],
)
def test_naming_a_key_does_not_open_what_is_forbidden(pin: bytes, body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        judge(
            "/openai_passthrough/v1/chat",
            [(b"x-passthrough-key", pin)],
            body,
            providers(openai=TWO),
        )
    assert caught.value.code == "no_key"


@pytest.mark.parametrize(
    ("document", "target", "code", "mend"),
    [
        pytest.param({}, "/openai_passthrough/v1/x", "no_key", "OPENAI_API_KEY", id="openai"),
        pytest.param({}, "/azure_passthrough/x", "no_key", "AZURE_OPENAI_ENDPOINT", id="azure"),
        pytest.param(
            {}, "/genai_passthrough/v1beta/files", "no_key", "GEMINI_API_KEY", id="gemini"
        ),
        pytest.param(
            {}, f"/genai_passthrough/v1beta1/{MODEL}", "no_key", "providers.vertex", id="vertex"
        ),
        pytest.param(
            {"providers": {"azure": {"keys": [{"value": "azure-REAL"}]}}},
            "/azure_passthrough/x",
            "no_endpoint",
            "AZURE_OPENAI_ENDPOINT",
            id="azure without an endpoint",
        ),
        pytest.param(
            {"providers": {"vertex": {"keys": [{"value": TOKEN}]}}},
            f"/genai_passthrough/v1beta1/{MODEL}",
            "no_project",
            "project_id",
            id="vertex without a project",
        ),
        pytest.param(
            {"routes": [OWN_ROUTES["routes"][0] | {"keys": [{"value": "a", "enabled": False}]}]},
            "/own/x",
            "no_key",
            "routes[0].keys",
            id="all keys turned off: not an open route",
        ),
    ],
)
def test_what_is_not_configured_is_refused_with_its_mend(
    document: dict[str, Any], target: str, code: str, mend: str
) -> None:
    with pytest.raises(Refusal) as caught:
        judge(target, document=document or {"providers": {}})
    assert (caught.value.code, caught.value.status) == (code, 503)
    assert mend in caught.value.message
    assert "REAL" not in caught.value.message


# -- what a client may use ------------------------------------------------------------------------

CHAT = "/openai_passthrough/v1/chat/completions"
TWO_KEYS = {"openai": {"keys": [{"name": "a", "value": "sk-a"}, {"name": "b", "value": "sk-b"}]}}


def asked(
    client: Client,
    target: str = CHAT,
    body: bytes | None = b'{"model":"m"}',
    fields: Fields | None = None,
    method: str = "POST",
    document: dict[str, Any] | None = None,
) -> str:
    """The name of the key that a client's request gets, or the code of the refusal."""
    stripped = strip((HOST, *(fields or [])), target.encode())
    route, path, query = routes(document or providers(**TWO_KEYS)).choose(stripped.target)
    question = Question(route, path, query, method, stripped, body, client)
    try:
        verdict = decide(question, random.Random(3))
    except Refusal as refused:
        return refused.code
    return verdict.key.name if verdict.key else "none"


UPGRADE = [
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
]
PIN_A, PIN_B = [(b"X-Passthrough-Key", b"a")], [(b"X-Passthrough-Key", b"b")]


@pytest.mark.parametrize(
    ("keys", "fields", "name"),
    [
        pytest.param(("a",), None, "a", id="the one"),
        pytest.param(("b",), None, "b", id="the other"),
        pytest.param(("b*",), PIN_B, "b", id="asked for by name"),
        pytest.param(("b",), PIN_A, "key_denied", id="another asked for by name"),
        pytest.param(("c",), None, "key_denied", id="none of this provider's"),
        pytest.param((), None, "key_denied", id="none at all"),
        pytest.param(("*",), PIN_A, "a", id="all of them"),
        pytest.param(("b", "c"), [(b"X-Passthrough-Key", b"c")], "no_key", id="its own elsewhere"),
    ],
)
def test_a_client_gets_one_of_its_keys(
    keys: tuple[str, ...], fields: Fields | None, name: str
) -> None:
    assert asked(Client("alice", keys=keys), fields=fields) == name


def test_where_no_key_is_configured_the_mend_is_said_and_no_rule() -> None:
    assert asked(Client("alice", keys=("a",)), document={"providers": {}}) == "no_key"


def test_a_key_that_rests_is_not_followed_by_one_of_somebody_elses() -> None:
    made = Client("alice", keys=("a",))
    route, path, query = routes(providers(**TWO_KEYS)).choose(CHAT.encode())
    question = Question(route, path, query, "POST", strip((HOST,), b"/"), b"{}", made)
    verdict = decide(question, random.Random(3))
    assert verdict.key is not None
    assert not verdict.upstream.ring.another(verdict.key, NAMELESS, 0.0)
    verdict.upstream.ring.failed(verdict.key, 0.0)
    assert route.upstreams[0].ring.rests(verdict.key, 0.1), "what is heard of a key is for all"
    assert asked(made) == "a"


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        pytest.param("/genai_passthrough/v1beta/models/m:generateContent", b"{}", None, id="mine"),
        pytest.param(
            "/genai_passthrough/v1beta1/publishers/google/models/m:generateContent", b"{}",
            "provider_denied", id="by the path",
        ),
        pytest.param(
            "/genai_passthrough/v1beta/models/m:generateContent",
            b'{"model":"publishers/google/models/m"}', "provider_denied", id="by the body",
        ),
    ],
)  # fmt: skip
def test_of_two_providers_on_a_route_a_client_may_use_its_own(
    target: str, body: bytes, code: str | None
) -> None:
    made = asked(Client("alice", providers=("gemini",)), target, body, document=providers())
    assert made == (code or "key-1")


@pytest.mark.parametrize(
    ("target", "body", "fields", "method", "allowed"),
    [
        pytest.param(CHAT, b'{"model":"m"}', None, "POST", True, id="its model"),
        pytest.param(CHAT, b'{"model":"x"}', None, "POST", False, id="another"),
        pytest.param(CHAT, b'{"model":"x","model":"m"}', None, "POST", False, id="both"),
        pytest.param(CHAT, b"{}", None, "POST", False, id="none"),
        pytest.param(CHAT, None, None, "POST", False, id="one that streams"),
        pytest.param("/openai_passthrough/v1/files", None, None, "POST", True, id="a long file"),
        pytest.param(
            "/openai_passthrough/v1/files",
            b'\r\nx-disposition: name="model"\r\n\r\nx\r\n--',
            [(b"Content-Type", b"multipart/form-data")], "POST", True, id="a file about models",
        ),
        pytest.param("/openai_passthrough/v1/models", b"", None, "GET", True, id="a list"),
        pytest.param("/openai_passthrough/v1/models/x", b"", None, "GET", False, id="of another"),
        pytest.param(
            "/openai_passthrough/v1/realtime?model=m", b"", UPGRADE, "GET",
            True, id="a WebSocket for it",
        ),
        pytest.param(
            "/openai_passthrough/v1/responses", b"", UPGRADE, "GET", False,
            id="a WebSocket whose first message would tell",
        ),
    ],
)  # fmt: skip
def test_who_may_use_some_models_must_name_one_of_them(
    target: str, body: bytes | None, fields: Fields | None, method: str, allowed: bool
) -> None:
    made = Client("alice", models=("m",))
    assert (asked(made, target, body, fields, method) != "model_denied") is allowed
    assert asked(Client("alice"), target, body, fields, method) in ("a", "b")


def test_a_model_that_is_denied_cannot_be_hidden() -> None:
    made = Client("alice", blacklisted=("x*",))
    assert asked(made) in ("a", "b")
    assert asked(made, body=b"{}") == "model_denied"
    assert asked(made, body=b'{"model":"m","Model":"x1"}') == "model_denied"
