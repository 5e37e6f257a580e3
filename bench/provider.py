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

from bench.call import LONG, PIECE

_WANT = re.compile(rb"(?i)\r\nx-want: *([^\r]+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_END, _LAST = b"\r\n\r\n", b"0\r\n\r\n"
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
EVENT = (
    '{"id":"c","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":'
    '{"content":" %d"},"finish_reason":null}],"usage":null,"sent":%d}'
)


@cache
def answer(size: int) -> bytes:
    """A whole answer whose body has about `size` bytes; of a long one, the head."""
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
    body = b"" if size >= LONG else json.dumps(said).encode()
    kind = b"application/octet-stream" if size >= LONG else b"application/json"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nx-request-id: req_b7f2c7f2a7d9\r\n"
        b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
        b"openai-processing-ms: 12\r\nserver: bench\r\nContent-Length: %d\r\n\r\n"
        % (kind, size if size >= LONG else len(body))
    ) + body


class Provider(asyncio.Protocol):
    """One connection: reads requests, answers each. It keeps no body."""

    def __init__(self) -> None:
        self._held = b""
        self._head: bytes | None = None
        self._left: int | None = 0  # of a body; None until its last chunk
        self._unsent = 0
        self._full = False
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._unsent = 0
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while self._request():
            pass

    def _request(self) -> bool:
        """Whether a request came to its end, so that another one may lie behind it."""
        if self._head is None:
            end = self._held.find(_END)
            if end < 0:
                return False
            self._head, self._held = self._held[: end + 2], self._held[end + len(_END) :]
            length = _LENGTH.search(self._head)
            self._left = int(length[1]) if length else 0
            if not length and _CHUNKED.search(self._head):
                self._left = None
        if not self._whole():
            return False
        head, self._head = self._head, None
        self._answer(head)
        return True

    def _whole(self) -> bool:
        if self._left is None:
            whole = self._held.endswith(_LAST)
            self._held = b"" if whole else self._held[-len(_LAST) :]
            return whole
        taken = min(self._left, len(self._held))
        self._left -= taken
        self._held = self._held[taken:]
        return not self._left

    def _answer(self, head: bytes) -> None:
        found = _WANT.search(head)
        want = found[1].decode() if found else "0"
        count, _, pause = want.partition("/")
        if pause:
            self._out.write(_STREAM)
            self._event(0, int(count), float(pause))
            return
        self._out.write(answer(int(count)))
        if int(count) >= LONG:
            self._unsent = int(count)
            self.resume_writing()
        elif _CLOSE.search(head):
            self._out.close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        while self._unsent and not self._full:
            piece = PIECE[: self._unsent]
            self._unsent -= len(piece)
            self._out.write(piece)

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
    asyncio.run(_main(sys.argv[1] if sys.argv[1:] else None))
