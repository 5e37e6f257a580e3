"""OpenAI: `/v1/x` and `/x` both reach `/v1/x`, and nothing else of a path is changed."""

import pytest
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Base, Credential
from llm_passthrough.providers.openai import OPENAI
from pydantic import SecretStr

KEY = Key("k", "openai", SecretStr("sk"))


@pytest.mark.parametrize(
    ("base", "path", "sent"),
    [
        pytest.param("https://a.test", b"/v1/chat/completions", b"/v1/chat/completions", id="v1"),
        pytest.param("https://a.test", b"/chat/completions", b"/v1/chat/completions", id="no v1"),
        pytest.param("https://a.test", b"/v1", b"/v1", id="v1 alone"),
        pytest.param("https://a.test", b"/v1/", b"/v1/", id="v1 and a slash"),
        pytest.param("https://a.test", b"/v1/v1/x", b"/v1/v1/x", id="a second v1 is the client's"),
        pytest.param("https://a.test", b"/v1beta/x", b"/v1/v1beta/x", id="another version"),
        pytest.param("https://a.test", b"/v1x/y", b"/v1/v1x/y", id="a segment that begins alike"),
        pytest.param("https://a.test", b"/V1/x", b"/v1/V1/x", id="another case"),
        pytest.param("https://a.test", b"//v1/x", b"/v1//v1/x", id="an empty segment"),
        pytest.param("https://a.test", b"/v1/a%2Fb/+", b"/v1/a%2Fb/+", id="bytes as they are"),
        pytest.param("https://a.test/v1", b"/v1/x", b"/v1/x", id="a base with v1, not doubled"),
        pytest.param("https://a.test/v1/", b"/x", b"/v1/x", id="a base with v1 and a slash"),
        pytest.param("https://a.test/api", b"/v1/x", b"/api/v1/x", id="a base with a path"),
        pytest.param("https://a.test/api/v1", b"/x", b"/api/v1/x", id="a base with both"),
    ],
)
def test_everything_lives_under_v1(base: str, path: bytes, sent: bytes) -> None:
    target = OPENAI.locate(Ask("POST", path, b"a=%20+&a"), KEY, Base.parse(base))
    assert target.path == sent + b"?a=%20+&a"
    assert str(target.origin) == "https://a.test"


def test_the_key_is_a_bearer_token() -> None:
    assert OPENAI.sign(Ask("POST", b"/", None), KEY) == Credential(
        b"Authorization", b"Bearer {key}"
    )
