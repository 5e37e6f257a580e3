"""Base URLs and origins: taken apart once at start, byte for byte."""

import pytest
from llm_passthrough.keyring import Key
from llm_passthrough.providers import PROVIDERS, Ask, Base, Credential, Origin, Target
from llm_passthrough.providers.base import as_it_is, bearer
from pydantic import SecretStr

KEY = Key("k", "p", SecretStr("s"), account_headers=((b"X-Account", b"a"),))


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://api.test", "https://api.test", b""),
        ("https://api.test/", "https://api.test", b""),
        ("https://api.test/v1", "https://api.test", b"/v1"),
        ("https://api.test/v1/", "https://api.test", b"/v1"),
        ("https://api.test/a%2Fb//c", "https://api.test", b"/a%2Fb//c"),
        ("https://api.test:443/v1", "https://api.test", b"/v1"),
        ("https://api.test:8443/v1", "https://api.test:8443", b"/v1"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434", b""),
        ("http://127.0.0.1:80", "http://127.0.0.1", b""),
        ("http://[::1]:9/x", "http://[::1]:9", b"/x"),
        ("HTTPS://API.Test/V1", "https://api.test", b"/V1"),
        ("https://my_host.internal-1.test.", "https://my_host.internal-1.test.", b""),
    ],
)
def test_a_base_url_is_an_origin_and_a_path(url: str, origin: str, path: bytes) -> None:
    base = Base.parse(url)
    assert str(base.origin) == origin
    assert base.path == path


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("api.test/SECRET", id="no scheme"),
        pytest.param("ftp://api.test/SECRET", id="another scheme"),
        pytest.param("//api.test/SECRET", id="no scheme but slashes"),
        pytest.param("https:///SECRET", id="no host"),
        pytest.param("https://:443/SECRET", id="a port only"),
        pytest.param("https://user:SECRET@api.test", id="password"),
        pytest.param("https://SECRET@api.test", id="user"),
        pytest.param("https://@api.test/SECRET", id="empty user"),
        pytest.param("https://api.test?key=SECRET", id="query"),
        pytest.param("https://api.test/v1?", id="empty query"),
        pytest.param("https://api.test/#SECRET", id="fragment"),
        pytest.param("https://api.test/v1#", id="empty fragment"),
        pytest.param("https://api.test:0/SECRET", id="port 0"),
        pytest.param("https://api.test:99999/SECRET", id="port too large"),
        pytest.param("https://api.test:x/SECRET", id="no port"),
        pytest.param("https://[::1/SECRET", id="half a bracket"),
        pytest.param("https://evil.test\\@api.test/SECRET", id="backslash"),
        pytest.param("https://api.test\\SECRET", id="backslash for a slash"),
        pytest.param("https://api test/SECRET", id="space in the host"),
        pytest.param("https://api.test/ SECRET", id="space in the path"),
        pytest.param("https://api.test/\r\nSECRET", id="line break"),
        pytest.param("https://api.te\tst/SECRET", id="tab"),
        pytest.param("https://äpi.test/SECRET", id="host beyond ASCII"),
        pytest.param("https://api.test/ä-SECRET", id="path beyond ASCII"),
        pytest.param("https://api%2etest/SECRET", id="percent in the host"),
        pytest.param("https://api.test%00/SECRET", id="NUL in the host"),
        pytest.param("https://api.test,evil.test/SECRET", id="two hosts"),
    ],
)
def test_what_is_no_base_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Base.parse(url)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("https", "a.test", 443), b"a.test"),
        (Origin("https", "a.test", 80), b"a.test:80"),
        (Origin("http", "a.test", 80), b"a.test"),
        (Origin("http", "a.test", 443), b"a.test:443"),
        (Origin("https", "::1", 443), b"[::1]"),
        (Origin("https", "::1", 8443), b"[::1]:8443"),
    ],
)
def test_the_host_header_names_a_port_that_is_not_the_schemes(
    origin: Origin, authority: bytes
) -> None:
    assert origin.authority == authority


@pytest.mark.parametrize(
    ("base", "path", "query", "target"),
    [
        (b"", b"/v1/x", None, b"/v1/x"),
        (b"", b"/v1/x", b"", b"/v1/x?"),
        (b"", b"/v1/x", b"a=1&a=&&b", b"/v1/x?a=1&a=&&b"),
        (b"/base", b"//x%2F/", b"q=?", b"/base//x%2F/?q=?"),
        (b"/base", b"", None, b"/base/"),
        (b"", b"", b"a", b"/?a"),
    ],
)
def test_a_target_is_the_base_the_path_and_the_query_as_they_are(
    base: bytes, path: bytes, query: bytes | None, target: bytes
) -> None:
    origin = Origin("https", "a.test", 443)
    assert as_it_is(Ask("GET", path, query), KEY, Base(origin, base)) == Target(origin, target)


def test_a_bearer_key_brings_the_headers_of_its_account() -> None:
    assert bearer(Ask("GET", b"/", None), KEY) == Credential(
        b"Authorization", b"Bearer {key}", ((b"X-Account", b"a"),)
    )


def test_each_provider_stands_in_the_table_under_its_own_name() -> None:
    assert {name: provider.name for name, provider in PROVIDERS.items()} == {
        name: name for name in ("openai", "anthropic", "azure", "gemini", "vertex")
    }
