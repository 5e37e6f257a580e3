"""Parts from a configuration: what can be wrong is wrong before the first request."""

from pathlib import Path
from typing import Any

import pytest
from llm_passthrough import config
from llm_passthrough.build import Parts, build, log_path
from llm_passthrough.config import Config
from llm_passthrough.errors import ConfigError
from llm_passthrough.routes import Upstream

SECRET = "sk-SECRET-0123456789"
ENV = {
    "OPENAI_API_KEY": SECRET,
    "ENDPOINT": "https://res.openai.azure.com/",
    "PLACEHOLDER": "changeme",
    "EMPTY": "",
    "BREAK": f"{SECRET}\r\nX-Evil: 1",
    "SLASH": "ours/../theirs",
}


def parts(env: dict[str, str] = ENV, **document: Any) -> Parts:
    return build(config.parse(document, "file")[0], env, "file")


def upstreams(built: Parts) -> dict[str, Upstream]:
    return {up.provider.name: up for route in built.routes.table for up in route.upstreams}


def faults(**document: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parts(**document)
    assert SECRET not in str(caught.value)
    return list(caught.value.lines)


def provider(name: str = "openai", **entry: Any) -> dict[str, Any]:
    return {"providers": {name: entry}}


def key(provider_name: str = "openai", **options: Any) -> dict[str, Any]:
    return provider(provider_name, keys=[{"value": SECRET} | options])


def route(**options: Any) -> dict[str, Any]:
    return {"routes": [{"prefix": "/own", "upstream": "https://own.test"} | options]}


KEY = "file: providers.openai.keys[0]"


# -- faults: one line each, with the place and the mend -----------------------------------------


@pytest.mark.parametrize(
    ("document", "line"),
    [
        pytest.param(
            provider(keys=[{}]),
            f"{KEY}.value: is missing; such as env.OPENAI_API_KEY or file:PATH",
            id="no value",
        ),
        pytest.param(
            route(keys=[{}]),
            "file: routes[0].keys[0].value: is missing; such as env.NAME or file:PATH",
            id="no value for a route of one's own",
        ),
        pytest.param(
            key(value="env.GONE"),
            f"{KEY}.value: the environment variable GONE is not set, or empty; set it",
            id="unset variable",
        ),
        pytest.param(
            key(value="${EMPTY}"),
            f"{KEY}.value: the environment variable EMPTY is not set, or empty; set it",
            id="empty variable",
        ),
        pytest.param(
            key(value="env.PLACEHOLDER"),
            f"{KEY}.value: the environment variable PLACEHOLDER is a placeholder; give a real key",
            id="placeholder",
        ),
        pytest.param(
            key(value="env.BREAK"),
            f"{KEY}.value: the environment variable BREAK has white space, a line break or a "
            "non-ASCII character; a key is printable ASCII without spaces",
            id="line break in a key",
        ),
        pytest.param(
            key(value=f"{SECRET}\n"),
            f"{KEY}.value: the value has white space, a line break or a "
            "non-ASCII character; a key is printable ASCII without spaces",
            id="line break at the end of a key",
        ),
        pytest.param(
            key(value=f"env.{SECRET}"),
            f"{KEY}.value: names no environment variable; write env.NAME or ${{NAME}}",
            id="no name of a variable",
        ),
        pytest.param(
            provider(keys=[{"name": "a", "value": SECRET}, {"name": "a", "value": SECRET}]),
            "file: providers.openai.keys[1].name: taken by another key; choose another",
            id="one name twice",
        ),
        pytest.param(
            provider(keys=[{"name": "key-2", "value": SECRET}, {"value": SECRET}]),
            "file: providers.openai.keys[1].name: taken by another key; choose another",
            id="a name that another key has by its place",
        ),
        pytest.param(
            key(azure_key_config={}),
            f"{KEY}.azure_key_config: is for azure only; remove it",
            id="azure's options elsewhere",
        ),
        pytest.param(
            key(vertex_key_config={}),
            f"{KEY}.vertex_key_config: is for vertex only; remove it",
            id="vertex's options elsewhere",
        ),
        pytest.param(
            key("anthropic", organization="a"),
            "file: providers.anthropic.keys[0].organization: is for openai only; remove it",
            id="an organisation elsewhere",
        ),
        pytest.param(
            key("gemini", project="a"),
            "file: providers.gemini.keys[0].project: is for openai and vertex only; remove it",
            id="a project elsewhere",
        ),
        pytest.param(
            key("azure", azure_key_config={"endpoint": "res.openai.azure.com"}),
            "file: providers.azure.keys[0].azure_key_config.endpoint: "
            "not a URL; write https://host/path",
            id="an endpoint without a scheme",
        ),
        pytest.param(
            key("azure", azure_key_config={"endpoint": "env.GONE"}),
            "file: providers.azure.keys[0].azure_key_config.endpoint: "
            "the environment variable GONE is not set, or empty; set it",
            id="an endpoint in no variable",
        ),
        pytest.param(
            key("azure", azure_key_config={"api_version": "2024&a=b"}),
            "file: providers.azure.keys[0].azure_key_config.api_version: "
            "is not valid; such as 2025-04-01-preview",
            id="a version that would be two parameters",
        ),
        pytest.param(
            key("vertex", vertex_key_config={"project_id": "env.SLASH"}),
            "file: providers.vertex.keys[0].vertex_key_config.project_id: "
            "is not valid; such as my-project-1",
            id="a project that climbs",
        ),
        pytest.param(
            key("vertex", vertex_key_config={"project_id": "env.GONE"}),
            "file: providers.vertex.keys[0].vertex_key_config.project_id: "
            "the environment variable GONE is not set, or empty; set it",
            id="a project in no variable",
        ),
        pytest.param(
            key("vertex", vertex_key_config={"region": "evil.test"}),
            "file: providers.vertex.keys[0].vertex_key_config.region: "
            "is not valid; such as us-central1 or global",
            id="a region that is none",
        ),
        pytest.param(
            provider(network_config={"base_url": f"https://user:{SECRET}@a.test"}),
            "file: providers.openai.network_config.base_url: "
            "a base URL has no user, query or fragment; write https://host/path",
            id="a password in a URL",
        ),
        pytest.param(
            provider(network_config={"base_url": "http://a.test"}),
            "file: providers.openai.network_config.base_url: "
            "http:// would send the key in clear; use https://, or set allow_http",
            id="a key in clear",
        ),
        pytest.param(
            provider(network_config={"base_url": "http://127.0.0.1:8080/v1"}),
            "file: providers.openai.network_config.base_url: "
            "this is the gateway's own address; name the provider's",
            id="a loop",
        ),
        pytest.param(
            provider(network_config={"base_url": "https://localhost:8081"}),
            "file: providers.openai.network_config.base_url: "
            "this is the gateway's own address; name the provider's",
            id="a loop to mitmweb",
        ),
        pytest.param(
            provider(network_config={"extra_headers": {"X_Api-Key": "a"}}),
            "file: providers.openai.network_config.extra_headers: "
            "X_Api-Key carries a credential; put it under keys",
            id="a credential among the headers",
        ),
        pytest.param(
            provider(network_config={"extra_headers": {"Host": "evil.test"}}),
            "file: providers.openai.network_config.extra_headers: "
            "Host belongs to the connection; remove it",
            id="a second host",
        ),
        pytest.param(
            route(network_config={"extra_headers": {"Transfer-Encoding": "chunked"}}),
            "file: routes[0].network_config.extra_headers: "
            "Transfer-Encoding belongs to the connection; remove it",
            id="another framing",
        ),
        pytest.param(
            route(auth={"header": "content-length"}),
            "file: routes[0].auth.header: content-length cannot carry a key; name another",
            id="a key for a length",
        ),
        pytest.param(
            route(upstream="own.test"),
            "file: routes[0].upstream: not a URL; write https://host/path",
            id="an upstream that is no URL",
        ),
        pytest.param(
            route(upstream="http://own.test"),
            "file: routes[0].upstream: "
            "http:// would send the key in clear; use https://, or set allow_http",
            id="an upstream in clear",
        ),
        pytest.param(
            route(network_config={"base_url": "https://other.test"}),
            "file: routes[0].network_config.base_url: write it as the route's upstream",
            id="two upstreams",
        ),
        pytest.param(
            route(prefix="/openai_passthrough"),
            "file: routes[0].prefix: the prefix /openai_passthrough is taken; choose another",
            id="a prefix of ours",
        ),
        pytest.param(
            route(prefix="/health"),
            "file: routes[0].prefix: the prefix /health is taken; choose another",
            id="a page of ours",
        ),
        pytest.param(
            {"prefixes": {"azure": ["/openai_passthrough"]}},
            "file: prefixes.azure: the prefix /openai_passthrough is taken; choose another",
            id="an alias that is taken",
        ),
        pytest.param(
            route(name="gemini"),
            "file: routes[0].name: the name gemini is taken; give another name",
            id="a provider's name",
        ),
        pytest.param(
            route(prefix="/OpenAI"),
            "file: routes[0].name: the name openai is taken; give another name",
            id="a provider's name by the prefix",
        ),
    ],
)
def test_a_fault_names_its_place_and_its_mend(document: dict[str, Any], line: str) -> None:
    assert faults(**document) == [line]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.local", ""])
def test_without_clients_the_gateway_listens_on_loopback_only(host: str) -> None:
    (line,) = faults(listen={"host": host})
    assert line.startswith("file: listen.host: only loopback (127.0.0.1, ::1) without clients")


def test_with_clients_it_may_listen_for_other_machines() -> None:
    clients = [{"name": "alice", "tokens": ["token-of-alice-0123456789"]}]
    made = parts(listen={"host": "0.0.0.0"}, clients=clients)
    assert made.clients.required
    assert made.forward.other == "block"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_any_loopback_address_will_do(host: str) -> None:
    assert parts(listen={"host": host}).door.is_ours(host)


def test_all_faults_of_a_file_are_told_at_once() -> None:
    document = key(value="env.GONE") | route(upstream="x") | {"listen": {"host": "0.0.0.0"}}
    assert len(faults(**document)) == 3


def test_two_routes_need_two_names() -> None:
    own = route()["routes"][0]
    document = {"routes": [own | {"name": "a"}, own | {"name": "a", "prefix": "/b"}]}
    assert faults(**document) == ["file: routes[1].name: the name a is taken; give another name"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"enabled": False}, id="turned off"),
        pytest.param({"models": []}, id="for no model"),
    ],
)
def test_a_key_that_is_not_used_is_not_looked_up(options: dict[str, Any]) -> None:
    built = parts(**key(value="env.GONE", **options))
    assert upstreams(built)["openai"].ring.keys == ()


