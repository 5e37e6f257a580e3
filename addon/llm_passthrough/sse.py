"""Cuts an answer into messages: server-sent events, JSON lines, JSON arrays, one whole text.

A cutter takes the bytes in any cut and gives the same messages, `(event, data)`, as soon as each
is there. A message longer than a bound is thinned (see `thin`); if it is too long even so, it is
left out and counted in `lost`. A cutter never raises.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from pydantic_core import from_json

from llm_passthrough.thin import KEEP, RAW, Bounded, without_numbers

type Message = tuple[bytes, bytes]


class Cutter(Protocol):
    """`whole` says that the answer is one text, not a stream of messages.

    `closed` is whether the framing itself came to its end (or was cut); None if it does not say.
    """

    whole: bool
    closed: bool | None
    lost: int

    def feed(self, chunk: bytes) -> Sequence[Message]:
        """The messages that this chunk completes."""
        ...

    def end(self) -> Sequence[Message]:
        """What is left at the end, whole or not."""
        ...


class Lines:
    """One message a line: newline-delimited JSON."""

    whole = False
    closed: bool | None = None

    def __init__(self) -> None:
        self._line = Bounded()
        self._begun = False  # there is something in it
        self._after_cr = False
        self.lost = 0
        self._found: list[Message] = []

    def feed(self, chunk: bytes) -> Sequence[Message]:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return ()
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n")
            if b"\r" in chunk:
                chunk = chunk.replace(b"\r", b"\n")
        return self._split(chunk)

    def _split(self, chunk: bytes) -> Sequence[Message]:
        """Cut text whose lines all end in a line feed."""
        lines = chunk.split(b"\n")
        last = lines.pop()
        if lines and self._begun:
            self._line.add(lines[0])
            lines[0] = self._take()
        for line in lines:
            self._see(line)
        if last:
            self._line.add(last)
            self._begun = True
        return self._give()

    def end(self) -> Sequence[Message]:
        if self._begun:
            self._see(self._take())
        return self._give()

    def _take(self) -> bytes:
        self._begun = False
        if self._line.lost:
            self.lost += 1
            self._line.take()
            return b""
        return self._line.take()

    def _give(self) -> Sequence[Message]:
        if not self._found:
            return ()
        found, self._found = self._found, []
        return found

    def _see(self, line: bytes) -> None:
        if line:
            self._found.append((b"", line))


class Sse(Lines):
    """Server-sent events.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, and
    kinder: the last event needs no blank line, and a line that is bare JSON is a message (some
    services break off with one).
    """

    def __init__(self) -> None:
        super().__init__()
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Sequence[Message]:
        pending = self._begun or self._size or self._event or self._after_cr
        if not pending and (one := _one_event(chunk)) is not None:
            return (one,)
        return super().feed(chunk)

    def end(self) -> Sequence[Message]:
        if self._begun:
            self._see(self._take())
        self._dispatch()
        return self._give()

    def _see(self, line: bytes) -> None:
        if not line:
            self._dispatch()
        elif line.startswith(b"data:"):
            self._size += len(line)
            if self._size <= KEEP:
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            self._event = line[6:262].strip()
        elif line.startswith(b"{"):
            self._found.append((self._event, line))

    def _dispatch(self) -> None:
        if self._size > KEEP:
            self.lost += 1
        elif self._data:
            self._found.append((self._event, b"\n".join(self._data)))
        self._event, self._data, self._size = b"", [], 0


def _one_event(chunk: bytes) -> Message | None:
    """What nearly every chunk is: one event, all of it, its name first if it has one."""
    if chunk.endswith(b"\n\n"):
        end, data_line, returns = -2, b"\ndata: ", 0
    elif chunk.endswith(b"\r\n\r\n"):
        end, data_line, returns = -4, b"\r\ndata: ", 1
    else:
        return None
    if chunk.startswith(b"data: "):
        event, data, lines = b"", chunk[6:end], 2
    elif chunk.startswith(b"event: "):
        event, found, data = chunk[7:end].partition(data_line)
        lines = 3 if found else 0
        event = event[:255].strip()
    else:
        return None
    # As many line ends as these are, and no others.
    if chunk.count(b"\n") != lines or chunk.count(b"\r") != lines * returns:
        return None
    return event, data


# Everything up to the next bracket that is not in a string.
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING_END = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)


class Items:
    """The objects of one JSON array, as Gemini streams them when it is not asked for events."""

    whole = False

    def __init__(self) -> None:
        self._item = Bounded()
        self._depth = 0
        self._string = False
        self._escaped = False
        self.closed: bool | None = None
        self.lost = 0

    def feed(self, chunk: bytes) -> Sequence[Message]:
        if (one := self._one(chunk)) is not None:
            return ((b"", one),)
        found: list[Message] = []
        start = at = 0
        while at < len(chunk):
            if self._string:
                at = self._inside(chunk, at)
                continue
            match = _TO_BRACKET.match(chunk, at)
            at = match.end() if match else at
            if at == len(chunk):
                break
            byte = chunk[at : at + 1]
            if byte == b'"':
                self._string = True
            elif byte in b"{[":
                self._depth += 1
                if self._depth == 2:
                    start = at
            else:
                self._depth = max(self._depth - 1, 0)
                if self._depth == 1:
                    self._item.add(chunk[start : at + 1])
                    self._finish(found)
                self.closed = True if self._depth == 0 else None
            at += 1
        if self._depth >= 2:
            self._item.add(chunk[start:])
        return found

    def end(self) -> Sequence[Message]:
        return ()

    def _one(self, chunk: bytes) -> bytes | None:
        """What nearly every chunk is: one object, all of it, with its comma before or behind."""
        if self._depth > 1 or self._string or len(chunk) > RAW:
            return None
        item = chunk.strip(b", \t\r\n")
        if self._depth == 0 or not (item.startswith(b"{") and item.endswith(b"}")):
            return None
        try:
            from_json(item)
        except ValueError:
            return None
        return item

    def _finish(self, found: list[Message]) -> None:
        if self._item.lost:
            self.lost += 1
            self._item.take()
        else:
            found.append((b"", self._item.take()))

    def _inside(self, chunk: bytes, at: int) -> int:
        """Go to the end of the string that was open, if it is in this chunk."""
        if self._escaped:
            self._escaped = False
            return at + 1
        match = _STRING_END.match(chunk, at)
        if match:
            self._string = False
            return match.end()
        tail = chunk[at:]
        self._escaped = (len(tail) - len(tail.rstrip(b"\\"))) % 2 == 1
        return len(chunk)


class Whole:
    """One text, read at its end."""

    whole = True
    closed: bool | None = None

    def __init__(self) -> None:
        self._text = Bounded()
        self.lost = 0

    def feed(self, chunk: bytes) -> Sequence[Message]:
        self._text.add(chunk)
        return ()

    def end(self) -> Sequence[Message]:
        self.lost = int(self._text.lost)
        return ((b"", without_numbers(self._text.take())),)


class Each:
    """Every chunk is one message: a websocket."""

    whole = False
    closed: bool | None = None

    def __init__(self) -> None:
        self._text = Bounded()
        self.lost = 0

    def feed(self, chunk: bytes) -> Sequence[Message]:
        self._text.add(chunk)
        if self._text.lost:
            self.lost += 1
            self._text.take()
            return ()
        return ((b"", self._text.take()),)

    def end(self) -> Sequence[Message]:
        return ()
