"""What stands between client and provider: nothing, another proxy or gateway, mitmproxy bare, ours.

Others than ours and mitmproxy are measured where they are installed, and are installed by hand.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.others import haproxy_file, litellm_file, nginx_file
from bench.process import Process
from bench.samples import SECRETS

ROOT = Path(__file__).resolve().parents[1]
ADDON = ROOT / "addon"
BIN = Path(sys.executable).parent
DIRECT, BARE, SCRIPT, SERVE = "direct", "bare mitmdump", "mitmdump -s", "serve"
NGINX, HAPROXY, WORKERS = "nginx", "haproxy", "serve --workers 2"
LITELLM, PORTKEY, WEB = "LiteLLM", "Portkey", "mitmweb"
OURS = (SCRIPT, SERVE, WORKERS)
TOKENS = {"bench": "client-token-0123456789", "flood": "flooding-token-0123456789"}
"""Who may call a gateway of ours: who is measured, and who is only there to be many."""

_PATH = "/v1/chat/completions"
_ROUTED = f"/openai_passthrough{_PATH}", f"/tls{_PATH}"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way from client to provider; without a process of its own (`pid`) it is the direct one.

    `plain` and `tls` are the targets of a request for the provider behind each; `extra` are lines
    that a request's head needs, `token` is what a client is known by where that is its own.
    """

    name: str
    port: int
    pid: int | None
    plain: str
    tls: str | None = None
    extra: tuple[str, ...] = ()
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What a contender is started on: a folder, the providers' ports, their authority's file.

    `start` runs a command; with `samples` a Python contender writes there where it spends time.
    """

    folder: Path
    plain: int
    tls: int
    authority: Path
    start: Callable[..., Process]
    samples: Path | None = None

    def home(self, name: str) -> Path:
        """A folder of the contender's own."""
        home = self.folder / name.replace(" ", "-")
        home.mkdir(exist_ok=True)
        return home


def _direct(ground: Ground) -> Contender:
    return Contender(DIRECT, ground.plain, None, _PATH)


def _bare(ground: Ground) -> Contender:
    command = [*_python(ground, "mitmdump", "mitmproxy.tools.main:mitmdump"), "-q"]
    command += ["--listen-host", "127.0.0.1"]
    targets = f"http://127.0.0.1:{ground.plain}{_PATH}", f"https://localhost:{ground.tls}{_PATH}"
    return _mitmproxy(ground, BARE, command, "--listen-port", targets)


def _script(ground: Ground) -> Contender:
    command = [*_python(ground, "mitmdump", "mitmproxy.tools.main:mitmdump"), "-q"]
    command += ["-s", str(ADDON / "passthrough.py")]
    command += ["--set", f"passthrough_config={_configuration(ground, SCRIPT)}"]
    return _mitmproxy(ground, SCRIPT, command, "--listen-port", _ROUTED)


def _web(ground: Ground) -> Contender:
    command = [str(BIN / "mitmweb"), "-s", str(ADDON / "passthrough.py")]
    options = f"passthrough_config={_configuration(ground, WEB)}", "web_open_browser=false"
    for option in (*options, f"web_port={_free_port()}"):
        command += ["--set", option]
    return _mitmproxy(ground, WEB, command, "--listen-port", _ROUTED)


def _serve(ground: Ground) -> Contender:
    return _served(ground, SERVE)


def _workers(ground: Ground) -> Contender:
    return _served(ground, WORKERS, "--workers", "2")


def _served(ground: Ground, name: str, *options: str) -> Contender:
    command = [*_python(ground, "llm-passthrough", "llm_passthrough.cli:main"), "serve", *options]
    command += ["--config", str(_configuration(ground, name))]
    return _mitmproxy(ground, name, command, "--port", _ROUTED)


def _python(ground: Ground, script: str, entry: str) -> list[str]:
    if ground.samples is None:
        return [str(BIN / script)]
    return [sys.executable, "-P", "-m", "bench.sampler", str(ground.samples), entry]


def _mitmproxy(
    ground: Ground, name: str, command: list[str], port_option: str, targets: tuple[str, str]
) -> Contender:
    port, home = _free_port(), ground.home(name)
    command += [port_option, str(port), "--set", f"confdir={home}"]
    command += ["--set", f"ssl_verify_upstream_trusted_ca={ground.authority}"]
    path = os.pathsep.join((str(ADDON), str(ROOT)))
    process = ground.start(command, PYTHONPATH=path, HOME=str(home))
    return Contender(name, port, process.pid, *targets)


