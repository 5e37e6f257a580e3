"""`llm-passthrough run`: unchanged programs without a key call the gateway and are recorded."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.cli.variables import PLACEHOLDER

from live.authorities import NAMES, Authority
from live.harness import (
    BIN,
    KEYS,
    Gateway,
    Provider,
    borrow,
    clean_environment,
    config_for,
    ended,
    free_port,
    names_addon,
    nursery,
)
from live.oracles import found
from live.test_start import Terminal

RUN = [str(BIN / "llm-passthrough"), "run"]
# Longer than any of these programs takes on a busy machine.
LONG = 120
OPENAI = """
import openai
answer = openai.OpenAI().chat.completions.create(
    model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}])
print(answer.choices[0].message.content)
"""
# A program without an SDK: it knows what the environment tells it, and the proxy.
PLAIN = """
import json, os, urllib.request as web
base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}
headers = {"Content-Type": "application/json"}
headers["Authorization"] = "Bearer " + os.environ["OPENAI_API_KEY"]
asked = web.Request(base + "/chat/completions", json.dumps(question).encode(), headers)
print(json.load(web.urlopen(asked))["choices"][0]["message"]["content"])
"""
ANTHROPIC = """
import anthropic
answer = anthropic.Anthropic().messages.create(
    model="claude-haiku-4-5", max_tokens=64, messages=[{"role": "user", "content": "Hello!"}])
print(answer.content[0].text)
"""
GEMINI = """
from google import genai
client = genai.Client()
print(client.models.generate_content(model="gemini-2.5-flash", contents="Hello!").text)
"""
AZURE = """
from openai import AzureOpenAI
answer = AzureOpenAI(api_version="2024-10-21").chat.completions.create(
    model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}])
print(answer.choices[0].message.content)
"""
# Makes its terminal the one whose Ctrl-C it gets, as a login does.
AT_HOME = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
# Tells each SIGINT, and ends when it is asked to.
PATIENT = """
import signal, sys, urllib.request, os
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
print("begun", flush=True)
for line in sys.stdin:
    if line.startswith("call"):
        url = os.environ["OPENAI_BASE_URL"] + "/models"
        print("answer", urllib.request.urlopen(url).status, flush=True)
    if line.startswith("end"):
        sys.exit(5)
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    return clean_environment() | {"HOME": str(home), "COLUMNS": "120"} | more


