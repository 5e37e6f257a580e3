"""A configuration that is wrong ends the start: exit code 2, a line a fault, no secret shown.

All are started once, one after the other; each test looks at what became of one.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from live.harness import (
    BIN,
    SCRIPT,
    Gateway,
    Provider,
    clean_environment,
    config_for,
    ended,
    free_port,
    request,
    running,
)
from live.oracles import talk

SECRET = "sk-FAULTY-CANARY-0123456789"
BASE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Fault:
    """A file (None: no file), how the program is called, and the words that must be said."""

    content: bytes | None
    words: tuple[str, ...]
    program: str = "mitmdump"
    args: tuple[str, ...] = ()
    lines: int = 1


def config(**more: Any) -> dict[str, Any]:
    """A right configuration that holds a secret in clear."""
    right = config_for(BASE)
    right["providers"]["openai"]["keys"][0]["value"] = SECRET
    return right | more


def file(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()


def with_keys(*values: str) -> dict[str, Any]:
    document = config()
    keys = [{"name": f"key-{number}", "value": value} for number, value in enumerate(values)]
    document["providers"]["openai"]["keys"] = keys
    return document


def with_option(value: object, *path: str | int) -> dict[str, Any]:
    document: Any = config()
    at = document
    for part in path[:-1]:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
    at[path[-1]] = value
    whole: dict[str, Any] = document
    return whole


WRITTEN = with_option(SECRET, "limits", "request_buffer")
WRITTEN["lisen"] = {"port": 1}
WRITTEN["listen"] = {"port": SECRET}
WRITTEN["providers"]["openai"]["keys"][0]["wieght"] = 2
WRITTEN["providers"]["azure"]["client_credentials"] = "forward"
WRITTEN["log"] = {"capture": SECRET, "body_limit": -1}
MEANT = with_keys(
    "env.NOT_SET_ANYWHERE",
    "${NOT_SET_EITHER}",
    f"{SECRET}\nX-Evil: y",
    f"{SECRET} x",
    f"{SECRET}\u00e9",
    "changeme",
    "",
    "file:/nowhere/key",
)
for provider, url in {
    "openai": "http://localhost:{PORT}",
    "anthropic": "http://api.anthropic.com",
    "gemini": f"https://u:{SECRET}@h/",
    "vertex": "env.NOT_SET_URL",
}.items():
    MEANT["providers"][provider]["network_config"]["base_url"] = url
MEANT["listen"] = {"host": "0.0.0.0"}
PROVIDERS = f"providers:\n  openai:\n    keys:\n      - value: {SECRET}\n"
FILES = {
    "what is written": Fault(
        file(WRITTEN),
        (
            "limits.request_buffer",
            "lisen: unknown option; did you mean listen?",
            "listen.port",
            "providers.openai.keys[0].wieght: unknown option; did you mean weight?",
            "log.capture",
            "log.body_limit",
            "refused for azure",
        ),
        lines=7,
    ),
    "what is meant": Fault(
        file(MEANT),
        (
            "keys[0].value: the environment variable NOT_SET_ANYWHERE is not set",
            "keys[1].value: the environment variable NOT_SET_EITHER is not set",
            "keys[2].value: the value has white space",
            "keys[3].value: the value has white space",
            "keys[4].value: the value has white space",
            "keys[5].value: the value is a placeholder",
            "keys[6].value: the value is empty",
            "keys[7].value: cannot read the file /nowhere/key",
            "providers.openai.network_config.base_url: this is the gateway's own address",
            "providers.anthropic.network_config.base_url: http://",
            "providers.gemini.network_config.base_url: a base URL has no user",
            "providers.vertex.network_config.base_url: the environment variable NOT_SET_URL",
            "listen.host",
        ),
        lines=13,
    ),
    "an empty file": Fault(b" \n", ("empty",)),
    "broken yaml": Fault(f"{PROVIDERS}  x: [{SECRET}\n".encode(), ("not valid YAML",)),
    "a tab": Fault(b"log:\n\tpath: x\n", (":2", "tab")),
    "a key twice": Fault(f"{PROVIDERS}log: {{}}\nlog: {{}}\n".encode(), (":6", "twice")),
    "a python tag": Fault(b"log: !!python/object/apply:os.system [x]\n", (":1", "tag")),
    "a null byte": Fault(f"{PROVIDERS}log: \0\n".encode(), ("given.yaml",)),
    "not utf-8": Fault(b"log: \xff\xfe\n", ("UTF-8",)),
    "a byte order mark": Fault(
        b"\xef\xbb\xbf" + file(config(lisen={})), ("lisen: unknown option",)
    ),
    "ten megabytes": Fault(b"# x\n" * 2_500_000, ("larger than",)),
    "a folder": Fault(None, ("cannot be read", "directory"), args=(".",)),
    "F16: a symbolic link for records": Fault(
        file(config(log={"path": "{FOLDER}/link.jsonl"})), ("log.path", "symbolic link")
    ),
    "F16: a pipe for records": Fault(
        file(config(log={"path": "{FOLDER}/fifo.jsonl"})), ("log.path", "not a regular file")
    ),
    "F16: a folder for records": Fault(
        file(config(log={"path": "{FOLDER}"})), ("log.path", "directory")
    ),
    "a file below a file": Fault(None, ("cannot be read",), args=("output.log/x.yaml",)),
}
SERVED = ("what is written", "what is meant", "a folder")
IN_MITMWEB = ("what is meant", "a key twice")
RIGHT = file(config())
OPTIONS = {
    "--listen-host": Fault(RIGHT, ("loopback",), args=("--listen-host", "0.0.0.0")),
    "a mode with an address": Fault(
        RIGHT, ("loopback",), args=("--mode", "regular@0.0.0.0:{PORT2}")
    ),
    "serve --host": Fault(RIGHT, ("loopback",), "serve", ("--host", "::")),
    "ssl_insecure": Fault(RIGHT, ("ssl_insecure", "false"), args=("-k",)),
    "ssl_insecure, serve": Fault(
        RIGHT, ("ssl_insecure", "false"), "serve", ("--set", "ssl_insecure=true")
    ),
    "a reverse mode": Fault(
        RIGHT, ("mode", "regular"), args=("--mode", "reverse:https://api.openai.com")
    ),
    "validation off": Fault(
        RIGHT,
        ("validate_inbound_headers", "true"),
        args=("--set", "validate_inbound_headers=false"),
    ),
    "proxyauth": Fault(RIGHT, ("proxyauth",), args=("--set", "proxyauth=u:pw-CANARY")),
    "mitmweb for everybody": Fault(
        RIGHT, ("web_host", "loopback"), "mitmweb", ("--set", "web_host=0.0.0.0")
    ),
}


def start(folder: Path, fault: Fault) -> tuple[int, str]:
    """Exit code and output of a start."""
    env = clean_environment() | {"HOME": str(folder), "COLUMNS": "400"}
    done = ended(command(folder, fault), env, folder)
    return done.returncode, done.stdout + done.stderr


def command(folder: Path, fault: Fault) -> list[str]:
    """The command line of a case; its file is written."""
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "output.log").touch()
    (folder / "target").write_text("kept")
    (folder / "link.jsonl").symlink_to("target")
    os.mkfifo(folder / "fifo.jsonl")
    args = tuple(arg.replace("{PORT2}", str(free_port())) for arg in fault.args)
    if fault.content is None:
        path, args = folder / args[0], ()
    else:
        path = folder / "given.yaml"
        filled = fault.content.replace(b"{PORT}", str(port).encode())
        path.write_bytes(filled.replace(b"{FOLDER}", str(folder).encode()))
    confdir = ("--set", f"confdir={folder.parent}/mitm")  # one authority for all
    if fault.program == "serve":
        head = [str(BIN / "llm-passthrough"), "serve", "--port", str(port), "--config", str(path)]
        return [*head, *confdir, *args]
    head = [str(BIN / fault.program), "-s", str(SCRIPT), "--listen-port", str(port)]
    if fault.program == "mitmweb":
        head += ["--no-web-open-browser", "--web-port", str(free_port())]
    return [*head, *confdir, "--set", f"passthrough_config={path}", *args]


type Ends = dict[str, tuple[int, str]]
CASES: dict[str, Fault] = (
    FILES
    | {f"{name}, serve": replace(FILES[name], program="serve") for name in SERVED}
    | {f"{name}, mitmweb": replace(FILES[name], program="mitmweb") for name in IN_MITMWEB}
    | {f"option {name}": fault for name, fault in OPTIONS.items()}
)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What became of every case."""
    folder = tmp_path_factory.mktemp("faults")
    return {
        name: start(folder / str(number), fault)
        for number, (name, fault) in enumerate(CASES.items())
    }


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_configuration_ends_the_start_with_a_line_that_says_the_mend(
    ends: Ends, name: str
) -> None:
    """F16, H07, H08."""
    code, output = ends[name]
    fault = CASES[name]
    assert code == 2, output
    told = [line for line in output.splitlines() if line.startswith("llm-passthrough: ")]
    assert len(told) == fault.lines, output
    for word in fault.words:
        assert word in "\n".join(told)
    for never in ("Traceback", "CANARY", "pydantic", "input_value"):
        assert never not in output
    if fault.content is not None and not name.startswith(("option", "F16")):
        assert all("given.yaml" in line for line in told)