# -- parts ----------------------------------------------------------------------------------------


def test_without_a_configuration_the_four_prefixes_say_what_is_missing() -> None:
    built = parts(env={})
    assert [route.prefix for route in built.routes.table] == [
        "/anthropic_passthrough",
        "/openai_passthrough",
        "/azure_passthrough",
        "/genai_passthrough",
    ]
    missing = {name: up.missing for name, up in upstreams(built).items()}
    assert missing == {
        "openai": "set OPENAI_API_KEY, or add a key under providers.openai.keys",
        "anthropic": "set ANTHROPIC_API_KEY, or add a key under providers.anthropic.keys",
        "azure": "set AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT, "
        "or add a key under providers.azure.keys",
        "gemini": "set GEMINI_API_KEY or GOOGLE_API_KEY, or add a key under providers.gemini.keys",
        "vertex": "set VERTEX_API_KEY, or add a key under providers.vertex.keys",
    }
    assert built.warnings == ()


def test_the_usual_variables_are_enough_for_every_provider() -> None:
    names = "OPENAI_API_KEY ANTHROPIC_API_KEY AZURE_OPENAI_API_KEY GEMINI_API_KEY VERTEX_API_KEY"
    env = dict.fromkeys(names.split(), SECRET)
    env["AZURE_OPENAI_ENDPOINT"] = "https://res.openai.azure.com"
    built = build(config.load(None, env)[0], env, "environment")
    assert {name: up.missing for name, up in upstreams(built).items()} == dict.fromkeys(
        ("openai", "anthropic", "azure", "gemini", "vertex")
    )


