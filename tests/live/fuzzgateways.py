"""Gateways to hunt: ours with every oracle, and a naive one that the fuzzer must find guilty."""

import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from live.fuzzground import Ground, Prey
from live.fuzzsaying import say
from live.harness import (
    BIN,
    KEYS,
    Gateway,
    borrow,
    clean_environment,
    config_for,
    free_port,
    names_addon,
)
from live.mutations import BASES, Case
from live.oracles import Listener, Oracles, talk

OUTCOMES = frozenset("ok refused upstream_error client_abort upstream_abort timeout error".split())
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_PATIENCE = 8.0


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
        lambda: _let_end(gateway.port, first, second), written,
        lambda: _account(gateway, first, second),
    )  # fmt: skip
    oracles.mark()
    for base in range(len(BASES)):  # what is loaded late is loaded
        say(ground, Case(base, ()).message())
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
    borrow(folder / "mitm")
    command += ["--set", f"confdir={folder}/mitm", "-s", str(names_addon(folder, {}))]
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


def _let_end(port: int, *preys: Prey) -> None:
    """What a case did is done when its connections are closed: who is refused much waits."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(ValueError):  # no answer yet, on a busy machine
            if json.loads(talk(port, _HEALTH).body)["traffic"]["connections"] <= 1:
                break
        time.sleep(0.02)
    for prey in preys:
        prey.let_end(end)


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
