"""A provider from the configuration: its own header, its own form, the path as it is."""

import pytest
from llm_passthrough.errors import ErrorShape
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Base, Credential, generic
from pydantic import SecretStr

KEY = Key("k", "groq", SecretStr("sk"))


@pytest.mark.parametrize(
    ("header", "form"), [("Authorization", "Bearer {key}"), ("X-Key", "{key}"), ("a", "t={key};")]
)
def test_the_key_goes_where_the_configuration_says(header: str, form: str) -> None:
    provider = generic("groq", "https://a.test", "openai", header, form)
    sent = provider.sign(Ask("POST", b"/x", None), KEY)
    assert sent == Credential(header.encode(), form.encode())


@pytest.mark.parametrize("shape", ["openai", "anthropic", "google"])
def test_its_errors_have_the_shape_of_its_dialect(shape: ErrorShape) -> None:
    assert generic("a", "https://a.test", shape, "A", "{key}").error_shape == shape


def test_the_path_goes_behind_the_upstreams_as_it_is() -> None:
    provider = generic("groq", "https://a.test/openai", "openai", "A", "{key}")
    ask = Ask("POST", b"/v1/chat%2F//", b"a=&a")
    target = provider.locate(ask, KEY, Base.parse("https://a.test/openai"))
    assert target.path == b"/openai/v1/chat%2F//?a=&a"
