"""The variables that bring a command to the gateway: what is set, in which mode, beside what."""

from pathlib import Path

import pytest
from llm_passthrough.cli.variables import (
    ADDING_ROOTS,
    BASE_URLS,
    PLACEHOLDER,
    REPLACING_ROOTS,
    Mode,
    Reach,
    Trust,
    Variables,
    arguments,
    variables,
)

REACH = Reach("127.0.0.1", 8080)
TRUST = Trust(Path("/c/ca.pem"), Path("/c/bundle.pem"), Path("/c/store.p12"))
BASE = "http://127.0.0.1:8080"
PROXIES = {
    spelling
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
    for spelling in (name, name.lower())
}
KEYS = {
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZURE_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
}


def made(mode: Mode = Mode.both, reach: Reach = REACH, **env: str) -> Variables:
    return variables(mode, reach, TRUST, env)


# -- modes ----------------------------------------------------------------------------------------


def test_base_urls_alone_set_no_proxy_and_no_ca() -> None:
    assert set(variables(Mode.base_url, REACH, None, {})) == KEYS | set(BASE_URLS)


def test_the_proxy_alone_sets_no_base_url() -> None:
    got = set(made(Mode.proxy))
    assert not got & set(BASE_URLS)
    assert got >= KEYS | PROXIES | {*REPLACING_ROOTS, *ADDING_ROOTS}


def test_both_is_the_one_and_the_other() -> None:
    assert made(Mode.both) == made(Mode.base_url) | made(Mode.proxy)


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("OPENAI_BASE_URL", f"{BASE}/openai_passthrough/v1", id="OpenAI SDKs"),
        pytest.param("OPENAI_API_BASE", f"{BASE}/openai_passthrough/v1", id="older ones"),
        pytest.param("ANTHROPIC_BASE_URL", f"{BASE}/anthropic_passthrough", id="Anthropic"),
        pytest.param(
            "ANTHROPIC_FOUNDRY_BASE_URL", f"{BASE}/azure_passthrough/anthropic", id="Foundry"
        ),
        pytest.param(
            "ANTHROPIC_VERTEX_BASE_URL", f"{BASE}/genai_passthrough/v1", id="Claude on Vertex"
        ),
        pytest.param("AZURE_OPENAI_ENDPOINT", f"{BASE}/azure_passthrough", id="Azure"),
        pytest.param("GOOGLE_GEMINI_BASE_URL", f"{BASE}/genai_passthrough", id="Gemini"),
        pytest.param("GOOGLE_VERTEX_BASE_URL", f"{BASE}/genai_passthrough", id="Vertex"),
        pytest.param("GEMINI_API_BASE", f"{BASE}/genai_passthrough/v1beta", id="LiteLLM's Gemini"),
        pytest.param("https_proxy", BASE, id="the proxy in small letters"),
        pytest.param("SSL_CERT_FILE", "/c/bundle.pem", id="what replaces the roots has them too"),
        pytest.param("CURL_CA_BUNDLE", "/c/bundle.pem", id="curl"),
        pytest.param("NODE_EXTRA_CA_CERTS", "/c/ca.pem", id="what adds to the roots has ours"),
        pytest.param("NODE_USE_ENV_PROXY", "1", id="Node looks at the proxy"),
    ],
)
def test_a_variable_says_what_its_programs_understand(name: str, value: str) -> None:
    assert made()[name] == value


def test_prefixes_are_those_of_the_gateway() -> None:
    reach = Reach("::1", 99, {"openai": "/o", "anthropic": "/a", "azure": "/z", "genai": "/g"})
    got = made(reach=reach)
    assert got["OPENAI_BASE_URL"] == "http://[::1]:99/o/v1"
    assert got["GOOGLE_VERTEX_BASE_URL"] == "http://[::1]:99/g"
    assert got["HTTPS_PROXY"] == "http://[::1]:99"


def test_a_client_with_a_token_says_it_as_its_key_and_to_the_proxy() -> None:
    reach = Reach("127.0.0.1", 8080, token="token/of a client")
    got = made(reach=reach)
    assert {got[name] for name in KEYS} == {"token/of a client"}
    assert got["HTTP_PROXY"] == "http://token%2Fof%20a%20client:@127.0.0.1:8080"
    assert "token" not in repr(reach)


# -- keys -----------------------------------------------------------------------------------------


def test_no_real_key_is_left() -> None:
    env = dict.fromkeys((*KEYS, "ANTHROPIC_AUTH_TOKEN", "VERTEX_API_KEY", "GROQ_KEY"), "REAL")
    got = variables(Mode.base_url, REACH, None, env, secrets=["GROQ_KEY", "UNSET_KEY"])
    assert {got.get(name) for name in env} == {PLACEHOLDER}
    assert "UNSET_KEY" not in got


def test_a_key_that_not_every_program_wants_is_set_only_where_it_was() -> None:
    assert "ANTHROPIC_AUTH_TOKEN" not in made()
    assert made(ANTHROPIC_AUTH_TOKEN="REAL")["ANTHROPIC_AUTH_TOKEN"] == PLACEHOLDER


