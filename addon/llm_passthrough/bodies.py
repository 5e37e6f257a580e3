"""Bodies made readable: decompressed within bounds, as text or base64, and a form's model."""

import base64
import codecs
import sys
import zlib
from collections.abc import Callable
from typing import Any, Literal, Protocol

import brotli
from pydantic_core import from_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LONGEST_MODEL = 256
# How a form's part begins (RFC 7578 4.2).
_DISPOSITION = b"content-disposition:"
_NAMED_MODEL = b'name="model"'
_LONGEST_HEAD = 1024
# As many are looked at, of a form or of a compressed body: one may be made to keep us busy.
_MOST_PARTS = 64


def decoded(data: bytes, encoding: str | None, limit: int) -> tuple[bytes, bool]:
    """`data` without its content coding (RFC 9110 8.4), and whether more than `limit` came out.

    What cannot be decoded is given back as it is: the record says what was on the wire.
    """
    if not encoding:
        return data, False
    names = [name.strip().lower() for name in encoding.split(",")]
    out = data
    for name in reversed([name for name in names if name not in ("", "identity")]):
        decoder = _DECODERS.get(name)
        if decoder is None:
            return data, False
        try:
            out = decoder(out, limit + 1)
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError):
            return data, False
    return (data, False) if out is data else (out[:limit], len(out) > limit)


def readable(data: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    """Bytes as text, or as base64 where they are no UTF-8; a character cut at the end is left."""
    try:
        text = codecs.utf_8_decode(data)[0]  # without its end where that is half a character
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"
    if "\x00" in text:
        return base64.b64encode(data).decode(), "base64"
    return text, "utf-8"


def top_level(body: bytes) -> dict[str, Any]:
    """The top level of a JSON object, or of as much of it as is there; else empty."""
    try:
        value = from_json(body, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def model_part(body: bytes) -> str | None:
    """The field `model` of a form, or None.

    No regular expression: a body may be made to keep one busy.
    """
    at = -1
    for _ in range(_MOST_PARTS):
        at = body.find(_NAMED_MODEL, at + 1)
        if at < 0:
            break
        begin = body.rfind(b"\r\n", max(0, at - _LONGEST_HEAD), at) + 2
        head_end = body.find(b"\r\n\r\n", at, at + _LONGEST_HEAD)
        if head_end < 0 or not body[begin:at].lower().startswith(_DISPOSITION):
            continue
        end = body.find(b"\r\n--", head_end + 4, head_end + 4 + 4 * _LONGEST_MODEL)
        return body[head_end + 4 : end].decode("utf-8", "replace") if end >= 0 else None
    return None


def _inflate(data: bytes, limit: int) -> bytes:
    try:
        return _members(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32), data, limit)
    except zlib.error:
        # "deflate" without the zlib wrapper, which RFC 9110 8.4.1.2 calls a known mistake.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)


def _brotli(data: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    out: bytes = decoder.process(data, output_buffer_limit=limit)
    return out


def _zstd(data: bytes, limit: int) -> bytes:
    return _members(zstd.ZstdDecompressor, data, limit)


class _Decompressor(Protocol):
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _members(make: Callable[[], _Decompressor], data: bytes, limit: int) -> bytes:
    """Data that is several members (RFC 1952 2.2) or frames (RFC 8878 3.1) in a row; what
    follows the last one is no part of it."""
    decoder = make()
    out = decoder.decompress(data, limit)
    for _ in range(_MOST_PARTS):
        if not decoder.unused_data or len(out) >= limit:
            break
        data, decoder = decoder.unused_data, make()
        try:
            out += decoder.decompress(data, limit - len(out))
        except (zlib.error, zstd.ZstdError):
            break
    return out


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
    "br": _brotli,
    "zstd": _zstd,
}
