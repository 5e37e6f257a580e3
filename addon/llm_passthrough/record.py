"""The record: one line about one exchange. Its names are published and stable.

`build` runs in the writer's thread: it decodes, redacts and shapes what the event loop only
collected. Lengths are bytes as on the wire, times are milliseconds, unknown is null.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from llm_passthrough.bodies import decoded, model_of, readable
from llm_passthrough.dialects import operation
from llm_passthrough.redact import Redactor

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
class Usage:
    """Token counts. Input includes cached tokens, output includes reasoning tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


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

    Times are seconds since the head was read; `started` is seconds since the epoch.
    """

    id: str
    started: float
    method: str
    client_path: bytes
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
    outcome: Outcome = "ok"
    fault: Fault | None = None
    secrets: tuple[str, ...] = ()


_ADAPTER = TypeAdapter(Record)
_STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id")


def build(facts: Facts, redactor: Redactor) -> Record:
    """The record of an exchange, with every secret replaced."""
    redact = redactor.including(facts.secrets)
    sent = _texts(facts.request_headers)
    got = _texts(facts.response_headers)
    full = facts.capture == "full"
    return Record(
        schema=SCHEMA,
        id=facts.id,
        time=_rfc3339(facts.started),
        client=facts.client,
        route=facts.route,
        provider=facts.provider,
        detected_by=facts.detected_by,
        key=facts.key,
        operation=operation(facts.path.decode("latin-1")) if facts.provider else None,
        stream=_is_stream(facts, got),
        request=RequestPart(
            method=facts.method,
            url=redact(facts.url or facts.client_path.decode("latin-1")),
            client_path=redact(facts.client_path.decode("latin-1")),
            headers=redact.pairs(sent) if full else None,
            **_body(facts.request, sent, redact, facts.body_limit if full else 0),
        ),
        response=_response(facts, got, redact, full),
        model=Model(requested=_model(facts, sent)),
        response_id=None,
        upstream_request_id=_first(got, _REQUEST_IDS) if facts.outcome != "refused" else None,
        finish_reasons=[],
        usage=None,
        cost=None,
        timing_ms=_timing(facts),
        outcome=facts.outcome,
        error=_fault(facts.fault, redact),
        session={},
        attempt=_integer(_first(sent, ("x-stainless-retry-count",))),
    )


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


def _response(facts: Facts, headers: Pairs, redact: Redactor, full: bool) -> ResponsePart | None:
    if facts.status is None:
        return None
    return ResponsePart(
        status=facts.status,
        headers=redact.pairs(headers) if full else None,
        **_body(facts.response, headers, redact, facts.body_limit if full else 0),
    )


def _body(body: Body, headers: Pairs, redact: Redactor, limit: int) -> dict[str, Any]:
    """The fields that requests and answers have in common; `limit` bytes are kept to read."""
    digest = body.sha256 or (hashlib.sha256(body.copy).hexdigest() if body.size else None)
    kept = body.copy[:limit]
    about = {
        "body": None,
        "encoding": None,
        "bytes": body.size,
        "sha256": digest,
        "truncated": body.size > len(kept),
    }
    if not kept:
        return about
    content, cut = decoded(kept, _first(headers, ("content-encoding",)), limit)
    text, encoding = readable(content)
    if encoding == "utf-8":
        text = redact(text)
    return about | {"body": text, "encoding": encoding, "truncated": about["truncated"] or cut}


def _is_stream(facts: Facts, headers: Pairs) -> bool | None:
    if facts.status is None:
        return None
    kind = (_first(headers, ("content-type",)) or "").lower()
    # Gemini streams a JSON array, which only the path tells from a plain answer.
    return (
        kind.startswith(_STREAM_TYPES)
        or b":streamGenerateContent" in facts.path
        or (facts.status == 101)
    )


def _model(facts: Facts, sent: Pairs) -> str | None:
    if facts.capture == "none":
        return None
    return model_of(
        facts.path, _first(sent, ("content-type",)) or "", facts.request.copy, facts.provider
    )


def _timing(facts: Facts) -> Timing:
    return Timing(
        total=_ms(facts.total),
        first_byte=None if facts.first_byte is None else _ms(facts.first_byte),
        gateway=_ms(facts.gateway),
    )


def _fault(fault: Fault | None, redact: Redactor) -> Fault | None:
    return fault and Fault(fault.type, redact(fault.message), fault.origin)


def _texts(fields: Iterable[tuple[bytes, bytes]]) -> Pairs:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def _first(pairs: Pairs, names: tuple[str, ...]) -> str | None:
    return next((value for want in names for name, value in pairs if name.lower() == want), None)


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rfc3339(epoch: float) -> str:
    moment = datetime.fromtimestamp(epoch, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
