"""Every way to start it, what it says when it does, and how it ends."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import version

from live.harness import (
    BIN,
    CLIENT_KEY,
    KEYS,
    SCRIPT,
    Gateway,
    Provider,
    borrow,
    clean_environment,
    config_for,
    ended,
    free_port,
    raw,
    request,
    running,
)
from live.oracles import DEADLINE, found, talk

CHAT = "/openai_passthrough/v1/chat/completions"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SECRETS = (*KEYS.values(), CLIENT_KEY)


def chat(text: str = "hi", **more: object) -> bytes:
    document = {"model": "m", "messages": [{"role": "user", "content": text}]} | more
    return json.dumps(document).encode()


def listening(pid: int) -> set[str]:
    """The addresses at which a process listens, as /proc shows them (in hex)."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes |= set(re.findall(r"socket:\[(\d+)\]", str(fd.readlink())))
    rows = []
    for table in ("tcp", "tcp6"):
        rows += [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb", "serve", "web"])
def test_it_serves_on_loopback_alone_and_ends_in_order(
    tmp_path: Path, provider: Provider, program: str
) -> None:
    """D08: commands as they are installed; mitmdump's own default would be all interfaces."""
    real = program in ("mitmdump", "web")  # `serve` is started anew for the terminal below
    if program != "mitmdump":  # the one that has to make an authority
        borrow(tmp_path / "mitm")
    with running(tmp_path, config_for(provider.url), program=program, real=real) as gateway:
        answer = talk(gateway.port, request(CHAT, chat(program)))
        assert answer.status == 200
        health = json.loads(talk(gateway.port, HEALTH).body)
        assert health["status"] == "ready"
        assert set(health["providers"].values()) == {"ready"}
        assert listening(gateway.process.pid) <= LOOPBACK
        # F14: a command line is everybody's to read.
        assert not found(SECRETS, Path(f"/proc/{gateway.process.pid}/cmdline").read_bytes())
        gateway.records(1)
    assert gateway.process.returncode == 0
    assert "Traceback" not in gateway.output
    assert not found(SECRETS, gateway.output.encode())


def test_without_a_terminal_a_gateway_is_quiet(tmp_path: Path, provider: Provider) -> None:
    before = os.umask(0o077)  # a file with keys that others can read is told
    try:
        gateway = Gateway(tmp_path, config_for(provider.url), "serve")
    finally:
        os.umask(before)
    assert talk(gateway.port, request(CHAT, chat())).status == 200
    assert gateway.stop() == 0
    assert gateway.output == ""


def test_the_demo_answers_for_all_five_providers(tmp_path: Path) -> None:
    paths = (
        CHAT,
        "/anthropic_passthrough/v1/messages",
        "/azure_passthrough/openai/deployments/m/chat/completions",
        "/genai_passthrough/v1beta/models/m:generateContent",
        "/genai_passthrough/v1/publishers/google/models/m:generateContent",
    )
    contents = [{"role": "user", "parts": [{"text": "hi"}]}]
    with running(tmp_path, None, program="serve", args=("--demo",)) as gateway:
        for path in paths:
            answer = talk(gateway.port, request(path, chat(max_tokens=9, contents=contents)))
            assert answer.status == 200, answer.data
            assert b"demo provider" in answer.data
        assert listening(gateway.process.pid) <= LOOPBACK
        records = tmp_path / ".llm-passthrough" / "demo" / "records.jsonl"
        _until(lambda: records.exists() and records.read_bytes().count(b"\n") == len(paths))
    got = [json.loads(line)["provider"] for line in records.read_bytes().splitlines()]
    assert got == ["openai", "anthropic", "azure", "gemini", "vertex"]


def test_a_variable_may_name_the_configuration(tmp_path: Path, provider: Provider) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(json.dumps(config_for(provider.url)))
    env = {"LLM_PASSTHROUGH_CONFIG": str(file)}
    with running(tmp_path / "gateway", None, program="serve", env=env) as gateway:
        assert talk(gateway.port, request(CHAT, chat())).status == 200


def test_without_a_file_the_usual_variables_make_the_keys(
    tmp_path: Path, names: Path, authority: Any, tls_provider: Provider
) -> None:
    env = {
        "OPENAI_API_KEY": KEYS["openai"],
        "ANTHROPIC_API_KEY": KEYS["anthropic"],
        "AZURE_OPENAI_API_KEY": KEYS["azure"],
        "AZURE_OPENAI_ENDPOINT": "https://my-resource.openai.azure.com",
        "GOOGLE_API_KEY": KEYS["gemini"],
    }
    asked = {
        CHAT: ("api.openai.com", "openai"),
        "/anthropic_passthrough/v1/messages": ("api.anthropic.com", "anthropic"),
        "/azure_passthrough/openai/v1/chat/completions": (
            "my-resource.openai.azure.com",
            "azure",
        ),
        "/genai_passthrough/v1beta/models/m:x": ("generativelanguage.googleapis.com", "gemini"),
    }
    args = ("-s", str(names), "--set", f"ssl_verify_upstream_trusted_ca={authority.ca_file}")
    with running(tmp_path / "gateway", None, env=env, args=args) as gateway:
        for path, (host, key) in asked.items():
            talk(gateway.port, request(path, chat()))
            seen = tls_provider.last()
            assert ("Host", host) in seen.headers, path
            assert found(KEYS.values(), seen.head) == [KEYS[key]]
        assert not found(SECRETS, gateway.output.encode())


# -- the self-test ---------------------------------------------------------------------------------

# A mitmproxy that sends headers as it shows them: the upstream would get the placeholder.
OTHERWISE = """
import sys
from llm_passthrough import canary
from {module} import {function} as program
from mitmproxy.net.http.http1 import assemble

assemble._assemble_request_headers = lambda request: b"".join(
    b"%s: %s\\r\\n" % field for field in request.headers.fields
)
canary._HELD.clear()
sys.argv = {argv!r}
program()
"""


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb", "mitmproxy", "serve", "web"])
def test_where_a_seam_does_not_hold_it_does_not_start(
    tmp_path: Path, provider: Provider, program: str
) -> None:
    """H12, R6: exit code 2 and one line; nobody is answered, and nothing is sent."""
    seen, port, web = len(provider.seen), free_port(), free_port()
    config = tmp_path / "gateway.yaml"
    log = {"path": str(tmp_path / "log" / "records.jsonl")}
    config.write_text(json.dumps(config_for(provider.url, log=log)))
    confdir = f"confdir={tmp_path}/mitm"
    if program.startswith("mitm"):
        settings = [f"listen_port={port}", f"passthrough_config={config}", confdir]
        settings += [f"web_port={web}", "web_open_browser=false"] if program == "mitmweb" else []
        argv = [program, "-s", str(SCRIPT), *(x for each in settings for x in ("--set", each))]
        module, function = "mitmproxy.tools.main", program
    else:
        argv = ["llm-passthrough", program, "--port", str(port), "--config", str(config)]
        argv += ["--set", confdir, *(["--web-port", str(web)] if program == "web" else [])]
        module, function = "llm_passthrough.cli", "main"
    file = tmp_path / "otherwise.py"
    file.write_text(OTHERWISE.format(module=module, function=function, argv=argv))
    with _caller(port) as answers:
        result = ended(["python", str(file)], clean_environment(), tmp_path)
    said = (result.stdout + result.stderr).splitlines()
    told = [line for line in said if line.startswith("llm-passthrough: ")]
    assert result.returncode == 2, said
    assert len(told) == 1, said
    assert f"self-test failed with mitmproxy {version.VERSION}: a key does not reach" in told[0]
    assert "Traceback" not in result.stdout + result.stderr
    assert not answers
    assert len(provider.seen) == seen
    assert not (tmp_path / "log").exists()


@contextlib.contextmanager
def _caller(port: int) -> Iterator[list[bytes]]:
    """Somebody who calls a port all the time; what was answered."""
    answers: list[bytes] = []
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.01):
            with contextlib.suppress(OSError):
                if answer := raw(port, HEALTH, 1):
                    answers.append(answer)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["mitmdump", "serve"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_stream_ends_it_in_time_with_a_record(
    tmp_path: Path, provider: Provider, program: str, number: signal.Signals
) -> None:
    gateway = Gateway(tmp_path, config_for(provider.url), program)
    with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE) as sock:
        sock.sendall(request(CHAT, chat("error:stall", stream=True)))
        sock.settimeout(DEADLINE)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        gateway.process.send_signal(number)
        assert gateway.process.wait(DEADLINE) == 0, gateway.output
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass
    (record,) = gateway.records(1)
    assert record["response"]["status"] == 200
    assert record["outcome"] == "error"
    assert record["error"]["type"] == "stopped"
    assert "Traceback" not in gateway.output


