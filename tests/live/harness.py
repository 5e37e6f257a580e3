"""Real parts for the live tests: a gateway in its own process, a provider on a real socket."""

import asyncio
import atexit
import contextlib
import functools
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_passthrough.demo import DemoProvider

from live.authorities import mitmproxys
from live.nursery import EARLY, Child, Nursery

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "addon" / "passthrough.py"
BIN = Path(sys.executable).parent
KEYS = {
    name: f"sk-{name}-REAL-KEY-0123456789"
    for name in ("openai", "anthropic", "azure", "gemini", "vertex")
}
TOKEN = "ya29.REAL-OAUTH-TOKEN-0123456789"
CLIENT_KEY = "sk-CLIENT-CANARY-9876543210"
WEB_PASSWORD = "of-mitmweb-CANARY-8765432109"


def free_port() -> int:
    """A port that nobody has, and that is below those of which each new connection takes one."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


class Provider:
    """The demo provider on its own loop in a thread; `seen` is what reached it."""

    def __init__(self, **options: Any) -> None:
        self.demo = DemoProvider(journal=True, **{"pace": 0.005} | options)
        self.port = self.demo.bind()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.demo.start(), self.loop).result(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def seen(self) -> list[Any]:
        return self.demo.seen

    def last(self) -> Any:
        return self.demo.seen[-1]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.demo.stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


def config_for(url: str, **more: Any) -> dict[str, Any]:
    """A configuration whose five providers are all at `url`."""
    providers: dict[str, Any] = {}
    for name, value in KEYS.items():
        key: dict[str, Any] = {"name": f"{name}-main", "value": value}
        if name == "azure":
            key["azure_key_config"] = {"endpoint": url}
        providers[name] = {"keys": [key], "network_config": {"base_url": url}}
    return {"providers": providers} | more


@functools.cache
def nursery() -> Nursery:
    """The one nursery of this test process; it ends with it."""
    nursery = Nursery(clean_environment() | {"PYTHONUNBUFFERED": "1"})
    atexit.register(nursery.stop)
    return nursery


def ended(
    command: list[str], env: dict[str, str], cwd: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """A program out of the nursery, when it has come to its end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = nursery().start(command, env, cwd, output.fileno(), errors.fileno())
        try:
            code = child.wait(timeout)
        finally:
            child.kill()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *said)


FLAVOUR = os.environ.get("LLM_PASSTHROUGH_TEST_FLAVOUR", "mitmdump")
BOTH = ("mitmdump", "serve")
"""For fixtures of gateways whose tests are run with each."""
_OPTIONS = {"--listen-host": "--host", "--set": "--set"}


def as_serve(args: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """A program that is as `mitmdump` with these arguments, and its own: `serve`, where that can
    be; and scripts that have no hooks and are to be run before it."""
    out: list[str] = []
    scripts = []
    for option, value in itertools.batched(args, 2):
        if option == "-s" and "mitmproxy" not in Path(value).read_text():
            scripts.append(value)
        elif option in _OPTIONS:
            out += [_OPTIONS[option], value]
        elif option == "-s":
            out += ["--set", f"scripts={value}"]
        else:
            return "mitmdump", args, ""
    return "serve", tuple(out), os.pathsep.join(scripts)


def password(args: tuple[str, ...]) -> list[str]:
    """mitmweb's, unless it is given: an option may be set once only."""
    given = any(arg.startswith("web_password=") for arg in args)
    return [] if given else ["--set", f"web_password={WEB_PASSWORD}"]


_authority = functools.cache(mitmproxys)


def borrow(folder: Path) -> None:
    """Put mitmproxy's authority into its folder, if that is new: to make one takes a second."""
    if not folder.exists():
        folder.mkdir(0o700, parents=True)
        for name, data in _authority().items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)


