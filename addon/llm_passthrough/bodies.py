"""Bodies made readable: decompressed within bounds, as text or base64, and their model."""

import base64
import codecs
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import unquote

import brotli
from pydantic_core import from_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MODEL_PATH = re.compile(rb"/(?:models|tunedModels|deployments)/([^/?]+)")
_MODEL_PART = re.compile(
    rb'content-disposition:[^\r\n]*;\s*name="model"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n--',
    re.I,
)
# Vertex and Gemini write the method behind the model, after a colon; others may use a colon.
_METHOD_AFTER_COLON = frozenset({"gemini", "vertex"})
_LONGEST_MODEL = 256


def decoded(data: bytes, encoding: str | None, limit: int) -> tuple[bytes, bool]:
    """`data` without its content coding (RFC 9110 8.4), and whether more than `limit` came out.

    What cannot be decoded is given back as it is: the record says what was on the wire.
    """
    name = (encoding or "").strip().lower()
    decoder = _DECODERS.get(name)
    if decoder is None:
        return data, False
    try:
        out = decoder(data, limit + 1)
    except (zlib.error, brotli.error, zstd.ZstdError, EOFError):
        return data, False
    return out[:limit], len(out) > limit


def readable(data: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    """Bytes as text, or as base64 where they are no UTF-8; a character cut at the end is left."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"
    if "\x00" in text:
        return base64.b64encode(data).decode(), "base64"
    return text, "utf-8"


def model_of(path: bytes, content_type: str, body: bytes, provider: str | None) -> str | None:
    """The model that a request asks for: from its path, else its JSON or multipart body."""
    if match := _MODEL_PATH.search(path):
        name = unquote(match[1].decode("latin-1"))
        return name.partition(":")[0] if provider in _METHOD_AFTER_COLON else name
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        part = _MODEL_PART.search(body)
        return part[1].decode("utf-8", "replace") if part else None
    model = top_level(body).get("model") if body else None
    return model if isinstance(model, str) and 0 < len(model) <= _LONGEST_MODEL else None


def top_level(body: bytes) -> dict[str, Any]:
    """The top level of a JSON object, or of as much of it as is there; else empty."""
    try:
        value = from_json(body, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _inflate(data: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, limit)
    except zlib.error:
        # "deflate" without the zlib wrapper, which RFC 9110 8.4.1.2 calls a known mistake.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)


def _brotli(data: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    out: bytes = decoder.process(data, output_buffer_limit=limit)
    return out


def _zstd(data: bytes, limit: int) -> bytes:
    return zstd.ZstdDecompressor().decompress(data, limit)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
    "br": _brotli,
    "zstd": _zstd,
}
