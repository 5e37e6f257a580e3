"""Reads one answer: finds out how it is cut, cuts it, and lets its dialect see each message."""

from collections.abc import Iterable
from typing import Protocol

from llm_passthrough.dialects.draft import Dialect, Draft
from llm_passthrough.dialects.faults import see_fault
from llm_passthrough.dialects.frames import Frames
from llm_passthrough.sse import Cutter, Each, Items, Lines, Message, Sse, Whole
from llm_passthrough.thin import parsed
from llm_passthrough.usage import Counts, Reading

_LINES = frozenset(
    "application/x-ndjson application/ndjson application/jsonl application/x-jsonl"
    " application/stream+json application/json-lines".split()
)
_FRAMES = "application/vnd.amazon.eventstream"
_EVENTS = "text/event-stream"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_SURE = 6  # bytes that tell events from other text
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_TEXT = 500  # how much of an error that is no JSON is kept

# Amazon Bedrock tells the type of an error, and counts that the body leaves out, in headers only.
_ERROR_HEADER = "x-amzn-errortype"
_COUNT_HEADERS = Counts(
    input_tokens="x-amzn-bedrock-input-token-count",
    output_tokens="x-amzn-bedrock-output-token-count",
    cache_read_tokens="x-amzn-bedrock-cache-read-input-token-count",
    cache_write_tokens="x-amzn-bedrock-cache-write-input-token-count",
)


class Reader(Protocol):
    """Looks at an answer as it goes by."""

    def feed(self, chunk: bytes, at: float) -> None:
        """Look at the next decompressed bytes; `at` is when they came, in seconds."""
        ...

    def end(self) -> Reading:
        """What has been seen, at the end or wherever the answer broke off."""
        ...

    @property
    def begun(self) -> bool:
        """Whether an answer is under way, on a websocket."""
        ...

    def turn(self) -> Reading | None:
        """What was seen since the turn before, when a turn ended with what was fed last, on a
        websocket; from here on the next one is read."""
        ...


