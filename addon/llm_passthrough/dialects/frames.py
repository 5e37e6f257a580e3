"""Cuts an AWS event stream into messages.

https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html: lengths, headers, payload,
checksums. The checksums are not checked: the bytes have come through TCP and TLS.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from llm_passthrough.sse import Message
from llm_passthrough.thin import RAW, parsed

_PRELUDE = 12  # length of all, length of headers, checksum
_AROUND = 16  # the prelude and the checksum at the end
_LONGEST = 32 << 20  # a longer frame is no frame
# Length of a header's value by its type; the others say their own length.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Frames:
    """Each frame is a message keyed by its event type; `chunk` is unpacked, an exception an error.

    A frame that is too long to hold is passed over and counted.
    """

    whole = False

    def __init__(self) -> None:
        self._held = bytearray()
        self._skip = 0
        self._broken = False
        self.closed: bool | None = None
        self.lost = 0

    def feed(self, chunk: bytes) -> Sequence[Message]:
        if self._broken:
            return ()
        found: list[Message] = []
        while chunk:
            piece, chunk = chunk[:RAW], chunk[RAW:]
            self._add(piece, found)
        return found

    def end(self) -> Sequence[Message]:
        if self._held or self._skip:
            self.closed = False  # cut inside a frame
        return ()

    def _add(self, piece: bytes, found: list[Message]) -> None:
        if self._skip:
            passed = min(self._skip, len(piece))
            self._skip -= passed
            piece = piece[passed:]
        self._held += piece
        at = 0
        while not self._broken and len(self._held) - at >= _PRELUDE:
            total = int.from_bytes(self._held[at : at + 4], "big")
            if not _AROUND <= total <= _LONGEST:
                self._broken = True
                self.lost += 1
            elif total > RAW:
                self.lost += 1
                self._skip = max(total - (len(self._held) - at), 0)
                at = min(at + total, len(self._held))
            elif len(self._held) - at < total:
                break
            else:
                message = _message(bytes(self._held[at : at + total]))
                if message is not None:
                    found.append(message)
                at += total
        del self._held[:at]
        if self._broken:
            self._held.clear()


def _message(frame: bytes) -> Message | None:
    start = _PRELUDE + int.from_bytes(frame[4:8], "big")
    headers = _headers(frame[_PRELUDE:start])
    payload = frame[start:-4]
    failed = headers.get(b":exception-type") or headers.get(b":error-code")
    if failed:
        return b"error", _error(failed, payload, headers.get(b":error-message", b""))
    event = headers.get(b":event-type", b"")
    if event == b"chunk":
        return event, _unpacked(payload)
    if not event.isalnum():
        return None
    return event, b'{"%s":%s}' % (event, payload or b"{}")


def _headers(block: bytes) -> dict[bytes, bytes]:
    found = {}
    at = 0
    while at < len(block):
        name = block[at + 1 : at + 1 + block[at]]
        at += 1 + block[at]
        kind = block[at] if at < len(block) else -1
        at += 1
        size = _FIXED.get(kind)
        if size is None:
            if kind not in (6, 7):
                break
            size = int.from_bytes(block[at : at + 2], "big")
            at += 2
        found[name] = block[at : at + size]
        at += size
    return found


def _unpacked(payload: bytes) -> bytes:
    try:
        inner: Any = parsed(payload)
        return base64.b64decode(inner["bytes"])
    except (ValueError, TypeError, KeyError, IndexError, binascii.Error):
        return payload


def _error(kind: bytes, payload: bytes, message: bytes) -> bytes:
    try:
        value = parsed(payload)
        text = value.get("message") if isinstance(value, dict) else None
    except ValueError:
        text = None
    text = text if isinstance(text, str) else message.decode("utf-8", "replace")
    return json.dumps({"error": {"type": kind.decode("latin-1"), "message": text}}).encode()