class Gateway:
    """A gateway process: `program` is mitmdump, mitmweb (with -s) or serve, web (the command).

    It comes out of the nursery: the real program in a process and a folder of its own, on real
    sockets, but its interpreter is warm (live/nursery.py says what differs), and mitmproxy's
    authority is there already (quick to load). `real` starts the installed command anew.
    With LLM_PASSTHROUGH_TEST_FLAVOUR=serve what would be `mitmdump -s` is `serve`, if it can be;
    not when the test is about what `serve` has not, as a script or mitmproxy's own file (`script`).
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any] | None = None,
        program: str = "mitmdump",
        env: dict[str, str] | None = None,
        args: tuple[str, ...] = (),
        port: int | None = None,
        wait: bool = True,
        real: bool = False,
        script: bool = False,
        output: Path | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.web_port = free_port()
        self.records_path = folder / "log" / "records.jsonl"
        self.log_path = output or folder / "output.log"
        self._records = Lines()
        real = real or any(map(EARLY.match, env or {}))
        more = {"HOME": str(folder), "PYTHONUNBUFFERED": "1"} | (env or {})
        script = script or SCRIPT.name != "passthrough.py"
        if program == "mitmdump" and FLAVOUR == "serve" and not (script or real):
            program, args, scripts = as_serve(args)
            more |= {"LLM_PASSTHROUGH_TEST_SCRIPTS": scripts} if scripts else {}
        command = self._command(program, config, args)
        self.process = self._start(command, clean_environment() | more, real)
        if wait:
            self.wait_ready()

    def _start(
        self, command: list[str], env: dict[str, str], real: bool
    ) -> subprocess.Popen[bytes] | Child:
        with self.log_path.open("wb") as log:
            if not real:
                borrow(self.folder / "mitm")
                return nursery().start(command, env, self.folder, log.fileno())
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=env,
            )

    def _command(
        self, program: str, config: dict[str, Any] | None, args: tuple[str, ...]
    ) -> list[str]:
        file = self.folder / "gateway.yaml"
        options: list[str] = []
        if config is not None:
            config.setdefault("log", {}).setdefault("path", str(self.records_path))
            config.setdefault("shutdown", {}).setdefault("drain_seconds", 0)
            file.write_text(json.dumps(config))  # JSON is YAML
        if program in ("mitmdump", "mitmweb"):
            options = [
                "-s",
                str(SCRIPT),
                "--listen-port",
                str(self.port),
                "--set",
                f"confdir={self.folder}/mitm",
            ]
            if config is not None:
                options += ["--set", f"passthrough_config={file}"]
            if program == "mitmweb":
                options += ["--set", "web_open_browser=false", *password(args)]
                options += ["--set", f"web_port={self.web_port}"]
            return [str(BIN / program), *options, *args]
        options = [program, "--port", str(self.port), "--set", f"confdir={self.folder}/mitm"]
        if config is not None:
            options += ["--config", str(file)]
        if program == "web":
            options += ["--web-port", str(self.web_port), *password(args)]
        return [str(BIN / "llm-passthrough"), *options, *args]

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def output(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.is_file() else ""

    def wait_ready(self, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"the gateway ended ({self.process.returncode}):\n{self.output}"
                )
            with contextlib.suppress(OSError):
                answer = raw(
                    self.port,
                    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                    2,
                )
                if answer.startswith(b"HTTP/1.1 "):
                    return
            time.sleep(0.01)
        raise AssertionError(f"the gateway does not answer:\n{self.output}")

    def records(self, count: int = 0, timeout: float = 5) -> list[dict[str, Any]]:
        """The records so far; waits until there are at least `count`."""
        end = time.monotonic() + timeout
        while True:
            records = self._records.of(self.records_path)
            if len(records) >= count or time.monotonic() > end:
                assert len(records) >= count, (
                    f"{len(records)} records instead of {count}:\n{self.output}"
                )
                return records
            time.sleep(0.005)

    def record_of(self, text: str, timeout: float = 5) -> dict[str, Any]:
        """The newest record whose line contains `text`."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for record in reversed(self.records()):
                if text in json.dumps(record, ensure_ascii=False):
                    return record
            time.sleep(0.005)
        raise AssertionError(f"no record with {text!r}")

    def stop(self, timeout: float = 10) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Lines:
    """The whole lines of a JSONL file that is still being written; each is read once."""

    def __init__(self) -> None:
        self._file: tuple[Path, int] | None = None
        self._offset = 0
        self._values: list[dict[str, Any]] = []

    def of(self, path: Path) -> list[dict[str, Any]]:
        """What the file holds by now; nothing where it is not there."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            if (path, status.st_ino) != self._file or status.st_size < self._offset:
                self._file, self._offset, self._values = (path, status.st_ino), 0, []
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole + end)
        self._values += map(json.loads, whole.splitlines())
        return self._values.copy()


def raw(port: int, data: bytes, timeout: float = 5, host: str = "127.0.0.1") -> bytes:
    """Send bytes on a new connection; everything that comes back until it closes or is quiet."""
    with socket.create_connection((host, port), timeout) as sock:
        sock.sendall(data)
        return read_all(sock, timeout)


def read_all(sock: socket.socket, timeout: float = 5) -> bytes:
    sock.settimeout(timeout)
    out = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while chunk := sock.recv(65536):
            out += chunk
    return out


def request(
    target: str,
    body: bytes = b"{}",
    method: str = "POST",
    headers: tuple[str, ...] = (f"Authorization: Bearer {CLIENT_KEY}",),
    host: str = "localhost",
) -> bytes:
    """A whole HTTP/1.1 request that asks for the connection to be closed."""
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        *headers,
        "Content-Type: application/json",
    ]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def names_addon(folder: Path, ports: dict[str, int]) -> Path:
    """A script for mitmproxy under which these host names (port 443) are loopback ports, and
    any other name does not exist; what was dialled stands in `dialled.txt` beside it."""
    file = folder / "names.py"
    file.write_text(
        "import socket, asyncio\n"
        f"PORTS = {ports!r}\n"
        f"LOG = {str(folder / 'dialled.txt')!r}\n"
        "real = asyncio.open_connection\n"
        "async def open_connection(host=None, port=None, **kw):\n"
        "    open(LOG, 'a').write(f'{host}:{port}\\n')\n"
        "    if host in PORTS and port == 443:\n"
        "        return await real('127.0.0.1', PORTS[host], **kw)\n"
        "    if host in ('localhost', '::1') or str(host).startswith('127.'):\n"
        "        return await real(host, port, **kw)\n"
        "    raise socket.gaierror(-2, 'Name or service not known')\n"
        "asyncio.open_connection = open_connection\n"
    )
    return file


@contextlib.contextmanager
def running(folder: Path, config: dict[str, Any] | None, **options: Any) -> Iterator[Gateway]:
    """A gateway for the length of a with-block."""
    gateway = Gateway(folder, config, **options)
    try:
        yield gateway
    finally:
        gateway.stop()


def curl() -> str:
    found = shutil.which("curl")
    assert found, "curl is needed"
    return found


class Upstream:
    """A provider of raw bytes: `talk(connection)` runs in a thread of its own per connection.

    Set `talk` to what the test needs; `failures` is what went wrong in those threads.
    """

    def __init__(self, talk: Callable[["Wire"], None] | None = None) -> None:
        self.talk = talk
        self.failures: list[BaseException] = []
        self.connections: list[Wire] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._socket.accept()
                wire = Wire(sock)
                self.connections.append(wire)
                threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: "Wire") -> None:
        try:
            assert self.talk is not None
            self.talk(wire)
        except BaseException as error:  # a thread's error would be lost
            self.failures.append(error)
        finally:
            wire.close()

    def stop(self) -> None:
        self._socket.close()
        for wire in self.connections:
            wire.close()


class Wire:
    """One end of a TCP connection, read as HTTP/1.1 needs it; nothing is interpreted."""

    def __init__(self, sock: socket.socket, timeout: float = 10) -> None:
        self.sock = sock
        sock.settimeout(timeout)
        self._held = b""

    @classmethod
    def to(cls, port: int, timeout: float = 10) -> "Wire":
        return cls(socket.create_connection(("127.0.0.1", port), timeout), timeout)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        # shutdown: another thread may be waiting in recv
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Break the connection off with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def some(self) -> bytes:
        """What comes next; b"" at the end."""
        data, self._held = self._held or self.sock.recv(65536), b""
        return data

    def until(self, end: bytes) -> bytes:
        """Everything up to and with `end`."""
        while end not in self._held:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"ended before {end!r}: {self._held[-200:]!r}")
            self._held += data
        found, _, self._held = self._held.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        parts = []
        while size:
            data = self.some()
            if not data:
                raise EOFError(f"{size} bytes are missing")
            self._held = data[size:]
            parts.append(data[:size])
            size -= len(parts[-1])
        return b"".join(parts)

    def rest(self) -> bytes:
        """Everything until the other side closes; a reset counts as the end."""
        parts = []
        with contextlib.suppress(ConnectionError):
            while data := self.some():
                parts.append(data)
        return b"".join(parts)

    def message(self) -> tuple[bytes, bytes]:
        """A head and its body, without chunk framing (RFC 9112 6); no body without a length."""
        head = self.until(b"\r\n\r\n")
        if re.search(rb"(?im)^transfer-encoding:.*chunked", head):
            return head, b"".join(iter(self.chunk, b""))
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        return head, self.exactly(int(length[1])) if length else b""

    def chunk(self) -> bytes:
        """The data of the next chunk; b"" for the last one."""
        data = self.exactly(int(self.until(b"\r\n").split(b";")[0], 16))
        self.until(b"\r\n")
        return data


def clean_environment() -> dict[str, str]:
    """This process's environment without what SDKs and HTTP clients read from it."""
    ours = re.compile(r"API_KEY|GOOGLE|AZURE|PROXY|OPENAI|ANTHROPIC|VERTEX|SSL_CERT", re.I)
    return {name: value for name, value in os.environ.items() if not ours.search(name)}


