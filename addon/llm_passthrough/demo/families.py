"""What a provider wraps around every answer: its headers, its errors, where it looks for a key.

One row a family. A real provider's answers carry things that a gateway has to strip (cookies,
``Alt-Svc``, the organization's name), so these do too.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .answers import Answer, Json, encode, mint, mint_hex
from .http1 import Headers, Request

ErrorBody = Callable[[int, str, str | None], Json]


@dataclass(frozen=True)
class Family:
    """One provider's manners. ``keys`` are the credential places that it reads."""

    name: str
    keys: tuple[str, ...]
    unauthorized: str
    unknown: str
    error: ErrorBody
    headers: Callable[[str], Headers]
    error_headers: Callable[[int], Headers]


_OPENAI_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", None),
    405: ("invalid_request_error", "method_not_supported"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable", None),
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GOOGLE_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES = {
    403: "You do not have access to this resource.",
    429: "Rate limit reached: slow down and try again in 1s.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The model is overloaded. Please try again later.",
    529: "Overloaded",
}


def _openai_error(status: int, message: str, param: str | None) -> Json:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    type, code = _OPENAI_TYPES.get(status, (kind, None))
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def _azure_error(status: int, message: str, param: str | None) -> Json:
    if status in (400, 500):  # these come from the model service behind, in OpenAI's shape
        return _openai_error(status, message, param)
    return {"error": {"code": str(status), "message": message}}


def _anthropic_error(status: int, message: str, param: str | None) -> Json:
    kind = "api_error" if status >= 500 else "invalid_request_error"
    type = _ANTHROPIC_TYPES.get(status, kind)
    return {"type": "error", "error": {"type": type, "message": message}}


def _google_error(status: int, message: str, param: str | None) -> Json:
    kind = "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"
    name = _GOOGLE_STATUSES.get(status, kind)
    error: Json = {"code": status, "message": message, "status": name}
    if status == 401:
        info = "type.googleapis.com/google.rpc.ErrorInfo"
        reason = "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        error["details"] = [{"@type": info, "reason": reason, "domain": "googleapis.com"}]
    return {"error": error}


def _cookie(name: str) -> tuple[str, str]:
    value = secrets.token_urlsafe(24)
    return ("Set-Cookie", f"{name}={value}; Path=/; HttpOnly; Secure; SameSite=None")


def _edge(cookie: str) -> Headers:
    return [
        _cookie(cookie),
        ("Alt-Svc", 'h3=":443"; ma=86400'),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
        ("X-Content-Type-Options", "nosniff"),
    ]


def _openai_headers(request_id: str) -> Headers:
    return [
        ("x-request-id", request_id),
        ("openai-organization", "demo-organization"),
        ("openai-project", "proj_demo"),
        ("openai-processing-ms", "42"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999900"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "3ms"),
        ("Server", "cloudflare"),
        ("CF-RAY", mint_hex(length=16) + "-FRA"),
        *_edge("__cf_bm"),
    ]


def _azure_headers(request_id: str) -> Headers:
    return [
        ("apim-request-id", request_id),
        ("x-request-id", request_id),
        ("x-ms-region", "Sweden Central"),
        ("azureml-model-session", "demo-session"),
        ("x-ms-deployment-name", "demo-deployment"),
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-limit-tokens", "100000"),
        ("x-ratelimit-remaining-requests", "999"),
        ("x-ratelimit-remaining-tokens", "99900"),
        *_edge("ARRAffinity"),
    ]


def _anthropic_headers(request_id: str) -> Headers:
    limits = (("requests", 4000), ("input-tokens", 2000000), ("output-tokens", 400000))
    headers: Headers = [("request-id", request_id), ("anthropic-organization-id", _ORGANIZATION)]
    for name, limit in limits:
        headers.append((f"anthropic-ratelimit-{name}-limit", str(limit)))
        headers.append((f"anthropic-ratelimit-{name}-remaining", str(limit - 1)))
        headers.append((f"anthropic-ratelimit-{name}-reset", "2030-01-01T00:00:00Z"))
    return [*headers, ("Server", "cloudflare"), ("via", "1.1 google"), *_edge("_cfuvid")]


_ORGANIZATION = "00000000-0000-4000-8000-00000000d310"


def _google_headers(request_id: str) -> Headers:
    return [
        ("Server", "scaffolding on HTTPServer2"),
        ("Server-Timing", "gfet4t7; dur=42"),
        ("X-XSS-Protection", "0"),
        ("X-Frame-Options", "SAMEORIGIN"),
        *_edge("NID"),
    ]


def _retry(status: int) -> Headers:
    return [("retry-after", "1")] if status in (429, 503) else []


def _anthropic_retry(status: int) -> Headers:
    again = "true" if status in (408, 409, 429) or status >= 500 else "false"
    return [("x-should-retry", again), *_retry(status)]


def _google_retry(status: int) -> Headers:
    return [("retry-after", "1")] if status == 429 else []


_BEARER = "authorization"
_NO_OAUTH = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
    "or other valid authentication credential."
)
OPENAI = Family(
    "openai",
    (_BEARER,),
    "Incorrect API key provided: ********. You can find your API key at "
    "https://platform.openai.com/account/api-keys.",
    "Invalid URL ({method} {path})",
    _openai_error,
    _openai_headers,
    _retry,
)
AZURE = Family(
    "azure",
    ("api-key", _BEARER),
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a "
    "valid key for an active subscription and use a correct regional API endpoint for your "
    "resource.",
    "Resource not found",
    _azure_error,
    _azure_headers,
    _retry,
)
ANTHROPIC = Family(
    "anthropic",
    ("x-api-key", _BEARER),
    "invalid x-api-key",
    "Not found",
    _anthropic_error,
    _anthropic_headers,
    _anthropic_retry,
)
FOUNDRY = Family(  # Claude on Azure
    "foundry",
    ("api-key", "x-api-key", _BEARER),
    "invalid x-api-key",
    "Not found",
    _anthropic_error,
    _azure_headers,
    _anthropic_retry,
)
GEMINI = Family(
    "gemini",
    ("x-goog-api-key", "key", _BEARER),
    _NO_OAUTH,
    "Requested entity was not found.",
    _google_error,
    _google_headers,
    _google_retry,
)
VERTEX = Family(
    "vertex",
    ("x-goog-api-key", "key", _BEARER),
    _NO_OAUTH,
    "Requested entity was not found.",
    _google_error,
    _google_headers,
    _google_retry,
)
_PLACES = (_BEARER, "x-api-key", "api-key", "x-goog-api-key")


def finish(family: Family, answer: Answer) -> Answer:
    """The answer with what this provider adds to all of its answers."""
    hexadecimal = family.name not in ("anthropic",)
    return answer.plus(family.headers(mint_hex("req_") if hexadecimal else mint("req_01", 22)))


def error(
    family: Family, status: int, message: str | None = None, param: str | None = None
) -> Answer:
    """The provider's real error shape for a status, its headers included."""
    text = message or _MESSAGES.get(status, f"The demo provider answers {status} as you asked.")
    body = family.error(status, text, param)
    request_id = mint("req_01", 22) if body.get("type") == "error" else mint_hex("req_")
    if body.get("type") == "error":
        body["request_id"] = request_id
    headers = family.headers(request_id) + family.error_headers(status)
    return Answer(encode(body), status, headers=headers)


def is_authorized(family: Family, request: Request, keys: frozenset[str] | None) -> bool:
    """Whether the request carries one of the keys where this provider looks, and no other secret.

    A stray credential of the client in some other place counts as wrong: a gateway that leaks it
    shall not pass unnoticed.
    """
    if keys is None:
        return True
    found = [(place, value) for place, value in _credentials(request)]
    mine = [value for place, value in found if place in family.keys]
    return bool(mine) and all(value in keys for _, value in found)


def _credentials(request: Request) -> list[tuple[str, str]]:
    found = [(name.lower(), value) for name, value in request.headers if name.lower() in _PLACES]
    found = [
        (name, value.removeprefix("Bearer ") if name == _BEARER else value) for name, value in found
    ]
    if "key" in request.query:
        found.append(("key", request.query["key"]))
    return found
