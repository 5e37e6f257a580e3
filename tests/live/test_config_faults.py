"""A configuration that is wrong ends the start: exit code 2, a line a fault, no secret shown.

All processes are started once, side by side; each test looks at what became of one.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live.harness import Gateway, Provider, config_for, free_port, request, running
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


MANY = with_option(SECRET, "limits", "request_buffer")
MANY["lisen"] = {"port": 1}
MANY["providers"]["openai"]["keys"][0]["wieght"] = 2
MANY["log"] = {"capture": SECRET, "body_limit": -1}
PROVIDERS = f"providers:\n  openai:\n    keys:\n      - value: {SECRET}\n"
FILES = {
    "an unknown option": Fault(file(config(lisen={})), ("lisen", "did you mean listen?")),
    "a wrong type": Fault(
        file(with_option(SECRET, "listen", "port")), ("listen.port", "integer", ":")
    ),
    "many at once": Fault(
        file(MANY),
        (
            "limits.request_buffer",
            "lisen",
            "keys[0].wieght: unknown option; did you mean weight?",
            "log.capture",
            "log.body_limit",
        ),
        lines=5,
    ),
    "a variable that is not set": Fault(
        file(with_keys("env.NOT_SET_ANYWHERE")),
        ("providers.openai.keys[0].value", "NOT_SET_ANYWHERE is not set; set it"),
    ),
    "a variable in braces that is not set": Fault(
        file(with_keys("${NOT_SET_ANYWHERE}")), ("NOT_SET_ANYWHERE is not set; set it",)
    ),
    "a key that is no key": Fault(
        file(with_keys(f"{SECRET}\nX: y", f"{SECRET} x", f"{SECRET}é", "changeme", "")),
        (
            "keys[0].value: the value has white space",
            "keys[1].value",
            "keys[2].value",
            "keys[3].value: the value is a placeholder",
            "keys[4].value: the value is empty",
        ),
        lines=5,
    ),
    "a key file that is not there": Fault(
        file(with_keys("file:/nowhere/key")), ("keys[0].value", "/nowhere/key")
    ),
    "its own address": Fault(
        file(with_option("http://localhost:{PORT}", "providers", "openai", "network_config",
                         "base_url")),
        ("providers.openai.network_config.base_url", "own address"),
    ),
    "http beyond loopback": Fault(
        file(with_option("http://api.openai.com", "providers", "openai", "network_config",
                         "base_url")),
        ("providers.openai.network_config.base_url", "https://", "allow_http"),
    ),
    "a password in a base url": Fault(
        file(with_option(f"https://u:{SECRET}@h/", "providers", "openai", "network_config",
                         "base_url")),
        ("providers.openai.network_config.base_url", "no user"),
    ),
    "an empty file": Fault(b" \n", ("empty",)),
    "only a comment": Fault(b"# nothing\n", ("mapping",)),
    "a list": Fault(f"- {SECRET}\n".encode(), ("mapping",)),
    "broken yaml": Fault(f"{PROVIDERS}  x: [{SECRET}\n".encode(), (":6:1", "not valid YAML")),
    "a colon too many": Fault(f"a: {SECRET}: x\n".encode(), (":1:", "not valid YAML")),
    "a tab": Fault(b"log:\n\tpath: x\n", (":2:1", "a tab")),
    "a key twice": Fault(f"{PROVIDERS}log: {{}}\nlog: {{}}\n".encode(), (":6", "twice")),
    "a python tag": Fault(b"log: !!python/object/apply:os.system [x]\n", (":1:", "tags")),
    "a null byte": Fault(f"{PROVIDERS}log: \0\n".encode(), ("not valid YAML",)),
    "not utf-8": Fault(b"log: \xff\xfe\n", ("byte 5", "UTF-8")),
    "a byte order mark": Fault(
        b"\xef\xbb\xbf" + file(config(lisen={})), ("lisen: unknown option",)
    ),
    "ten megabytes": Fault(b"# x\n" * 2_500_000, ("larger than",)),
    "too deep": Fault(b"log: " + b"[" * 5000 + b"\n", ("not valid YAML",)),
    "too many aliases": Fault(
        b"a: &a x\nb: [" + b", ".join([b"*a"] * 100) + b"]\n", ("aliases",)
    ),
    "a file that is not there": Fault(None, ("nowhere.yaml", "No such file"), args=("nowhere.yaml",)),
    "a folder": Fault(None, ("cannot be read", "directory"), args=(".",)),
    "a file below a file": Fault(None, ("cannot be read",), args=("output.log/x.yaml",)),
    "a host beyond loopback": Fault(
        file(config(listen={"host": "0.0.0.0"})), ("listen.host", "loopback")
    ),
    "a client's credential for azure": Fault(
        file(with_option("forward", "providers", "azure", "client_credentials")),
        ("providers.azure", "refused for azure"),
    ),
}  # fmt: skip
SERVED = (
    "an unknown option", "many at once", "a key that is no key", "its own address", "broken yaml",
    "a folder", "a host beyond loopback",
)  # fmt: skip
IN_MITMWEB = ("many at once", "a key that is no key", "a key twice")
RIGHT = file(config())
OPTIONS = {
    "--listen-host": Fault(RIGHT, ("loopback",), args=("--listen-host", "0.0.0.0")),
    "--listen-host ::": Fault(RIGHT, ("loopback",), args=("--listen-host", "::")),
    "a mode with an address": Fault(
        RIGHT, ("loopback",), args=("--mode", "regular@0.0.0.0:{PORT2}")
    ),
    "serve --host": Fault(RIGHT, ("loopback",), "serve", ("--host", "0.0.0.0")),
    "ssl_insecure": Fault(RIGHT, ("ssl_insecure", "false"), args=("--set", "ssl_insecure=true")),
    "-k": Fault(RIGHT, ("ssl_insecure", "false"), args=("-k",)),
    "ssl_insecure, serve": Fault(
        RIGHT, ("ssl_insecure", "false"), "serve", ("--set", "ssl_insecure=true")
    ),
    "a reverse mode": Fault(
        RIGHT, ("mode", "regular"), args=("--mode", "reverse:https://api.openai.com")
    ),
    "an upstream mode": Fault(
        RIGHT, ("mode", "regular"), args=("--mode", "upstream:http://127.0.0.1:1")
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


def started(folder: Path, fault: Fault) -> tuple[int, str]:
    """Exit code and output of a start."""
    port = free_port()
    folder.mkdir(parents=True)
    args = tuple(arg.replace("{PORT2}", str(free_port())) for arg in fault.args)
    if fault.content is None:
        path, args = folder / args[0], ()
    else:
        path = folder / "given.yaml"
        path.write_bytes(fault.content.replace(b"{PORT}", str(port).encode()))
    serve = fault.program == "serve"
    named = ("--config", str(path)) if serve else ("--set", f"passthrough_config={path}")
    env = {"COLUMNS": "400"}
    gateway = Gateway(folder, None, fault.program, env, (*named, *args), port, wait=False)
    try:
        return gateway.process.wait(60), gateway.output
    finally:
        gateway.process.kill()


type Ends = dict[str, tuple[int, str]]
CASES: dict[str, Fault] = (
    FILES
    | {f"{name} (serve)": Fault(FILES[name].content, FILES[name].words, "serve",
                                FILES[name].args, FILES[name].lines) for name in SERVED}
    | {f"{name} (mitmweb)": Fault(FILES[name].content, FILES[name].words, "mitmweb",
                                  FILES[name].args, FILES[name].lines) for name in IN_MITMWEB}
    | {f"option {name}": fault for name, fault in OPTIONS.items()}
)  # fmt: skip


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """What became of every case."""
    folder = tmp_path_factory.mktemp("faults")
    numbered = list(enumerate(CASES.items()))
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        runs = pool.map(lambda item: started(folder / str(item[0]), item[1][1]), numbered)
        return dict(zip(CASES, runs, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_configuration_ends_the_start_with_a_line_that_says_the_mend(
    ends: Ends, name: str
) -> None:
    code, output = ends[name]
    fault = CASES[name]
    assert code == 2, output
    told = [line for line in output.splitlines() if line.startswith("llm-passthrough: ")]
    assert len(told) == fault.lines, output
    for word in fault.words:
        assert word in "\n".join(told)
    for never in ("Traceback", "CANARY", "pydantic", "input_value"):
        assert never not in output
    if fault.content is not None and not name.startswith("option"):
        assert all("given.yaml" in line for line in told)


def test_a_port_that_is_taken_is_said(tmp_path: Path, gateway: Gateway) -> None:
    for program in ("mitmdump", "serve"):
        second = Gateway(tmp_path / program, config(), program, port=gateway.port, wait=False)
        assert second.process.wait(30) not in (0, None), second.output
        assert str(gateway.port) in second.output
        assert "in use" in second.output
        assert "Traceback" not in second.output
    assert talk(gateway.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200


def test_two_gateways_do_not_write_into_one_file(tmp_path: Path, gateway: Gateway) -> None:
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
        assert talk(gateway.port, request("/openai_passthrough/v1/files/x")).status == 404
        assert len(provider.seen) == before + 1
