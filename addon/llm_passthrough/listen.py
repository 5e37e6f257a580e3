"""Listening to an answer while it goes by: decompressed piece by piece, within bounds.

What listens may go deaf, and says so; it never holds a chunk up and never changes one.
"""

import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
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

    __slots__ = ("_deaf", "_decode", "_in", "_out", "_reader")

    def __init__(self, reader: Reader, encoding: str | None) -> None:
        name = (encoding or "").strip().lower()
        self._reader = reader
        self._decode = _DECODERS[name]() if name in _DECODERS else None
        self._deaf = f"content coding {name}" if name not in _KNOWN else None
        self._in = self._out = 0

    def __call__(self, chunk: bytes, at: float) -> None:
        """Hear one chunk, `at` seconds on the clock of first_token_at."""
        if self._deaf is not None:
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

    def end(self) -> Reading:
        """What was heard."""
        reading = self._reader.end()
        return replace(reading, unread=self._deaf) if self._deaf else reading


type _Pieces = Callable[[bytes], list[bytes]]


def _inflating() -> _Pieces:
    decoder: Any = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def pieces(chunk: bytes) -> list[bytes]:
        out = [decoder.decompress(chunk, _PIECE)]
        while decoder.unconsumed_tail and sum(map(len, out)) < _MOST:
            out.append(decoder.decompress(decoder.unconsumed_tail, _PIECE))
        return out

    return pieces


def _unbrotling() -> _Pieces:
    decoder = brotli.Decompressor()

    def pieces(chunk: bytes) -> list[bytes]:
        out = [decoder.process(chunk, output_buffer_limit=_PIECE)]
        while not decoder.can_accept_more_data() and sum(map(len, out)) < _MOST:
            out.append(decoder.process(b"", output_buffer_limit=_PIECE))
        return out

    return pieces


def _unzstding() -> _Pieces:
    decoder = zstd.ZstdDecompressor()

    def pieces(chunk: bytes) -> list[bytes]:
        out = [decoder.decompress(chunk, _PIECE)]
        while not decoder.needs_input and not decoder.eof and sum(map(len, out)) < _MOST:
            out.append(decoder.decompress(b"", _PIECE))
        return out

    return pieces


_DECODERS: dict[str, Callable[[], _Pieces]] = {
    "gzip": _inflating,
    "x-gzip": _inflating,
    "deflate": _inflating,
    "br": _unbrotling,
    "zstd": _unzstding,
}
_KNOWN = frozenset({"", "identity", *_DECODERS})
