"""Makes the record of a finished exchange and its line, with every secret replaced.

It runs in the writer's thread, not in the event loop.
"""

import time
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from llm_passthrough.bodies import readable
from llm_passthrough.dialects import operation
from llm_passthrough.known import Known, Prices, Side
from llm_passthrough.record import (
    SCHEMA,
    Facts,
    Model,
    Record,
    RequestPart,
    ResponsePart,
    Timing,
    line,
)
from llm_passthrough.redact import Redactor

__all__ = ["Prices", "build", "told"]

_STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-goog-request-id")
# Words of ours and of the configuration: there is no secret in them, whatever is one.
_OURS = frozenset(
    "schema id time client route provider detected_by key operation outcome origin encoding sha256"
    " currency source part_of".split()
)


def told(facts: Facts, redactor: Redactor, prices: Prices | None = None) -> tuple[Record, bytes]:
    """The record of an exchange and its line; `prices` are the user's own.

    The line is looked through as a whole, whatever is in it. A secret in it is rare: only then is
    each text looked through.
    """
    redactor = redactor.including(facts.secrets)
    record = _record(Known.of(facts, prices), redactor)
    text = line(record)
    if redactor.suspects(text):
        record = _redacted(record, redactor)
        text = line(record)
    return record, text


def build(facts: Facts, redactor: Redactor, prices: Prices | None = None) -> Record:
    """The record of an exchange."""
    return told(facts, redactor, prices)[0]


def _redacted(value: Any, redactor: Redactor) -> Any:
    """The same with every secret replaced, wherever it is."""
    match value:
        case str() if value.isascii():
            return redactor(value)
        case str():  # of a secret that is not ASCII either, a body has the bytes
            return redactor.raw(redactor(value).encode()).decode("utf-8", "replace")
        case list() | tuple():
            return type(value)(_redacted(item, redactor) for item in value)
        case dict():
            return {redactor(name): _redacted(item, redactor) for name, item in value.items()}
    if not is_dataclass(value) or isinstance(value, type):
        return value
    texts = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in _OURS}
    return replace(value, **{name: _redacted(text, redactor) for name, text in texts.items()})


def _record(known: Known, redactor: Redactor) -> Record:
    """The record, with what secrets there are in its texts."""
    facts, asked, reading = known.facts, known.asked, known.reading
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
        stream=_is_stream(facts, known.got),
        request=_request(known, redactor),
        response=_response(known, redactor),
        model=Model(asked.model, reading.model),
        response_id=reading.response_id,
        upstream_request_id=_upstream_id(known),
        finish_reasons=list(reading.finish_reasons),
        usage=reading.usage,
        cost=known.cost,
        timing_ms=_timing(facts),
        outcome=known.outcome,
        error=known.fault,
        session=known.session(),
        attempt=_integer(known.sent.by_name.get("x-stainless-retry-count")),
        tool_calls=list(reading.tool_calls),
        rate_limits={n: value for n, value in known.got.by_name.items() if "ratelimit" in n},
        service_tier=reading.service_tier,
        unread=known.unread(),
        replay_of=facts.replay_of,
        part_of=facts.part_of,
        turn=facts.turn,
        turns=facts.turns,
    )


def _request(known: Known, redactor: Redactor) -> RequestPart:
    facts = known.facts
    client_path = facts.client_path.decode("latin-1")
    return RequestPart(
        method=_plain(facts.method),
        url=facts.url or client_path,
        client_path=client_path,
        **_part(known, known.sent, redactor),
    )


def _response(known: Known, redactor: Redactor) -> ResponsePart | None:
    if known.facts.status is None:
        return None
    return ResponsePart(status=known.facts.status, **_part(known, known.got, redactor))


def _part(known: Known, side: Side, redactor: Redactor) -> dict[str, Any]:
    """The fields that requests and answers have in common."""
    full = known.facts.capture == "full"
    limit = known.facts.body_limit if full else 0
    kept, truncated = side.content, side.cut
    if len(kept) > limit:
        kept, truncated = kept[:limit], True
    # In the line nothing is seen of a secret whose end was cut off, nor of one in base64.
    if truncated:
        kept = redactor.cut(kept)
    text, encoding = readable(kept) if kept else (None, None)
    if encoding == "base64":
        text, encoding = readable(redactor.raw(kept))
    return {
        "headers": side.pairs if full else None,
        "body": text,
        "encoding": encoding,
        "bytes": side.size,
        "sha256": side.sha256,
        "truncated": truncated,
    }


def _is_stream(facts: Facts, got: Side) -> bool | None:
    if facts.status is None:
        return None
    # Gemini streams a JSON array, which only the path tells from a plain answer.
    return (
        got.kind.lower().startswith(_STREAM_TYPES)
        or b":streamGenerateContent" in facts.path
        or (facts.status == 101)
    )


def _upstream_id(known: Known) -> str | None:
    """What the provider calls this request; the one in a refusal is our own."""
    if known.facts.outcome == "refused":
        return None
    names = known.got.by_name
    return next((names[name] for name in _REQUEST_IDS if name in names), None)


def _timing(facts: Facts) -> Timing:
    # Of what was read when it was over, nobody knows when its first token came.
    token = facts.reading.first_token_at if facts.reading else None
    return Timing(
        total=_ms(facts.total),
        first_token=None if token is None else _ms(token - facts.at),
        first_byte=None if facts.first_byte is None else _ms(facts.first_byte),
        gateway=None if facts.gateway is None else _ms(facts.gateway),
        connect=None if facts.connect is None else _ms(facts.connect),
        tls=None if facts.tls is None else _ms(facts.tls),
    )


def _plain(text: str) -> str:
    """Text that mitmproxy decoded with surrogates for what was no UTF-8, as any reader takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rfc3339(epoch: float) -> str:
    """A moment in UTC; what is less than a millisecond is left out."""
    second, micro = divmod(round(epoch * 1e6), 1_000_000)
    return f"{_second(second)}.{micro // 1000:03d}Z"


@lru_cache(maxsize=8)
def _second(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))
