"""Azure with Entra ID and Vertex with Google credentials: from the SDK to the provider's own host,
with tokens from endpoints on loopback."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google import genai
from google.genai import errors as genai_errors
from google.genai.types import GenerateContentConfig, HttpOptions
from google.oauth2.credentials import Credentials
from tokens.harness import TENANT, TokenServer
from tokens.harness import Authority as TokenAuthority

from live.authorities import NAMES, Authority
from live.harness import (
    CLIENT_KEY,
    KEYS,
    Gateway,
    Provider,
    Wire,
    config_for,
    credentials,
    names_addon,
    request,
    running,
)
from live.oracles import DEADLINE, Heard, Oracles, talk
from live.scene import BODY

pytestmark = pytest.mark.usefixtures("own_environment")

PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
CLIENT_SECRET = "client~SECRET-0123456789"
USER_SECRET = "GOCSPX-SECRET-0123456789"
REFRESH = "1//REFRESH-TOKEN-0123456789"
SCOPE = "https://own.scope.test/.default"
THEIRS = "ya29.TOKEN-OF-THE-CLIENT-0123456789"
DEPLOYMENT = "/openai/deployments/gpt-4o/chat/completions"
FLASH = "publishers/google/models/gemini-2.5-flash"
CLAUDE = "publishers/anthropic/models/claude-sonnet-4@20250514"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """Entra ID and Google as one endpoint over TLS, and every other host as a proxy."""
    server = TokenServer(TokenAuthority(tmp_path_factory.mktemp("tokens")))
    yield server
    server.stop()


def keys(tokens: TokenServer, folder: Path) -> dict[str, Any]:
    """Providers whose keys are of all kinds; none has a base URL of ours."""
    account = folder / "account.json"
    account.write_text(
        json.dumps(
            {
                "type": "service_account",
                "private_key": PEM,
                "client_email": "gateway@sa-project.iam.gserviceaccount.com",
                "token_uri": f"{tokens.url}/token",
            }
        )
    )
    account.chmod(0o600)
    user = {
        "type": "authorized_user",
        "client_id": "client-id",
        "client_secret": USER_SECRET,
        "refresh_token": REFRESH,
    }
    endpoint = {"endpoint": "https://my-resource.openai.azure.com"}
    entra = endpoint | {
        "tenant_id": TENANT,
        "client_id": "env.THE_CLIENT_ID",
        "client_secret": "env.THE_CLIENT_SECRET",
    }
    account_place = {"project_id": "sa-project", "region": "europe-west4"}
    user_place = {"project_id": "user-project", "region": "us-central1"}
    return {
        "azure": {
            "keys": [
                {"name": "entra", "weight": 1, "azure_key_config": entra},
                {
                    "name": "scoped",
                    "weight": 0,
                    "azure_key_config": entra | {"scopes": [SCOPE], "api_version": "2024-12-01"},
                },
                {
                    "name": "plain",
                    "weight": 0,
                    "value": KEYS["azure"],
                    "azure_key_config": endpoint,
                },
            ]
        },
        "vertex": {
            "keys": [
                {
                    "name": "account",
                    "weight": 1,
                    "vertex_key_config": account_place | {"auth_credentials": f"file:{account}"},
                },
                {
                    "name": "user",
                    "weight": 0,
                    "project": "quota-project",
                    "vertex_key_config": user_place | {"auth_credentials": json.dumps(user)},
                },
                {"name": "express", "weight": 0, "value": KEYS["vertex"]},
            ]
        },
    }


@pytest.fixture(scope="module")
def cloud(
    tokens: TokenServer,
    tls_provider: Provider,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    """A gateway in front of the providers' own host names."""
    folder = tmp_path_factory.mktemp("cloud")
    names = names_addon(folder, dict.fromkeys(NAMES, tls_provider.port))
    env = {
        "THE_CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "THE_CLIENT_SECRET": CLIENT_SECRET,
        "AZURE_AUTHORITY_HOST": tokens.url,
        "REQUESTS_CA_BUNDLE": str(tokens.authority.ca_file),
        "HTTPS_PROXY": tokens.plain_url,
        "NO_PROXY": "localhost,127.0.0.1",
    }
    args = ("-s", str(names), "--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}")
    gateway = Gateway(folder / "gateway", {"providers": keys(tokens, folder)}, env=env, args=args)
    yield gateway
    gateway.stop()


