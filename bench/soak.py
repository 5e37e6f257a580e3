"""`python -m bench.soak`: mixed traffic without end, and what must hold after it.

One gateway, started as it is installed, in front of an upstream on loopback that also fails:
plain calls, streams, clients that leave, providers that fail, WebSockets, refusals. After all of
it the gateway's memory has not grown by more than a tenth since it was warm, its file descriptors
are back to what they were, every request has one record with the outcome that it had, and no
request was left without an end.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from bench.soaktraffic import Client, Soak, last_of, upstream

KEY = "sk-soak-KEY-0123456789"
_OUTCOMES = {
    "plain": {"ok"},
    "stream": {"ok"},
    "leave": {"client_abort"},
    "error": {"upstream_error"},
    "cut": {"upstream_abort"},
    "hang up": {"upstream_error"},
    "websocket": {"ok"},
    "refused": {"refused"},
}
_JUDGED = 10_000  # requests from which on the memory is judged


# -- the gateway -----------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.asynccontextmanager
async def gateway(folder: Path, behind: int) -> AsyncIterator[tuple[subprocess.Popen[bytes], int]]:
    """`llm-passthrough serve` in front of the upstream: the process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    url = f"http://127.0.0.1:{behind}"
    entry = {"keys": [{"value": KEY}], "network_config": {"base_url": url}}
    log = {"path": str(folder / "records.jsonl"), "rotate_bytes": 64 << 20}
    config = folder / "gateway.yaml"
    config.write_text(json.dumps({"providers": {"openai": entry}, "log": log}))
    config.chmod(0o600)
    command = [sys.executable, "-m", "llm_passthrough.cli.tethered", "serve", "--port", str(port)]
    command += ["--config", str(config), "--set", f"confdir={folder}/mitm"]
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own command; nothing runs yet
            command, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    try:
        await _ready(process, port, folder)
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)


async def _ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise SystemExit((folder / "output.log").read_text())


# -- what must hold --------------------------------------------------------------------------------


def judged(soak: Soak, folder: Path, files: tuple[int, int], code: int | None) -> list[str]:
    """A line for everything that does not hold."""
    lines = [f"{count} x {fault}" for fault, count in soak.faults.items()]
    if code != 0:
        lines.append(f"the gateway ended with {code}")
    if output := (folder / "output.log").read_text():
        lines.append(f"the gateway said: {output[:2000]}")
    if files[1] > files[0]:
        lines.append(f"{files[1]} files are open instead of {files[0]}")
    lines += _records(soak, folder)
    if (grown := growth(soak.memory)) > 0.10 and soak.begun >= _JUDGED:
        lines.append(f"the memory grew by {grown:.0%} since it was warm")
    return lines


def growth(memory: list[float]) -> float:
    """By how much the last quarter of the memory is above the second one."""
    quarter = len(memory) // 4
    if not quarter:
        return 0.0
    warm = statistics.median(memory[quarter : 2 * quarter])
    return statistics.median(memory[-quarter:]) / warm - 1


def _records(soak: Soak, folder: Path) -> list[str]:
    """Whether each request has its record, with the outcome that it had."""
    told: Counter[tuple[str, str]] = Counter()
    ids: set[str] = set()
    for file in sorted(folder.glob("records*.jsonl")):
        with file.open("rb") as lines:
            for line in lines:
                record = json.loads(line)
                kind = record["request"]["client_path"].rpartition("/")[2]
                told[kind, record["outcome"]] += 1
                ids.add(record["id"])
    wrong = []
    if len(ids) != soak.begun or told.total() != soak.begun:
        wrong.append(f"{told.total()} records with {len(ids)} ids instead of {soak.begun}")
    for kind, outcomes in _OUTCOMES.items():
        name = last_of(kind)
        right = sum(told[name, outcome] for outcome in outcomes)
        if right != soak.done[kind]:
            all_of = {outcome: n for (path, outcome), n in told.items() if path == name}
            wrong.append(f"{kind}: {all_of} instead of {soak.done[kind]} x {sorted(outcomes)}")
    return wrong


async def _settled(pid: int, base: int) -> int:
    """How many files are open, at the latest after ten seconds."""
    for _ in range(200):
        if descriptors(pid) <= base:
            break
        await asyncio.sleep(0.05)
    return descriptors(pid)


async def _soaked(soak: Soak, folder: Path) -> list[str]:
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    async with server, gateway(folder, server.sockets[0].getsockname()[1]) as (served, port):
        first = Client(port, soak.chance)
        await first.call("plain")
        first.close()
        soak.begun, soak.wanted = 1, soak.wanted + 1
        soak.done["plain"] += 1
        await asyncio.sleep(0.3)
        base = descriptors(served.pid)
        await soak.run(port, served.pid)
        left = await _settled(served.pid, base)
    return judged(soak, folder, (base, left), served.returncode)


def main(
    requests: Annotated[int, typer.Option(min=10, help="How many.")] = 200_000,
    clients: Annotated[int, typer.Option(min=1, help="How many call at once.")] = 16,
    minutes: Annotated[float | None, typer.Option(help="End after this time, too.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of things.")] = 1,
) -> None:
    """Mixed traffic for one gateway; ends with 1 and a line for each thing that does not hold."""
    soak, folder = Soak(requests, clients, minutes, seed), Path(tempfile.mkdtemp(prefix="soak-"))
    begun = time.monotonic()
    try:
        wrong = asyncio.run(_soaked(soak, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - begun
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in soak.done.most_common())
    print(f"{soak.begun:,} requests in {seconds:.0f} s: {kinds}")
    if soak.memory:
        print(f"memory: {soak.memory[-1]:.0f} MB, {growth(soak.memory):+.1%} since it was warm")
    print("processor time: gateway {:.0f} s, this traffic {:.0f} s".format(*soak.spent))
    for line in wrong:
        print(f"WRONG: {line}")
    if wrong:
        raise typer.Exit(1)
    print("every request ended and has its record; no file was left open")


if __name__ == "__main__":
    typer.run(main)
