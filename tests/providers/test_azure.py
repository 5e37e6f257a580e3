"""Azure: `api-version` only where the API demands one, the key's header by path."""

import pytest
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Base
from llm_passthrough.providers.azure import AZURE, DEFAULT_API_VERSION
from pydantic import SecretStr

BASE = Base.parse("https://res.openai.azure.com/")
CHAT = b"/openai/deployments/gpt-4o/chat/completions"


def key(version: str | None = None) -> Key:
    return Key("k", "azure", SecretStr("sk"), api_version=version)


@pytest.mark.parametrize(
    ("path", "query", "sent"),
    [
        pytest.param(CHAT, None, b"?api-version=KEYS", id="none: the key's"),
        pytest.param(CHAT, b"", b"?api-version=KEYS", id="an empty query"),
        pytest.param(CHAT, b"a=1", b"?a=1&api-version=KEYS", id="behind the client's"),
        pytest.param(CHAT, b"a=1&", b"?a=1&&api-version=KEYS", id="an empty parameter stays"),
        pytest.param(CHAT, b"b&a=%2F+&a", b"?b&a=%2F+&a&api-version=KEYS", id="bytes stay"),
        pytest.param(CHAT, b"api-version=2024-10-21", b"?api-version=2024-10-21", id="client's"),
        pytest.param(
            CHAT, b"a&api-version=X&api-version=Y", b"?a&api-version=X&api-version=Y", id="twice"
        ),
        pytest.param(CHAT, b"API-Version=X", b"?API-Version=X", id="in another case"),
        pytest.param(CHAT, b"api%2Dversion=X", b"?api%2Dversion=X", id="encoded"),
        pytest.param(CHAT, b"api-version=", b"?api-version=", id="empty is the client's too"),
        pytest.param(CHAT, b"api-version", b"?api-version", id="without a value"),
        pytest.param(
            CHAT, b"x-api-version=X", b"?x-api-version=X&api-version=KEYS", id="another name"
        ),
        pytest.param(CHAT, b"a=api-version", b"?a=api-version&api-version=KEYS", id="a value"),
        pytest.param(b"/openai/deployments/a%2Fb/x", None, b"?api-version=KEYS", id="encoded name"),
        pytest.param(b"/openai/v1/chat/completions", None, b"", id="never under v1"),
        pytest.param(b"/openai/v1/deployments/x/chat", None, b"", id="nor there"),
        pytest.param(b"/openai/responses", b"a=1", b"?a=1", id="not for responses"),
        pytest.param(b"/openai/deployments", None, b"", id="the list"),
        pytest.param(b"/openai/deploymentsX/y", None, b"", id="a segment that begins alike"),
        pytest.param(b"/openai//deployments/x", None, b"", id="an empty segment"),
        pytest.param(b"/anthropic/v1/messages", None, b"", id="never for Claude"),
        pytest.param(b"/x/openai/deployments/y", None, b"", id="further down"),
    ],
)
def test_api_version_is_put_in_where_it_is_demanded_and_missing(
    path: bytes, query: bytes | None, sent: bytes
) -> None:
    target = AZURE.locate(Ask("POST", path, query), key("KEYS"), BASE)
    assert target.path == path + sent


def test_without_a_version_of_the_key_there_is_a_default() -> None:
    assert DEFAULT_API_VERSION == "2025-04-01-preview"
    target = AZURE.locate(Ask("POST", CHAT, None), key(), BASE)
    assert target.path == CHAT + b"?api-version=2025-04-01-preview"


@pytest.mark.parametrize("path", [b"/openai/deployments/my%20dep%2Fx/chat", b"/openai//x/", b"/"])
def test_the_path_goes_to_the_endpoint_of_the_key_as_it_is(path: bytes) -> None:
    target = AZURE.locate(Ask("POST", path, b"api-version=X"), key(), BASE)
    assert str(target.origin) == "https://res.openai.azure.com"
    assert target.path == path + b"?api-version=X"


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (CHAT, b"api-key"),
        (b"/openai/v1/chat/completions", b"api-key"),
        (b"/openai/deployments/claude-sonnet-4/chat/completions", b"api-key"),
        (b"/anthropic/v1/messages", b"x-api-key"),
        (b"/anthropicX/v1/messages", b"api-key"),
    ],
)
def test_the_header_of_the_key_goes_by_the_path_never_by_the_model(
    path: bytes, header: bytes
) -> None:
    credential = AZURE.sign(Ask("POST", path, None), key())
    assert (credential.header, credential.form, credential.extra) == (header, b"{key}", ())
