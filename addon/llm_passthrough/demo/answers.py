"""What a handler gets (Call), what it gives back (Answer), and the framing of it on the wire.

A handler is a plain function from Call to Answer. An Answer with ``bytes`` is plain; one with an
iterable is a stream, each item one event, sent as one chunk at the provider's pace.
"""

import gzip
import json
import re
import secrets
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from .http1 import Headers, Request
from .shelf import Shelf

Json = dict[str, Any]
GZIP_FROM = 1024  # bytes; below, a provider does not bother
_ALPHABET = string.ascii_letters + string.digits
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site Overloaded"}


@dataclass(frozen=True)
class Answer:
    """Status, headers and a body that is plain (bytes) or streamed (an iterable of events)."""

    body: bytes | Iterable[bytes]
    status: int = 200
    type: str = "application/json"
    headers: Headers = field(default_factory=list)

    def ready(self) -> "Answer":
        """The same answer with its events made: what fails, fails before the head is sent."""
        return self if isinstance(self.body, bytes) else replace(self, body=list(self.body))

    def plus(self, headers: Headers) -> "Answer":
        """The same answer with more headers."""
        return replace(self, headers=[*self.headers, *headers])


@dataclass(frozen=True)
class Call:
    """One request at a handler: the groups of its path, the files kept, our own origin."""

    request: Request
    names: dict[str, str]
    shelf: Shelf
    origin: str
    azure: bool = False

    @property
    def json(self) -> Json:
        """The body as a JSON object."""
        return self.request.json


Handler = Callable[[Call], Answer]


class RefusedError(Exception):
    """A handler's way to say no: the family gives it the provider's error shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param


def plain(value: object, status: int = 200, *, type: str = "application/json") -> Answer:
    """A JSON answer."""
    return Answer(encode(value), status, type)


def encode(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(
    events: Iterable[Json], *, named: bool = False, end: bytes = b"", eol: bytes = b"\n"
) -> Answer:
    """A server-sent event stream; ``named`` adds ``event:`` lines from each event's ``type``."""

    def lines() -> Iterable[bytes]:
        for event in events:
            name = b"event: " + event["type"].encode() + eol if named else b""
            yield name + b"data: " + encode(event) + eol * 2
        if end:
            yield b"data: " + end + eol * 2

    headers = [("Cache-Control", "no-cache")]
    return Answer(lines(), type="text/event-stream; charset=utf-8", headers=headers)


def mint(prefix: str, length: int = 24) -> str:
    """A fresh identifier that looks like the provider's own."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def mint_hex(prefix: str = "", length: int = 32) -> str:
    """A fresh identifier in hexadecimal."""
    return prefix + secrets.token_hex(length // 2)


@dataclass(frozen=True)
class Framed:
    """An answer ready to send: the head's bytes, the body's framing, and whether we stay."""

    head: bytes
    body: bytes | Iterable[bytes]
    chunked: bool
    keeps_alive: bool


def frame(request: Request, answer: Answer) -> Framed:
    """Choose the framing, compress if that is welcome, write the head.

    Plain 2xx answers go chunked as the real providers' do, errors with a length; the request
    header ``x-demo-framing: length|close|chunked`` overrides it. HTTP/1.0 gets no chunks.
    """
    headers = [("Date", formatdate(usegmt=True)), ("Content-Type", answer.type), *answer.headers]
    body = answer.body
    framing = request.header("x-demo-framing") or ("chunked" if answer.status < 300 else "length")
    if not isinstance(body, bytes):
        framing = "chunked"
    elif answer.type.startswith("application/json") and len(body) > GZIP_FROM:
        headers.append(("Vary", "Accept-Encoding"))
        if takes_gzip(request):
            body = gzip.compress(body, mtime=0)
            headers.append(("Content-Encoding", "gzip"))
    if framing == "chunked" and request.version == "1.0":
        framing = "close" if not isinstance(body, bytes) else "length"
    if framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    elif framing == "length" and isinstance(body, bytes):
        headers.append(("Content-Length", str(len(body))))
    keeps_alive = request.keeps_alive and framing != "close"
    headers.append(("Connection", "keep-alive" if keeps_alive else "close"))
    return Framed(_head(answer.status, headers), body, framing == "chunked", keeps_alive)


def takes_gzip(request: Request) -> bool:
    """Whether Accept-Encoding names gzip and does not rule it out with q=0."""
    for token in request.tokens("accept-encoding"):
        coding, _, weight = token.partition(";")
        if coding.strip() == "gzip":
            return re.fullmatch(r"\s*q=0(\.0*)?\s*", weight) is None
    return False


def _head(status: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
