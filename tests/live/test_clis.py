"""Command-line clients from npm and PyPI, by their base URL and through the proxy.

`scripts/clis` installs them and runs this file; without them it is skipped.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.test_forward import Desk

VENV = Path(__file__).resolve().parents[2] / ".venv"
FOLDER, TOOLS = VENV / "clis" / "node_modules" / ".bin", VENV / "tools"
PLACEHOLDER = "placeholder-0123456789"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("clis") / "a")
    yield desk
    desk.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which nobody has logged in; gemini-cli asks how to, unless a file says it."""
    folder = tmp_path / ".gemini"
    folder.mkdir()
    auth = {"auth": {"selectedType": "gemini-api-key"}}
    settings = {"security": auth, "privacy": {"usageStatisticsEnabled": False}}
    (folder / "settings.json").write_text(json.dumps(settings))
    return tmp_path


def installed(program: str) -> list[str]:
    """The command that a program is started with."""
    path = TOOLS / "llm" if program == "llm" else FOLDER / program
    if not path.exists():
        pytest.skip(f"{program} is not installed; scripts/clis installs it")
    return [sys.executable, "-m", "llm"] if program == "llm" else [str(path)]


def run(program: str, *arguments: str, home: Path, **env: str) -> str:
    """What a program says; nobody sits in front of it."""
    command = installed(program)
    basic = {"PATH": os.environ["PATH"], "HOME": str(home), "CI": "1", "NO_COLOR": "1"}
    if program == "llm":
        basic |= {"PYTHONPATH": str(TOOLS), "LLM_USER_PATH": str(home)}
    done = subprocess.run(
        [*command, *arguments],
        env=basic | env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def proxy(desk: Desk) -> dict[str, str]:
    authority = str(desk.gateway.folder / "mitm" / "mitmproxy-ca-cert.pem")
    names = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CODEX_CA_CERTIFICATE")
    proxies = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
    return dict.fromkeys(names, authority) | dict.fromkeys(proxies, desk.gateway.url)


def base(desk: Desk) -> dict[str, str]:
    """By base URL; whatever else an agent calls, its telemetry say, finds a closed door."""
    url = desk.gateway.url
    closed = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), NOWHERE)
    return closed | {
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "OPENAI_BASE_URL": f"{url}/openai_passthrough/v1",
        "ANTHROPIC_BASE_URL": f"{url}/anthropic_passthrough",
        "GOOGLE_GEMINI_BASE_URL": f"{url}/genai_passthrough",
    }


COMMANDS = {
    "claude": ("-p", "say hello"),
    "codex": ("exec", "--skip-git-repo-check", "say hello"),
    "llm": ("-m", "gpt-4o-mini", "say hello"),
    "gemini": ("--skip-trust", "-m", "gemini-2.5-flash", "-p", "say hello"),
}
OPERATIONS = {
    "llm": "chat",
    "claude": "messages",
    "codex": "responses",
    "gemini": "generate_content",
}


@pytest.mark.parametrize("way", ["base URL", "proxy"])
@pytest.mark.parametrize("program", COMMANDS)
def test_an_agent_gets_its_answer_and_holds_no_key(
    desk: Desk, home: Path, program: str, way: str
) -> None:
    names = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY", "GEMINI_API_KEY")
    env = dict.fromkeys(names, PLACEHOLDER) | {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    arguments = COMMANDS[program]
    if way == "base URL" and program == "codex":  # it takes no variable
        option = f'openai_base_url="{desk.gateway.url}/openai_passthrough/v1"'
        arguments = (*arguments[:-1], "-c", option, arguments[-1])
    desk.oracles.mark()
    said = run(program, *arguments, home=home, **env | (proxy if way == "proxy" else base)(desk))
    assert said.strip()
    assert desk.oracles.new()
    assert all(PLACEHOLDER.encode() not in seen.head for seen in desk.oracles.new())
    # Codex talks over a WebSocket: what a turn took stands in the turn's own record.
    record = desk.gateway.record_of(', "turn": 1, ' if program == "codex" else '"input_tokens": ')
    assert record["operation"] == OPERATIONS[program]
    assert record["route"].startswith("host:" if way == "proxy" else "/")
    assert record["outcome"] == "ok"
    assert record["usage"]["output_tokens"] > 0
    desk.oracles.check()
