"""Lines of one JSONL file of records: forwards, backwards and by time, one in memory at once.

A log is in the order in which exchanges ended, so that the moment of an end (`time` plus
`timing_ms.total`) can be searched for by halving. Both stand at known places of a line that this
program wrote, and are read without reading the JSON between them.
"""

import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO, NamedTuple

from pydantic_core import from_json

# A longer line is no record of ours (bodies are cut long before); it is passed over.
LONGEST = 64 << 20
_BLOCK = 1 << 18
_NEAR = 1 << 18
# One line whose clock was wrong must not mislead the search: this many are looked at together.
_LOOKS = 4
_HEAD = re.compile(
    rb'\{"schema":"llm-passthrough\.record/\d+","id":"([^"\\]{1,128})","time":"([^"\\]{1,40})"'
)
# Inside of a JSON string the quotes would be escaped: this can only be the member itself.
_TOTAL = b'"timing_ms":{"total":'
_NUMBER = re.compile(rb"[0-9.eE+-]{1,32}")


class Moments(NamedTuple):
    """When the exchange of a line began and ended, in seconds since the epoch."""

    began: float
    ended: float


def id_of(line: bytes) -> bytes | None:
    """The id of a record, where it stands at its usual place; None does not mean no id."""
    match = _HEAD.match(line)
    return match[1] if match else None


def moments(line: bytes) -> Moments | None:
    """When the exchange of a line began and ended; None when the line does not say."""
    match = _HEAD.match(line)
    at = line.rfind(_TOTAL) if match else -1
    number = _NUMBER.match(line, at + len(_TOTAL)) if at >= 0 else None
    if match and number:
        return _moments(match[2].decode("latin-1"), number[0])
    try:
        value = from_json(line)
    except ValueError:
        return None
    value = value if isinstance(value, dict) else {}
    timing = value.get("timing_ms")
    return _moments(value.get("time"), timing.get("total") if isinstance(timing, dict) else None)


def epoch(time: object) -> float | None:
    """A record's time as seconds since the epoch; None when it is no time with its offset."""
    if not isinstance(time, str):
        return None
    try:
        moment = datetime.fromisoformat(time)
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def forwards(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes | None]]:
    """Where each line begins, and the line without its break; None where it is too long."""
    file.seek(start)
    while start < end:
        line = file.readline(LONGEST)
        if not line:
            return
        at, long = start, False
        start += len(line)
        while len(line) == LONGEST and not line.endswith(b"\n"):
            long = True
            line = file.readline(LONGEST)
            start += len(line)
        yield at, None if long else line.rstrip(b"\r\n")


def backwards(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes | None]]:
    """The same from the end to the start; `start` and `end` are where lines begin."""
    parts: list[bytes] = []  # of the line under way, its end first
    size, position = 0, end
    while position > start:
        count = min(_BLOCK, position - start)
        position -= count
        file.seek(position)
        block = file.read(count)
        while (found := block.rfind(b"\n")) >= 0:
            parts.append(block[found + 1 :])
            size += len(parts[-1])
            if size:
                yield position + found + 1, _joined(parts, size)
            parts, size = [], 0
            block = block[:found]
        size += len(block)
        if size <= LONGEST:
            parts.append(block)
        else:
            parts = []
    if size:
        yield start, _joined(parts, size)


def last_break(file: BinaryIO, size: int) -> int:
    """Where the last line that is finished ends."""
    position = size
    while position > 0:
        count = min(_BLOCK, position)
        position -= count
        file.seek(position)
        if (found := file.read(count).rfind(b"\n")) >= 0:
            return position + found + 1
    return 0


def bounds(file: BinaryIO, size: int, since: float, until: float) -> tuple[int, int]:
    """Between which lines those are whose exchange ended at `since` or later, and by `until`.

    Wide rather than narrow: what stands between the bounds may still be outside of the span.
    """
    low, high = 0, size
    if since > -math.inf:
        low, _ = _halved(file, low, size, lambda ends: max(ends, default=math.inf) >= since)
    if until < math.inf:
        _, high = _halved(file, low, size, lambda ends: min(ends, default=-math.inf) > until)
    return low, high


def _halved(
    file: BinaryIO, low: int, high: int, is_after: Callable[[list[float]], bool]
) -> tuple[int, int]:
    """`low` before and `high` behind the first line that is after, both where lines begin."""
    while high - low > _NEAR:
        middle = _line_start(file, (low + high) // 2)
        ends, after = _look(file, middle, high)
        if middle >= high:
            break
        if is_after(ends):
            high = middle
        else:
            low = after
    return low, high


def _look(file: BinaryIO, start: int, end: int) -> tuple[list[float], int]:
    """When the first exchanges from `start` ended, and where the second line begins."""
    ends: list[float] = []
    second = end
    for number, (at, line) in enumerate(forwards(file, start, end)):
        if number == 1:
            second = at
        if number == _LOOKS or at - start > _NEAR:
            break
        when = moments(line) if line else None
        if when:
            ends.append(when.ended)
    return ends, second


def _line_start(file: BinaryIO, near: int) -> int:
    """Where the next line begins."""
    file.seek(near)
    while (part := file.readline(_BLOCK)) and not part.endswith(b"\n"):
        pass
    return file.tell()


def _joined(parts: list[bytes], size: int) -> bytes | None:
    return b"".join(reversed(parts)).rstrip(b"\r") if size <= LONGEST else None


def _moments(time: object, total: object) -> Moments | None:
    """An exchange without a duration that makes sense took none."""
    began = epoch(time)
    if began is None:
        return None
    try:
        seconds = float(total) / 1000 if isinstance(total, bytes | int | float) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    return Moments(began, began + seconds if math.isfinite(seconds) else began)
