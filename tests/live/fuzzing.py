"""A seeded fuzzer: spoilt requests (mutations.py) at a real gateway, judged after every one.

Who is guilty gets the case cut down to the smallest request that shows it. `scripts/fuzz` runs it,
and a test a few hundred cases of it.
"""

import contextlib
import itertools
import random
import re
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import typer

from live.harness import (
    BIN,
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Wire,
    clean_environment,
    config_for,
    free_port,
    names_addon,
)
from live.mutations import Case, Message, case
from live.oracles import Listener, Oracles, answers_in, found
from live.scene import CREDENTIALS, NEVER_SENT

_SILENCE = 0.15  # after which a request that may be unfinished is left at that
_AT_ONCE = 8
_FULL = 400  # cases between two looks at all records
_LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.[01]")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t\x20-\x7e\x80-\xff]*")
OUTCOMES = frozenset("ok refused upstream_error client_abort upstream_abort timeout error".split())
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"


class Prey(Upstream):
    """A provider that keeps every byte, and says nothing to what is not a plain request."""

    def __init__(self) -> None:
        super().__init__(self._hear)
        self.seen: list[tuple[bytes, bytes]] = []

    def _hear(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                head, body = wire.message()
                self.seen.append((head, body))
                wire.send(_OK if head.startswith(b"HEAD ") else _OK + b"{}")


@dataclass
class Ground:
    """What is hunted: a gateway's port, who is behind it, and what is in its keeping.

    `whose` says which keys each provider may see. `written` looks at what was written since it was
    last asked, `account` at all of it, which takes longer. `deadline` is in seconds. A fault
    counts if it begins as one of `blamed`.
    """

    port: int
    preys: tuple[Prey, ...]
    evil: Listener
    whose: Sequence[frozenset[str]]
    dialled: Path
    trust: ssl.SSLContext | None = None
    written: Callable[[], None] = lambda: None
    account: Callable[[], None] = lambda: None
    deadline: float = 8.0
    blamed: tuple[str, ...] = ("",)
    marks: list[int] = field(default_factory=list)

    def mark(self) -> None:
        """From here on is what the next cases did."""
        self.marks = [len(prey.seen) for prey in self.preys]

    def seen(self) -> list[tuple[int, bytes, bytes]]:
        """What reached a provider since: its number, head and body."""
        return [
            (number, head, body)
            for number, prey in enumerate(self.preys)
            for head, body in prey.seen[self.marks[number] :]
        ]

    def fill(self, data: bytes) -> bytes:
        """Bytes with the names that stand for addresses filled in."""
        for name, value in (
            (b"{GW}", f"127.0.0.1:{self.port}"),
            (b"{EV}", self.evil.name),
            (b"{PR}", "api.openai.com"),
        ):
            data = data.replace(name, value.encode())
        return data


# -- one case --------------------------------------------------------------------------------------


@dataclass
class Told:
    """What came of one case."""

    data: bytes
    tunnel: str | None = None
    heard: bytes = b""
    fault: str | None = None


def say(ground: Ground, message: Message) -> Told:
    """Send a message, hear what comes until the gateway closes; fails when it does not (O7)."""
    told = Told(ground.fill(message.data()), message.tunnel)
    try:
        with (
            contextlib.suppress(ConnectionError, ssl.SSLError),
            _connected(ground, message.tunnel) as sock,
        ):
            with contextlib.suppress(ConnectionError):
                sock.sendall(told.data)
            told.heard = _listen(sock, message.whole, ground.deadline)
    except TimeoutError:
        told.fault = f"O7: neither an answer nor a close, {message.whole=}: {told.data!r}"
    return told


def _connected(ground: Ground, tunnel: str | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", ground.port), ground.deadline)
    if tunnel is None or ground.trust is None:
        return sock
    wire = Wire(sock, ground.deadline)
    wire.send(f"CONNECT {tunnel}:443 HTTP/1.1\r\nHost: {tunnel}:443\r\n\r\n".encode())
    with contextlib.suppress(EOFError):
        wire.until(b"\r\n\r\n")
    return ground.trust.wrap_socket(sock, server_hostname=tunnel)


def _listen(sock: socket.socket, whole: bool, deadline: float) -> bytes:
    """All that is said. Who was answered, or may owe something, says no more after a while."""
    heard, open_still = b"", True
    end = time.monotonic() + deadline
    while True:
        answered = any(done for _, done in answers_in(heard)) or b"HTTP/1.1 101 " in heard
        if open_still and whole and answered:
            open_still = _ends(sock)
        if sock.fileno() < 0:
            return heard
        patient = whole or not open_still
        sock.settimeout(max(0.01, end - time.monotonic()) if patient else _SILENCE)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            if patient:
                raise
            open_still = _ends(sock)
            continue
        except OSError:
            data = b""
        if not data:
            return heard
        heard += data


def _ends(sock: socket.socket) -> bool:
    """This side has nothing more to say: whether it is open still."""
    with contextlib.suppress(OSError):
        if isinstance(sock, ssl.SSLSocket):
            sock.close()  # TLS has no half of an end that the other side would answer
        else:
            sock.shutdown(socket.SHUT_WR)
    return False


# -- judging ---------------------------------------------------------------------------------------


def judge(ground: Ground, told: Sequence[Told]) -> str | None:
    """What is wrong with what these cases did, or None. Some were at the same time."""
    faults = (fault for fault in _faults(ground, told) if fault.startswith(ground.blamed))
    return next(faults, None)


def _faults(ground: Ground, told: Sequence[Told]) -> Iterator[str]:
    sent = b"\n".join(each.data + (each.tunnel or "").encode() for each in told)
    for each in told:
        if keys := found(KEYS.values(), each.heard):
            yield f"O1: the client got {keys}"
        if each.fault:
            yield each.fault
    if ground.evil.connections:
        yield f"O3: somebody evil was dialled, and heard {ground.evil.received}"
    for number, head, body in ground.seen():
        for fault in _faults_sent(ground.whose[number], head, body, sent):
            yield f"{fault}: {(head + body)[:400]!r}"
        # In a tunnel each path is the provider's own.
        if b"/smuggled" in head[:20] and not any(each.tunnel for each in told):
            yield f"a request inside of another one: {head!r}"


def _faults_sent(own: frozenset[str], head: bytes, body: bytes, sent: bytes) -> Iterator[str]:
    """What is wrong with a request that reached a provider."""
    whole = head + body
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = [each.partition(b":")[0].decode("latin-1").lower() for each in fields]
    keys = [name for name, key in KEYS.items() if found([key], whole)]
    if found([CLIENT_KEY], whole):
        yield "O2: the client's credential went to a provider"
    if len(keys) != 1 or not set(keys) <= own or whole.count(KEYS[keys[0]].encode()) != 1:
        yield f"O1: the keys of {keys or 'nobody'}, not one of {sorted(own)} once"
    elif _asked(keys[0]) not in unquote_to_bytes(unquote_to_bytes(sent)).lower():
        yield f"O1: the key of {keys[0]}, which nobody asked for"
    if sum(name in CREDENTIALS for name in names) != 1 or found(KEYS.values(), line):
        yield "O1: not one credential, in a header of its own"
    if not _LINE.fullmatch(line) or not all(map(_FIELD.fullmatch, fields)):
        yield "no plain request"
    asks_socket = {b"upgrade: websocket", b"connection: upgrade"} <= {f.lower() for f in fields}
    hop = [name for name in names if NEVER_SENT.match(name)]
    if names.count("host") != 1 or set(hop) != ({"upgrade"} if asks_socket else set()):
        yield "not one Host, or a header of another hop"
    if len({"content-length", "transfer-encoding"} & set(names)) > 1:
        yield "two lengths"


def _asked(provider: str) -> bytes:
    """What stands in each request that may get a provider's key."""
    named = {"openai": b"openai", "gemini": b"genai_passthrough", "vertex": b"genai_passthrough"}
    return named.get(provider, f"{provider}_passthrough".encode())


# -- the hunt --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A fault, and the smallest case that shows it (the whole batch, if none alone does)."""

    seed: int
    number: int
    fault: str
    case: Case | None
    request: bytes

    def __str__(self) -> str:
        steps = ", ".join(name for name, _ in self.case.steps) if self.case else "several at once"
        return (
            f"seed {self.seed}, case {self.number} ({steps})\n{self.fault}\n"
            f"smallest request: {self.request!r}"
        )


def attempt(ground: Ground, cases: Sequence[Case]) -> str | None:
    """What is wrong after these cases, which run at the same time; None if all is well."""
    ground.mark()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told = list(pool.map(lambda each: say(ground, each.message()), cases))
    return judge(ground, told) or _asserted(ground.written)


def hunt(ground: Ground, seed: int, count: int) -> Found | None:
    """Try `count` cases; the first fault, or None. The same seed gives the same cases."""
    chance = random.Random(seed)
    cases = [case(chance) for _ in range(count)]
    for at in range(0, count, _AT_ONCE):
        batch = cases[at : at + _AT_ONCE]
        fault = attempt(ground, batch)
        if fault is None and at % _FULL < _AT_ONCE:
            fault = _asserted(ground.account)
        if fault is not None:
            return _cornered(ground, seed, at, batch, fault)
    fault = _asserted(ground.account)
    return Found(seed, count, fault, None, b"") if fault else None


def _asserted(check: Callable[[], None]) -> str | None:
    try:
        check()
    except AssertionError as error:
        return str(error)[:6000]
    return None


def _cornered(ground: Ground, seed: int, at: int, batch: list[Case], fault: str) -> Found:
    """Which of a batch it was, and the least of it that is still wrong."""
    for number, each in enumerate(batch, at):
        alone = _alone(ground, each)
        if alone is not None:
            small = shrunk(each, lambda other: _alone(ground, other) is not None)
            return Found(
                seed,
                number,
                _alone(ground, small) or alone,
                small,
                ground.fill(small.message().data()),
            )
    sent = b"\n----\n".join(ground.fill(each.message().data()) for each in batch)
    return Found(seed, at, fault, None, sent)


def _alone(ground: Ground, each: Case) -> str | None:
    heard = ground.evil.connections
    fault = attempt(ground, [each])
    ground.evil.connections -= ground.evil.connections - heard  # the next one is judged alone too
    return fault if ground.evil.connections or fault else None


def shrunk(guilty: Case, still: Callable[[Case], bool]) -> Case:
    """The smallest case found that is `still` guilty: fewer mutations, then fewer bytes."""
    small, again = guilty, True
    while again:
        again = False
        for step in range(len(small.steps)):
            if still(small.without(step)):
                small, again = small.without(step), True
                break
    for lines in (True, False):
        small = _cut(small, still, lines)
    return small


def _cut(guilty: Case, still: Callable[[Case], bool], lines: bool) -> Case:
    """Without whole lines that do not matter; or without halves, quarters, ... of what is left."""
    data = guilty.message().data()
    tries: Iterator[tuple[int, int]]
    if lines:
        ends = [match.end() for match in re.finditer(rb"\r\n", data)]
        tries = iter(list(itertools.pairwise([0, *ends]))[::-1])
    else:
        sizes = itertools.takewhile(lambda size: size > 2, (len(data) >> n for n in range(1, 20)))
        tries = ((at, at + size) for size in sizes for at in range(len(data) - size, 0, -size))
    for start, stop in itertools.islice(tries, 60):
        other = data[:start] + data[stop:]
        if len(other) < len(data) and still(replace(guilty, kept=other)):
            data = other
    return replace(guilty, kept=data)


# -- our gateway -----------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(folder: Path, **more: Any) -> Iterator[Ground]:
    """The gateway of this repository, with every oracle."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second, evil = Prey(), Prey(), Listener("127.0.0.66")
    config = config_for(first.url, forward={"other": "block"}, **more)
    config["providers"]["anthropic"]["network_config"]["base_url"] = second.url
    gateway = Gateway(folder / "gateway", config, args=("-s", str(names_addon(folder, {}))))
    allowed = frozenset(f"127.0.0.1:{prey.port}" for prey in (first, second))
    dialled = folder / "dialled.txt"
    oracles = Oracles(gateway, (), evil, dialled, allowed)
    trust = ssl.create_default_context(cafile=gateway.folder / "mitm" / "mitmproxy-ca-cert.pem")

    def written() -> None:
        try:
            oracles.check()
        finally:
            oracles.mark()

    others = frozenset(KEYS) - {"anthropic"}
    whose = (others, frozenset({"anthropic"}))
    ground = Ground(
        gateway.port, (first, second), evil, whose, dialled, trust,
        written, lambda: _account(gateway, first, second),
    )  # fmt: skip
    oracles.mark()
    attempt(ground, [Case(base, ()) for base in range(20)])  # what is loaded late is loaded
    oracles.begin()
    try:
        yield ground
        oracles.settle()
    finally:
        gateway.stop()
        for part in (first, second, evil):
            part.stop()


NAIVE = """
from mitmproxy import http

PREFIX = "/openai_passthrough"

def request(flow: http.HTTPFlow) -> None:
    if flow.request.path.startswith(PREFIX):
        flow.request.url = "{url}" + flow.request.path[len(PREFIX):]
        flow.request.headers["Authorization"] = "Bearer {key}"
"""


@contextlib.contextmanager
def naive(folder: Path) -> Iterator[Ground]:
    """A gateway as one writes it in ten minutes: rewritten by prefix, the key put into the flow."""
    first, evil, port = Prey(), Listener("127.0.0.66"), free_port()
    script = folder / "naive.py"
    script.write_text(NAIVE.replace("{url}", first.url).replace("{key}", KEYS["openai"]))
    command = [str(BIN / "mitmdump"), "-q", "-s", str(script), "-p", str(port)]
    command += ["--set", f"confdir={folder}", "-s", str(names_addon(folder, {}))]
    with (folder / "output.log").open("wb") as log:  # not from the nursery: nothing of ours in it
        process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment())
    for _ in range(600):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        time.sleep(0.05)
    try:
        yield Ground(port, (first,), evil, (frozenset({"openai"}),), folder / "dialled.txt",
                     deadline=1.0, blamed=("O1", "O3"))  # fmt: skip
    finally:
        process.kill()
        process.wait()
        first.stop()
        evil.stop()


def _account(gateway: Gateway, *preys: Prey) -> None:
    """Each request that reached a provider has its record, and no record's id stands twice (O6)."""
    reached = sum(len(prey.seen) for prey in preys)
    end = time.monotonic() + 5
    while True:
        records = gateway.records()
        signed = sum(record["key"] is not None for record in records)
        if signed >= reached or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert signed >= reached, f"O6: {signed} records of {reached} requests"
    assert len({record["id"] for record in records}) == len(records), "O6: an id stands twice"
    assert {record["outcome"] for record in records} <= OUTCOMES, "O6: an outcome that is none"


def main(
    seed: Annotated[int | None, typer.Option(help="By default another one each time.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="How many requests.")] = 1000,
) -> None:
    """Spoilt requests at a gateway on loopback; exit code 1 and the smallest one if it fails."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory() as folder, ours(Path(folder)) as ground:
        started = time.monotonic()
        guilty = hunt(ground, seed, cases)
    if guilty is not None:
        print(guilty)
        raise typer.Exit(1)
    print(f"seed {seed}: {cases} cases in {time.monotonic() - started:.0f} s, nothing found")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
