"""Gateways on several machines that share through a real Redis: rests, sums, and no secret."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live.harness import (
    CLIENT_KEY,
    KEYS,
    Gateway,
    Upstream,
    Wire,
    body_of,
    config_for,
    free_port,
    raw,
    request,
    status_of,
)
from live.oracles import DEADLINE

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")
PASSWORD = "of-redis-CANARY-0123456789"
BOB, EVE = "bob-token-0123456789", "eve-token-0123456789"
TWO = {name: f"sk-{name}-of-two-0123456789" for name in ("one", "other")}
USAGE = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
OK = json.dumps({"id": "1", "model": "gpt-4o", "choices": [], "usage": USAGE}).encode()


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 3 * DEADLINE
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


def talk(wire: Wire) -> None:
    """The provider: 429 to who asks for `limited`."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            _, body = wire.message()
            limited = b"limited" in body
            status = "429 Too Many Requests\r\nRetry-After: 60" if limited else "200 OK"
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            wire.send(f"{head}Content-Length: {len(OK)}\r\n\r\n".encode() + OK)


class Redis:
    """A server on a port of its own that keeps nothing on any disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self) -> None:
        assert SERVER is not None
        self.process = subprocess.Popen(
            [SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--requirepass", PASSWORD],
            cwd=self.folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers, "Redis")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return b"PONG" in self.ask("PING")
        return False

    def ask(self, *words: str) -> bytes:
        """One command; what it answers."""
        with self.open() as sock:
            sock.sendall(command(*words) + command("QUIT"))
            out = b""
            while piece := sock.recv(65536):
                out += piece
            return out

    @contextlib.contextmanager
    def open(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as sock:
            sock.sendall(command("AUTH", PASSWORD))
            yield sock

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class Machines:
    """Redis, gateways with logs of their own, and the provider of all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.redis, self.upstream = folder, Redis(folder), Upstream(talk)
        self.gateways: list[Gateway] = []
        self.heard = b""
        self._monitor = self._listen()
        self.one, self.two = self.start(), self.start()
        for gateway in self.gateways:
            until(lambda: self.share(gateway) == "ok", "the line to Redis")  # noqa: B023

    def _listen(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.redis.port), DEADLINE)
        sock.sendall(command("AUTH", PASSWORD) + command("MONITOR"))
        return sock

    def said(self) -> bytes:
        """All that gateways sent to Redis until it was killed."""
        out = b""
        with contextlib.suppress(OSError):
            while piece := self._monitor.recv(65536):
                out += piece
        return out

    def start(self, folder: Path | None = None) -> Gateway:
        config = config_for(
            self.upstream.url,
            share={"redis": "env.SHARED"},
            clients=[
                {"name": "alice", "tokens": [CLIENT_KEY]},
                {"name": "bob", "tokens": [BOB], "budget": {"monthly": 1}},
                {"name": "eve", "tokens": [EVE], "requests_per_minute": 1000},
            ],
            prices={"gpt-4o": {"input": 100_000, "output": 0}},  # ten tokens are a dollar
            routes=[
                {
                    "prefix": "/two",
                    "upstream": self.upstream.url,
                    "keys": [{"name": name, "value": value} for name, value in TWO.items()],
                }
            ],
        )
        url = f"redis://:{PASSWORD}@127.0.0.1:{self.redis.port}/0"
        folder = folder or self.folder / f"machine-{len(self.gateways)}"
        self.gateways.append(Gateway(folder, config, env={"SHARED": url}))
        return self.gateways[-1]

    def health(self, gateway: Gateway, what: str = "keys") -> dict[str, Any]:
        asked = request(f"/health?{what}", b"", "GET", ())
        told: dict[str, Any] = json.loads(body_of(raw(gateway.port, asked)))
        return told

    def share(self, gateway: Gateway) -> str:
        health = self.health(gateway)
        assert health["status"] == "ready"
        return str(health["share"])

    def rests(self, gateway: Gateway, name: str) -> bool:
        return bool(self.health(gateway)["keys"]["two"][name].startswith("rests"))

    def used(self, gateway: Gateway, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.health(gateway, "clients")["clients"][name]
        return told

    def ask(
        self, gateway: Gateway, token: str = CLIENT_KEY, model: str = "gpt-4o", key: str = ""
    ) -> int:
        headers = [f"Authorization: Bearer {token}", *([f"x-passthrough-key: {key}"] * bool(key))]
        body = json.dumps({"model": model, "messages": []}).encode()
        whole = request("/two/chat/completions", body, headers=tuple(headers))
        return status_of(raw(gateway.port, whole))

    def end(self) -> None:
        for gateway in self.gateways:
            gateway.process.kill()
        self.redis.kill()
        self._monitor.close()
        self.upstream.stop()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    machines = Machines(tmp_path_factory.mktemp("machines"))
    yield machines
    machines.end()
    assert not machines.upstream.failures


def test_a_key_that_rests_at_one_machine_rests_at_all_until_it_is_good_again(
    machines: Machines,
) -> None:
    one, two = machines.one, machines.two
    assert machines.ask(one, model="limited", key="one") == 429
    until(lambda: machines.rests(two, "one"), "the rest")
    assert not machines.rests(two, "other")
    assert machines.ask(two, key="one") == 200
    until(lambda: not machines.rests(one, "one"), "the end of the rest")


def test_what_a_client_used_at_one_machine_is_used_at_all(machines: Machines) -> None:
    one, two = machines.one, machines.two
    assert machines.ask(one, BOB) == 200
    until(lambda: machines.used(two, "bob")["this_month"]["cost"] >= 1, "the sum")
    assert machines.ask(two, BOB) == 429
    cost = [machines.used(each, "bob")["this_month"]["cost"] for each in (one, two)]
    assert cost == [1, 1]


POISONED = [
    pytest.param("no JSON", id="no JSON"),
    pytest.param("[" * 100_000, id="nested without end"),
    pytest.param("[]", id="a list"),
    pytest.param('{"from": "x", "keys": [["two", "other"]], "used": {}}', id="a part of a rest"),
    pytest.param(
        '{"from": "x", "keys": [["two", "other", 0, NaN, "", 1]], "used": {}}', id="not a number"
    ),
    pytest.param(
        '{"from": "x", "keys": [["two", "other", 0, 60, "\\u001b[2J", 1]], "used": {}}',
        id="control characters",
    ),
    pytest.param(
        '{"from": "x", "keys": [], "used": {"0123456789abcdef": '
        '{"eve": [[0, 0], [0, 0], [99999999, 0, 0, 0, 0], [0, 0, 0, 0, 0]]}}}',
        id="a day that is yet to come",
    ),
    pytest.param(
        '{"from": "x", "keys": [], "used": {"0123456789abcdef": '
        '{"eve": [[0, 0], [0, 0], [0, 0, 0, 0, 0], [0, 0, 0, -5, 0]]}}}',
        id="less than nothing",
    ),
    pytest.param('{"from": "x", "keys": [], "used": {}}' + " " * (1 << 20), id="too long"),
]


@pytest.mark.parametrize("message", POISONED)
def test_a_message_of_a_stranger_changes_nothing(machines: Machines, message: str) -> None:
    one = machines.one
    before = machines.used(one, "eve")
    ignored = one.output.count("what was told there is not ours")
    machines.redis.ask("PUBLISH", "llm-passthrough", message)
    until(lambda: one.output.count("what was told there is not ours") > ignored, "a line")
    assert machines.used(one, "eve") == before
    assert not machines.rests(one, "other")
    assert machines.share(one) == "ok"


def test_redis_may_go_and_come_back_and_who_starts_later_knows_all(machines: Machines) -> None:
    one, two = machines.one, machines.two
    machines.redis.kill()
    sent = machines.said()
    assert b'"PUBLISH" "llm-passthrough"' in sent
    for gateway in (one, two):
        until(lambda: machines.share(gateway) == "away", "the word that it is away")  # noqa: B023
    assert machines.ask(one) == 200
    assert machines.ask(one, model="limited", key="other") == 429
    third = machines.start()  # waits for nobody
    assert machines.share(third) == "away"
    assert machines.ask(third, key="one") == 200
    machines.redis.start()
    for gateway in (one, two, third):
        until(lambda: machines.share(gateway) == "ok", "the word that it is back")  # noqa: B023
        until(lambda: machines.rests(gateway, "other"), "the rest")  # noqa: B023
        until(lambda: machines.used(gateway, "bob")["this_month"]["cost"] == 1, "the sum")  # noqa: B023
        assert machines.ask(gateway, BOB) == 429
    fourth = machines.start()
    until(lambda: machines.rests(fourth, "other"), "the rest")
    until(lambda: machines.used(fourth, "bob")["this_month"]["cost"] == 1, "the sum")
    assert one.output.count("Redis is away") == one.output.count("Redis is back") == 1
    kept = machines.redis.ask("HGETALL", "llm-passthrough:used")
    kept += machines.redis.ask("KEYS", "*") + machines.redis.ask(
        "GET", "llm-passthrough:rest:two:other"
    )
    assert b"bob" in kept
    assert b"answered 429" in kept
    said = b"".join(gateway.output.encode() for gateway in machines.gateways)
    for secret in (CLIENT_KEY, BOB, EVE, *TWO.values(), *KEYS.values()):
        assert secret.encode() not in sent + kept + said
    assert PASSWORD.encode() not in kept + said


def test_a_start_counts_nothing_twice(machines: Machines) -> None:
    """What its log holds from before is what it told of itself, and no more."""
    one, two = machines.one, machines.two
    assert one.stop() == 0
    machines.one = again = machines.start(one.folder)
    until(lambda: machines.share(again) == "ok", "the line to Redis")
    assert machines.ask(again, BOB) == 429
    before = machines.used(two, "alice")["this_month"]["calls"]
    assert machines.ask(again, key="one") == 200
    until(lambda: machines.used(two, "alice")["this_month"]["calls"] > before, "the sum")
    assert machines.used(two, "alice")["this_month"]["calls"] == before + 1
    assert [machines.used(each, "bob")["this_month"]["cost"] for each in (again, two)] == [1, 1]
