"""Makes the record of a finished exchange: decodes, redacts and shapes what was only collected.

It runs in the writer's thread, not in the event loop.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from llm_passthrough.bodies import decoded, model_of, readable
from llm_passthrough.clients import SESSION_HEADERS
from llm_passthrough.dialects import operation, reader
from llm_passthrough.prices import Rates, price
from llm_passthrough.record import (
    SCHEMA,
    Body,
    Cost,
    Facts,
    Fault,
    Model,
    Outcome,
    Pairs,
    Record,
    RequestPart,
    ResponsePart,
    Timing,
)
from llm_passthrough.redact import Redactor
from llm_passthrough.usage import Asked, Reading, read_request

type Prices = Mapping[str, Rates]

# A whole body that is read for the record, decompressed; a larger one is read as far as this.
_LONGEST_READ = 32 << 20
_STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id")


@dataclass(frozen=True, slots=True)
class Head:
    """Header pairs as texts, and the first value of each name in lower case."""

    pairs: Pairs
    by_name: dict[str, str]

    @classmethod
    def of(cls, fields: Iterable[tuple[bytes, bytes]]) -> "Head":
        """Fields as texts (latin-1, RFC 9110 5.5)."""
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        return cls(pairs, {name.lower(): value for name, value in reversed(pairs)})

    def first(self, names: tuple[str, ...]) -> str | None:
        """The value of the first of these names that is there."""
        return next((self.by_name[name] for name in names if name in self.by_name), None)


def build(facts: Facts, redactor: Redactor, prices: Prices | None = None) -> Record:
    """The record of an exchange, with every secret replaced; `prices` are the user's own."""
    redact = redactor.including(facts.secrets)
    sent = Head.of(facts.request_headers)
    got = Head.of(facts.response_headers)
    full = facts.capture == "full"
    reading = _reading(facts, got)
    asked = _asked(facts, sent)
    outcome, fault = _judged(facts, reading)
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
            headers=redact.pairs(sent.pairs) if full else None,
            **_body(facts.request, sent, redact, facts.body_limit if full else 0),
        ),
        response=_response(facts, got, redact, full),
        model=Model(_redacted(asked.model, redact), _redacted(reading.model, redact)),
        response_id=_redacted(reading.response_id, redact),
        upstream_request_id=_upstream_id(facts, got, redact),
        finish_reasons=[redact(reason) for reason in reading.finish_reasons],
        usage=reading.usage,
        cost=_cost(facts, asked, reading, prices),
        timing_ms=_timing(facts, reading),
        outcome=outcome,
        error=_fault(fault, redact),
        session={name: redact(value) for name, value in _session(asked, sent).items()},
        attempt=_integer(sent.first(("x-stainless-retry-count",))),
        tool_calls=[redact(name) for name in reading.tool_calls],
        rate_limits={n.lower(): redact(v) for n, v in got.pairs if "ratelimit" in n.lower()},
        service_tier=_redacted(reading.service_tier, redact),
        unread=_redacted(reading.unread, redact),
        replay_of=facts.replay_of,
    )


def _response(facts: Facts, headers: Head, redact: Redactor, full: bool) -> ResponsePart | None:
    if facts.status is None:
        return None
    return ResponsePart(
        status=facts.status,
        headers=redact.pairs(headers.pairs) if full else None,
        **_body(facts.response, headers, redact, facts.body_limit if full else 0),
    )


def _body(body: Body, headers: Head, redact: Redactor, limit: int) -> dict[str, Any]:
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
    content, cut = decoded(kept, headers.first(("content-encoding",)), limit)
    truncated = about["truncated"] or cut
    # As bytes: what is no text can hold a secret too.
    content = redact(content.decode("latin-1"), cut=truncated).encode("latin-1")
    text, encoding = readable(content)
    return about | {"body": text, "encoding": encoding, "truncated": truncated}


