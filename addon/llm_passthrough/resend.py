"""Makes the request of a record anew, as its client sent it: path, headers and body.

What the gateway or a connection puts on is left out; the gateway puts it on again. A body that was
not kept whole is not sent: it would be another request.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

from llm_passthrough.redact import REDACTED
from llm_passthrough.wire import Fields, strip

_DROPS = frozenset(
    b"host content-length transfer-encoding content-encoding connection upgrade expect".split()
)
# A model in a path, and what Google puts behind it: the method.
_MODEL = re.compile(r"(/(?:models|tunedModels|deployments)/)([^/?:]+)")
_SAFE = "-._~!$&'()*+,;=@"
_SPACE = " \t\r\n"


class ResendError(ValueError):
    """A record cannot be sent again: one line that says why."""


@dataclass(frozen=True, slots=True)
class Resend:
    """A request to a gateway: on a path of its own, or (`host`) for a host as through a proxy.

    `altered`: what was recorded is not what was sent, for secrets were replaced in it.
    """

    method: str
    path: str
    fields: Fields
    body: bytes
    host: str | None = None
    altered: bool = False

    @property
    def target(self) -> str:
        """The request target (RFC 9112 3.2)."""
        return f"https://{self.host}{self.path}" if self.host else self.path


def resend(record: Mapping[str, Any], model: str | None = None) -> Resend:
    """The request of a record; with another `model` where one is given. Raises ResendError."""
    request, answer = _part(record, "request"), _part(record, "response")
    route, method = record.get("route"), request.get("method")
    path, pairs = request.get("client_path"), request.get("headers")
    if not isinstance(method, str) or not isinstance(path, str):
        raise ResendError("it is no record of a request")
    if method == "CONNECT" or not path.startswith("/"):
        raise ResendError("a tunnel cannot be sent again: nobody saw what was in it")
    if answer.get("status") == 101:
        raise ResendError("a WebSocket conversation cannot be sent again")
    if not isinstance(pairs, list):
        raise ResendError("its headers were not kept (log.capture was not full)")
    body = _body(request)
    made = Resend(
        method,
        path,
        _fields(pairs, f"[{record.get('provider')}/{record.get('key')}]"),
        body,
        route.removeprefix("host:") if isinstance(route, str) and route[:5] == "host:" else None,
        _is_altered(request, body),
    )
    return made if model is None else _with_model(made, model, str(route or ""))


def _body(request: Mapping[str, Any]) -> bytes:
    body = request.get("body")
    if request.get("truncated"):
        raise ResendError("its body was not kept whole (log.body_limit, log.capture)")
    if body is None and not request.get("bytes"):
        return b""
    if not isinstance(body, str):
        raise ResendError("its body was not kept (log.capture was not full)")
    if request.get("encoding") != "base64":
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise ResendError("its body is no base64") from None


def _fields(pairs: list[Any], placeholder: str) -> Fields:
    """The client's own header fields: no placeholders, nothing that belongs to a connection."""
    texts = [pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    fields = tuple(
        (str(name).encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in texts
        if placeholder not in str(value) and REDACTED not in str(value)
    )
    kept = strip(fields, b"/").fields
    return tuple(field for field in kept if field[0].lower() not in _DROPS)


def _is_altered(request: Mapping[str, Any], body: bytes) -> bool:
    """Whether the recorded body is another than that which was sent, as far as can be told."""
    digest = request.get("sha256")
    if isinstance(digest, str) and hashlib.sha256(body).hexdigest() == digest:
        return False
    return REDACTED.encode() in body


def _with_model(made: Resend, model: str, route: str) -> Resend:
    """The request with another model: in its path, in the top level of its body, or in both."""
    start = len(route) if made.host is None and made.path.startswith(route) else 0
    path, query = made.path[start:].partition("?")[0], "".join(made.path[start:].partition("?")[1:])
    named = _MODEL.search(path)
    if named and named[2] in ("chat", "embeddings", "images"):  # Azure: /models/chat/completions
        named = None
    if named:
        path = path[: named.start(2)] + quote(model, safe=_SAFE) + path[named.end(2) :]
    body = spliced(made.body, model, unquote(named[2]) if named else None)
    if body is None and not named:
        raise ResendError("--model: neither its path nor the top level of its body names a model")
    whole = made.path[:start] + path + query
    return replace(made, path=whole, body=made.body if body is None else body)


def spliced(body: bytes, model: str, only: str | None = None) -> bytes | None:
    """A JSON object with another top-level `model`, all else byte for byte; None without one.

    With `only`, a model is replaced that has this name. A name that stands twice is replaced twice.
    """
    try:
        text = body.decode()
        spans = [span for span in _models(text) if only in (None, json.loads(text[slice(*span)]))]
    except (ValueError, RecursionError):
        return None
    for start, end in reversed(spans):
        text = text[:start] + json.dumps(model, ensure_ascii=False) + text[end:]
    return text.encode() if spans else None


def _models(text: str) -> list[tuple[int, int]]:
    """Where the values of `model` stand at the top level of an object. Raises ValueError."""
    decode, found = json.JSONDecoder().raw_decode, []
    at = _past(text, 0, "{")
    while text[at : at + 1] != "}":
        key, at = decode(text, at)
        start = _past(text, at, ":")
        _, at = decode(text, start)
        if key == "model":
            found.append((start, at))
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("no JSON object")
    return found


def _past(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise ValueError("no JSON object")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _part(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}