def _configuration(ground: Ground, name: str) -> Path:
    """Everything that a gateway of ours does by default: all of each call is recorded."""
    home = ground.home(name)
    key = {"name": "team", "value": SECRETS[0]}
    base = {"base_url": f"http://127.0.0.1:{ground.plain}"}
    settings = {
        "providers": {"openai": {"keys": [key], "network_config": base}},
        "routes": [
            {"prefix": "/tls", "upstream": f"https://localhost:{ground.tls}", "keys": [key]}
        ],
        "clients": [{"name": client, "tokens": [token]} for client, token in TOKENS.items()],
        "log": {"path": str(home / "log" / "records.jsonl")},
    }
    file = home / "gateway.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    file.chmod(0o600)
    return file


def _nginx(ground: Ground) -> Contender:
    port = _free_port()
    file = nginx_file(ground.home(NGINX), port, ground.plain, ground.tls)
    process = ground.start(["nginx", "-p", str(file.parent), "-c", str(file)])
    return Contender(NGINX, port, process.pid, _PATH, f"/tls{_PATH}")


def _haproxy(ground: Ground) -> Contender:
    port = _free_port()
    file = haproxy_file(ground.home(HAPROXY), port, ground.plain, ground.tls)
    process = ground.start(["haproxy", "-db", "-f", str(file)])
    return Contender(HAPROXY, port, process.pid, _PATH, f"/tls{_PATH}")


def _litellm(ground: Ground) -> Contender:
    """Its pass-through endpoint, which records nothing; without a database it takes one token."""
    program, port, home = _found_litellm(), _free_port(), ground.home(LITELLM)
    assert program
    file, token = litellm_file(home, ground.plain), f"sk-{os.urandom(24).hex()}"
    process = ground.start(
        [program, "--config", str(file), "--port", str(port), "--host", "127.0.0.1"],
        HOME=str(home),
        LITELLM_LOCAL_MODEL_COST_MAP="True",  # asks no other host
        LITELLM_MASTER_KEY=token,
        LITELLM_DISABLE_ACCESS_LOG_PATHS=f"/bench{_PATH}",
        LITELLM_LOG="ERROR",
    )
    return Contender(LITELLM, port, process.pid, f"/bench{_PATH}", token=token)


def _portkey(ground: Ground) -> Contender:
    program, port = _found_portkey(), _free_port()
    assert program
    process = ground.start(["node", program, f"--port={port}", "--headless"])
    extra = (
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{ground.plain}/v1",
        "x-portkey-forward-headers: x-want",
    )
    return Contender(PORTKEY, port, process.pid, _PATH, extra=extra)


def _found_litellm() -> str | None:
    return os.environ.get("BENCH_LITELLM") or shutil.which("litellm")


def _found_portkey() -> str | None:
    """Its program; npm gives the command the name `gateway`, which others may have too."""
    named = os.environ.get("BENCH_PORTKEY") or shutil.which("gateway") or ""
    program = os.path.realpath(named)
    ours = "BENCH_PORTKEY" in os.environ or "@portkey-ai" in program
    return program if named and ours and shutil.which("node") else None


@cache
def _has_workers() -> bool:
    """Whether `serve` knows of workers."""
    said = subprocess.run(
        [sys.executable, "-c", "from llm_passthrough.cli import main; main()", "serve", "--help"],
        env=os.environ | {"PYTHONPATH": str(ADDON), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return "--workers" in said.stdout


MADE: dict[str, Callable[[Ground], Contender]] = {
    DIRECT: _direct,
    NGINX: _nginx,
    HAPROXY: _haproxy,
    BARE: _bare,
    SCRIPT: _script,
    SERVE: _serve,
    WORKERS: _workers,
    LITELLM: _litellm,
    PORTKEY: _portkey,
    WEB: _web,
}
"""How each is started, in the order in which they are shown."""

_THERE: dict[str, Callable[[], object]] = {
    NGINX: lambda: shutil.which("nginx"),
    HAPROXY: lambda: shutil.which("haproxy"),
    WORKERS: _has_workers,
    LITELLM: _found_litellm,
    PORTKEY: _found_portkey,
}


def installed(chosen: Sequence[str] = ()) -> list[str]:
    """Who can be measured beside others here; of nginx and HAProxy one. Or those `chosen`."""
    wanted = [name for name in MADE if name in (chosen or MADE) and name != WEB]
    found = [name for name in wanted if name not in _THERE or _THERE[name]()]
    one = NGINX in found and not chosen
    return [name for name in found if not (one and name == HAPROXY)]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
