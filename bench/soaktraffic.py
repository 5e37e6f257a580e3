"""The traffic of a soak: an upstream on loopback that also fails, and clients that call.

Both share a processor's time with the gateway, so they do little: bytes that are made once, plain
streams, connections that are kept wherever a call leaves them open.
"""

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from itertools import accumulate

from bench import process

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
_KINDS, _UP_TO = list(_WEIGHTS), list(accumulate(_WEIGHTS.values()))
_PATIENCE = 60.0  # seconds until a request counts as one that hangs
_BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi" * 50}]})
_ANSWER = json.dumps({"id": "c", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 9}})
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def last_of(kind: str) -> str:
    """The end of the path by which upstream and records know a kind of call."""
    return "nowhere" if kind == "refused" else kind.split()[0]


def _request(kind: str) -> bytes:
    """What a client says first."""
    if kind == "websocket":
        return (
            b"GET /openai_passthrough/v1/x/websocket HTTP/1.1\r\nHost: localhost\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"  # as the answer has it
        )
    path = "/nowhere" if kind == "refused" else f"/openai_passthrough/v1/x/{last_of(kind)}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer client\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}"
    ).encode()


_REQUESTS = {kind: _request(kind) for kind in _KINDS}
_PLAIN = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(_ANSWER)}\r\n\r\n{_ANSWER}"
).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# -- the upstream ----------------------------------------------------------------------------------


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
            writer.write(_PLAIN)
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
        writer.write(_REQUESTS[kind])
        head = await reader.readuntil(b"\r\n\r\n")
        if kind == "websocket":
            await self._talk(reader, writer)
            return self.close()
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

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
    """Traffic for one gateway, and what was seen of it; `memory` is in MB."""

    def __init__(self, requests: int, clients: int, minutes: float | None, seed: int) -> None:
        self.wanted, self.clients = requests, clients
        self.ends = None if minutes is None else time.monotonic() + 60 * minutes
        self.chance = random.Random(seed)  # noqa: S311 - which kind comes next
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.memory: list[float] = []
        self.begun = 0
        self.spent: tuple[float, float] = (0.0, 0.0)

    async def run(self, port: int, pid: int) -> None:
        """All of it; what is not as it should be is counted in `faults`.

        `spent` is then the processor time of the gateway and of this process, in seconds.
        """
        every = max(1, self.wanted // 100)
        before = process.cpu(pid), process.cpu(os.getpid())
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client(port, pid, every))
        self.spent = (
            (process.cpu(pid) - before[0]).all,
            (process.cpu(os.getpid()) - before[1]).all,
        )

    async def _client(self, port: int, pid: int, every: int) -> None:
        client = Client(port, self.chance)
        while self.begun < self.wanted and (self.ends is None or time.monotonic() < self.ends):
            self.begun += 1
            if self.begun % every == 0:
                self.memory.append(process.resident(pid))
            if self.begun % (every * 5) == 0:
                print(f"{self.begun:,} requests, {self.memory[-1]:.0f} MB", flush=True)
            (kind,) = self.chance.choices(_KINDS, cum_weights=_UP_TO)
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
