"""Many at once: who floods is held up by his own limits, and everybody else is served.

Threat catalogue: I04 connections and descriptors, I09 many streams, I11 refused requests. Limits
are small, so that few requests are a flood.
"""

import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.pace import AT_ONCE, PER_SECOND

from live.harness import Gateway, Upstream, Wire, config_for, running
from live.oracles import Heard, Oracles, talk

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHAT = "/openai_passthrough/v1/chat/completions"
TOKENS = {"flooding": "flooding-token-0123456789", "quiet": "quiet-token-9876543210"}
LIMITS = {"requests": 6, "requests_per_client": 3, "connections": 20}
PATIENCE = 5.0


class Slow:
    """A provider that answers when it is told to, and counts who waits for it."""

    def __init__(self) -> None:
        self.upstream = Upstream(self._talk)
        self.go_on = threading.Event()
        self.waiting = threading.Semaphore(0)

    def _talk(self, wire: Wire) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                head, _ = wire.message()
                if b"x-wait" in head.lower():
                    self.waiting.release()
                    self.go_on.wait(PATIENCE * 4)
                wire.send(OK)

    def hold(self, count: int) -> None:
        """Wait until so many requests wait."""
        for _ in range(count):
            assert self.waiting.acquire(timeout=PATIENCE)

    def release(self) -> None:
        self.go_on.set()


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.release()
    slow.upstream.stop()


@pytest.fixture(scope="module")
def target() -> Iterator[Upstream]:
    """Where the gateway's upstream is; each test puts its own behaviour there."""
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def gateway(target: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    clients = [{"name": name, "tokens": [token]} for name, token in TOKENS.items()]
    config = config_for(target.url, limits=LIMITS, clients=clients)
    config["log"] = {"refused_per_minute": 40}
    gateway = Gateway(tmp_path_factory.mktemp("flood"), config)
    yield gateway
    gateway.stop()


@pytest.fixture
def held(target: Upstream) -> Iterator[Slow]:
    slow = Slow()
    target.talk = slow._talk
    yield slow
    slow.release()


@pytest.fixture
def oracles(gateway: Gateway) -> Oracles:
    oracles = Oracles(gateway, (), clients=tuple(TOKENS.values()))
    oracles.mark()
    return oracles


def ask(client: str, *headers: str, close: bool = True) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKENS[client]}"]
    lines += [*headers, "Content-Length: 2"] + (["Connection: close"] if close else [])
    return "\r\n".join([*lines, "", "{}"]).encode()


def begun(gateway: Gateway, client: str) -> socket.socket:
    """A connection with a request that the provider holds back."""
    sock = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE * 4)
    sock.sendall(ask(client, "X-Wait: yes"))
    return sock


def error(heard: Heard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(heard.body)["error"]
    return found


def health(gateway: Gateway) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    connection.request("GET", "/health", headers={"Host": "localhost", "Connection": "close"})
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_who_floods_is_refused_by_his_own_limit_and_everybody_else_is_served(
    gateway: Gateway, held: Slow, oracles: Oracles
) -> None:
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(begun(gateway, "flooding")) for _ in range(3)]
        held.hold(3)
        for _ in range(5):
            heard = talk(gateway.port, ask("flooding"))
            assert heard.status == 429
            assert heard.header("retry-after") == "1"
            assert heard.header("x-should-retry") is None
            assert error(heard)["code"] == "client_busy"
            assert talk(gateway.port, ask("quiet")).status == 200
        # All places are taken: nobody is served, and everybody is told when to come again.
        quiet = [stack.enter_context(begun(gateway, "quiet")) for _ in range(3)]
        held.hold(3)
        heard = talk(gateway.port, ask("quiet"))
        assert (heard.status, heard.header("retry-after")) == (503, "1")
        assert error(heard)["code"] == "busy"
        assert health(gateway)["status"] == "ready"
        held.release()
        for sock in (*flood, *quiet):
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert talk(gateway.port, ask("flooding")).status == 200
    oracles.check(records=3 + 5 + 5 + 3 + 1 + 1)


def test_who_leaves_gives_his_place_back(gateway: Gateway, held: Slow, oracles: Oracles) -> None:
    for _ in range(3):
        socks = [begun(gateway, "flooding") for _ in range(3)]
        held.hold(3)
        for sock in socks:
            sock.close()
        oracles.gateway.records(oracles._records + 3)
        oracles.mark()
    held.release()
    assert talk(gateway.port, ask("flooding")).status == 200


def test_a_connection_too_many_is_told_so_and_one_less_is_served(
    gateway: Gateway, held: Slow, oracles: Oracles
) -> None:
    """I04: idle connections take places; who comes then hears of it, at once."""
    held.release()
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), PATIENCE))
            for _ in range(LIMITS["connections"])
        ]
        heard = talk(gateway.port, ask("quiet"))
        assert heard.status == 503
        assert heard.closed
        assert error(heard)["code"] == "too_many_connections"
        assert heard.header("retry-after") == "1"
        for _ in range(30):  # and of still more nobody is heard
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), PATIENCE))
        for sock in idle:
            sock.close()
    for _ in range(50):
        if talk(gateway.port, ask("quiet")).status == 200:
            break
    else:
        pytest.fail("no place is free again")
    unrecorded = health(gateway)["traffic"]["unrecorded"]
    assert unrecorded["too_many_connections"] >= 1


def test_a_flood_of_refused_requests_does_not_fill_the_disk(
    gateway: Gateway, held: Slow, oracles: Oracles
) -> None:
    """I11, G03: each client's beyond a rate are counted only, the others' records stand; and
    whoever tries tokens is told no more than thirty a second that it was none."""
    held.release()
    before = health(gateway)["log"]["withheld"]
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    begun = time.monotonic()
    for _ in range(200):
        connection.request("POST", CHAT, b"{}", {"Authorization": "Bearer nobody"})
        answer = connection.getresponse()
        assert answer.status == 401
        answer.read()
    connection.close()
    assert time.monotonic() - begun > (200 - AT_ONCE - 2) / PER_SECOND
    assert talk(gateway.port, ask("quiet")).status == 200
    withheld = health(gateway)["log"]["withheld"] - before
    assert withheld > 100
    told = oracles.told(201 - withheld)
    assert len(told) == 201 - withheld
    assert told[-1]["client"] == "quiet"
    assert gateway.output.count("counted but not recorded") <= 3


def test_few_descriptors_bound_the_connections_and_nothing_breaks(
    tmp_path: Path, slow: Slow
) -> None:
    """I04: 100 connections where 64 files may be open; who is served is served."""
    slow.release()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(tmp_path, config_for(slow.upstream.url)) as gateway:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (64, limit[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), PATIENCE))
        for _ in range(100):
            with contextlib.suppress(OSError, AssertionError):
                if talk(gateway.port, ask("quiet")).status == 200:
                    break
        else:
            pytest.fail("it does not recover")
        assert "has crashed" not in gateway.output


def test_many_streams_at_once_all_go_on(gateway: Gateway, target: Upstream) -> None:
    """I09: HTTP/2 is not offered, so that each stream has a connection; none waits for another."""
    streams, all_there = LIMITS["requests_per_client"], threading.Barrier(3)

    def stream(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        all_there.wait(PATIENCE)
        wire.send(b"data: 2\n\n")

    target.talk = stream
    heard: list[Heard] = []
    threads = [
        threading.Thread(target=lambda: heard.append(talk(gateway.port, ask("quiet"))))
        for _ in range(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [each.body for each in heard] == [b"data: 1\n\ndata: 2\n\n"] * streams
