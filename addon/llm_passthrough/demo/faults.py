"""Mischief on request: ``error:429``, ``error:cut``, ``error:stall``, ``error:slow``.

It is asked for in the last user text or in the query parameter ``demo_error`` (where the word
``error:`` may be left out).
"""

import re

from .http1 import Request
from .say import last_user_text

_IN_TEXT = re.compile(r"error:([45]\d\d|cut|stall|slow)\b")
_IN_QUERY = re.compile(r"(?:error:)?([45]\d\d|cut|stall|slow)")
CUT_AFTER = 3  # events that still go out before the connection drops
STALL = 30.0  # seconds of silence after the headers
SLOW = 2.0  # seconds before the first byte


class HangupError(Exception):
    """A WebSocket conversation that ends with this close code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def in_text(text: str) -> str | None:
    """The fault that a text asks for: three digits, cut, stall, slow, or None."""
    found = _IN_TEXT.search(text)
    return found[1] if found else None


def in_request(request: Request) -> str | None:
    """The fault that a request asks for; a body that is no JSON asks for none."""
    asked = _IN_QUERY.search(request.query.get("demo_error", ""))
    if asked:
        return asked[1]
    if b"error:" not in request.body:
        return None
    try:
        return in_text(last_user_text(request.json))
    except ValueError:
        return None
