"""Anthropic: the path as it is, `x-api-key`, and a version only where the client gave none."""

import pytest
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Base, Credential
from llm_passthrough.providers.anthropic import ANTHROPIC
from pydantic import SecretStr

KEY = Key("k", "anthropic", SecretStr("sk"))
VERSION = (b"anthropic-version", b"2023-06-01")


@pytest.mark.parametrize(
    "path",
    [b"/v1/messages", b"/v1/v1/messages", b"/messages", b"/v1/models/claude-4%2F", b"//v1//x/"],
)
def test_the_path_goes_on_as_it_is(path: bytes) -> None:
    target = ANTHROPIC.locate(
        Ask("POST", path, b"beta=true"), KEY, Base.parse("https://api.anthropic.com")
    )
    assert target.path == path + b"?beta=true"


@pytest.mark.parametrize(
    ("headers", "extra"),
    [
        pytest.param(frozenset(), (VERSION,), id="none"),
        pytest.param(frozenset({b"anthropic-beta"}), (VERSION,), id="another header"),
        pytest.param(frozenset({b"anthropic-version"}), (), id="the client's"),
    ],
)
def test_a_version_is_put_in_where_there_is_none(
    headers: frozenset[bytes], extra: tuple[tuple[bytes, bytes], ...]
) -> None:
    ask = Ask("POST", b"/v1/messages", None, headers)
    assert ANTHROPIC.sign(ask, KEY) == Credential(b"x-api-key", b"{key}", extra)
