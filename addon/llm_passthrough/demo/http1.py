"""Read one HTTP/1.1 request from a stream: the raw head, its fields, the whole body.

Strict on purpose (RFC 9112): whatever a proxy could read in two ways is answered 400, so that a
test notices when the gateway sends such a thing.
"""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

MAX_HEAD = 256 * 1024
MAX_BODY = 256 * 1024 * 1024
Headers = list[tuple[str, str]]

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(1\.[01])")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class BadRequestError(Exception):
    """The bytes are not a request that we read; ``status`` says which answer is due."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Seen:
    """One request as it came in; ``body`` without chunk framing, ``started`` in epoch seconds."""

    method: str
    target: str
    head: bytes
    headers: Headers
    body: bytes
    started: float


@dataclass(frozen=True)
class Request(Seen):
    """A request with the readings that handlers want."""

    version: str

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def tokens(self, name: str) -> list[str]:
        """The comma list of a header, lower-cased; empty when it is absent."""
        joined = ",".join(value for key, value in self.headers if key.lower() == name)
        return [token.strip().lower() for token in joined.split(",") if token.strip()]

    @cached_property
    def path(self) -> str:
        """The path, escapes untouched except the two that Google's methods and versions need."""
        path = urlsplit(self.target).path if "://" in self.target else self.target.split("?")[0]
        return re.sub("%40", "@", re.sub("%3[Aa]", ":", path))

    @cached_property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated one the last."""
        pairs = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {key: values[-1] for key, values in pairs.items()}

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object, empty without a body; ValueError when it is none."""
        if not self.body:
            return {}
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError("the body is not a JSON object")
        return value

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to use the connection again."""
        options = self.tokens("connection")
        return "close" not in options and (self.version == "1.1" or "keep-alive" in options)

    @property
    def is_websocket(self) -> bool:
        """Whether the client asks for a WebSocket on this connection."""
        return self.method == "GET" and "websocket" in self.tokens("upgrade")

    def seen(self) -> Seen:
        """What a journal keeps."""
        return Seen(self.method, self.target, self.head, self.headers, self.body, self.started)


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """The next request, or None when the client closed the connection between two of them."""
    head = await _read_head(reader)
    if head is None:
        return None
    started = time.time()
    method, target, version, headers = parse_head(head)
    request = Request(method, target, head, headers, b"", started, version)
    if request.tokens("expect") == ["100-continue"]:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    body = await _read_body(reader, request)
    return Request(method, target, head, headers, body, started, version)


def parse_head(head: bytes) -> tuple[str, str, str, Headers]:
    """Method, target, version and fields of a raw head; BadRequestError where it is malformed."""
    lines = head.decode("latin-1").lstrip("\r\n").removesuffix("\r\n\r\n").split("\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise BadRequestError(f"malformed request line: {lines[0][:80]!r}")
    headers: Headers = []
    for raw in lines[1:]:
        field = _FIELD.fullmatch(raw)
        if field is None:
            raise BadRequestError("malformed header line")
        headers.append((field[1], field[2]))
    hosts = [value for name, value in headers if name.lower() == "host"]
    if line[3] == "1.1" and len(hosts) != 1:
        raise BadRequestError(f"{len(hosts)} Host headers, one is due")
    return line[1], line[2], line[3], headers


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        while not head.strip():  # RFC 9112 section 2.2: skip empty lines before a request
            head = await reader.readuntil(b"\r\n\r\n")
        return head
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise BadRequestError("the head is too long", 431) from None


async def _read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    codings = request.tokens("transfer-encoding")
    lengths = request.tokens("content-length")
    if codings and lengths:
        raise BadRequestError("both Transfer-Encoding and Content-Length")
    if codings:
        if codings != ["chunked"]:
            raise BadRequestError(f"unknown transfer coding {codings}", 501)
        return await _read_chunks(reader)
    if not lengths:
        return b""
    if len(set(lengths)) != 1 or not lengths[0].isascii() or not lengths[0].isdigit():
        raise BadRequestError("malformed Content-Length")
    return await reader.readexactly(_within_limit(int(lengths[0])))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    try:
        return await _joined_chunks(reader)
    except asyncio.LimitOverrunError:
        raise BadRequestError("a chunk size or trailer line is too long") from None


async def _joined_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := _chunk_size(await reader.readuntil(b"\r\n")):
        _within_limit(len(body) + size)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise BadRequestError("a chunk is longer than its size")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers: read to find the end, nobody asked for them
    return bytes(body)


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";")[0].strip()
    if re.fullmatch(rb"[0-9A-Fa-f]{1,16}", digits) is None:
        raise BadRequestError("malformed chunk size")
    return int(digits, 16)


def _within_limit(size: int) -> int:
    if size > MAX_BODY:
        raise BadRequestError(f"the body is longer than {MAX_BODY} bytes", 413)
    return size
