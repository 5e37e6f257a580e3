"""What must hold after every case, whatever was sent: the oracles of the live tests.

O1  a configured key is in the head of what its own provider receives, and nowhere else
O2  the client's credential is nowhere upstream, in no record, in no output
O3  nothing is dialled but what is configured
O4  the output tells of no crash
O5  the gateway answers afterwards, and holds no more files and memory than before
O6  one record for each request that reached a hook, and each has an id of its own
O7  the client got an answer or a close before a deadline
"""

import base64
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from live.harness import CLIENT_KEY, KEYS, Gateway, Provider, resident

# Longer than anything takes on a busy machine; reached only by what hangs.
DEADLINE = 5.0
QUIET = 0.25
SETTLED = 0.02
"""Seconds in which a record is written, when its exchange is over."""
_CRASH = re.compile(r"has crashed|[Uu]nhandled|Addon error|Traceback|never awaited")
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def spellings(secret: str) -> tuple[bytes, ...]:
    """The bytes by which a secret could be found: plain, escaped, and base64 at any offset."""
    raw = secret.encode()
    forms = {raw, quote(secret, safe="").encode()}
    for lead in (b"", b"x", b"xx"):
        # Whole groups of the secret's own: the ends depend on what stands beside it.
        skip = len(lead) and 3 - len(lead)
        middle = raw[skip : skip + (len(raw) - skip) // 3 * 3]
        forms |= {base64.b64encode(middle), base64.urlsafe_b64encode(middle)}
    return tuple(forms)


def found(secrets: Iterable[str], data: bytes) -> list[str]:
    """The secrets that stand in `data`, in any spelling."""
    return [secret for secret in secrets if any(form in data for form in spellings(secret))]


class Listener:
    """A plain TCP server that keeps what it was sent and answers by a function of it."""

    def __init__(
        self, host: str = "127.0.0.1", answer: Callable[[bytes], bytes] = lambda data: b""
    ) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._socket = socket.create_server((host, 0))
        self.host, self.port = self._socket.getsockname()[:2]
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def name(self) -> str:
        """Host and port, as a request names them."""
        return f"{self.host}:{self.port}"

    def stop(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
                head, end, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if end and len(body) >= (int(length[1]) if length else 0):
                    self.received.append(data)
                    connection.sendall(self._answer(data))
                    data = b""


def answers_in(data: bytes) -> list[tuple[int, bool]]:
    """The answers in what a client heard: status, and whether it is there to its end.

    What may last until the connection ends has no end here.
    """
    found = []
    while match := re.match(rb"HTTP/1\.1 (\d{3}) ", data):
        head, _, data = data.partition(b"\r\n\r\n")
        if match[1].startswith(b"1"):
            continue
        rest = _after_body(head.lower(), data)
        found.append((int(match[1]), rest is not None))
        data = rest or b""
    return found


def _after_body(head: bytes, data: bytes) -> bytes | None:
    """What follows an answer's body; None where its end is not there."""
    length = re.search(rb"(?m)^content-length: *(\d+)", head)
    if data.startswith(b"HTTP/1.1 "):
        return data  # to a HEAD
    if length:
        return data[int(length[1]) :] if len(data) >= int(length[1]) else None
    if b"chunked" not in head:
        return None
    while match := re.match(rb"([0-9a-f]+)\r\n", data):
        size = int(match[1], 16)
        data = data[match.end() + size + 2 :]
        if not size:
            return data
    return None


@dataclass(frozen=True)
class Heard:
    """What a client got: the bytes, and whether the connection was closed."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers, interim ones (1xx) left out."""
        return [status for status, _ in answers_in(self.data)]

    @property
    def status(self) -> int | None:
        """The status of the first answer."""
        return next(iter(self.statuses), None)

    def header(self, name: str) -> str | None:
        """A header of the first answer."""
        head = self.data.partition(b"\r\n\r\n")[0].decode("latin-1")
        match = re.search(rf"(?im)^{re.escape(name)}: *(.*?)\r?$", head)
        return match[1] if match else None

    @property
    def body(self) -> bytes:
        """What follows the first head."""
        return self.data.partition(b"\r\n\r\n")[2]


def talk(port: int, *pieces: bytes, deadline: float = DEADLINE, answers: int = 1) -> Heard:
    """Send `pieces`, read until the gateway closes or has given `answers` and is quiet.

    Fails when neither happens before `deadline` (O7).
    """
    end = time.monotonic() + deadline
    data, closed = b"", False
    with socket.create_connection(("127.0.0.1", port), deadline) as sock:
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                sock.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.05)
        while time.monotonic() < end:
            full = len(Heard(data, False).statuses) >= answers and b"\r\n\r\n" in data
            sock.settimeout(QUIET if full else max(0.01, end - time.monotonic()))
            try:
                chunk = sock.recv(65536)
            except TimeoutError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                closed = True
                break
            data += chunk
    heard = Heard(data, closed)
    assert closed or heard.statuses, f"O7: neither an answer nor a close: {data!r}"
    return heard


@dataclass
class Oracles:
    """Watches one gateway: `mark` before a case, `check` after it."""

    gateway: Gateway
    providers: tuple[Provider, ...]
    evil: Listener | None = None
    dialled: Path | None = None
    allowed: frozenset[str] = frozenset()
    keys: dict[str, str] = field(default_factory=lambda: dict(KEYS))
    clients: tuple[str, ...] = (CLIENT_KEY,)
    _seen: list[int] = field(default_factory=list)
    _sizes: dict[Path, int] = field(default_factory=dict)
    _output: int = 0
    _records: int = 0
    _since: str = ""
    _files: list[str] = field(default_factory=list)
    _resident: int = 0

    def begin(self) -> None:
        """From here on is what a whole run of cases did: the gateway is warm, and idle."""
        self._files, self._resident = self._open_files(), resident(self.gateway.process.pid)

    def settle(self, growth: int = 64 << 20) -> None:
        """After a run of cases nothing of them is left: no open file, little memory (O5)."""
        end = time.monotonic() + DEADLINE
        while len(files := self._open_files()) > len(self._files) and time.monotonic() < end:
            time.sleep(0.05)
        left = sorted(set(files) - set(self._files))
        assert len(files) <= len(self._files), f"O5: files are still open: {left}"
        grown = resident(self.gateway.process.pid) - self._resident
        assert grown < growth, f"O5: {grown >> 20} MB more than before"

    def _open_files(self) -> list[str]:
        found = []
        for file in Path(f"/proc/{self.gateway.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed by now
                found.append(str(file.readlink()))
        return found

    def mark(self) -> None:
        """From here on is what a case did."""
        self._let_records_come()
        self._seen = [len(provider.seen) for provider in self.providers]
        self._output = self.gateway.log_path.stat().st_size
        files = self.gateway.folder.rglob("*")
        self._sizes = {file: file.stat().st_size for file in files if file.is_file()}
        self._records = self._size()
        self._since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _let_records_come(self) -> None:
        """A record is written a moment after its client has its answer: none is on its way now."""
        path, size = self.gateway.records_path, -1
        while size != (size := path.stat().st_size if path.exists() else 0):
            time.sleep(SETTLED)

    def new(self) -> list[Any]:
        """The requests that reached a provider since `mark`."""
        pairs = zip(self.providers, self._seen, strict=True)
        return [seen for provider, start in pairs for seen in provider.seen[start:]]

    def told(self, count: int = 0) -> list[dict[str, Any]]:
        """The records of what began since `mark`, once there are `count`, or a while later."""
        end = time.monotonic() + DEADLINE
        while True:
            every = self.gateway.records()[self._records :]
            # A call of the case before may have come to its end only now.
            found = [record for record in every if record["time"] >= self._since]
            if len(found) >= count or time.monotonic() > end:
                return found
            time.sleep(0.005)

    def new_records(self, count: int) -> list[dict[str, Any]]:
        """The records since `mark`; fails unless there are `count` (O6)."""
        records, every = self.told(count), self.gateway.records()
        assert len(records) == count, f"O6: {len(records)} records instead of {count}: {records}"
        assert len({record["id"] for record in every}) == len(every), "O6: an id stands twice"
        return records

    def check(self, heard: bytes = b"", records: int | None = None, alive: bool = True) -> None:
        """Every oracle. `heard` is what the client got; `records` how many are due.

        Without `alive` the caller has seen to it that the gateway still answers.
        """
        if alive:
            self._answers()
        self._sent()
        if records is not None:
            self.new_records(records)
        assert not found(self.keys.values(), heard), "O1: the client got a key"
        secrets = (*self.keys.values(), *self.clients)
        for file, data in self._written():
            assert not found(secrets, data), f"O1, O2: {found(secrets, data)} in {file.name}"
        with self.gateway.log_path.open("rb") as log:
            log.seek(self._output)
            output = log.read().decode("latin-1")
        assert not _CRASH.search(output), f"O4: {output}"
        if self.evil is not None:
            assert not self.evil.connections, "O3: the evil listener was dialled"
        if self.dialled is not None and self.dialled.exists():
            dialled = set(self.dialled.read_text().split())
            assert dialled <= self.allowed, f"O3: dialled {dialled - self.allowed}"

    def _sent(self) -> None:
        for seen in self.new():
            whole = seen.head + seen.body
            assert not found(self.clients, whole), f"O2: the client's credential in {seen.head!r}"
            for name, key in self.keys.items():
                count = whole.count(key.encode())
                assert count <= 1, f"O1: the {name} key {count} times in {seen.head!r}"
                assert not found([key], seen.body), f"O1: the {name} key in a body"
                assert key not in seen.target, f"O1: the {name} key in a target"
            keys = found(self.keys.values(), whole)
            assert len(keys) <= 1, f"O1: keys of several providers: {keys}"

    def _answers(self) -> None:
        heard = talk(self.gateway.port, _HEALTH)
        assert heard.status == 200, f"O5: {heard.data!r}"

    def _written(self) -> Iterator[tuple[Path, bytes]]:
        """What was written into the gateway's folder since `mark`."""
        for file in self.gateway.folder.rglob("*"):
            if file.is_file() and file.name != "gateway.yaml":
                with file.open("rb") as stream:
                    stream.seek(self._sizes.get(file, 0))
                    yield file, stream.read()

    def _size(self) -> int:
        path = self.gateway.records_path
        return path.read_bytes().count(b"\n") if path.exists() else 0