def test_a_key_of_the_configuration_is_a_key_of_the_ring() -> None:
    built = parts(
        **key(
            name="main",
            value="env.OPENAI_API_KEY",
            weight=2.5,
            models=["gpt-*"],
            blacklisted_models=["*-mini"],
            organization="org",
            project="proj",
        )
    )
    (ours,) = upstreams(built)["openai"].ring.keys
    assert (ours.name, ours.provider, ours.weight) == ("main", "openai", 2.5)
    assert (ours.models, ours.blacklisted) == (("gpt-*",), ("*-mini",))
    assert ours.secret.get_secret_value() == SECRET
    assert ours.account_headers == (
        (b"OpenAI-Organization", b"org"),
        (b"OpenAI-Project", b"proj"),
    )


def test_each_azure_key_has_its_endpoint_and_its_version() -> None:
    keys = [
        {"value": SECRET, "azure_key_config": {"endpoint": "env.ENDPOINT"}},
        {
            "name": "other",
            "value": SECRET,
            "azure_key_config": {"endpoint": "https://b.test/x", "api_version": "2024-10-21"},
        },
        {"value": SECRET, "enabled": False, "azure_key_config": {"endpoint": "env.GONE"}},
    ]
    azure = upstreams(parts(**provider("azure", keys=keys)))["azure"]
    first, other = azure.ring.keys
    assert str(azure.base_for(first).origin) == "https://res.openai.azure.com"
    assert str(azure.base_for(other).origin) == "https://b.test"
    assert (azure.base_for(other).path, other.api_version) == (b"/x", "2024-10-21")
    assert azure.missing is None


