"""Hosts that we stand for: each provider's own, each configured one, on their own ports alone."""

import pytest
from llm_passthrough import config
from llm_passthrough.build import build
from llm_passthrough.errors import Refusal
from llm_passthrough.hosts import Hosts
from llm_passthrough.providers import Base, Origin
from llm_passthrough.routes import Route, Upstream

KEY = {"value": "sk-0123456789"}


def azure(name: str, endpoint: str) -> dict[str, object]:
    return {"name": name, **KEY, "azure_key_config": {"endpoint": endpoint}}


def hosts(**document: object) -> Hosts:
    return build(config.parse(document, "test")[0], {}, "test").hosts


HOSTS = hosts(
    providers={
        "azure": {
            "keys": [
                azure("east", "https://east.openai.azure.com"),
                azure("west", "https://west.openai.azure.com/"),
                azure("west-2", "https://west.openai.azure.com"),
            ]
        },
        "anthropic": {
            "keys": [KEY],
            "network_config": {"base_url": "https://claude.corp.test:8443/proxy"},
        },
        "openai": {"keys": [KEY], "network_config": {"base_url": "http://127.0.0.1:9/v1"}},
    },
    routes=[
        {"prefix": "/groq", "upstream": "https://api.groq.com/openai", "keys": [KEY]},
        {"prefix": "/local", "upstream": "http://localhost:11434"},
        {"prefix": "/one", "upstream": "https://shared.test/one", "name": "one"},
        {"prefix": "/deep", "upstream": "https://shared.test/one/deep", "name": "deep"},
        {
            "prefix": "/clear",
            "upstream": "http://llm.corp.test:8000",
            "network_config": {"allow_http": True},
        },
    ],
)


def origin(url: str) -> Origin:
    return Base.parse(url).origin


def route(url: str) -> Route | None:
    base = Base.parse(url)
    return HOSTS.route(base.origin, base.path)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        pytest.param("https://api.openai.com/v1/x", "openai", id="openai"),
        pytest.param("https://api.anthropic.com/v1/x", "anthropic", id="anthropic"),
        pytest.param("https://generativelanguage.googleapis.com/v1/x", "gemini", id="gemini"),
        pytest.param("https://aiplatform.googleapis.com/v1/x", "vertex", id="vertex"),
        pytest.param("https://europe-west4-aiplatform.googleapis.com/", "vertex", id="a region"),
        pytest.param("https://aiplatform.eu.rep.googleapis.com/", "vertex", id="a multi-region"),
        pytest.param("https://east.openai.azure.com/openai/x", "azure", id="an Azure endpoint"),
        pytest.param("https://west.openai.azure.com", "azure", id="another one"),
        pytest.param("https://claude.corp.test:8443/proxy/v1", "anthropic", id="a base URL"),
        pytest.param("https://api.groq.com/openai/v1/x", "groq", id="a route's"),
        pytest.param("https://api.groq.com/other", "groq", id="a route's, beside its path"),
        pytest.param("https://shared.test/one/x", "one", id="the first of two on a host"),
        pytest.param("https://shared.test/one/deep/x", "deep", id="the longer path wins"),
        pytest.param("https://shared.test/one/deeper", "one", id="at a segment's end only"),
        pytest.param("http://llm.corp.test:8000/x", "clear", id="plain HTTP that is allowed"),
    ],
)
def test_a_host_stands_for_its_provider(url: str, provider: str) -> None:
    found = route(url)
    assert found is not None
    (upstream,) = found.upstreams
    assert upstream.provider.name == provider
    assert found.prefix == f"host:{origin(url).host}"
    assert found.upstream(b"/v1beta1/x", "Bearer ya29.x", None) == (upstream, "host")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://api.openai.com:8443", id="another port"),
        pytest.param("http://api.openai.com", id="without TLS"),
        pytest.param("http://api.openai.com:443", id="without TLS on its port"),
        pytest.param("https://api.openai.com.evil.test", id="begins like one"),
        pytest.param("https://evil-api.openai.com", id="ends like one"),
        pytest.param("https://openai.com", id="its parent"),
        pytest.param("https://west.openai.azure.com:444", id="Azure on another port"),
        pytest.param("https://other.openai.azure.com", id="somebody else's Azure resource"),
        pytest.param("https://x_y-aiplatform.googleapis.com", id="no region"),
        pytest.param("https://us-aiplatform.googleapis.com", id="a region with another host"),
        pytest.param("https://aiplatform.mars1.rep.googleapis.com", id="no multi-region"),
        pytest.param("https://us-central1-aiplatform.googleapis.com:80", id="a region's port"),
        pytest.param("https://us-central1-aiplatform.googleapis.com.test", id="looks like one"),
        pytest.param("http://localhost:11434", id="a local server is not a proxy's business"),
        pytest.param("http://127.0.0.1:9", id="nor is a local base URL"),
    ],
)
def test_no_other_host_does(url: str) -> None:
    assert route(url) is None