@pytest.fixture(autouse=True)
def _nothing_leaks(tokens: TokenServer, cloud: Gateway) -> Iterator[None]:
    """Neither tokens nor what they are made of are written anywhere."""
    yield
    tokens.failure = None
    written = cloud.output + cloud.records_path.read_text()
    for secret in ("access-token-", CLIENT_SECRET, USER_SECRET, REFRESH, THEIRS, CLIENT_KEY):
        assert secret not in written
    assert PEM.splitlines()[1] not in written


def host_of(seen: Any) -> str:
    return next(value for name, value in seen.headers if name.lower() == "host")


def sent(provider: Provider) -> tuple[str, str, str, str]:
    """Host, target, and the one credential of the last request that arrived."""
    seen = provider.last()
    ((name, value),) = credentials(seen.headers)
    assert THEIRS.encode() not in seen.head
    return host_of(seen), seen.target, name, re.sub(r"(token)-\d+$", r"\1-N", value)


# -- Azure -----------------------------------------------------------------------------------------


def azure(gateway: Gateway, key: str, **options: Any) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=f"{gateway.url}/azure_passthrough",
        api_version="2024-10-21",
        default_headers={"x-passthrough-key": key} if key else None,
        timeout=20,
        **{"api_key": CLIENT_KEY} | options,
    )


@pytest.mark.parametrize(
    ("key", "options", "name", "value"),
    [
        pytest.param("entra", {}, "authorization", "Bearer entra-access-token-N", id="entra"),
        pytest.param("scoped", {}, "authorization", "Bearer entra-access-token-N", id="a scope"),
        pytest.param("plain", {}, "api-key", KEYS["azure"], id="an API key"),
        pytest.param(
            "entra",
            {"api_key": None, "azure_ad_token": THEIRS},
            "authorization",
            "Bearer entra-access-token-N",
            id="the client has a token of its own",
        ),
    ],
)
def test_azure_openai_is_signed_with_a_token_or_a_key(
    cloud: Gateway,
    tls_provider: Provider,
    tokens: TokenServer,
    key: str,
    options: dict[str, Any],
    name: str,
    value: str,
) -> None:
    with azure(cloud, key, **options) as client:
        made = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}]
        )
    assert "Hello!" in (made.choices[0].message.content or "")
    assert sent(tls_provider) == (
        "my-resource.openai.azure.com",
        f"{DEPLOYMENT}?api-version=2024-10-21",
        name,
        value,
    )
    if key == "scoped":
        asked = [seen.form["scope"].split()[0] for seen in tokens.token_requests]
        assert SCOPE in asked


def test_azure_streams_with_a_token(cloud: Gateway, tls_provider: Provider) -> None:
    with azure(cloud, "") as client:
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}], stream=True
        )
        said = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert "Hello!" in said
    assert sent(tls_provider)[2:] == ("authorization", "Bearer entra-access-token-N")


@pytest.mark.parametrize(
    ("key", "path", "target"),
    [
        pytest.param("scoped", DEPLOYMENT, f"{DEPLOYMENT}?api-version=2024-12-01", id="the key's"),
        pytest.param(
            "entra", DEPLOYMENT, f"{DEPLOYMENT}?api-version=2025-04-01-preview", id="the default"
        ),
        pytest.param("entra", "/openai/v1/models", "/openai/v1/models", id="none under v1"),
        pytest.param("entra", "/anthropic/v1/models", "/anthropic/v1/models", id="nor for Claude"),
    ],
)
def test_an_api_version_is_put_in_only_where_one_is_missing(
    cloud: Gateway, tls_provider: Provider, key: str, path: str, target: str
) -> None:
    headers = {"x-passthrough-key": key, "api-key": CLIENT_KEY, "x-api-key": CLIENT_KEY}
    httpx.post(f"{cloud.url}/azure_passthrough{path}", headers=headers, json={}, trust_env=False)
    assert sent(tls_provider)[1:] == (target, "authorization", "Bearer entra-access-token-N")