@pytest.mark.parametrize(
    ("value", "credential", "bearer"),
    [
        ("ya29.SECRET-token", "auto", True),
        ("AIza-SECRET-key", "auto", False),
        ("AIza-SECRET-key", "oauth_token", True),
        ("ya29.SECRET-token", "api_key", False),
    ],
)
def test_a_vertex_key_is_a_token_or_an_express_key(
    value: str, credential: str, bearer: bool
) -> None:
    vertex = {"credential": credential, "project_id": "ours-1", "region": "eu"}
    document = key("vertex", value=value, vertex_key_config=vertex, project="payer")
    (ours,) = upstreams(parts(**document))["vertex"].ring.keys
    assert (ours.bearer, ours.project, ours.region) == (bearer, "ours-1", "eu")
    assert ours.account_headers == ((b"x-goog-user-project", b"payer"),)


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        pytest.param({}, {"/openai_passthrough"}, id="none"),
        pytest.param(
            {"openai": ["/o", "/o/p"]}, {"/openai_passthrough", "/o", "/o/p"}, id="beside ours"
        ),
        pytest.param({"openai": ["/o"], "replace": True}, {"/o"}, id="instead of ours"),
        pytest.param({"replace": True}, {"/openai_passthrough"}, id="nothing to replace it"),
    ],
)
def test_prefixes_may_have_other_names(prefixes: dict[str, Any], expected: set[str]) -> None:
    table = parts(prefixes=prefixes).routes.table
    found = {r.prefix for r in table if r.upstreams[0].provider.name == "openai"}
    assert found == expected


@pytest.mark.parametrize(
    ("network", "times"),
    [
        ({}, (600.0, 90.0)),
        (
            {"default_request_timeout_in_seconds": 5, "stream_idle_timeout_in_seconds": 6},
            (5.0, 6.0),
        ),
    ],
)
def test_a_provider_may_have_its_own_deadlines(
    network: dict[str, Any], times: tuple[float, float]
) -> None:
    built = parts(timeouts={"idle": 90}, **provider(network_config=network))
    openai = upstreams(built)["openai"]
    assert (openai.first_byte, openai.idle) == times


@pytest.mark.parametrize(
    ("network", "origin"),
    [
        ({"base_url": "https://proxy.test/openai/"}, "https://proxy.test"),
        ({"base_url": "http://127.0.0.1:11434"}, "http://127.0.0.1:11434"),
        ({"base_url": "http://localhost:11434"}, "http://localhost:11434"),
        ({"base_url": "http://[::1]:11434"}, "http://[::1]:11434"),
        ({"base_url": "http://lan.test", "allow_http": True}, "http://lan.test"),
        ({"base_url": "env.ENDPOINT"}, "https://res.openai.azure.com"),
    ],
)
def test_a_base_url_may_be_anywhere_that_keeps_the_key(
    network: dict[str, Any], origin: str
) -> None:
    base = upstreams(parts(**provider(network_config=network)))["openai"].base
    assert base is not None
    assert str(base.origin) == origin