def run(
    home: Path, *arguments: str, env: dict[str, str] | None = None, first: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command with its arguments, to its end; the first time there is no authority yet."""
    if not first:
        borrow(home / ".mitmproxy")
    return ended([*RUN, *arguments], environment(home, **(env or {})), home, LONG)


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def until(look: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not look():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


# -- a gateway of its own -------------------------------------------------------------------------


def test_a_program_without_a_key_calls_the_demo_and_sees_no_real_key(tmp_path: Path) -> None:
    port = free_port()
    asked = "https://api.openai.com/v1/models"  # by the proxy
    real = {"OPENAI_API_KEY": KEYS["openai"], "ANTHROPIC_AUTH_TOKEN": KEYS["anthropic"]}
    code = PLAIN + f"print(web.urlopen('{asked}').status, *os.environ.items())"
    got = run(tmp_path, "--demo", "--port", str(port), *python(code), env=real, first=True)
    assert got.returncode == 0, got.stderr
    assert "You said: Hello!" in got.stdout
    assert PLACEHOLDER in got.stdout
    assert "\n200 " in got.stdout
    assert not found(KEYS.values(), got.stdout.encode())
    # The summary is on stderr, where it is in nobody's way.
    heading, titles, row, listed, _ = got.stderr.splitlines()
    assert heading == "llm-passthrough: calls of this command"
    assert titles.split() == "provider model calls errors in out cost".split()
    assert row.split()[:4] == ["openai", "gpt-4o", "1", "0"]
    assert listed.split()[:4] == ["openai", "models", "1", "0"]
    assert not is_up(port), "it ended with the command"


def test_ctrl_c_is_the_commands_and_the_gateway_outlives_it(tmp_path: Path) -> None:
    port = free_port()
    options = ["--demo", "--mode", "base-url", "--port", str(port)]
    borrow(tmp_path / ".mitmproxy")
    terminal = Terminal(tmp_path, [sys.executable, "-c", AT_HOME, *RUN, *options, *python(PATIENT)])
    try:
        until(lambda: "begun" in terminal.text)
        terminal.type(b"\x03")
        until(lambda: "interrupted\r" in terminal.text)
        terminal.type(b"call\n")
        until(lambda: "answer 200" in terminal.text)
        terminal.type(b"end\n")
        assert terminal.process.wait(LONG) == 5
        until(lambda: "calls of this command" in terminal.text)
        assert terminal.text.count("interrupted") == 1
        assert not is_up(port)
    finally:
        terminal.stop()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """A run that had a gateway of its own and was killed: that one's port, and what was said."""
    home, port = tmp_path_factory.mktemp("killed"), free_port()
    borrow(home / ".mitmproxy")
    env = {"OPENAI_BASE_URL": "https://api.groq.com/openai/v1", "OPENAI_API_KEY": KEYS["openai"]}
    process = subprocess.Popen(
        [*RUN, "--mode", "base-url", "--port", str(port), *python(PATIENT)],
        env=environment(home, **env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    assert is_up(port)
    process.kill()
    _, said = process.communicate(timeout=LONG)  # the command's standard input ends: so does it
    return port, said


def test_no_gateway_stays_behind_when_run_itself_is_killed(killed: tuple[int, str]) -> None:
    port, _ = killed
    until(lambda: not is_up(port))


def test_a_base_url_that_is_given_up_is_told(killed: tuple[int, str]) -> None:
    """The key beside it would go to the usual host; here it goes nowhere."""
    _, said = killed
    assert "warning: OPENAI_BASE_URL names api.groq.com" in said
    assert not found(KEYS.values(), said.encode())


# -- a gateway that is there ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path, provider: Provider) -> Iterator[Gateway]:
    """A gateway that writes its records where one without a configuration would."""
    records = home / ".llm-passthrough" / "records.jsonl"
    config = config_for(provider.url, log={"path": str(records)})
    gateway = Gateway(home / "gateway", config, "serve")
    gateway.records_path = records
    yield gateway
    gateway.stop()


def joined(
    home: Path, served: Gateway, *arguments: str, mode: str = "base-url", **env: str
) -> subprocess.CompletedProcess[str]:
    return run(home, "--mode", mode, "--port", str(served.port), *arguments, env=env)


def test_sdks_that_are_told_nothing_call_through_the_gateway(
    home: Path, served: Gateway, provider: Provider
) -> None:
    vertex = GEMINI.replace("Client()", "Client(vertexai=True)")
    before = len(provider.seen)
    quick = "import gc; gc.disable()"  # their modules are thousands
    code = "\n".join((quick, OPENAI, ANTHROPIC, AZURE, GEMINI, vertex))
    got = joined(home, served, *python(code))
    assert got.returncode == 0, got.stderr
    assert got.stdout.count("You said: Hello!") == 5
    signed = [found([*KEYS.values(), PLACEHOLDER], seen.head) for seen in provider.seen[before:]]
    order = ("openai", "anthropic", "azure", "gemini", "vertex")
    assert signed == [[KEYS[name]] for name in order]
    heading = "llm-passthrough: all calls of the gateway since the command began"
    table = got.stderr.splitlines()[got.stderr.splitlines().index(heading) + 2 :]
    assert {line.split()[0] for line in table} == {*order, "all"}
    assert table[-1].split()[:3] == ["all", "5", "0"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(["sh", "-c", "exit 7"], 7, id="its own"),
        pytest.param(["sh", "-c", "kill -9 $$"], 137, id="killed"),
    ],
)
def test_the_exit_code_is_the_commands(
    home: Path, served: Gateway, command: list[str], code: int
) -> None:
    got = joined(home, served, "--", *command)
    assert got.returncode == code
    assert "calls" not in got.stderr, "nothing was called"


def test_options_behind_the_command_are_the_commands(home: Path, served: Gateway) -> None:
    got = joined(home, served, "sh", "-c", 'echo "$@"', "sh", "--demo", "-c", "--", "x y")
    assert got.stdout == "--demo -c -- x y\n"


def test_a_signal_is_passed_to_the_command(home: Path, served: Gateway, tmp_path: Path) -> None:
    command = [*RUN, "--port", str(served.port), "--", "sh", "-c", "echo begun; exec sleep 300"]
    borrow(home / ".mitmproxy")
    with (tmp_path / "said").open("w+b") as said:
        process = nursery().start(command, environment(home), home, said.fileno())
        until(lambda: (tmp_path / "said").read_bytes() == b"begun\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 143
    assert served.process.poll() is None, "a gateway that was joined goes on"


def test_curl_is_counted_and_refused_calls_too(home: Path, served: Gateway) -> None:
    script = (
        'curl -s "$OPENAI_BASE_URL/models" "$ANTHROPIC_BASE_URL/v1/models" '
        f'"http://127.0.0.1:{served.port}/nowhere"'
    )
    got = joined(home, served, "--", "sh", "-c", script)
    assert got.returncode == 0
    last = got.stderr.splitlines()[-1].split()
    assert last[:3] == ["all", "3", "1"]


def test_the_summary_can_be_left_out(home: Path, served: Gateway) -> None:
    got = joined(
        home, served, "--no-summary", "--", "sh", "-c", 'curl -s "$OPENAI_BASE_URL/models"'
    )
    assert got.returncode == 0
    assert got.stderr == ""


def test_a_gateway_whose_records_are_elsewhere_is_told_of(tmp_path: Path, served: Gateway) -> None:
    got = joined(tmp_path, served, "--", "sh", "-c", 'curl -s "$OPENAI_BASE_URL/models"')
    assert got.stderr == (
        "llm-passthrough: the gateway that was joined writes its records elsewhere: no summary\n"
    )


# -- the proxy ------------------------------------------------------------------------------------


def test_a_program_with_no_base_url_calls_through_the_proxy(
    tmp_path: Path, authority: Authority, tls_provider: Provider
) -> None:
    """It dials its provider's own host, by name and with TLS, and trusts what it is shown."""
    script = names_addon(tmp_path, dict.fromkeys(NAMES, tls_provider.port))
    file = tmp_path / "gateway.yaml"
    config: dict[str, Any] = {"providers": {"openai": {"keys": [{"value": KEYS["openai"]}]}}}
    file.write_text(json.dumps(config))
    options = ["--set", f"scripts={script}"]
    options += ["--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}"]
    code = PLAIN + "assert 'OPENAI_BASE_URL' not in os.environ"
    before = len(tls_provider.seen)
    got = run(
        tmp_path, "--mode", "proxy", "--config", str(file), "--port", "0", *options, *python(code)
    )
    assert got.returncode == 0, got.stderr
    assert "You said: Hello!" in got.stdout
    (seen,) = tls_provider.seen[before:]
    assert ("Host", "api.openai.com") in seen.headers
    assert found([*KEYS.values(), PLACEHOLDER], seen.head) == [KEYS["openai"]]
    assert got.stderr.splitlines()[-1].split()[:4] == ["openai", "gpt-4o", "1", "0"]
