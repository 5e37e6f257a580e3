"""What stands between client and provider: nothing, nginx or HAProxy, mitmproxy bare, and ours."""

import contextlib
import datetime
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.load import Order, Outcome
from bench.process import start, stop
from bench.samples import SECRETS

ROOT = Path(__file__).resolve().parents[1]
ADDON = ROOT / "addon"
BIN = Path(sys.executable).parent
DIRECT, BARE, SCRIPT, SERVE = "direct", "bare mitmdump", "mitmdump -s", "serve"
_PATH = "/v1/chat/completions"
_ROUTED = f"/openai_passthrough{_PATH}", f"/tls{_PATH}"
_READY = 60.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One way from client to provider; without a process of its own (`pid`) it is the direct one.

    `plain` and `tls` are the targets of a request for the provider behind each.
    """

    name: str
    port: int
    pid: int | None
    plain: str
    tls: str | None


class Stage:
    """The processes of one run: two providers, a client, and the contenders that are needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        authority, certificate = _certificates(folder)
        self._providers = [self._provider(), self._provider(str(certificate))]
        self._client = self._start([sys.executable, "-P", "-m", "bench.load"], PYTHONPATH=str(ROOT))
        self._options = ["--set", f"ssl_verify_upstream_trusted_ca={authority}"]
        self._contenders: dict[str, Contender] = {}

    def load(self, order: Order) -> Outcome:
        """What became of an order."""
        assert self._client.stdin
        assert self._client.stdout
        print(json.dumps(asdict(order)), file=self._client.stdin, flush=True)
        outcome = Outcome(**json.loads(self._client.stdout.readline()))
        if outcome.faults:
            raise RuntimeError(f"{order}: {outcome.faults[:3]}")
        return outcome

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self._running):
            stop(process)

    def _start(self, command: list[str], **env: str) -> "subprocess.Popen[str]":
        process = start(command, self._folder, **env)
        self._running.append(process)
        return process

    def _provider(self, *arguments: str) -> int:
        command = [sys.executable, "-P", "-m", "bench.provider", *arguments]
        process = self._start(command, PYTHONPATH=str(ROOT))
        assert process.stdout
        return int(process.stdout.readline())

    def contender(self, name: str) -> Contender:
        """One of the ways, started when it is asked for first."""
        found = self._contenders.get(name)
        if found is None:
            found = self._contenders[name] = _MADE[name](self)
            _wait(found.port)
        return found

    def _direct(self) -> Contender:
        return Contender(DIRECT, self._providers[0], None, _PATH, None)

    def _bare(self) -> Contender:
        plain, tls = self._providers
        command = [str(BIN / "mitmdump"), "-q", "--listen-host", "127.0.0.1", *self._options]
        targets = f"http://127.0.0.1:{plain}{_PATH}", f"https://localhost:{tls}{_PATH}"
        return self._mitmproxy(BARE, command, "--listen-port", *targets)

    def _script(self) -> Contender:
        command = [str(BIN / "mitmdump"), "-q", "-s", str(ADDON / "passthrough.py")]
        command += [*self._options, "--set"]
        command += [f"passthrough_config={self._configuration(SCRIPT)}"]
        return self._mitmproxy(SCRIPT, command, "--listen-port", *_ROUTED)

    def _serve(self) -> Contender:
        command = [str(BIN / "llm-passthrough"), "serve", *self._options]
        command += ["--config", str(self._configuration(SERVE))]
        return self._mitmproxy(SERVE, command, "--port", *_ROUTED)

    def _mitmproxy(
        self, name: str, command: list[str], port_option: str, *targets: str
    ) -> Contender:
        port = _free_port()
        home = self._folder / name
        home.mkdir(exist_ok=True)
        command += [port_option, str(port), "--set", f"confdir={home}"]
        process = self._start(command, PYTHONPATH=str(ADDON), HOME=str(home))
        return Contender(name, port, process.pid, *targets)

    def _configuration(self, name: str) -> Path:
        """Everything that a gateway of ours does by default: all of each call is recorded."""
        home = self._folder / name
        home.mkdir()
        key = {"name": "team", "value": SECRETS[0]}
        plain, tls = (f"127.0.0.1:{self._providers[0]}", f"localhost:{self._providers[1]}")
        settings = {
            "providers": {
                "openai": {"keys": [key], "network_config": {"base_url": f"http://{plain}"}}
            },
            "routes": [{"prefix": "/tls", "upstream": f"https://{tls}", "keys": [key]}],
            "log": {"path": str(home / "log" / "records.jsonl")},
        }
        file = home / "gateway.yaml"
        file.write_text(json.dumps(settings))
        file.chmod(0o600)
        return file

    def _nginx(self) -> Contender:
        port, (plain, tls) = _free_port(), self._providers
        file = self._folder / "nginx.conf"
        file.write_text(_NGINX % {"folder": self._folder, "port": port, "plain": plain, "tls": tls})
        process = self._start(["nginx", "-p", str(self._folder), "-c", str(file)])
        return Contender("nginx", port, process.pid, _PATH, f"/tls{_PATH}")

    def _haproxy(self) -> Contender:
        port, (plain, tls) = _free_port(), self._providers
        file = self._folder / "haproxy.cfg"
        file.write_text(_HAPROXY % {"port": port, "plain": plain, "tls": tls})
        process = self._start(["haproxy", "-db", "-f", str(file)])
        return Contender("haproxy", port, process.pid, _PATH, f"/tls{_PATH}")


_MADE = {
    DIRECT: Stage._direct,
    "nginx": Stage._nginx,
    "haproxy": Stage._haproxy,
    BARE: Stage._bare,
    SCRIPT: Stage._script,
    SERVE: Stage._serve,
}
_NGINX = """
daemon off; master_process off; worker_processes 1; pid %(folder)s/nginx.pid;
error_log %(folder)s/nginx.log;
events { worker_connections 4096; }
http {
  access_log off; client_max_body_size 0; proxy_buffering off; keepalive_requests 1000000;
  client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  client_body_buffer_size 2m; proxy_http_version 1.1; proxy_set_header Connection "";
  upstream plain { server 127.0.0.1:%(plain)d; keepalive 128; keepalive_requests 1000000; }
  upstream tls { server 127.0.0.1:%(tls)d; keepalive 128; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:%(port)d;
    location / { proxy_pass http://plain; }
    location /tls/ { proxy_pass https://tls/; }
  }
}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend all
  bind 127.0.0.1:%(port)d
  use_backend tls if { path_beg /tls/ }
  default_backend plain
backend plain
  server one 127.0.0.1:%(plain)d
backend tls
  http-request replace-path /tls(/.*) \\1
  server one 127.0.0.1:%(tls)d ssl verify none
"""


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """All processes, for the length of a with-block."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            yield stage
        finally:
            stage.close()


def _certificates(folder: Path) -> tuple[Path, Path]:
    """An authority of this run's own, and the provider's certificate and key, each in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    authority, both = folder / "authority.crt", folder / "provider.crt"
    authority.write_bytes(certificate)
    both.write_bytes(certificate + private)
    return authority, both


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait(port: int) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port} within {_READY:g} s")
