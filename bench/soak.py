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
import random
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

KEY = "sk-soak-KEY-0123456789"
_WEIGHTS = {
    "plain": 66,
    "stream": 16,
    "leave": 5,
    "error": 3,
    "cut": 3,
    "hang up": 2,
    "websocket": 3,
    "refused": 2,
}
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
_PATIENCE = 60.0  # seconds until a request counts as one that hangs
_JUDGED = 10_000  # requests from which on the memory is judged
_BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi" * 50}]})
_ANSWER = json.dumps({"id": "c", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 9}})
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# -- the upstream ----------------------------------------------------------------------------------


async def _upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by what stands at the end of the path."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            kind = head.split(b" ", 2)[1].rpartition(b"/")[2]
            if b"content-length: " in head.lower():
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
            if not await _answer(kind, reader, writer):
                break
    writer.close()


async def _answer(kind: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection goes on."""
    match kind:
        case b"plain":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ")
            writer.write(b"%d\r\n\r\n%s" % (len(_ANSWER), _ANSWER.encode()))
        case b"error":
            writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}")
        case b"stream":
            writer.write(_HEAD)
            for _ in range(5):
                writer.write(_chunk(_EVENT))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        case b"leave":  # until the client has left
            writer.write(_HEAD + _chunk(_EVENT))
            await reader.read(1)
            return False
        case b"cut":
            writer.write(_HEAD + _chunk(_EVENT))
            await writer.drain()
            return False
        case b"websocket":
            await _converse(reader, writer)
            return False
        case _:
            return False
    await writer.drain()
    return True


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    while (head := await reader.readexactly(2))[0] & 0x0F != 8:
        await reader.readexactly(4 + (head[1] & 0x7F))
        writer.write(b"\x81\x05hello")
    writer.write(b"\x88\x02\x03\xe8")
    await writer.drain()


# -- the clients -----------------------------------------------------------------------------------


class Client:
    """One of those that call at the same time; keeps its connection as long as that is there."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, kind: str) -> None:
        """One exchange. Raises what is not as it should be."""
        reader, writer = await self._connected()
        path = f"/openai_passthrough/v1/x/{kind.split()[0]}" if kind != "refused" else "/nowhere"
        if kind == "websocket":
            await self._talk(reader, writer, path)
            return self.close()
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer client\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if kind == "leave":
            await reader.readuntil(_EVENT)
            return self.close()
        if kind == "cut":
            await reader.read()
            return self.close()
        await self._body(reader, head)
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return None

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> None:
        if b"chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
    ) -> None:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()  # as the answer has it
        )
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            writer.write(b"\x81\x84\x00\x00\x00\x00ping")
            await reader.readexactly(7)
        writer.write(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
        await reader.read()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._chance.random() < 0.02:
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Soak:
    """Traffic for one gateway, and what was seen of it."""

    def __init__(self, requests: int, clients: int, minutes: float | None, seed: int) -> None:
        self.wanted, self.clients = requests, clients
        self.ends = None if minutes is None else time.monotonic() + 60 * minutes
        self.chance = random.Random(seed)  # noqa: S311 - which kind comes next
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.memory: list[int] = []
        self.begun = 0

    async def run(self, port: int, pid: int) -> None:
        """All of it; what is not as it should be is counted in `faults`."""
        every = max(1, self.wanted // 100)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client(port, pid, every))

    async def _client(self, port: int, pid: int, every: int) -> None:
        client = Client(port, self.chance)
        while self.begun < self.wanted and (self.ends is None or time.monotonic() < self.ends):
            self.begun += 1
            if self.begun % every == 0:
                self.memory.append(resident(pid))
            if self.begun % (every * 5) == 0:
                print(f"{self.begun:,} requests, {self.memory[-1] >> 20} MiB", flush=True)
            (kind,) = self.chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            try:
                async with asyncio.timeout(_PATIENCE):
                    await client.call(kind)
            except TimeoutError:
                self.faults[f"{kind}: no end within {_PATIENCE:g} s"] += 1
                client.close()
            except (OSError, EOFError) as error:
                self.faults[f"{kind}: {type(error).__name__}"] += 1
                client.close()
            self.done[kind] += 1
        client.close()


# -- the gateway -----------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """The memory of a process in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) << 10


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.asynccontextmanager
async def gateway(
    folder: Path, upstream: int
) -> AsyncIterator[tuple[subprocess.Popen[bytes], int]]:
    """`llm-passthrough serve` in front of the upstream: the process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    url = f"http://127.0.0.1:{upstream}"
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


def growth(memory: list[int]) -> float:
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
        name = "nowhere" if kind == "refused" else kind.split()[0]
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
    server = await asyncio.start_server(_upstream, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    async with server, gateway(folder, upstream) as (process, port):
        first = Client(port, soak.chance)
        await first.call("plain")
        first.close()
        soak.begun, soak.wanted = 1, soak.wanted + 1
        soak.done["plain"] += 1
        await asyncio.sleep(0.3)
        base = descriptors(process.pid)
        await soak.run(port, process.pid)
        left = await _settled(process.pid, base)
    return judged(soak, folder, (base, left), process.returncode)


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
        print(f"memory: {soak.memory[-1] >> 20} MiB, {growth(soak.memory):+.1%} since it was warm")
    for line in wrong:
        print(f"WRONG: {line}")
    if wrong:
        raise typer.Exit(1)
    print("every request ended and has its record; no file was left open")


if __name__ == "__main__":
    typer.run(main)
