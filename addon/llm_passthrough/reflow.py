"""Makes mitmproxy flows of records: mitmweb shows a recorded call as it showed the live one.

A record holds less than a flow. Bodies are those of the record: decompressed, secrets replaced,
perhaps cut off. In the place of the client's address, which nobody wrote down, stands its name.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mitmproxy import flow as flows
from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.net.http.status_codes import RESPONSES
from pydantic import TypeAdapter, ValidationError

from llm_passthrough.admit import KEY, PROVIDER
from llm_passthrough.record import Pairs, Record, RequestPart, ResponsePart
from llm_passthrough.views.notes import MARKS, RECORD, SIZES, comment

_ADAPTER: TypeAdapter[Record] = TypeAdapter(Record)
# What a record of another version may lack.
_UNKNOWN: Mapping[str, Any] = {field.name: None for field in fields(Record)} | {
    "finish_reasons": [],
    "model": {},
    "rate_limits": {},
    "session": {},
    "tool_calls": [],
}
_IDENT = re.compile(r"[0-9a-f-]{8,64}")  # what mitmweb's addresses can hold
_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.S)
_BROKEN = frozenset({"client_abort", "upstream_abort", "timeout", "error"})


def record_of(told: Mapping[str, Any]) -> Record | None:
    """A record that was read back; None for what is none."""
    try:
        record = _ADAPTER.validate_python({**_UNKNOWN, **told})
        datetime.fromisoformat(record.time).timestamp()
    except (ValidationError, ValueError, OverflowError, OSError):
        return None
    return record


def flow_of(record: Record) -> http.HTTPFlow:
    """The flow of a record: a finished exchange of plain HTTP, a WebSocket's too."""
    began = datetime.fromisoformat(record.time).timestamp()
    timing, answer = record.timing_ms, record.response
    ended = began + timing.total / 1000
    place = _place(record.request)
    client = Client(peername=(record.client, 0), sockname=("", 0), timestamp_start=began)
    server = Server(address=(place.host, place.port))
    server.tls = place.scheme == "https"
    server.sni = place.host if server.tls else None
    flow = http.HTTPFlow(client, server)
    if _IDENT.fullmatch(record.id):
        flow.id = record.id
    flow.timestamp_created = began
    flow.request = _request(record.request, place, began)
    if answer is not None:
        first = began + (timing.total if timing.first_byte is None else timing.first_byte) / 1000
        flow.response = _response(answer, first, ended)
    if record.error is not None and (answer is None or record.outcome in _BROKEN):
        flow.error = flows.Error(record.error.message, ended)
    flow.comment, flow.marked = comment(record), MARKS[record.outcome]
    flow.metadata[RECORD] = record.id
    flow.metadata[PROVIDER] = record.provider or ""
    flow.metadata[KEY] = record.key or ""
    for name, part in (("request", record.request), ("response", answer)):
        flow.metadata[SIZES[name]] = _went_by(part) if part is not None else 0
    client.timestamp_end = server.timestamp_end = ended
    return flow


class _Place(NamedTuple):
    """Where a request went, and its target there."""

    scheme: str
    host: str
    port: int
    path: str


def _place(request: RequestPart) -> _Place:
    """The place of a URL; of what was never sent, the gateway's own as the client named it."""
    scheme, authority, path = "http", _header(request.headers, "host") or "localhost", request.url
    if match := _URL.fullmatch(request.url):
        scheme, authority, path = match.groups()
    elif not path.startswith("/"):  # a tunnel: a host and its port
        authority, path = path, ""
    default = 443 if scheme == "https" else 80
    try:
        parts = urlsplit(f"//{authority}")
        return _Place(scheme, parts.hostname or authority, parts.port or default, path or "/")
    except ValueError:
        return _Place(scheme, authority, default, path or "/")


def _request(part: RequestPart, place: _Place, began: float) -> http.Request:
    content = _content(part)
    return http.Request(
        host=place.host,
        port=place.port,
        method=_raw(part.method),
        scheme=place.scheme.encode(),
        authority=b"",
        path=_raw(place.path),
        http_version=b"HTTP/1.1",
        headers=_headers(part.headers, content),
        content=content,
        trailers=None,
        timestamp_start=began,
        timestamp_end=began,
    )


def _response(part: ResponsePart, first: float, ended: float) -> http.Response:
    content = _content(part)
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=part.status,
        reason=RESPONSES.get(part.status, "").encode(),
        headers=_headers(part.headers, content),
        content=content,
        trailers=None,
        timestamp_start=first,
        timestamp_end=ended,
    )


def _content(part: RequestPart | ResponsePart) -> bytes | None:
    """The body; None where there was one that was not recorded."""
    if part.body is None:
        return None if part.bytes else b""
    if part.encoding == "base64":
        try:
            return base64.b64decode(part.body, validate=True)
        except binascii.Error:
            pass  # somebody wrote it by hand: shown as it stands
    return part.body.encode("utf-8", "surrogatepass")


def _headers(pairs: Pairs | None, content: bytes | None) -> http.Headers:
    """The header fields; a body of a record has its content coding no more."""
    drop = {"content-encoding"} if content else set[str]()
    kept = [pair for pair in pairs or () if pair[0].lower() not in drop]
    return http.Headers([(_raw(name), _raw(value)) for name, value in kept])


def _went_by(part: RequestPart | ResponsePart) -> int:
    """How long the body was: more than what is there where that was cut off."""
    kept = len(_content(part) or b"")
    return max(part.bytes, kept + 1) if part.truncated and part.body else kept


def _header(pairs: Pairs | None, name: str) -> str | None:
    return next((value for key, value in pairs or () if key.lower() == name), None)


def _raw(text: str) -> bytes:
    """Text of a head as bytes: it was read as latin-1 (RFC 9110 5.5)."""
    return text.encode("latin-1", "replace")
