"""What the values of the configuration may be: texts that fit a pattern, bounded numbers."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _fits(pattern: str, words: str) -> AfterValidator:
    """Text that a pattern fits as a whole; `words` say what is right."""
    fits = re.compile(pattern).fullmatch

    def check(text: str) -> str:
        if fits(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


def moment(text: str) -> float:
    """A moment in seconds since the epoch: of a day, its end in UTC. Raises ValueError."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("a time without its offset") from None
        return time.timestamp()
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC).timestamp()


def _is_moment(text: str) -> str:
    try:
        moment(text)
    except (ValueError, OverflowError):
        raise ValueError(
            "must be a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z"
        ) from None
    return text


type Moment = Annotated[str, AfterValidator(_is_moment)]
type Money = Annotated[float, Field(ge=0, le=1e9)]
type PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]
type Seconds = Annotated[float, Field(gt=0, le=86_400)]
type Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
type Capture = Literal["none", "usage", "full"]
type Prefix = Annotated[
    str,
    _fits(
        r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+",
        "must be a path of letters, digits, '-' and '_' without a last slash, such as /my_api",
    ),
]
type HeaderName = Annotated[
    str,
    _fits(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "must be a header name without spaces, such as X-Team"),
]
type HeaderValue = Annotated[str, _fits(r"[ -~]*", "must be printable ASCII on one line")]
type FilePath = Annotated[
    str, _fits(r"[^\x00-\x1f\x7f\ud800-\udfff]+", "must be the path of a file")
]
type KeyName = Annotated[
    str,
    _fits(r"[!-~]([ -~]{0,62}[!-~])?", "must be 1 to 64 printable ASCII characters"),
]
type RouteName = Annotated[
    str,
    _fits(
        r"[a-z][a-z0-9_-]{0,31}",
        "must begin with a small letter; then small letters, digits, '-' and '_', 32 at most",
    ),
]
type HostName = Annotated[
    str,
    _fits(
        r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?",
        "must be a host name without scheme and port, such as gateway.local",
    ),
]
type ClientName = Annotated[
    str,
    _fits(
        r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}",
        "must begin with a letter or digit; then letters, digits, '.', '_', '@', '-', 64 at most",
    ),
]
type WebOrigin = Annotated[
    str,
    _fits(
        r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?",
        "must be one origin in small letters without a path, such as http://localhost:3000",
    ),
]


type Rate = Annotated[
    str,
    _fits(
        "input|output|cache_read|cache_write|cache_write_1h",
        "must be input, output, cache_read, cache_write or cache_write_1h",
    ),
]


class Section(BaseModel):
    """A part of the file: unknown options are faults, inputs never stand in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