# -- a person at a terminal ------------------------------------------------------------------------


class Terminal:
    """A program in a pseudo-terminal; `shown` is what a person would see, raw."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        env = {k: v for k, v in os.environ.items() if not re.search(r"API_KEY|GOOGLE|AZURE", k)}
        env |= {"HOME": str(folder), "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 140))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=env,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._shown = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], 60)[0]:
                data = os.read(self._master, 65536)
                if not data:
                    return
                self._shown += data

    @property
    def shown(self) -> bytes:
        return bytes(self._shown)

    @property
    def text(self) -> str:
        """What was shown, without the colours and the moves of the program itself."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode(errors="replace"))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self._thread.join(DEADLINE)
            os.close(self._master)


def _until(look: Callable[[], object], terminal: Terminal | None = None) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if look():
                return
        time.sleep(0.03)
    raise AssertionError(terminal.shown if terminal else "it did not come about")


def _is_up(port: int) -> bool:
    return talk(port, HEALTH).status == 200


@pytest.fixture(scope="module")
def at_terminal(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Terminal, int]]:
    """`serve` in a terminal; one provider has no key."""
    folder = tmp_path_factory.mktemp("terminal")
    config = config_for(provider.url, log={"path": str(folder / "log" / "records.jsonl")})
    del config["providers"]["anthropic"]
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config))
    port = free_port()
    command = [str(BIN / "llm-passthrough"), "serve", "--port", str(port), "--config", str(file)]
    borrow(folder / "mitm")
    terminal = Terminal(folder, [*command, "--set", f"confdir={folder}/mitm"])
    try:
        _until(lambda: _is_up(port), terminal)
        yield terminal, port
    finally:
        terminal.stop()


