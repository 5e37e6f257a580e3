"""`llm-passthrough check`: what a configuration amounts to, and what providers say to its keys."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from live.harness import KEYS, Provider, config_for, credentials, free_port
from live.oracles import Listener
from llm_passthrough.cli import app
from typer.testing import CliRunner

NO_KEY = "not ready: set {}, or add a key under providers.{}.keys"


@pytest.fixture
def strict() -> Iterator[Provider]:
    """The demo provider, which takes the configured keys only."""
    provider = Provider(keys=frozenset(KEYS.values()))
    yield provider
    provider.stop()


def run(path: Path, document: dict[str, Any], *options: str, **env: str) -> Result:
    file = path / "gateway.yaml"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return CliRunner().invoke(
        app, ["check", str(file), *options], env={"COLUMNS": "250", "TERM": "dumb"} | env
    )


def table(output: str) -> dict[tuple[str, str], list[str]]:
    """The cells behind provider and key."""
    rows = [re.split(r" {2,}", line.strip()) for line in output.splitlines()]
    return {(row[1], row[2]): row[3:] for row in rows if len(row) == 6}


def test_without_keys_it_says_what_would_mend_it(tmp_path: Path) -> None:
    result = run(tmp_path, {"providers": {}})
    assert result.exit_code == 0
    told = table(result.stdout)
    assert told["provider", "key"] == ["models", "endpoint", "state"]
    url = "https://api.openai.com"
    assert told["openai", "-"] == ["-", url, NO_KEY.format("OPENAI_API_KEY", "openai")]
    mend = NO_KEY.format("AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT", "azure")
    assert told["azure", "-"] == ["-", "-", mend]
    assert {name for name, _ in told} == {
        *("provider openai anthropic azure gemini vertex".split())
    }


def test_it_prints_each_key_with_its_models_and_its_endpoint(tmp_path: Path) -> None:
    endpoint = {"endpoint": "https://my-resource.openai.azure.com/base/"}
    entra = endpoint | {"tenant_id": "t", "client_id": "c", "client_secret": "SECRET-0123456789"}
    document = {
        "providers": {
            "openai": {
                "keys": [
                    {
                        "name": "main",
                        "value": KEYS["openai"],
                        "models": ["gpt-*", "o3"],
                        "blacklisted_models": ["*-preview", "gpt-3*"],
                    },
                    {"value": KEYS["openai"], "name": "off", "enabled": False},
                    {"value": KEYS["anthropic"]},
                ],
                "network_config": {"base_url": "https://proxy.test:8443/v1"},
            },
            "azure": {
                "keys": [
                    {"name": "entra", "azure_key_config": entra},
                    {"name": "nowhere", "value": KEYS["azure"]},
                ]
            },
            "anthropic": {"client_credentials": "forward"},
        },
        "routes": [{"prefix": "/local", "upstream": "http://127.0.0.1:11434/api"}],
        "prefixes": {"openai": ["/oai"], "replace": True},
    }
    result = run(tmp_path, document)
    assert result.exit_code == 0
    told, base = table(result.stdout), "https://proxy.test:8443/v1"
    assert told["openai", "main"] == ["gpt-*, o3, not *-preview, not gpt-3*", base, "ready"]
    assert told["openai", "key-3"] == ["*", base, "ready"]
    assert ("openai", "off") not in told
    azure = "https://my-resource.openai.azure.com/base"
    assert told["azure", "entra"] == ["*", azure, "ready"]
    assert told["azure", "nowhere"][1] == "-"
    assert told["azure", "nowhere"][2].startswith("not ready: azure has no endpoint: ")
    assert told["anthropic", "-"][2] == "ready"
    assert told["local", "-"] == ["-", "http://127.0.0.1:11434/api", "ready"]
    assert "/oai" in result.stdout
    assert "/openai_passthrough" not in result.stdout
    assert "SECRET" not in result.output
    assert not [key for key in KEYS.values() if key in result.output]


def test_a_wrong_configuration_ends_with_2_and_the_mend(tmp_path: Path) -> None:
    result = run(tmp_path, {"providers": {"openai": {"keys": [{"value": "env.NOT_SET_AT_ALL"}]}}})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "providers.openai.keys[0].value: the environment variable NOT_SET_AT_ALL is not set" in (
        result.stderr
    )


def test_warnings_do_not_fail_it(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text(KEYS["openai"])
    secret.chmod(0o644)
    document = {"providers": {"openai": {"keys": [{"value": f"file:{secret}"}]}}, "mcp": {}}
    result = run(tmp_path, document)
    assert result.exit_code == 0
    assert f"warning: {tmp_path}/gateway.yaml: not used by this gateway: mcp" in result.stderr
    assert f"other users can read {secret}; chmod 600 it" in result.stderr


def test_the_configuration_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("providers: {openai: {keys: [{name: there, value: env.SOME_KEY}]}}")
    env = {"LLM_PASSTHROUGH_CONFIG": str(file), "SOME_KEY": KEYS["openai"], "COLUMNS": "250"}
    result = CliRunner().invoke(app, ["check"], env=env)
    assert ("openai", "there") in table(result.stdout)


def test_online_each_provider_is_asked_for_its_models(tmp_path: Path, strict: Provider) -> None:
    document = config_for(strict.url)
    document["providers"]["openai"]["network_config"]["extra_headers"] = {"X-Team": "research"}
    result = run(tmp_path, document, "--online")
    assert result.exit_code == 0
    told = table(result.stdout)
    for name in KEYS:
        assert re.fullmatch(r"ready \(\d+ ms\)", told[name, f"{name}-main"][2])
    assert {seen.target for seen in strict.seen} == {
        "/v1/models",
        "/openai/models?api-version=2024-10-21",
        "/v1beta/models",
        "/v1beta1/publishers/google/models",
    }
    sent = [credentials(seen.headers) for seen in strict.seen]
    assert all(len(found) == 1 for found in sent)
    assert ("x-team", "research") in [
        (name.lower(), value) for seen in strict.seen for name, value in seen.headers
    ]
    assert not [key for key in KEYS.values() if key in result.output]


def test_online_a_key_that_is_not_taken_fails_it(tmp_path: Path, strict: Provider) -> None:
    document = config_for(strict.url)
    document["providers"]["openai"]["keys"].append(
        {"name": "revoked", "value": "sk-REVOKED-0123456789"}
    )
    result = run(tmp_path, document, "--online")
    assert result.exit_code == 1
    told = table(result.stdout)
    assert told["openai", "revoked"][2] == "failed: the provider answered 401"
    assert told["openai", "openai-main"][2].startswith("ready (")


def test_online_a_redirect_takes_the_key_nowhere(tmp_path: Path) -> None:
    elsewhere = Listener()
    location = f"HTTP/1.1 307 x\r\nLocation: http://{elsewhere.name}/\r\nContent-Length: 0\r\n\r\n"
    there = Listener(answer=lambda data: location.encode())
    result = run(tmp_path, config_for(f"http://{there.name}"), "--online")
    assert result.exit_code == 1
    told = table(result.stdout)["openai", "openai-main"][2]
    assert told == "failed: the provider answered 307"
    assert there.connections == len(KEYS)
    assert elsewhere.connections == 0
    for listener in (elsewhere, there):
        listener.stop()


def test_online_a_proxy_of_the_environment_sees_no_key(tmp_path: Path, strict: Provider) -> None:
    proxy = Listener()
    urls = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), f"http://{proxy.name}")
    result = run(tmp_path, config_for(strict.url), "--online", **urls, NO_PROXY="", no_proxy="")
    assert result.exit_code == 0
    assert proxy.connections == 0
    proxy.stop()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"", "failed: [Errno ", id="nobody is there"),
        pytest.param(b"SSH-2.0-x\r\n", "failed: BadStatusLine", id="speaks no HTTP"),
        pytest.param(b"HTTP/1.1 500 x\r\n\r\n", "failed: the provider answered 500", id="500"),
    ],
)
def test_online_whatever_a_provider_says_is_a_row(tmp_path: Path, answer: bytes, said: str) -> None:
    listener = Listener(answer=lambda data: answer)
    if not answer:
        listener.stop()
    result = run(tmp_path, config_for(f"http://{listener.name}"), "--online")
    listener.stop()
    assert result.exit_code == 1
    for name in KEYS:
        assert table(result.stdout)[name, f"{name}-main"][2].startswith(said)


def test_online_a_token_that_cannot_be_had_is_said(tmp_path: Path, strict: Provider) -> None:
    account = {"type": "authorized_user", "client_id": "c", "client_secret": "SECRET-0123456789"}
    source = json.dumps(account | {"refresh_token": "REFRESH-0123456789"})
    key = {"name": "user", "vertex_key_config": {"auth_credentials": source}}
    document = {
        "providers": {"vertex": {"keys": [key], "network_config": {"base_url": strict.url}}}
    }
    nowhere = f"http://127.0.0.1:{free_port()}"
    proxies = {"HTTPS_PROXY": nowhere, "https_proxy": nowhere, "NO_PROXY": "", "no_proxy": ""}
    result = run(tmp_path, document, "--online", **proxies)
    assert result.exit_code == 1
    assert table(result.stdout)["vertex", "user"][2].startswith("failed: no token: ")
    assert strict.seen == []
    assert "0123456789" not in result.output
