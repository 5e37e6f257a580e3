"""Links: URLs of an answer that come back through the route, stay, or are dropped."""

import pytest
from llm_passthrough.links import mapped, own_base
from llm_passthrough.providers import Origin

TLS = Origin("https", "api.test", 443)
LOCAL = Origin("http", "127.0.0.1", 9000)
OURS = b"http://localhost:8080/own"
UPLOADS = (b"x-goog-upload-url", b"x-goog-upload-control-url")


@pytest.mark.parametrize(
    ("tls", "host", "base"),
    [
        pytest.param(False, "localhost:8080", b"http://localhost:8080/own", id="as it was asked"),
        pytest.param(True, "gw.local", b"https://gw.local/own", id="over TLS"),
        pytest.param(False, "", b"http://localhost/own", id="HTTP/1.0 without a Host"),
        pytest.param(False, "[::1]:8080", b"http://[::1]:8080/own", id="IPv6"),
    ],
)
def test_a_client_finds_a_route_where_it_asked(tls: bool, host: str, base: bytes) -> None:
    assert own_base(tls, host, "/own") == base


@pytest.mark.parametrize(
    ("url", "origin", "base", "back"),
    [
        pytest.param(b"https://api.test/v1/x?a=1#f", TLS, b"", b"/v1/x?a=1#f", id="whole"),
        pytest.param(b"https://api.test", TLS, b"", b"", id="the origin alone"),
        pytest.param(b"https://api.test?a=1", TLS, b"", b"?a=1", id="a query and no path"),
        pytest.param(b"https://api.test:443/x", TLS, b"", b"/x", id="the scheme's own port"),
        pytest.param(b"HTTPS://API.Test/X", TLS, b"", b"/X", id="capitals in scheme and host"),
        pytest.param(b"http://127.0.0.1:9000/x", LOCAL, b"", b"/x", id="a port of its own"),
        pytest.param(b"/v1/x", TLS, b"", b"/v1/x", id="a path"),
        pytest.param(
            b"/x?next=https://evil.test/", TLS, b"", b"/x?next=https://evil.test/", id="://"
        ),
        pytest.param(b"//api.test/x", TLS, b"", b"/x", id="the scheme is left out"),
        pytest.param(b"https://api.test/base/x", TLS, b"/base", b"/x", id="below a base path"),
        pytest.param(b"/base/x", TLS, b"/base", b"/x", id="a path below a base path"),
        pytest.param(b"https://api.test/base", TLS, b"/base", b"", id="the base path alone"),
        pytest.param(b"https://api.test/base?a", TLS, b"/base", b"?a", id="base path and query"),
    ],
)
@pytest.mark.parametrize("name", [b"location", *UPLOADS])
def test_a_url_on_the_providers_own_host_comes_back_through_the_route(
    name: bytes, url: bytes, origin: Origin, base: bytes, back: bytes
) -> None:
    assert mapped(name, url, origin, base, OURS) == OURS + back


@pytest.mark.parametrize(
    ("url", "base"),
    [
        pytest.param(b"https://evil.test/x", b"", id="another host"),
        pytest.param(b"http://api.test/x", b"", id="another scheme"),
        pytest.param(b"https://api.test:8443/x", b"", id="another port"),
        pytest.param(b"https://api.test@evil.test/x", b"", id="the host as a user"),
        pytest.param(b"https://api.test.evil.test/x", b"", id="the host as a beginning"),
        pytest.param(b"https://evil.test/https://api.test/x", b"", id="the URL in a path"),
        pytest.param(b"//evil.test/x", b"", id="another host without a scheme"),
        pytest.param(b"relative", b"", id="a relative path"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"https://api.test/basement", b"/base", id="a base path is a whole segment"),
        pytest.param(b"https://api.test/else", b"/base", id="beside the base path"),
    ],
)
def test_a_url_that_no_route_reaches_stays_in_a_location_and_is_no_upload_url(
    url: bytes, base: bytes
) -> None:
    assert mapped(b"location", url, TLS, base, OURS) == url
    for name in UPLOADS:
        assert mapped(name, url, TLS, base, OURS) is None


def test_a_path_beside_the_base_path_is_one_on_the_providers_host() -> None:
    assert mapped(b"location", b"/login?a", TLS, b"/base", OURS) == b"https://api.test/login?a"
    assert mapped(UPLOADS[0], b"/login", TLS, b"/base", OURS) is None