def resident(pid: int, field: str = "VmRSS") -> int:
    """The memory of a process in bytes: VmRSS is now, VmHWM the most since `forget_peak`."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"(?m)^{field}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) << 10


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


_PLACES = frozenset(
    "authorization proxy-authorization api-key x-api-key x-goog-api-key cookie "
    "ocp-apim-subscription-key".split()
)


def credentials(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every header that carries a credential, names in lower case."""
    return [(name.lower(), value) for name, value in headers if name.lower() in _PLACES]


SIGNED = {
    "openai": ("authorization", f"Bearer {KEYS['openai']}"),
    "anthropic": ("x-api-key", KEYS["anthropic"]),
    "azure": ("api-key", KEYS["azure"]),
    "gemini": ("x-goog-api-key", KEYS["gemini"]),
    "vertex": ("x-goog-api-key", KEYS["vertex"]),
}
"""What each provider of `config_for` gets as its one credential."""


class Web:
    """What a person with the password can do in mitmweb."""

    def __init__(self, gateway: Gateway) -> None:
        self.port = gateway.web_port

    def call(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """One request of its API: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {
            "Authorization": f"Bearer {WEB_PASSWORD}",
            "Cookie": "_mitmproxy_xsrf=abcd",
            "X-XSRFToken": "abcd",
        }
        if document is None or isinstance(document, bytes):
            connection.request(method, path, document, headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request(method, path, json.dumps(document), headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def get(self, path: str) -> bytes:
        """The body of a page that is there."""
        status, body = self.call("GET", path)
        assert status == 200, body
        return body

    def flows(self) -> list[dict[str, Any]]:
        """The flows as mitmweb lists them."""
        return list(json.loads(self.get("/flows")))

    def set(self, **options: object) -> int:
        """Set options of mitmproxy; the status."""
        return self.call("PUT", "/options", options)[0]

    def command(self, name: str, *arguments: str) -> bytes:
        """Run a command of mitmproxy."""
        status, body = self.call("POST", f"/commands/{name}", {"arguments": arguments})
        assert status == 200, body
        return body
