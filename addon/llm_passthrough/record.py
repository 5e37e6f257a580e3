"""The record: one line about one exchange, or one turn of a WebSocket. Its names are published
and stable.

Lengths are bytes as on the wire, times are milliseconds, unknown is null. recorder.py makes it,
and nothing changes it; that it is not frozen is for speed (see usage.py).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from llm_passthrough.usage import Reading, Usage

SCHEMA: Literal["llm-passthrough.record/1"] = "llm-passthrough.record/1"

type Outcome = Literal[
    "ok", "refused", "upstream_error", "client_abort", "upstream_abort", "timeout", "error"
]
type Side = Literal["client", "gateway", "upstream"]
type Pairs = list[tuple[str, str]]
type Text = Annotated[str | None, Field(description="null when unknown")]


@dataclass(slots=True)
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


@dataclass(slots=True)
class ResponsePart:
    """The answer that the client got; secrets replaced."""

    status: int
    headers: Pairs | None
    body: str | None
    encoding: Literal["utf-8", "base64"] | None
    bytes: int
    sha256: str | None
    truncated: bool


@dataclass(slots=True)
class Model:
    """The model that was asked for, and the one that answered."""

    requested: Text = None
    response: Text = None


@dataclass(slots=True)
class Cost:
    """What the call cost, and who says so."""

    amount: float
    currency: str
    source: str


@dataclass(slots=True)
class Timing:
    """Milliseconds since the request's head was read; `gateway` is our own share of total.

    `connect` (name and TCP) and `tls` are what these took where a connection was made.
    """

    total: float
    first_byte: float | None = None
    first_token: float | None = None
    gateway: float | None = None
    connect: float | None = None
    tls: float | None = None


@dataclass(slots=True)
class Fault:
    """What went wrong, and on whose side."""

    type: str
    message: str
    origin: Side
    code: Text = None


@dataclass(slots=True)
class Record:
    """One exchange, or one turn of a WebSocket."""

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
    part_of: Annotated[str | None, Field(description="id of the WebSocket that this is a turn of")]
    turn: Annotated[int | None, Field(description="which turn of it, from 1")]
    turns: Annotated[
        int | None, Field(description="of a WebSocket: how many turns have records of their own")
    ]


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
    moment on the clock of `reading`. `model` is asked for where the request itself names none.
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
    gateway: float | None = 0.0
    connect: float | None = None
    tls: float | None = None
    shape: str = "openai"
    reading: Reading | None = None
    outcome: Outcome = "ok"
    fault: Fault | None = None
    replay_of: str | None = None
    model: str | None = None
    part_of: str | None = None
    turn: int | None = None
    turns: int | None = None
    secrets: tuple[str, ...] = ()


_ADAPTER = TypeAdapter(Record)
_IN_ONE_GO = 128 << 10  # characters of a body
_BODY = uuid4().hex  # stands for a body; nobody else knows it


def line(record: Record) -> bytes:
    """A record as one line of JSON, with its line break."""
    request, response, long = record.request, record.response, list[str]()
    if request.body is not None and len(request.body) > _IN_ONE_GO:
        long.append(request.body)
        request = replace(request, body=_BODY)
    if response is not None and response.body is not None and len(response.body) > _IN_ONE_GO:
        long.append(response.body)
        response = replace(response, body=_BODY)
    if not long:
        return _ADAPTER.dump_json(record) + b"\n"
    pieces: list[bytes | memoryview] = []
    rest = _ADAPTER.dump_json(replace(record, request=request, response=response))
    for body in long:
        before, _, rest = rest.partition(_BODY.encode())
        pieces += (before, *_as_json(body))
    return b"".join((*pieces, rest, b"\n"))


def _as_json(body: str) -> Iterator[memoryview]:
    """A long text piece by piece: no other thread runs while one is made."""
    for at in range(0, len(body), _IN_ONE_GO):
        yield memoryview(to_json(body[at : at + _IN_ONE_GO]))[1:-1]


def schema() -> dict[str, Any]:
    """The JSON Schema of a record (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
    } | _ADAPTER.json_schema(mode="serialization")


def schema_text() -> str:
    """The JSON Schema as the file in the repository holds it."""
    return json.dumps(schema(), indent=2) + "\n"
