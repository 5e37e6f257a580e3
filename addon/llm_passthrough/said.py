"""What is said in logs and at the terminal, by us and by mitmproxy: plain, short, no secret.

mitmproxy logs what it could not read: heads, parts of heads, with the credentials in them. So
every log record of this process, whoever makes it and whatever shows it (the terminal, mitmweb's
list of events), gets its text from here:

* bytes from outside are counted, not shown; secrets that are known, and what looks like a
  credential, are replaced; control characters are escaped; what is long is cut;
* of an exception the places are told, and its own text as above;
* of lines that are alike only some are let through in a while.
"""

import atexit
import contextlib
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO, cast

LONGEST = 2000
"""Characters of a line; a longer one is cut, and says so."""
_LOOKED_AT = 8192
_TORN = 1024  # as far before a cut a secret may have begun
_FRAMES = 12
_MOST, _WINDOW = 50, 10.0  # lines that are alike, in so many seconds
_KINDS = 256

# How Python shows bytes, also when the end of it is missing.
_BYTES = re.compile(
    r"""\bb(?:ytearray\(b)?(?:'(?:[^'\\]|\\.)*(?:'|\\?$)|"(?:[^"\\]|\\.)*(?:"|\\?$))"""
)
_NAMES = (
    r"((?:proxy-)?authorization|(?:x-|x-goog-)?api-key|ocp-apim-subscription-key|(?:set-)?cookie"
    r"|access_token|api_key|subscription-key|openai-insecure-api-key)"
)
_SHAPES = tuple(
    (re.compile(shape), shown)
    for shape, shown in (
        # Such a name and what follows it: in quotes, as a header, as a parameter.
        (rf"(?i)(['\"]{_NAMES}['\"]\s*[:,=]\s*)(['\"])(?:(?!\3)[^\\]|\\.)*", r"\1\3[redacted]"),
        (rf"(?i)(?<![\w-]){_NAMES}(\s*:\s*)[^\r\n'\"]+", r"\1\2[redacted]"),
        (rf"(?i)(?<![\w-])(?:{_NAMES}|(?<=[?&])(key))=[^\s&;,'\"]+", r"\1\2=[redacted]"),
        (r"(?i)\b(bearer|basic)\s+[^\s,;'\"<>\\]+", r"\1 [redacted]"),
        # What providers' keys and tokens begin with, and JSON web tokens.
        (r"(?<![\w-])(?:sk-|gsk_|AIza|ya29\.|AQ\.|eyJ[\w-]+\.eyJ)[\w.~+/=-]{8,}", "[redacted]"),
    )
)
_NUMBERS = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")

_redact: Callable[[str], str] = str
_before = ""


def knows(redact: Callable[[str], str]) -> None:
    """From now on these secrets are replaced; `redact` returns a text without them."""
    global _redact
    _redact = redact


def begin(text: str) -> None:
    """From now on every log record begins so, as one process of several."""
    global _before
    _before = text


def cleaned(text: str, longest: int = LONGEST) -> str:
    """A text as one line that may be shown."""
    size, cut = len(text), len(text) > _LOOKED_AT
    text = _redact(text[:_LOOKED_AT])
    if cut:
        text = text[:-_TORN]
    text = _BYTES.sub(_counted, text)
    for shape, shown in _SHAPES:
        text = shape.sub(shown, text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    if cut or len(text) > longest:
        text = f"{text[:longest]}… ({size:,} characters)"
    return text


def _counted(match: re.Match[str]) -> str:
    return f"[{len(match[0]):,} characters of bytes]"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


class Said(logging.LogRecord):
    """A log record whose text is clean, whatever formats it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # Formatters would show it as it is.
        self._told, self.exc_info = self.exc_info, None
        self._clean = False

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        """The text, made clean when it is first wanted."""
        if not self._clean:
            try:
                text = self._plain()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - who logs must never fail for it
                text = f"a line that cannot be shown ({type(error).__name__})"
            self.msg, self.args, self._told, self._clean = text, None, None, True
        return str(self.msg)

    def _plain(self) -> str:
        text = _before + cleaned(super().getMessage())
        if self._told and self._told[1] is not None:
            text = "\n".join((text, *of_exception(self._told[1], self._told[2])))
        return text


def of_exception(error: BaseException, trace: TracebackType | None) -> list[str]:
    """An exception as lines: where it was raised, its kind, and its text made clean."""
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot be shown has still a kind
        text = ""
    return [*lines, f"  {type(error).__name__}" + (f": {cleaned(text)}" if text else "")]


class Sparing(logging.Filter):
    """Lets some lines of each kind pass; the next one after that says how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, int, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it may be shown; each handler asks, and gets the same answer."""
        verdict: bool | None = getattr(record, "spared", None)
        if verdict is None:
            with self._lock:
                verdict = record.spared = self._passes(record)
        return verdict

    def _passes(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        kind = record.name, record.levelno, _NUMBERS.sub("#", text[:80])
        if len(self._kinds) > _KINDS:
            self._kinds.clear()
        now = self._clock()
        state = self._kinds.setdefault(kind, [now, 0, 0])  # since when, passed, left out
        if now - state[0] >= _WINDOW:
            left_out = int(state[2])
            state[:] = [now, 0, 0]
            if left_out:
                record.msg = f"{text} (and {left_out:,} like it)"
        state[1] += 1
        if state[1] <= _MOST:
            return True
        state[2] += 1
        return False


class Steady:
    """A file that may go away, such as a terminal: what cannot be written is lost, no more.

    mitmproxy ends itself when it cannot print.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write, as far as that is possible."""
        try:
            return self._file.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush, as far as that is possible."""
        try:
            self._file.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def steady(file: TextIO | None) -> TextIO | None:
    """The same file, which may go away."""
    return file and cast(TextIO, Steady(file))


def install() -> None:
    """From now on every log record and every uncaught exception of this process is told so."""
    atexit.register(_let_go)
    logging.setLogRecordFactory(Said)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def attend() -> None:
    """Have those who show log records now keep to the measure, and outlive their terminal."""
    sparing = Sparing()
    for handler in logging.getLogger().handlers:
        handler.addFilter(sparing)
        file = getattr(handler, "file", None)  # mitmproxy's, for the terminal
        if file is not None and not isinstance(file, Steady):
            handler.file = Steady(file)  # type: ignore[attr-defined]


def _let_go() -> None:
    """What is still held for a terminal that is gone must not fail the end."""
    for file in (sys.stdout, sys.stderr):
        try:
            if file is not None:
                file.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    lines = of_exception(error, trace) if error is not None else [f"  {kind.__name__}"]
    try:
        print("llm-passthrough: uncaught:", *lines, sep="\n", file=sys.stderr)
    except OSError:
        return