def test_a_port_that_is_taken_is_said(tmp_path: Path, gateway: Gateway) -> None:
    """H13."""
    for program in ("mitmdump", "serve"):
        second = Gateway(tmp_path / program, config(), program, port=gateway.port, wait=False)
        assert second.process.wait(30) not in (0, None), second.output
        assert str(gateway.port) in second.output
        assert "in use" in second.output
        assert "Traceback" not in second.output
    assert talk(gateway.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200


def test_two_gateways_do_not_write_into_one_file(tmp_path: Path, gateway: Gateway) -> None:
    """H13."""
    second = config(log={"path": str(gateway.records_path)})
    other = Gateway(tmp_path, second, "serve", wait=False)
    assert other.process.wait(30) == 2, other.output
    assert "log.path" in other.output
    assert "give this one its own log.path" in other.output
    assert talk(gateway.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200


def test_without_a_key_it_starts_and_says_what_would_mend_it(
    tmp_path: Path, provider: Provider
) -> None:
    document = config_for(provider.url)
    document["providers"] = {"openai": document["providers"]["openai"]}
    mends = {
        "/anthropic_passthrough/v1/messages": ("ANTHROPIC_API_KEY", "providers.anthropic.keys"),
        "/azure_passthrough/openai/v1/models": (
            "AZURE_OPENAI_API_KEY",
            "AZURE_OPENAI_ENDPOINT",
            "providers.azure.keys",
        ),
        "/genai_passthrough/v1beta/models": ("GEMINI_API_KEY", "providers.gemini.keys"),
        "/genai_passthrough/v1beta1/publishers/google/models/m:x": ("providers.vertex.keys",),
    }
    with running(tmp_path, document) as gateway:
        before = len(provider.seen)
        for path, words in mends.items():
            heard = talk(gateway.port, request(path))
            assert heard.status == 503, path
            assert heard.header("x-passthrough-error") == "no_key"
            for word in words:
                assert word.encode() in heard.data
        assert len(provider.seen) == before
        assert talk(gateway.port, request("/openai_passthrough/v1/x")).status == 404
        assert len(provider.seen) == before + 1