def test_a_route_of_ones_own_is_an_upstream_like_the_others() -> None:
    built = parts(
        **route(
            prefix="/My/Groq",
            upstream="https://api.groq.com/openai",
            dialect="google",
            keys=[{"value": "env.OPENAI_API_KEY"}],
            network_config={"extra_headers": {"X-Team": "a"}},
        )
    )
    own = upstreams(built)["my-groq"]
    assert own.missing is None
    assert own.provider.error_shape == "google"
    assert own.base is not None
    assert (str(own.base.origin), own.base.path) == ("https://api.groq.com", b"/openai")
    assert own.extra_headers == ((b"X-Team", b"a"),)
    assert not own.forward
    assert not own.keyless


@pytest.mark.parametrize(
    ("keys", "keyless", "missing"),
    [
        pytest.param([], True, None, id="none: an API that asks for none"),
        pytest.param(
            [{"value": SECRET, "enabled": False}],
            False,
            "add a key under routes[0].keys",
            id="all turned off: none is left",
        ),
    ],
)
def test_a_route_without_keys_passes_no_credential_on(
    keys: list[Any], keyless: bool, missing: str | None
) -> None:
    own = upstreams(parts(**route(keys=keys)))["own"]
    assert (own.forward, own.keyless, own.missing) == (False, keyless, missing)


def test_the_clients_own_credential_is_passed_on_only_where_it_is_said() -> None:
    found = upstreams(parts(**provider("anthropic", client_credentials="forward")))
    assert {name for name, up in found.items() if up.forward} == {"anthropic"}


# -- what else ---------------------------------------------------------------------------------


def test_configured_keys_are_redacted_wherever_they_turn_up() -> None:
    built = parts(**(key() | route(keys=[{"value": "own-SECRET-key"}])))
    assert built.redactor(f"a {SECRET} b own-SECRET-key c") == "a [redacted] b [redacted] c"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o640, True)])
def test_a_key_file_that_others_can_read_is_warned_of(
    tmp_path: Path, mode: int, warned: bool
) -> None:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    path.chmod(mode)
    warning = f"{KEY}.value: other users can read {path}; chmod 600 it"
    assert parts(**key(value=f"file:{path}")).warnings == ((warning,) if warned else ())


def test_a_key_too_short_to_be_found_in_bodies_is_warned_of() -> None:
    (warning,) = parts(**key(value="short")).warnings
    assert warning.startswith(f"{KEY}.value: shorter than 8 characters")


def test_the_door_knows_the_names_and_origins_of_the_configuration() -> None:
    listen = {"allowed_hosts": ["Gateway.local"], "allowed_origins": ["http://localhost:3000"]}
    door = parts(listen=listen).door
    assert door.is_ours("gateway.LOCAL")
    assert not door.is_ours("evil.test")
    assert door.origins == {"http://localhost:3000"}


def test_the_records_may_lie_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert log_path(Config()) == tmp_path / ".llm-passthrough" / "records.jsonl"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"redis://:{SECRET}@[::1", id="no address"),
        pytest.param(f"http://:{SECRET}@host", id="another scheme"),
        pytest.param(f"redis://:{SECRET}@", id="no host"),
        pytest.param(f"redis://:{SECRET}@host/name", id="no number of a database"),
        pytest.param(f"redis://host?password={SECRET}", id="options"),
        pytest.param(f"redis://:{SECRET}@host:port", id="no port"),
    ],
)
def test_what_is_no_url_of_redis_is_said_without_it(url: str) -> None:
    (fault,) = faults(share={"redis": url})
    assert fault.startswith("file: share.redis: must be a URL such as redis://host:6379/0")


def test_the_url_of_redis_is_redacted_and_not_shown() -> None:
    url = f"rediss://me:{SECRET}@host:6380/1"
    built = parts({"SHARED": url}, share={"redis": "env.SHARED"})
    assert SECRET not in repr(built.share)
    assert built.redactor(f"{url} {SECRET}") == "[redacted] [redacted]"


def test_without_the_library_sharing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (fault,) = faults(share={"redis": "redis://host"})
    assert fault == "file: share.redis: needs redis; pip install 'llm-passthrough[redis]'"
