"""Makes the record of a finished exchange: decodes, redacts and shapes what was only collected.

It runs in the writer's thread, not in the event loop.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from llm_passthrough.bodies import decoded, model_of, readable
from llm_passthrough.dialects import operation
from llm_passthrough.record import (
    SCHEMA,
    Body,
    Facts,
    Fault,
    Model,
    Pairs,
    Record,
    RequestPart,
    ResponsePart,
    Timing,
)
from llm_passthrough.redact import Redactor

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
            method=_plain(facts.method),
            url=redact(facts.url or facts.client_path.decode("latin-1")),
            client_path=redact(facts.client_path.decode("latin-1")),
            headers=redact.pairs(sent) if full else None,
            **_body(facts.request, sent, redact, facts.body_limit if full else 0),
        ),
        response=_response(facts, got, redact, full),
        model=Model(requested=_model(facts, sent, redact)),
        response_id=None,
        upstream_request_id=_upstream_id(facts, got, redact),
        finish_reasons=[],
        usage=None,
        cost=None,
        timing_ms=_timing(facts),
        outcome=facts.outcome,
        error=_fault(facts.fault, redact),
        session={},
        attempt=_integer(_first(sent, ("x-stainless-retry-count",))),
    )


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
    digest = body.sha256
    if digest is None and body.size and body.size == len(body.copy):
        digest = hashlib.sha256(body.copy).hexdigest()
    kept = body.copy[:limit]
    about: dict[str, Any] = {
        "body": None,
        "encoding": None,
        "bytes": body.size,
        "sha256": digest,
        "truncated": body.size > len(kept),
    }
    if not kept:
        return about
    content, cut = decoded(kept, _first(headers, ("content-encoding",)), limit)
    truncated = about["truncated"] or cut
    # As bytes: what is no text can hold a secret too.
    content = redact(content.decode("latin-1"), cut=truncated).encode("latin-1")
    text, encoding = readable(content)
    return about | {"body": text, "encoding": encoding, "truncated": truncated}


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


def _model(facts: Facts, sent: Pairs, redact: Redactor) -> str | None:
    if facts.capture == "none":
        return None
    kind = _first(sent, ("content-type",)) or ""
    model = model_of(facts.path, kind, facts.request.copy, facts.provider)
    return model and redact(model)


def _upstream_id(facts: Facts, got: Pairs, redact: Redactor) -> str | None:
    found = _first(got, _REQUEST_IDS) if facts.outcome != "refused" else None
    return found and redact(found)


def _timing(facts: Facts) -> Timing:
    return Timing(
        total=_ms(facts.total),
        first_byte=None if facts.first_byte is None else _ms(facts.first_byte),
        gateway=_ms(facts.gateway),
    )


def _fault(fault: Fault | None, redact: Redactor) -> Fault | None:
    return fault and Fault(fault.type, redact(fault.message), fault.origin)


def _plain(text: str) -> str:
    """Text that mitmproxy decoded with surrogates for what was no UTF-8, as any reader takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


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