class AnswerReader:
    """The reader of one answer in a known dialect, whatever its framing turns out to be.

    What the answer is made of is told by its first bytes; its content type may be wrong. Raises
    nothing on any bytes.
    """

    def __init__(
        self,
        dialect: Dialect,
        content_type: str,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._dialect = dialect
        self._kind = content_type.partition(";")[0].strip().lower()
        self._failed = status >= 400
        self._draft = Draft()
        self._cutter: Cutter | None = Each() if status == 101 else None
        self._head = b""
        self._begun = False
        self._done = False  # [DONE] was said
        self._cut_short = False
        self._read_headers(headers)

    def feed(self, chunk: bytes, at: float) -> None:
        self._draft.at = at
        if self._cutter is None:
            chunk = self._start(chunk, last=False)
            if self._cutter is None:
                return
        for event, data in self._cutter.feed(chunk):
            self._see(event, data)

    def end(self) -> Reading:
        if self._cutter is None and self._head:
            rest = self._start(b"", last=True)
            if self._cutter is not None and self._draft.at is not None:
                self.feed(rest, self._draft.at)
        if self._cutter is not None:
            for message in self._cutter.end():
                self._last(message)
            self._cutter_notes(self._cutter)
        return self._draft.reading(self._complete(), self._dialect.counted and not self._failed)

    @property
    def begun(self) -> bool:
        return self._draft.begun

    def turn(self) -> Reading | None:
        if not self._draft.over or self._cutter is None:
            return None
        self._cutter_notes(self._cutter)
        self._cutter.lost = 0
        reading = self._draft.reading(True, self._dialect.counted)
        self._draft = self._draft.next()
        return reading

    def _start(self, chunk: bytes, last: bool) -> bytes:
        """Choose the cutter, once enough is there to tell; gives what it is to be fed first."""
        head = self._head + chunk
        if self._kind == _FRAMES:
            self._cutter = Frames()
            return head
        if not self._begun and not last and len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        head = (head if self._begun else head.removeprefix(_BOM)).lstrip(_BLANK)
        self._begun = True
        self._head = head
        if head and (last or head[:1] in b"{[" or self._kind == _EVENTS or len(head) >= _SURE):
            self._cutter = self._cutter_for(head)
            self._head = b""
        return head

    def _cutter_for(self, head: bytes) -> Cutter:
        if head.startswith(b"{"):
            return Lines() if self._kind in _LINES else Whole()
        if head.startswith(b"["):
            return Items() if self._dialect.array and not self._failed else Whole()
        if self._kind == _EVENTS or head.startswith(_FIELDS):
            return Sse()
        return Whole()

    def _see(self, event: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            value = parsed(data)
        except ValueError:
            self._see_apart(event, data)
            return
        if isinstance(value, dict):
            self._draft.event = event
            see_fault(self._draft, value)
            self._dialect.see(self._draft, value)
        elif value is not None:
            self._draft.note("a message is not an object")

    def _see_apart(self, event: bytes, data: bytes) -> None:
        """Some services do not part their events by blank lines: then each line is one."""
        if b"\n" in data:
            for line in data.split(b"\n"):
                if line.strip():
                    self._see(event, line)
        elif data.strip():
            self._draft.note("a message is no valid JSON")

    def _last(self, message: Message) -> None:
        """What is left at the end: the whole answer, or an event without its blank line."""
        event, data = message
        whole = self._cutter is not None and self._cutter.whole
        if whole:
            self._draft.at = None
            self._whole(data)
        elif data == b"[DONE]":
            self._done = True
        else:
            try:
                parsed(data)
            except ValueError:
                if b"\n" not in data:  # the stream was cut inside it
                    self._cut_short = True
                    return
            self._see(event, data)

    def _whole(self, text: bytes) -> None:
        try:
            value = parsed(text)
        except ValueError:
            self._broken(text)
            return
        if isinstance(value, list):  # Google wraps an error of a stream in an array
            value = next((row for row in value if isinstance(row, dict)), None)
        if isinstance(value, dict):
            self._value(value)

    def _value(self, value: dict[str, object]) -> None:
        see_fault(self._draft, value)
        self._dialect.see(self._draft, value)

    def _broken(self, text: bytes) -> None:
        """A whole answer that is no valid JSON: cut short, several in one, or no JSON at all."""
        if not text.startswith((b"{", b"[")):
            self._other(text)
            return
        if _is_lines(text):
            self._see_apart(b"", text)
            return
        try:
            value = parsed(text.rstrip(b"0123456789.+-eE"), partial=True)
        except ValueError:
            self._draft.note("the answer is no valid JSON")
            return
        self._cut_short = True
        if isinstance(value, dict):
            self._value(value)

    def _other(self, text: bytes) -> None:
        if self._failed:
            self._draft.fault(None, None, text[: 4 * _TEXT].decode("utf-8", "replace")[:_TEXT])
        elif "json" in self._kind:
            self._draft.note("the answer is no JSON")

    def _cutter_notes(self, cutter: Cutter) -> None:
        if cutter.lost:
            self._draft.note(
                "the answer is too long to be read to its end"
                if cutter.whole
                else f"{cutter.lost} messages were too long to be read"
            )

    def _complete(self) -> bool | None:
        cutter = self._cutter
        if cutter is None:
            return None
        if cutter.closed is False:
            return False
        if cutter.whole:
            return None if cutter.lost else not self._cut_short
        if self._done or self._draft.ended or cutter.closed:
            return True
        if self._cut_short:
            return False
        ends = self._dialect.ends
        return None if ends == "never" or (ends == "mostly" and self._draft.finished) else False

    def _read_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        counts: dict[str, int] = {}
        for name, value in headers:
            name = name.lower()
            if name == _ERROR_HEADER and self._failed:
                self._draft.error_type = value.partition(":")[0]
            elif name.startswith("x-amzn-bedrock-") and value.isascii() and value.isdigit():
                counts[name] = int(value[:15])
        if counts:
            self._draft.spare(counts, _COUNT_HEADERS)


def _is_lines(text: bytes) -> bool:
    """Whether the first line is a whole JSON object, and is not all."""
    first, _, rest = text.partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(parsed(first), dict)
    except ValueError:
        return False
