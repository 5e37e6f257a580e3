"""A body cut into the events of a stream, whatever kind of stream it is.

An event that was cut off is left out: without its fields it could mean another.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from llm_passthrough.conversation.values import Json
from llm_passthrough.dialects.frames import Frames

_BREAK = re.compile(r"\r\n|\r|\n")
_SSE_START = re.compile(r"\s*(data|event|id|retry)?:")
_PRELUDE = 12


def events(text: str) -> list[Json] | None:
    """The JSON objects of a stream (server-sent events, a JSON array, JSON lines), else None."""
    start = text.lstrip("\ufeff \t\r\n")
    if _SSE_START.match(start):
        found = [_object(data) for data in _data(start)]
    elif start.startswith("["):
        values = loads(start)
        found = [value for value in values if isinstance(value, dict)] if values else []
    else:
        first, *others = _BREAK.split(start.rstrip())
        found = [_object(line) for line in (first, *others)] if others and _object(first) else []
    return [event for event in found if event] or None


def frames(content: bytes) -> list[Json] | None:
    """The events of an AWS event stream, else None: its first frame begins with a checksum.

    https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html
    """
    checksum = int.from_bytes(content[8:_PRELUDE], "big")
    if len(content) < _PRELUDE or zlib.crc32(content[:8]) != checksum:
        return None
    found = [_object(data.decode("utf-8", "replace")) for _, data in Frames().feed(content)]
    return [event for event in found if event]


def loads(text: str | bytes) -> Any:
    """JSON, also where its end is missing; None when it is none."""
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        pass
    if isinstance(text, bytes):
        return loads(text.decode("utf-8", "replace"))
    return _lenient(text)


def _data(text: str) -> Iterator[str]:
    """The data of each server-sent event (WHATWG HTML 9.2.6), the last also without its end."""
    data: list[str] = []
    for line in (*_BREAK.split(text), ""):
        if not line and data:
            yield "\n".join(data)
            data = []
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))


def _object(text: str) -> Json | None:
    try:
        value = from_json(text)
    except ValueError:
        value = _lenient(text)
    return value if isinstance(value, dict) else None


def _lenient(text: str) -> Any:
    """JSON with halves of surrogate pairs: a provider cut a character in two."""
    if "\\u" not in text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
