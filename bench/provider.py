"""A provider that costs next to nothing: `python -m bench.provider [CERTIFICATE]`.

It prints its port and serves until its standard input ends. A request says in the header `X-Want`
what it wants: `SIZE` bytes of a chat completion, or `COUNT/SECONDS` events of a stream, each with
the time at which it was sent (CLOCK_MONOTONIC, which all processes share, in nanoseconds).
"""

import asyncio
import json
import re
import ssl
import sys
import time
from functools import cache

_WANT = re.compile(rb"(?i)\r\nx-want: *([^\r]+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close")
_END = b"\r\n\r\n"
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
EVENT = (
    '{"id":"c","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":'
    '{"content":" %d"},"finish_reason":null}],"usage":null,"sent":%d}'
)


@cache
def answer(size: int) -> bytes:
    """A whole answer whose body has about `size` bytes."""
    said = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It is wide. " * (size // 12)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 219, "completion_tokens": 120, "total_tokens": 339},
    }
    body = json.dumps(said).encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_b7f2c7f2a7d9\r\n"
        b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
        b"openai-processing-ms: 12\r\nserver: bench\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


class Provider(asyncio.Protocol):
    """One connection: reads requests, answers each."""

    def __init__(self) -> None:
        self._held = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(_END)) >= 0:
            head = self._held[: end + 2]
            length = _LENGTH.search(head)
            whole = end + len(_END) + (int(length[1]) if length else 0)
            if len(self._held) < whole:
                return
            self._held = self._held[whole:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        found = _WANT.search(head)
        want = found[1].decode() if found else "0"
        count, _, pause = want.partition("/")
        if pause:
            self._out.write(_STREAM)
            self._event(0, int(count), float(pause))
            return
        self._out.write(answer(int(count)))
        if _CLOSE.search(head):
            self._out.close()

    def _event(self, number: int, count: int, pause: float) -> None:
        if number == count:
            self._out.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        event = f"data: {EVENT % (number, time.monotonic_ns())}\n\n".encode()
        self._out.write(b"%x\r\n%s\r\n" % (len(event), event))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(pause, self._event, number + 1, count, pause)


async def _main(certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:2] or [None]))