def test_what_the_gateway_passes_on_the_command_keeps() -> None:
    env = {"ANTHROPIC_API_KEY": "REAL", "ANTHROPIC_AUTH_TOKEN": "REAL", "OPENAI_API_KEY": "REAL"}
    got = variables(
        Mode.base_url, REACH, None, env, secrets=["ANTHROPIC_API_KEY"], forwarded=["anthropic"]
    )
    assert not {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"} & set(got)
    assert got["OPENAI_API_KEY"] == PLACEHOLDER


# -- beside what is there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "direct"),
    [
        pytest.param({}, "localhost,127.0.0.1,::1", id="nothing"),
        pytest.param(
            {"NO_PROXY": ".corp, 10.0.0.0/8", "no_proxy": "db.local,.corp"},
            ".corp,10.0.0.0/8,db.local,localhost,127.0.0.1,::1",
            id="hosts that are asked without a proxy stay, once each",
        ),
        pytest.param({"no_proxy": "*"}, "localhost,127.0.0.1,::1", id="all hosts would be none"),
        pytest.param({"NO_PROXY": "127.0.0.1"}, "127.0.0.1,localhost,::1", id="one of ours"),
    ],
)
@pytest.mark.parametrize("mode", [Mode.both, Mode.proxy])
def test_loopback_is_asked_without_a_proxy(mode: Mode, env: dict[str, str], direct: str) -> None:
    got = made(mode, **env)
    assert got["NO_PROXY"] == got["no_proxy"] == direct


def test_a_proxy_that_is_there_is_not_asked_for_the_base_url() -> None:
    got = made(Mode.base_url, http_proxy="http://proxy.corp:3128", NO_PROXY=".corp")
    assert got["NO_PROXY"] == got["no_proxy"] == ".corp,localhost,127.0.0.1,::1"
    assert not set(got) & PROXIES


def test_a_variable_that_named_roots_of_its_own_keeps_them() -> None:
    own = {
        "REQUESTS_CA_BUNDLE": Path("/c/corp.pem"),
        "NODE_EXTRA_CA_CERTS": Path("/c/node.pem"),
        "PIP_CERT": Path("/c/pip.pem"),
    }
    trust = Trust(TRUST.ca, TRUST.bundle, TRUST.truststore, own)
    got = variables(Mode.proxy, REACH, trust, {})
    assert got["REQUESTS_CA_BUNDLE"] == "/c/corp.pem"
    assert got["NODE_EXTRA_CA_CERTS"] == "/c/node.pem"
    assert got["PIP_CERT"] == "/c/pip.pem"
    assert "CARGO_HTTP_CAINFO" not in got
    assert got["SSL_CERT_FILE"] == "/c/bundle.pem"


def test_what_a_program_refuses_beside_a_base_url_is_removed() -> None:
    assert made(ANTHROPIC_FOUNDRY_RESOURCE="r")["ANTHROPIC_FOUNDRY_RESOURCE"] is None
    assert "ANTHROPIC_FOUNDRY_RESOURCE" not in made()
    assert "ANTHROPIC_FOUNDRY_RESOURCE" not in made(Mode.proxy, ANTHROPIC_FOUNDRY_RESOURCE="r")


def test_claude_on_vertex_asks_for_no_login() -> None:
    assert made(CLAUDE_CODE_USE_VERTEX="1")["CLAUDE_CODE_SKIP_VERTEX_AUTH"] == "1"
    assert "CLAUDE_CODE_SKIP_VERTEX_AUTH" not in made()


@pytest.mark.parametrize("mode", Mode)
def test_a_run_inside_of_a_run_changes_nothing(mode: Mode) -> None:
    before = {"NO_PROXY": ".corp", "JAVA_TOOL_OPTIONS": "-Xmx1g", "ANTHROPIC_AUTH_TOKEN": "REAL"}
    once = {name: value for name, value in made(mode, **before).items() if value is not None}
    assert made(mode, **(before | once)) == once


# -- Java -----------------------------------------------------------------------------------------

STORE = "-Djavax.net.ssl.trustStore=/c/store.p12 -Djavax.net.ssl.trustStoreType=PKCS12"
JAVA_PROXY = (
    "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8080 "
    "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080 "
)


@pytest.mark.parametrize(
    ("env", "options"),
    [
        pytest.param(
            {}, f"{STORE} {JAVA_PROXY}-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]", id="nothing"
        ),
        pytest.param(
            {"JAVA_TOOL_OPTIONS": '"-Dx=a  b"', "NO_PROXY": ".corp"},
            f'"-Dx=a  b" {STORE} {JAVA_PROXY}-Dhttp.nonProxyHosts=*.corp|localhost|127.0.0.1|[::1]',
            id="options that are there stay as they are",
        ),
        pytest.param(
            {"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/corp.jks"},
            "-Djavax.net.ssl.trustStore=/corp.jks "
            f"{JAVA_PROXY}-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]",
            id="a store of their own stays",
        ),
    ],
)
def test_java_has_options_for_the_proxy_and_the_store(env: dict[str, str], options: str) -> None:
    assert made(**env)["JAVA_TOOL_OPTIONS"] == options


# -- programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "mode", "expected"),
    [
        pytest.param(
            ["/opt/bin/codex", "exec", "hi"],
            Mode.both,
            [
                "/opt/bin/codex",
                "-c",
                f'openai_base_url="{BASE}/openai_passthrough/v1"',
                "exec",
                "hi",
            ],
            id="codex takes no variable",
        ),
        pytest.param(["codex"], Mode.proxy, ["codex"], id="codex by the proxy"),
        pytest.param(["claude", "-p"], Mode.both, ["claude", "-p"], id="another program"),
    ],
)
def test_a_program_that_reads_no_variable_gets_an_option(
    command: list[str], mode: Mode, expected: list[str]
) -> None:
    assert arguments(command, mode, REACH) == expected