def _is_stream(facts: Facts, headers: Head) -> bool | None:
    if facts.status is None:
        return None
    kind = (headers.first(("content-type",)) or "").lower()
    # Gemini streams a JSON array, which only the path tells from a plain answer.
    return (
        kind.startswith(_STREAM_TYPES)
        or b":streamGenerateContent" in facts.path
        or (facts.status == 101)
    )


def _reading(facts: Facts, got: Head) -> Reading:
    """What the answer said: heard while it went by, or read now that it is whole."""
    if facts.reading is not None:
        return facts.reading
    body, refused = facts.response, facts.outcome == "refused"
    if facts.capture == "none" or refused or facts.status is None or not body.copy:
        return Reading()
    kind = got.first(("content-type",)) or ""
    found = reader(facts.path, facts.provider, facts.shape, kind, facts.status, got.pairs)
    if found is None:
        return Reading()
    content, _ = decoded(body.copy, got.first(("content-encoding",)), _LONGEST_READ)
    found.feed(content, 0.0)
    return replace(found.end(), first_token_at=None)


def _asked(facts: Facts, sent: Head) -> Asked:
    if facts.capture == "none" or facts.provider is None:
        return Asked()
    coding = sent.first(("content-encoding",))
    body, _ = decoded(facts.request.copy, coding, _LONGEST_READ)
    asked = read_request(facts.path, facts.shape, body)
    kind = sent.first(("content-type",)) or ""
    return replace(asked, model=asked.model or model_of(facts.path, kind, body, facts.provider))


def _judged(facts: Facts, reading: Reading) -> tuple[Outcome, Fault | None]:
    """Outcome and fault, where the answer itself says more than the way it came."""
    outcome, fault = facts.outcome, facts.fault
    # The SDKs hang up at an error inside a stream: it is why the client went away.
    left = outcome == "client_abort"
    if not left and (outcome not in ("ok", "upstream_error") or fault is not None):
        return outcome, fault
    if reading.error_type or reading.error_code or reading.error_message:
        kind = reading.error_type or reading.error_code or "error"
        told = Fault(kind, reading.error_message or kind, "upstream", reading.error_code)
        return "upstream_error", told
    if reading.complete is False and outcome == "ok" and facts.reading is not None:
        return "upstream_abort", Fault(
            "incomplete", "the stream ended before its last event", "upstream"
        )
    return outcome, fault


def _cost(facts: Facts, asked: Asked, reading: Reading, prices: Prices | None) -> Cost | None:
    if reading.usage is None or facts.provider is None:
        return None
    when = datetime.fromtimestamp(facts.started, UTC)
    for model in (reading.model, asked.model):
        cost = price(facts.provider, model, reading.usage, when, prices)
        if cost is not None:
            return cost
    return None


def _session(asked: Asked, sent: Head) -> dict[str, str]:
    """The ids by which a client groups its calls, by the names that it gives them."""
    named = {name.lower(): value for name, value in sent.pairs if name.lower() in SESSION_HEADERS}
    return dict(asked.session) | named


def _redacted(text: str | None, redact: Redactor) -> str | None:
    return None if text is None else redact(text)


def _upstream_id(facts: Facts, got: Head, redact: Redactor) -> str | None:
    found = got.first(_REQUEST_IDS) if facts.outcome != "refused" else None
    return found and redact(found)


def _timing(facts: Facts, reading: Reading) -> Timing:
    token = reading.first_token_at
    return Timing(
        total=_ms(facts.total),
        first_token=None if token is None else _ms(token - facts.at),
        first_byte=None if facts.first_byte is None else _ms(facts.first_byte),
        gateway=_ms(facts.gateway),
    )


def _fault(fault: Fault | None, redact: Redactor) -> Fault | None:
    """All of it is redacted: a provider may say the key that it refuses in any place."""
    return fault and replace(
        fault,
        type=redact(fault.type),
        message=redact(fault.message),
        code=_redacted(fault.code, redact),
    )


def _plain(text: str) -> str:
    """Text that mitmproxy decoded with surrogates for what was no UTF-8, as any reader takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rfc3339(epoch: float) -> str:
    moment = datetime.fromtimestamp(epoch, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