def test_the_banner_names_what_is_ready_and_what_is_missing(
    at_terminal: tuple[Terminal, int],
) -> None:
    terminal, port = at_terminal
    _until(lambda: "records:" in terminal.text, terminal)
    shown = terminal.text
    assert f"http://127.0.0.1:{port}" in shown
    assert re.search(r"/openai_passthrough +openai +ready", shown)
    assert re.search(r"/anthropic_passthrough +anthropic +not ready: .*ANTHROPIC_API_KEY", shown)
    assert not found(SECRETS, terminal.shown)


def test_every_call_is_one_line(at_terminal: tuple[Terminal, int]) -> None:
    terminal, port = at_terminal
    talk(port, request(CHAT, chat(model="one-line-model")))
    talk(port, request("/anthropic_passthrough/v1/messages", chat()))
    _until(lambda: "no_key" in terminal.text or "no key" in terminal.text, terminal)
    lines = [line for line in terminal.text.splitlines() if "one-line-model" in line]
    assert len(lines) == 1
    assert re.search(r"openai +one-line-model +200 +\d+ ms", lines[0])
    refused = [line for line in terminal.text.splitlines() if "refused" in line]
    assert len(refused) == 1
    assert "503" in refused[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(CHAT, chat(model="esc\x1b[31mred\x1b]0;title\x07"), id="model"),
        pytest.param(CHAT, chat(model="line\nbreak\rreturn\x08\x9b31m"), id="model-line-break"),
        pytest.param(CHAT, chat(model="bidi\u202eevil\u2028x"), id="model-bidi"),
        pytest.param("/nowhere/%1b[31m%0a%9b", b"{}", id="path"),
        pytest.param("/genai_passthrough/v1beta/models/a%1b%5b31m%0ab:x", b"{}", id="path-model"),
        pytest.param(CHAT, b"\x1b[31m\xff", id="no-json"),
    ],
)
def test_nothing_from_outside_reaches_the_terminal_raw(
    at_terminal: tuple[Terminal, int], path: str, body: bytes
) -> None:
    terminal, port = at_terminal
    before = len(terminal.shown)
    talk(port, request(path, body))
    mark = f"mark-{time.monotonic_ns()}"
    talk(port, request(CHAT, chat(model=mark)))
    _until(lambda: mark.encode() in terminal.shown, terminal)
    # Our own colours are the only control sequences; a call is one line.
    shown = terminal.shown[before:].decode(errors="replace")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[31mred" not in shown
    assert all(char.isprintable() or char in "\r\n" for char in plain), repr(plain)
    assert len(plain.splitlines()) == 2, repr(plain)


def test_it_runs_inside_mitmproxys_full_screen(tmp_path: Path, provider: Provider) -> None:
    """`mitmproxy -s`: it comes up, answers, and a person quits it; nothing else is printed."""
    file = tmp_path / "gateway.yaml"
    log = {"path": str(tmp_path / "log" / "records.jsonl")}
    file.write_text(json.dumps(config_for(provider.url, log=log)))
    port = free_port()
    command = [str(BIN / "mitmproxy"), "-s", str(SCRIPT), "--listen-port", str(port)]
    options = ["--set", f"passthrough_config={file}", "--set", f"confdir={tmp_path}/mitm"]
    borrow(tmp_path / "mitm")
    terminal = Terminal(tmp_path / "home", command + options)
    try:
        _until(lambda: _is_up(port), terminal)
        assert talk(port, request(CHAT, chat())).status == 200
        assert listening(terminal.process.pid) <= LOOPBACK
        _until(lambda: "chat/completions" in terminal.text, terminal)
        terminal.type(b"q")
        time.sleep(0.3)
        terminal.type(b"y")
        assert terminal.process.wait(DEADLINE) == 0
        assert not found(SECRETS, terminal.shown)
        assert "Traceback" not in terminal.text
    finally:
        terminal.stop()