# -- Vertex ----------------------------------------------------------------------------------------

OAUTH = ("authorization", "Bearer google-access-token-N")
EXPRESS = ("x-goog-api-key", KEYS["vertex"])
PLACED = {"project": "theirs", "credentials": Credentials(THEIRS)}
IN_ENV = {"GOOGLE_CLOUD_PROJECT": "ambient", "GOOGLE_CLOUD_LOCATION": "us-central1"}
USE = {"GOOGLE_GENAI_USE_VERTEXAI": "true"}


def vertex(gateway: Gateway, key: str, **options: Any) -> genai.Client:
    http_options = HttpOptions(
        base_url=f"{gateway.url}/genai_passthrough",
        timeout=20_000,
        headers={"x-passthrough-key": key} if key else None,
    )
    return genai.Client(http_options=http_options, **options)


@pytest.mark.parametrize(
    ("key", "env", "options", "host", "place", "credential"),
    [
        pytest.param(
            "account",
            {},
            {"vertexai": True, "api_key": CLIENT_KEY},
            "europe-west4-aiplatform.googleapis.com",
            "projects/sa-project/locations/europe-west4/",
            OAUTH,
            id="api key; a service account's project and region are put in",
        ),
        pytest.param(
            "user",
            {},
            {"vertexai": True, "api_key": CLIENT_KEY},
            "us-central1-aiplatform.googleapis.com",
            "projects/user-project/locations/us-central1/",
            OAUTH,
            id="api key; an authorised user's project and region",
        ),
        pytest.param(
            "express",
            {},
            {"vertexai": True, "api_key": CLIENT_KEY},
            "aiplatform.googleapis.com",
            "",
            EXPRESS,
            id="api key; an express key stays without a project",
        ),
        pytest.param(
            "account",
            {},
            {"vertexai": True, "location": "us-central1"} | PLACED,
            "us-central1-aiplatform.googleapis.com",
            "projects/sa-project/locations/us-central1/",
            OAUTH,
            id="project and location; the key's project, the client's region",
        ),
        pytest.param(
            "user",
            {},
            {"vertexai": True, "location": "global"} | PLACED,
            "aiplatform.googleapis.com",
            "projects/user-project/locations/global/",
            OAUTH,
            id="project and location; global",
        ),
        pytest.param(
            "account",
            {},
            {"vertexai": True, "location": "eu"} | PLACED,
            "aiplatform.eu.rep.googleapis.com",
            "projects/sa-project/locations/eu/",
            OAUTH,
            id="project and location; several regions",
        ),
        pytest.param(
            "account",
            USE | {"GOOGLE_API_KEY": CLIENT_KEY},
            {},
            "europe-west4-aiplatform.googleapis.com",
            "projects/sa-project/locations/europe-west4/",
            OAUTH,
            id="environment; an api key",
        ),
        pytest.param(
            "account",
            USE | IN_ENV,
            {"location": "us-central1"} | PLACED,
            "us-central1-aiplatform.googleapis.com",
            "projects/sa-project/locations/us-central1/",
            OAUTH,
            id="environment; project and location named as well",
        ),
    ],
)
def test_genai_reaches_vertex_in_each_of_its_forms(
    cloud: Gateway,
    tls_provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    env: dict[str, str],
    options: dict[str, Any],
    host: str,
    place: str,
    credential: tuple[str, str],
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client = vertex(cloud, key, **options)
    made = client.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
    assert "Hello!" in (made.text or "")
    path = f"/v1beta1/{place}{FLASH}"
    assert sent(tls_provider) == (host, f"{path}:generateContent", *credential)
    stream = client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello!")
    assert "Hello!" in "".join(part.text or "" for part in stream)
    target = f"{path}:streamGenerateContent?alt=sse"
    assert sent(tls_provider) == (host, target, *credential)
    quota = [v for n, v in tls_provider.last().headers if n.lower() == "x-goog-user-project"]
    assert quota == (["quota-project"] if key == "user" else [])


def test_genai_with_the_project_in_the_environment_alone_is_told_what_to_do(
    cloud: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (USE | IN_ENV).items():
        monkeypatch.setenv(name, value)
    client = vertex(cloud, "", credentials=Credentials(THEIRS))
    with pytest.raises(genai_errors.ClientError, match="pass project= and location=") as raised:
        client.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
    assert raised.value.code == 404


@pytest.mark.parametrize("key", ["account", "user"])
def test_claude_on_vertex_is_asked_by_its_own_sdk(
    cloud: Gateway, tls_provider: Provider, key: str
) -> None:
    with anthropic.AnthropicVertex(
        base_url=f"{cloud.url}/genai_passthrough/v1",
        project_id="theirs",
        region="europe-west4",
        access_token=THEIRS,
        default_headers={"x-passthrough-key": key},
        timeout=20,
    ) as client:
        message: Any = {"role": "user", "content": "Hello!"}
        asked: Any = {"model": "claude-sonnet-4@20250514", "max_tokens": 64, "messages": [message]}
        made = client.messages.create(**asked)
        assert "Hello!" in made.content[0].text  # type: ignore[union-attr]
        project = "sa-project" if key == "account" else "user-project"
        path = f"/v1/projects/{project}/locations/europe-west4/{CLAUDE}"
        host = "europe-west4-aiplatform.googleapis.com"
        assert sent(tls_provider) == (host, f"{path}:rawPredict", *OAUTH)
        assert b"anthropic_version" in tls_provider.last().body
        with client.messages.stream(**asked) as stream:
            assert "Hello!" in "".join(stream.text_stream)
        assert sent(tls_provider) == (host, f"{path}:streamRawPredict", *OAUTH)


CACHE = "projects/theirs/locations/us-central1/cachedContents/77"


def test_a_cache_named_by_the_sdk_becomes_the_keys(cloud: Gateway, tls_provider: Provider) -> None:
    client = vertex(cloud, "account", vertexai=True, location="us-central1", **PLACED)
    client.models.generate_content(
        model="gemini-2.5-flash",
        contents=CACHE,
        config=GenerateContentConfig(cached_content=CACHE),
    )
    body = json.loads(tls_provider.last().body)
    assert body["cachedContent"] == CACHE.replace("theirs", "sa-project")
    assert body["contents"][0]["parts"][0]["text"] == CACHE


@pytest.mark.parametrize(
    ("body", "at_upstream"),
    [
        pytest.param(
            b'{ "x":"projects/p/locations/l" ,\n"cachedContent" : "projects/p/locations/l/c/1",'
            b'"z":1.0}',
            b'{ "x":"projects/p/locations/l" ,\n"cachedContent" : "projects/sa-project/locations/'
            b'us-central1/c/1","z":1.0}',
            id="a cache",
        ),
        pytest.param(
            b'{"model":"projects/12345/locations/us-central1/models/9" , "e":1e400,"e":"\\u00e9"}',
            b'{"model":"projects/sa-project/locations/us-central1/models/9" , "e":1e400,'
            b'"e":"\\u00e9"}',
            id="a model, by the project's number",
        ),
        pytest.param(
            b'{"endpoint":"projects/p/locations/us-central1/endpoints/1","a":{"model":"projects/p/'
            b'locations/us-central1/m"}}',
            b'{"endpoint":"projects/sa-project/locations/us-central1/endpoints/1","a":{"model":'
            b'"projects/p/locations/us-central1/m"}}',
            id="an endpoint; what lies deeper stays",
        ),
        pytest.param(b'{"model":"publishers/google/models/m"} \n', None, id="nobody's resource"),
        pytest.param(b"\x1f\x8b projects/p/locations/l", None, id="no JSON"),
    ],
)
def test_resource_names_are_spliced_and_nothing_else_moves(
    cloud: Gateway, tls_provider: Provider, body: bytes, at_upstream: bytes | None
) -> None:
    path = f"/v1/projects/theirs/locations/us-central1/{FLASH}:generateContent"
    headers = {"x-passthrough-key": "account", "Content-Type": "application/json"}
    httpx.post(
        f"{cloud.url}/genai_passthrough{path}", content=body, headers=headers, trust_env=False
    )
    seen = tls_provider.last()
    expected = body if at_upstream is None else at_upstream
    assert seen.body == expected
    assert ("Content-Length", str(len(expected))) in [
        (name.title(), value) for name, value in seen.headers
    ]
    assert seen.target == path.replace("theirs", "sa-project")


# -- tokens that cannot be had, or are not taken ---------------------------------------------------


def test_a_token_that_is_not_taken_any_more_is_fetched_once_more(
    tokens: TokenServer, tmp_path: Path
) -> None:
    tokens.reset()
    taken = ("entra-access-token-2", "google-access-token-4")
    provider = Provider(keys=frozenset(taken))
    providers = keys(tokens, tmp_path)
    for name, keep in (("azure", "entra"), ("vertex", "account")):
        entry = providers[name]
        entry["keys"] = [key for key in entry["keys"] if key["name"] == keep]
        entry["network_config"] = {"base_url": provider.url}
    providers["azure"]["keys"][0]["azure_key_config"]["endpoint"] = provider.url
    env = {
        "THE_CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "THE_CLIENT_SECRET": CLIENT_SECRET,
        "AZURE_AUTHORITY_HOST": tokens.url,
        "REQUESTS_CA_BUNDLE": str(tokens.authority.ca_file),
    }
    with running(tmp_path / "gateway", {"providers": providers}, env=env) as gateway:
        with azure(gateway, "") as client:
            assert client.models.list().data
        used = [credentials(seen.headers)[0][1] for seen in provider.seen]
        assert used == ["Bearer entra-access-token-1", "Bearer entra-access-token-2"]
        google = vertex(gateway, "", vertexai=True, api_key=CLIENT_KEY)
        with pytest.raises(genai_errors.ClientError) as raised:  # its SDK tries once
            google.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
        assert raised.value.code == 401
        made = google.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
        assert "Hello!" in (made.text or "")
        told = httpx.get(f"{gateway.url}/health?keys", trust_env=False).json()["keys"]
        assert (told["azure"], told["vertex"]) == ({"entra": "ready"}, {"account": "ready"})
        assert len(tokens.token_requests) == 4
        assert "access-token" not in gateway.output + gateway.records_path.read_text()
    provider.stop()


def test_a_failing_token_endpoint_rests_the_key_and_the_client_notices_nothing(
    tokens: TokenServer,
    tls_provider: Provider,
    authority: Authority,
    tmp_path: Path,
) -> None:
    tokens.failure = (
        400,
        "application/json",
        json.dumps({"error": "invalid_client", "x": REFRESH}),
    )
    names = names_addon(tmp_path, dict.fromkeys(NAMES, tls_provider.port))
    env = {
        "THE_CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "THE_CLIENT_SECRET": CLIENT_SECRET,
        "AZURE_AUTHORITY_HOST": tokens.url,
        "REQUESTS_CA_BUNDLE": str(tokens.authority.ca_file),
    }
    args = ("-s", str(names), "--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}")
    gateway = Gateway(
        tmp_path / "gateway", {"providers": keys(tokens, tmp_path)}, env=env, args=args
    )
    try:
        # Both Entra keys fail, within one request; the API key is left.
        with azure(gateway, "") as client:
            made = client.with_options(max_retries=0).chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}]
            )
        assert "Hello!" in (made.choices[0].message.content or "")
        assert sent(tls_provider)[2:] == ("api-key", KEYS["azure"])
        told = httpx.get(f"{gateway.url}/health?keys", trust_env=False).json()["keys"]["azure"]
        assert re.fullmatch(r"rests \d+ s: no token|ready", told["entra"])
        assert told["plain"] == "ready"
        # Pinned, it is the client's to know; the endpoint's answer is not.
        with azure(gateway, "entra") as client, pytest.raises(openai.APIStatusError) as raised:
            client.with_options(max_retries=0).models.list()
        assert raised.value.status_code == 503
        assert "no token for azure/entra" in raised.value.message
        assert "invalid_client" in raised.value.message
        assert REFRESH not in raised.value.message + gateway.output
        assert CLIENT_SECRET not in gateway.output + gateway.records_path.read_text()
    finally:
        gateway.stop()
        tokens.failure = None


