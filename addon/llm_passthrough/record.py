"""The record: one line about one exchange. Its names are published and stable.

Lengths are bytes as on the wire, times are milliseconds, unknown is null. recorder.py makes it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from llm_passthrough.usage import Reading, Usage

SCHEMA: Literal["llm-passthrough.record/1"] = "llm-passthrough.record/1"

type Outcome = Literal[
    "ok", "refused", "upstream_error", "client_abort", "upstream_abort", "timeout", "error"
]
type Side = Literal["client", "gateway", "upstream"]
type Pairs = list[tuple[str, str]]
type Text = Annotated[str | None, Field(description="null when unknown")]


@dataclass(frozen=True, slots=True)
class RequestPart:
    """The request as it was sent upstream (as it came in, if it never was); secrets replaced."""

    method: str
    url: Annotated[str, Field(description="upstream URL, or the client's own if refused")]
    client_path: Annotated[str, Field(description="what the client asked for, without its keys")]
    headers: Pairs | None
    body: Annotated[str | None, Field(description="decoded for reading; see encoding")]
    encoding: Annotated[Literal["utf-8", "base64"] | None, Field(description="of body")]
    bytes: Annotated[int, Field(description="length of the body on the wire")]
    sha256: Annotated[str | None, Field(description="of the body on the wire; null when empty")]
    truncated: Annotated[bool, Field(description="whether body is shorter than what was sent")]


@dataclass(frozen=True, slots=True)
class ResponsePart:
    """The answer that the client got; secrets replaced."""

    status: int
    headers: Pairs | None
    body: str | None
    encoding: Literal["utf-8", "base64"] | None
    bytes: int
    sha256: str | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class Model:
    """The model that was asked for, and the one that answered."""

    requested: Text = None
    response: Text = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the call cost, and who says so."""

    amount: float
    currency: str
    source: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the request's head was read; `gateway` is our own share of total."""

    total: float
    first_byte: float | None = None
    first_token: float | None = None
    gateway: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, and on whose side."""

    type: str
    message: str
    origin: Side
    code: Text = None


@dataclass(frozen=True, slots=True)
class Record:
    """One exchange."""

    schema: Literal["llm-passthrough.record/1"]
    id: str
    time: Annotated[str, Field(description="RFC 3339, UTC, milliseconds: when the head was read")]
    client: str
    route: Annotated[str | None, Field(description='"/openai_passthrough" or "host:NAME"')]
    provider: Text
    detected_by: Annotated[str | None, Field(description="the rule that chose the provider")]
    key: Annotated[str | None, Field(description="the name of the key, never the key")]
    operation: Annotated[str | None, Field(description="chat, responses, messages, ...")]
    stream: Annotated[bool | None, Field(description="whether the answer is a stream of events")]
    request: RequestPart
    response: ResponsePart | None
    model: Model
    response_id: Text
    upstream_request_id: Text
    finish_reasons: list[str]
    usage: Usage | None
    cost: Cost | None
    timing_ms: Timing
    outcome: Outcome
    error: Fault | None
    session: dict[str, str]
    attempt: Annotated[int | None, Field(description="the retry that the SDK announced, from 0")]
    tool_calls: Annotated[list[str], Field(description="names of the tools called, in order")]
    rate_limits: Annotated[dict[str, str], Field(description="the answer's rate-limit headers")]
    service_tier: Text
    unread: Annotated[str | None, Field(description="what could not be read, and why")]
    replay_of: Annotated[str | None, Field(description="id of the call that this one repeats")]


@dataclass(slots=True)
class Body:
    """A body as it went by: a copy of its start, its whole length, and its digest.

    The digest may be left to the writer when the copy is whole.
    """

    copy: bytes = b""
    size: int = 0
    sha256: str | None = None


@dataclass(slots=True)
class Facts:
    """What the event loop knows of a finished exchange: raw, unredacted, never written as it is.

    Times are seconds since the head was read; `started` is seconds since the epoch, `at` the same
    moment on the clock of `reading`.
    """

    id: str
    started: float
    method: str
    client_path: bytes
    at: float = 0.0
    client: str = "default"
    route: str | None = None
    provider: str | None = None
    detected_by: str | None = None
    key: str | None = None
    url: str | None = None
    path: bytes = b""
    capture: str = "full"
    body_limit: int = 1 << 20
    request_headers: Iterable[tuple[bytes, bytes]] = ()
    request: Body = field(default_factory=Body)
    status: int | None = None
    response_headers: Iterable[tuple[bytes, bytes]] = ()
    response: Body = field(default_factory=Body)
    total: float = 0.0
    first_byte: float | None = None
    gateway: float = 0.0
    shape: str = "openai"
    reading: Reading | None = None
    outcome: Outcome = "ok"
    fault: Fault | None = None
    replay_of: str | None = None
    secrets: tuple[str, ...] = ()


_ADAPTER = TypeAdapter(Record)


def line(record: Record) -> bytes:
    """A record as one line of JSON, with its line break."""
    return _ADAPTER.dump_json(record) + b"\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of a record (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
    } | _ADAPTER.json_schema(mode="serialization")


def schema_text() -> str:
    """The JSON Schema as the file in the repository holds it."""
    return json.dumps(schema(), indent=2) + "\n"
