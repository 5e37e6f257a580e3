"""Redaction: secrets replaced in everything that is written, in every spelling they may have."""

import base64
import json
import re
import sys
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "[redacted]"
# A shorter text would be found in words of every body; headers do not depend on this.
SHORTEST = 8
_HEX = re.compile(r"%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")
_MOST = 256  # redactors for the secrets of single exchanges that are kept

# The trace of a text is its digits and capitals, in their order: of prose and JSON a tenth, of a
# secret half. Where the trace of a secret is not in the trace of a text, the secret is not in it.
_TRACELESS = bytes(set(range(256)) - set(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
# A trace is looked at in pieces of 8 bytes, as numbers. Of a trace as long as `_LONG` one piece is
# whole, wherever it stands; one shorter than `_SHORT` would be found in any text.
_PIECE, _LONG, _SHORT = 8, 15, 6
_WINDOW = 64 << 10  # bytes that are looked at in one go: another thread may want to run


class Redactor:
    """Replaces known secrets in texts.

    Built once at start with the configured secrets; `including` adds those of one exchange. A
    text is one character a byte (latin-1) or Unicode: the spellings are ASCII where secrets are.
    """

    def __init__(self, secrets: Iterable[str], base: "Redactor | None" = None) -> None:
        known = frozenset(base._forms if base else ())
        found = {form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret)}
        # The longest first, as one secret may be a part of another.
        self._forms: tuple[str, ...] = tuple(sorted(found | known, key=len, reverse=True))
        spelt = {json.dumps(form, ensure_ascii=False)[1:-1] for form in found - known}
        pieces, marks, faint = _traces(spelt)
        self._pieces: tuple[frozenset[int], ...] = (*(base._pieces if base else ()), *pieces)
        self._marks: tuple[bytes, ...] = (*(base._marks if base else ()), *marks)
        self._faint: tuple[bytes, ...] = (*(base._faint if base else ()), *faint)
        self._including: dict[tuple[str, ...], Redactor] = {}

    def including(self, secrets: tuple[str, ...]) -> "Redactor":
        """A redactor that knows these secrets too: most clients send the same with every call."""
        if not secrets:
            return self
        found = self._including.get(secrets)
        if found is None:
            if len(self._including) >= _MOST:
                self._including.clear()
            found = self._including[secrets] = Redactor(secrets, self)
        return found

    def suspects(self, line: bytes) -> bool:
        """Whether a secret may be in a line of JSON; when not, there is surely none in it.

        Many times quicker than to look for each spelling, however many there are.
        """
        trace = _trace(line)
        numbers = memoryview(trace)[: len(trace) // _PIECE * _PIECE].cast("Q")
        for at in range(0, len(numbers), _WINDOW // _PIECE):
            some = numbers[at : at + _WINDOW // _PIECE].tolist()
            for pieces in self._pieces:
                if not pieces.isdisjoint(some):
                    return True
        for mark in self._marks:
            if mark in trace:
                return True
        return any(form in line for form in self._faint) if self._faint else False

    def __call__(self, text: str) -> str:
        """The text with every known secret replaced."""
        # One search a spelling is many times faster than one regular expression of them all.
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text

    def raw(self, text: bytes) -> bytes:
        """Bytes with every known secret replaced: what is no text can hold one too."""
        return self(text.decode("latin-1")).encode("latin-1")

    def cut(self, text: bytes) -> bytes:
        """Bytes that were cut off, without the start of a secret at their end."""
        end = text[-len(self._forms[0]) :].decode("latin-1") if self._forms else ""
        if not any(form[:SHORTEST] in end for form in self._forms):
            return text
        shown = self(text.decode("latin-1"))  # what is a whole secret is no start of another one
        for form in self._forms:
            for length in range(min(len(form) - 1, len(shown)), SHORTEST - 1, -1):
                if shown.endswith(form[:length]):
                    return (shown[:-length] + REDACTED).encode("latin-1")
        return shown.encode("latin-1")


def _trace(text: bytes) -> bytes:
    if len(text) <= _WINDOW:
        return text.translate(None, _TRACELESS)
    windows = (text[at : at + _WINDOW] for at in range(0, len(text), _WINDOW))
    return b"".join(window.translate(None, _TRACELESS) for window in windows)


def _traces(spelt: Iterable[str]) -> tuple[list[frozenset[int]], set[bytes], set[bytes]]:
    """How these spellings are found: by a piece of their trace, by all of it, by themselves."""
    pieces: set[int] = set()
    marks: set[bytes] = set()
    faint: set[bytes] = set()
    for form in spelt:
        raw = form.encode("utf-8", "replace")
        trace = _trace(raw)
        if len(trace) >= _LONG:
            end = trace[-_LONG:]  # many keys begin alike
            pieces.update(
                int.from_bytes(end[at : at + _PIECE], sys.byteorder) for at in range(_PIECE)
            )
        elif len(trace) >= _SHORT:
            marks.add(trace)
        else:
            faint |= {raw, form.encode("latin-1", "replace")}
    return [frozenset(pieces)] if pieces else [], marks, faint


def forms(secret: str) -> set[str]:
    """The spellings in which a secret could turn up in a text: plain, percent-encoded, as JSON
    escapes it, and in base64, also as a part of something longer (`Bearer <key>`).
    """
    raw = secret.encode("latin-1", "replace")
    percent = quote(raw, safe="")
    escaped = json.dumps(secret)[1:-1]
    found = {secret, percent, _HEX.sub(_lower, percent), escaped, escaped.replace("/", "\\/")}
    for before in range(3):
        code = _base64_inside(raw, before)
        found |= {code, code.translate(_URL_SAFE)}
    return found


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def _base64_inside(raw: bytes, before: int) -> str:
    """base64 of `raw` with `before` bytes in front: only what no neighbour has a part in."""
    code = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
    shared_end = (before + len(raw)) % 3 > 0
    return code[(0, 2, 3)[before] : len(code) - shared_end]