def target(url: str, path: bytes) -> Base:
    """Where a request that names this origin and path goes."""
    found = HOSTS.route(origin(url), path)
    assert found is not None
    (upstream,) = found.upstreams
    return upstream.base_for(upstream.ring.keys[0] if upstream.ring.keys else None)


@pytest.mark.parametrize(
    ("url", "path", "base"),
    [
        pytest.param(
            "https://api.groq.com", b"/openai/v1/x", "https://api.groq.com",
            id="at its own host a path is whole",
        ),
        pytest.param(
            "https://claude.corp.test:8443", b"/proxy/v1", "https://claude.corp.test:8443",
            id="at a base URL too",
        ),
        pytest.param(
            "https://api.anthropic.com", b"/v1/x", "https://claude.corp.test:8443/proxy",
            id="the usual host leads to where the provider is",
        ),
        pytest.param(
            "https://api.openai.com", b"/v1/x", "http://127.0.0.1:9/v1", id="also to this machine"
        ),
    ],
)  # fmt: skip
def test_a_request_goes_to_where_the_provider_is(url: str, path: bytes, base: str) -> None:
    assert target(url, path) == Base.parse(base)


def test_at_an_azure_endpoint_its_own_keys_alone_are_used_and_rest_everywhere() -> None:
    names = {}
    for host in ("east", "west"):
        found = HOSTS.route(origin(f"https://{host}.openai.azure.com"))
        assert found is not None
        (upstream,) = found.upstreams
        names[host] = [key.name for key in upstream.ring.keys]
        for key in upstream.ring.keys:
            assert upstream.base_for(key) == Base.parse(f"https://{host}.openai.azure.com")
        upstream.ring.failed(upstream.ring.keys[-1], 0.0)
    assert names == {"east": ["east"], "west": ["west", "west-2"]}
    rings = {id(upstream.ring.states) for upstream in _azures()}
    assert len(rings) == 1
    assert set(_azures()[0].ring.states) == {"east", "west-2"}


def _azures() -> list[Upstream]:
    found = (HOSTS.route(origin(f"https://{name}.openai.azure.com")) for name in ("east", "west"))
    return [upstream for route in found if route for upstream in route.upstreams]


def test_keys_without_an_endpoint_of_their_own_belong_to_the_base_url() -> None:
    made = hosts(
        providers={
            "azure": {
                "keys": [KEY | {"name": "base"}, azure("own", "https://own.test")],
                "network_config": {"base_url": "https://base.test"},
            }
        }
    )
    for host in ("base", "own"):
        found = made.route(origin(f"https://{host}.test"))
        assert found is not None
        (upstream,) = found.upstreams
        assert [key.name for key in upstream.ring.keys] == [host]
        assert upstream.base_for(upstream.ring.keys[0]) == Base.parse(f"https://{host}.test")


def test_the_names_are_said_once_each() -> None:
    assert HOSTS.names == (
        "aiplatform.googleapis.com, api.anthropic.com, api.groq.com, api.openai.com, "
        "claude.corp.test, east.openai.azure.com, generativelanguage.googleapis.com, "
        "llm.corp.test, shared.test, west.openai.azure.com"
    )


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("api.openai.com", True),
        ("llm.corp.test", True),
        ("europe-west4-aiplatform.googleapis.com", True),
        ("evil.test", False),
        ("openai.com", False),
    ],
)
def test_a_host_that_we_stand_for_is_served_on_its_own_port_alone(host: str, ours: bool) -> None:
    if not ours:
        HOSTS.check_port(host)
        return
    with pytest.raises(Refusal) as caught:
        HOSTS.check_port(host)
    assert caught.value.code == "forward_blocked"
