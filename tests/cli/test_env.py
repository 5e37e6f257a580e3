"""`llm-passthrough env`: a shell that reads its lines has what `run` would set."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llm_passthrough.cli import app
from llm_passthrough.cli.authority import authority
from llm_passthrough.cli.variables import BASE_URLS, PLACEHOLDER
from typer.testing import CliRunner

# What this machine has set must not show in what is expected.
UNSET = dict.fromkeys(
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO AWS_CA_BUNDLE "
    "CODEX_CA_CERTIFICATE NODE_EXTRA_CA_CERTS DENO_CERT JAVA_TOOL_OPTIONS NO_PROXY no_proxy "
    "LLM_PASSTHROUGH_CONFIG LLM_PASSTHROUGH_TOKEN".split()
)


def run(home: Path, *options: str, **env: str) -> Result:
    return CliRunner().invoke(app, ["env", *options], env=UNSET | {"HOME": str(home)} | env)


def config(folder: Path, document: dict[str, Any]) -> str:
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return str(file)


def read(result: Result) -> dict[str, str]:
    """What a shell has that evaluates the lines."""
    assert result.exit_code == 0, result.output
    script = f"{result.stdout}\nexec /usr/bin/env -0"
    got = subprocess.run(["sh", "-c", script], env={}, capture_output=True, check=True).stdout
    return dict(pair.split("=", 1) for pair in got.decode().split("\0") if pair)


def test_a_shell_that_reads_the_lines_calls_the_gateway(home: Path) -> None:
    result = run(home, "--port", "9090")
    got = read(result)
    assert got["OPENAI_BASE_URL"] == "http://127.0.0.1:9090/openai_passthrough/v1"
    assert got["HTTPS_PROXY"] == "http://127.0.0.1:9090"
    assert got["OPENAI_API_KEY"] == PLACEHOLDER
    assert result.stderr == ""


def test_the_authority_is_made_first(tmp_path: Path) -> None:
    got = read(run(tmp_path))
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        assert Path(got[name]).parent == tmp_path / ".mitmproxy"
        assert b"CERTIFICATE" in Path(got[name]).read_bytes()


def test_base_urls_alone_need_no_authority(tmp_path: Path) -> None:
    got = read(run(tmp_path, "--mode", "base-url"))
    assert set(BASE_URLS) <= set(got)
    assert not {"HTTPS_PROXY", "SSL_CERT_FILE"} & set(got)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--confdir", "{}"], ["--set", "confdir={}"]])
def test_the_authority_may_lie_elsewhere(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "elsewhere"
    got = read(run(tmp_path, *(option.format(folder) for option in options)))
    assert got["NODE_EXTRA_CA_CERTS"] == str(authority(folder).file)
    assert not (tmp_path / ".mitmproxy").exists()


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx OPENAI_BASE_URL 'http://127.0.0.1:8080/openai_passthrough/v1'"),
        ("powershell", "$env:OPENAI_BASE_URL = 'http://127.0.0.1:8080/openai_passthrough/v1'"),
        ("dotenv", "OPENAI_BASE_URL=http://127.0.0.1:8080/openai_passthrough/v1"),
    ],
)
def test_other_shells_have_their_lines(tmp_path: Path, shell: str, line: str) -> None:
    result = run(tmp_path, "--shell", shell, "--mode", "base-url")
    assert result.exit_code == 0
    assert line in result.stdout.splitlines()


# -- the configuration ----------------------------------------------------------------------------


def test_the_configuration_says_where_the_gateway_is_and_what_is_secret(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        {
            "listen": {"host": "127.0.0.2", "port": 7000},
            "prefixes": {"openai": ["/oa", "/ob"], "anthropic": ["/an"], "replace": True},
            "providers": {
                "anthropic": {"client_credentials": "forward"},
                "azure": {
                    "keys": [{"azure_key_config": {"client_secret": "${ENTRA}", "client_id": "x"}}]
                },
                "vertex": {"keys": [{"vertex_key_config": {"auth_credentials": "env.GOOGLE"}}]},
            },
            "routes": [
                {"prefix": "/g", "upstream": "https://g.test", "keys": [{"value": "env.GROQ_KEY"}]}
            ],
        },
    )
    secrets = dict.fromkeys(("ENTRA", "GOOGLE", "GROQ_KEY"), "REAL")
    got = read(
        run(tmp_path, "--config", file, "--mode", "base-url", ANTHROPIC_API_KEY="own", **secrets)
    )
    assert got["OPENAI_BASE_URL"] == "http://127.0.0.2:7000/oa/v1"
    assert got["ANTHROPIC_BASE_URL"] == "http://127.0.0.2:7000/an"
    assert got["AZURE_OPENAI_ENDPOINT"] == "http://127.0.0.2:7000/azure_passthrough"
    assert {got[name] for name in secrets} == {PLACEHOLDER}
    assert "ANTHROPIC_API_KEY" not in got, "the gateway passes the command's own on"


def test_a_variable_may_name_the_configuration(tmp_path: Path) -> None:
    file = config(tmp_path, {"listen": {"port": 7001}})
    got = read(run(tmp_path, "--mode", "base-url", LLM_PASSTHROUGH_CONFIG=file))
    assert got["OPENAI_BASE_URL"].startswith("http://127.0.0.1:7001/")


def test_where_clients_have_tokens_one_is_asked_for(tmp_path: Path, home: Path) -> None:
    token = "token-of-one-client-0123456789"
    file = config(tmp_path, {"clients": [{"name": "one", "tokens": [token]}]})
    result = run(home, "--config", file)
    assert result.exit_code == 2
    assert "set LLM_PASSTHROUGH_TOKEN" in result.stderr
    assert result.stdout == ""
    got = read(run(home, "--config", file, LLM_PASSTHROUGH_TOKEN=token))
    assert got["OPENAI_API_KEY"] == token
    assert got["HTTPS_PROXY"] == f"http://{token}:@127.0.0.1:8080"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param({"listen": {"prot": 1}}, "listen.prot: unknown option", id="a fault"),
        pytest.param({"listen": {"port": 0}}, "name the gateway's --port", id="any free port"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr(
    tmp_path: Path, document: dict[str, Any], said: str
) -> None:
    result = run(tmp_path, "--config", config(tmp_path, document))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_authority_that_cannot_be_had_is_one_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path, "--confdir", str(tmp_path / "file"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_roots_that_cannot_be_read_are_told_on_stderr_only(tmp_path: Path, home: Path) -> None:
    result = run(home, SSL_CERT_FILE=str(tmp_path / "gone"))
    assert "warning: SSL_CERT_FILE names" in result.stderr
    assert "warning" not in result.stdout
    assert Path(read(result)["SSL_CERT_FILE"]).is_file()


def test_a_value_that_is_no_text_comes_through(home: Path) -> None:
    result = run(home, NO_PROXY="caf\udce9.corp")
    assert result.exit_code == 0
    assert b"caf\xe9.corp,localhost" in result.stdout_bytes
