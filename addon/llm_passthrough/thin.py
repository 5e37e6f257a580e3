"""Makes long JSON short as it goes by, so that what matters in it can be read in little memory.

Long strings (base64, file contents) and long runs of numbers (embeddings) are cut; the rest, and
the shape of the JSON, stay. No more than about `KEEP` bytes of one text are ever held.
"""

import json
import re
from typing import Any

from pydantic_core import from_json

RAW = 256 << 10  # a text up to this length is kept as it is
KEEP = 1 << 20  # how much of a longer text is kept, once it is thinned
_PIECE = 64 << 10
_STRING = 1024  # of a longer string this much stays
_RUN = 256  # of a longer run of numbers this much stays
_RUN_BYTES = b"0123456789+-.eE, \t\r\n"

# As many short strings, with little between them, as there are in one go.
_SHORT = re.compile(rb'(?:[^"]{0,%d}+"[^"]{0,%d}+")*+[^"]{0,%d}+' % (_RUN, _STRING, _RUN))
_ESCAPE = 6  # bytes of the longest
_LONG_RUN = re.compile(rb"([-+.\deE,\s]{%d})[-+.\deE,\s]+(?=(.?))" % _RUN, re.DOTALL)

_NUMBERS = re.compile(rb"\[[-+0-9.eE, \r\n]{64,}+\]")
_WORTH_IT = 8 << 10


class Thinner:
    """Takes JSON in pieces, cut anywhere, and gives it back shorter."""

    __slots__ = ("_escaped", "_held", "_length", "_string")

    def __init__(self) -> None:
        self._string = False  # inside a string, else between strings
        self._escaped = False  # the piece before ended in the first half of an escape
        self._held = bytearray()  # the start of the string, or of the run of numbers, being read
        self._length = 0  # the whole length of that

    def feed(self, piece: bytes) -> bytes:
        out: list[bytes] = []
        at = 0
        mask = _masked(b"_" + piece[1:] if self._escaped and piece else piece)
        self._escaped = mask.endswith(b"\\") if piece else self._escaped
        while at < len(piece):
            look = self._inside if self._string else self._outside
            at = look(piece, mask, at, out)
        return b"".join(out)

    def end(self) -> bytes:
        """What was held back."""
        return bytes(self._held) if self._string else self._run(b"")

    def _outside(self, piece: bytes, mask: bytes, at: int, out: list[bytes]) -> int:
        match = _SHORT.match(mask, at)
        end = match.end() if match else at
        self._between(piece[at:end], out)
        if end == len(piece):
            return end
        quote = mask.find(b'"', end)
        if quote == end:  # a string that is long, or that goes on in the next piece
            out.append(self._run(b'"') + b'"')
            self._string = True
            return end + 1
        stop = quote if quote >= 0 else len(piece)
        self._between(piece[end:stop], out, long=True)
        return stop

    def _inside(self, piece: bytes, mask: bytes, at: int, out: list[bytes]) -> int:
        end = mask.find(b'"', at)
        self._hold(piece[at : end if end >= 0 else len(piece)], _STRING)
        if end < 0:
            return len(piece)
        held = bytes(self._held)
        out.append((_without_half(held) if self._length > _STRING else held) + b'"')
        self._string, self._length = False, 0
        self._held.clear()
        return end + 1

    def _between(self, span: bytes, out: list[bytes], long: bool = False) -> None:
        """Text that is no long string; a run of numbers at its end may go on in the next piece."""
        rest = span.lstrip(_RUN_BYTES)
        self._hold(span[: len(span) - len(rest)], _RUN)
        if rest:
            body = rest.rstrip(_RUN_BYTES)
            start = self._run(body[:1])
            out.append(start + (_LONG_RUN.sub(_shorter, body) if long else body))
            self._hold(rest[len(body) :], _RUN)

    def _hold(self, text: bytes, most: int) -> None:
        self._length += len(text)
        if text and len(self._held) < most:
            self._held += text[: most - len(self._held)]

    def _run(self, following: bytes) -> bytes:
        """The run of numbers that was held, which ends here."""
        held, cut = bytes(self._held), self._length > _RUN
        self._held.clear()
        self._length = 0
        return held + _mend(held, following) if cut else held


def _masked(text: bytes) -> bytes:
    """The same with no escaped backslash or quote in it: each quote begins or ends a string."""
    if b"\\" not in text:
        return text
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__")


def _without_half(text: bytes) -> bytes:
    """The start of a string, without the half of an escape that it may end in."""
    last = _masked(text).rfind(b"\\", 1 - _ESCAPE)
    half = last == len(text) - 1 or text[last + 1 : last + 2] == b"u"
    return text[:last] if last >= 0 and half else text


def _shorter(match: re.Match[bytes]) -> bytes:
    return match[1] + _mend(match[1], match[2])


def _mend(run: bytes, following: bytes) -> bytes:
    """What makes a cut run of numbers whole, before the byte that follows."""
    last = run.rstrip()[-1:]
    if last in (b"-", b"+", b".", b"e", b"E") or (last == b"," and following in (b"]", b"}")):
        return b"0"
    return b""


class Bounded:
    """A text that comes in pieces: whole while it is short, thinned when it is long.

    `lost` says that it did not fit even so; what is there is then its beginning.
    """

    __slots__ = ("_text", "_thinner", "lost")

    def __init__(self) -> None:
        self._text = bytearray()
        self._thinner: Thinner | None = None
        self.lost = False

    def __len__(self) -> int:
        return len(self._text) + (self._thinner is not None)

    def add(self, piece: bytes) -> None:
        if self._thinner is None and len(self._text) + len(piece) <= RAW:
            self._text += piece
        elif not self.lost:
            self._thin(piece)

    def _thin(self, piece: bytes) -> None:
        if self._thinner is None:
            self._thinner = Thinner()
            piece = bytes(self._text) + piece
            self._text = bytearray()
        for start in range(0, len(piece), _PIECE):  # no thread waits long for one search
            self._text += self._thinner.feed(piece[start : start + _PIECE])
            if len(self._text) > KEEP:
                self.lost = True
                del self._text[KEEP:]
                return

    def take(self) -> bytes:
        """The text; the next one begins."""
        if self._thinner is not None and not self.lost:
            self._text += self._thinner.end()
        text = bytes(self._text)
        self._text = bytearray()
        self._thinner = None
        self.lost = False
        return text


def thinned(text: bytes) -> bytes:
    """A whole text, short enough to be read; what is longer even so is cut off."""
    bounded = Bounded()
    bounded.add(text)
    return bounded.take()


def without_numbers(text: bytes) -> bytes:
    """The text with its long arrays of numbers emptied: quicker than to read them."""
    return _NUMBERS.sub(b"[]", text) if len(text) > _WORTH_IT else text


def parsed(text: bytes, partial: bool = False) -> Any:
    """The value of a JSON text, or of as much of it as is there. Raises ValueError.

    Kinder than the standard where SDKs are too: bytes that are no UTF-8 and halves of surrogate
    pairs (a character that a provider cut in two) do not spoil the rest.
    """
    try:
        return from_json(text, allow_partial=partial)
    except ValueError:
        pass
    if partial:
        return from_json(text.decode("utf-8", "replace").encode(), allow_partial=True)
    try:
        return json.loads(text.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
