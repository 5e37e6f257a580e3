"""Listening to an answer while it goes by: decompressed piece by piece, within bounds.

What listens may go deaf, and says so; it never holds a chunk up and never changes one.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from llm_passthrough.dialects import Reader
from llm_passthrough.usage import Reading

_PIECE = 1 << 18
# A body that swells by more than this is a bomb, not an answer.
_MOST, _RATIO = 64 << 20, 200


class Ear:
    """Feeds a reader with the decompressed bytes of a streamed answer."""

    __slots__ = ("_deaf", "_decode", "_heard", "_in", "_out", "_reader")

    def __init__(self, reader: Reader, encoding: str | None) -> None:
        name = (encoding or "").strip().lower()
        self._reader = reader
        self._decode = _DECODERS[name]() if name in _DECODERS else None
        self._deaf = f"content coding {name}" if name not in _KNOWN else None
        self._in = self._out = 0
        self._heard: Reading | None = None

    def __call__(self, chunk: bytes, at: float) -> None:
        """Hear one chunk, `at` seconds on the clock of first_token_at."""
        if self._deaf is not None or self._heard is not None:
            return
        if self._decode is None:
            self._reader.feed(chunk, at)
            return
        self._in += len(chunk)
        try:
            for piece in self._decode(chunk):
                self._out += len(piece)
                self._reader.feed(piece, at)
                if self._out > _MOST and self._out > _RATIO * self._in:
                    self._deaf = "a body that swells without bounds"
                    return
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError) as error:
            self._deaf = f"content coding: {type(error).__name__}"

    @property
    def begun(self) -> bool:
        """Whether an answer is under way, on a websocket."""
        return self._reader.begun

    def turn(self) -> Reading | None:
        """What was heard of a turn that just ended, on a websocket; the next one begins."""
        return None if self._deaf else self._reader.turn()

    def end(self) -> Reading:
        """What was heard; from here on nothing is heard any more."""
        if self._heard is None:
            heard = self._reader.end()
            if self._deaf:
                # Of what was not heard nobody knows whether it came to its end.
                heard = replace(heard, unread=self._deaf, complete=heard.complete or None)
            self._heard = heard
        return self._heard


type _Pieces = Callable[[bytes], Iterator[bytes]]


def _inflating(wrapper: int) -> _Pieces:
    """What zlib reads, also as several members in a row (RFC 1952 2.2)."""
    decoder: Any = zlib.decompressobj(wrapper)

    def pieces(chunk: bytes) -> Iterator[bytes]:
        nonlocal decoder
        more = True
        while more:
            piece = decoder.decompress(chunk, _PIECE)
            yield piece
            chunk, full = decoder.unconsumed_tail, len(piece) == _PIECE
            if decoder.eof:
                chunk, full = decoder.unused_data, False
                decoder = zlib.decompressobj(wrapper)
            more = bool(chunk) or full

    return pieces


def _deflated() -> _Pieces:
    """Deflate with its zlib wrapper, or without it: a known mistake (RFC 9110 8.4.1.2)."""
    head = b""
    inner: _Pieces | None = None

    def pieces(chunk: bytes) -> Iterator[bytes]:
        nonlocal head, inner
        if inner is None:
            head += chunk
            if len(head) < 2:
                return
            wrapped = head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
            inner, chunk = _inflating(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS), head
        yield from inner(chunk)

    return pieces


def _unbrotling() -> _Pieces:
    decoder = brotli.Decompressor()

    def pieces(chunk: bytes) -> Iterator[bytes]:
        yield decoder.process(chunk, output_buffer_limit=_PIECE)
        while not decoder.can_accept_more_data():
            yield decoder.process(b"", output_buffer_limit=_PIECE)

    return pieces


def _unzstding() -> _Pieces:
    """Zstandard, also as several frames in a row (RFC 8878 3.1)."""
    decoder = zstd.ZstdDecompressor()

    def pieces(chunk: bytes) -> Iterator[bytes]:
        nonlocal decoder
        more = True
        while more:
            yield decoder.decompress(chunk, _PIECE)
            chunk, more = b"", not decoder.needs_input
            if decoder.eof:
                chunk, decoder = decoder.unused_data, zstd.ZstdDecompressor()
                more = bool(chunk)

    return pieces


_DECODERS: dict[str, Callable[[], _Pieces]] = {
    "gzip": partial(_inflating, zlib.MAX_WBITS | 16),
    "x-gzip": partial(_inflating, zlib.MAX_WBITS | 16),
    "deflate": _deflated,
    "br": _unbrotling,
    "zstd": _unzstding,
}
_KNOWN = frozenset({"", "identity", *_DECODERS})