# -- endpoints that do not answer ------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(
    tokens: TokenServer, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that does not wait long for a token."""
    folder = tmp_path_factory.mktemp("hasty")
    config = config_for(provider.url, timeouts={"token": 1})
    key = keys(tokens, folder)["vertex"]["keys"][0]
    config["providers"]["vertex"]["keys"] = [key, key | {"name": "other"}]
    env = {"REQUESTS_CA_BUNDLE": str(tokens.authority.ca_file)}
    with running(folder / "gateway", config, env=env) as gateway:
        yield gateway


@pytest.fixture
def silent(tokens: TokenServer) -> Iterator[TokenServer]:
    """The endpoint takes what it is asked and says nothing."""
    tokens.reset()
    tokens.gate.clear()
    yield tokens
    tokens.gate.set()


def pinned(key: str) -> bytes:
    target = "/genai_passthrough/v1beta1/publishers/google/models/m:generateContent"
    return request(target, BODY, headers=(f"x-passthrough-key: {key}",))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 4 * DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_who_waits_for_a_token_in_vain_is_told_and_nobody_else_waits(
    hasty: Gateway, provider: Provider, silent: TokenServer
) -> None:
    """H05: fifty ask for one token, whose endpoint hangs."""
    oracles = Oracles(hasty, (provider,))
    oracles.mark()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Wire.to(hasty.port)) for _ in range(50)]
        for wire in waiting:
            wire.send(pinned("account"))
        assert silent.asked.wait(DEADLINE)
        heard = talk(hasty.port, request("/openai_passthrough/v1/models", b"", "GET"))
        assert heard.status == 200
        answers = [Heard(wire.rest(), True) for wire in waiting]
    assert {answer.status for answer in answers} == {504}
    assert {answer.header("x-passthrough-error") for answer in answers} == {"token_timeout"}
    told = json.loads(answers[0].body)["error"]
    assert told["message"] == "no token for vertex/account: no answer within 1 s"
    records = oracles.new_records(51)
    assert sorted(record["outcome"] for record in records) == ["ok", *["refused"] * 50]
    oracles.check(b"".join(answer.data for answer in answers))
    assert len(oracles.new()) == 1
    silent.gate.set()
    until(lambda: talk(hasty.port, pinned("account")).status == 200)
    assert len(silent.token_requests) == 1


def test_for_a_client_that_left_while_a_token_was_fetched_nothing_is_asked(
    hasty: Gateway, provider: Provider, silent: TokenServer
) -> None:
    """H06: the token is fetched to its end, and serves who comes next."""
    oracles = Oracles(hasty, (provider,))
    oracles.mark()
    with Wire.to(hasty.port) as wire:
        wire.send(pinned("other"))
        assert silent.asked.wait(DEADLINE)
    # That this is answered shows that the gateway has seen the other one leave.
    assert talk(hasty.port, request("/health", b"", "GET")).status == 200
    silent.gate.set()
    (record,) = oracles.new_records(1)
    assert record["outcome"] == "client_abort"
    assert not oracles.new()
    until(lambda: talk(hasty.port, pinned("other")).status == 200)
    assert len(silent.token_requests) == 1
    oracles.check()
