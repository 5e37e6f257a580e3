"""Refusals: the answers that we give ourselves, in the shape that each provider's SDK can read.

An SDK raises its own typed error only if the body has its provider's shape. The shapes:
OpenAI and Azure https://platform.openai.com/docs/guides/error-codes,
Anthropic https://docs.anthropic.com/en/api/errors,
Google https://cloud.google.com/apis/design/errors (AIP-193).
"""

import json
from dataclasses import dataclass
from typing import Literal

type ErrorShape = Literal["openai", "anthropic", "google"]


class ConfigError(Exception):
    """What is wrong in the configuration: one line a fault, each with its place and its mend."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Findings:
    """Collects what is wrong in a configuration, so that all of it is told at once."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def fault(self, place: str, text: str) -> None:
        """Something that must be mended before the gateway starts."""
        self.faults.append(f"{place}: {text}")

    def warn(self, place: str, text: str) -> None:
        """Something that had better be mended."""
        self.warnings.append(f"{place}: {text}")


@dataclass(frozen=True, slots=True)
class Code:
    """What a refusal means to the caller: its HTTP status, and whether trying again can help."""

    status: int
    retry: bool = False


CODES: dict[str, Code] = {
    "bad_request": Code(400),
    "bad_target": Code(400),
    "unknown_client": Code(401),
    "proxy_unknown_client": Code(407),
    "expired_token": Code(401),
    "proxy_expired_token": Code(407),
    "client_disabled": Code(403),
    "route_denied": Code(403),
    "provider_denied": Code(403),
    "model_denied": Code(403),
    "key_denied": Code(403),
    "foreign_upload": Code(403),
    "requests_per_minute": Code(429, retry=True),
    "tokens_per_minute": Code(429, retry=True),
    "daily_budget": Code(429),
    "monthly_budget": Code(429),
    "budget_unread": Code(503, retry=True),
    "foreign_origin": Code(403),
    "forward_blocked": Code(403),
    "forward_private": Code(403),
    "forward_plain": Code(403),
    "no_route": Code(404),
    "method_not_allowed": Code(405),
    "busy": Code(503, retry=True),
    "client_busy": Code(429, retry=True),
    "too_many_connections": Code(503, retry=True),
    "request_timeout": Code(408, retry=True),
    "body_too_large": Code(413),
    "message_too_large": Code(413),
    "target_too_long": Code(414),
    "misdirected": Code(421),
    "head_too_large": Code(431),
    "bad_region": Code(400),
    "no_key": Code(503),
    "no_endpoint": Code(503),
    "no_project": Code(503),
    "no_token": Code(503, retry=True),
    "token_timeout": Code(504, retry=True),
    "unsafe_options": Code(503),
    "upstream_unreachable": Code(502, retry=True),
    "upstream_tls": Code(502),
    "upstream_protocol": Code(502, retry=True),
    "upstream_timeout": Code(504, retry=True),
    "log_unavailable": Code(503, retry=True),
    "draining": Code(503, retry=True),
    "internal": Code(500),
}


class Refusal(Exception):  # noqa: N818 - the glossary's word; it is an answer, not an error
    """We answer ourselves: `code` is a row of CODES, `message` says what would be right.

    `retry_after` is after how many seconds it may be otherwise, where that is known.
    """

    def __init__(self, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return CODES[self.code].status

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later without anybody changing anything."""
        return CODES[self.code].retry


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    407: "UNAUTHENTICATED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    414: "INVALID_ARGUMENT",
    421: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}


def _openai(refusal: Refusal, request_id: str) -> object:
    error = {"message": refusal.message, "type": "gateway_error", "param": None}
    return {"error": error | {"code": refusal.code}}


def _anthropic(refusal: Refusal, request_id: str) -> object:
    kind = _ANTHROPIC_TYPES.get(refusal.status)
    kind = kind or ("api_error" if refusal.status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": refusal.message}
    return {"type": "error", "error": error, "request_id": request_id}


def _google(refusal: Refusal, request_id: str) -> object:
    status = _GOOGLE_STATUSES.get(refusal.status, "UNAVAILABLE")
    return {"error": {"code": refusal.status, "message": refusal.message, "status": status}}


_SHAPES = {"openai": _openai, "anthropic": _anthropic, "google": _google}


def body(refusal: Refusal, shape: ErrorShape, request_id: str) -> bytes:
    """The JSON body of a refusal in the shape that the route's SDKs expect."""
    return json.dumps(_SHAPES[shape](refusal, request_id)).encode()


def headers(refusal: Refusal, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of a refusal: marked as ours, never cached, and whether to retry."""
    fields = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-passthrough-error", refusal.code.encode()),
        (b"x-request-id", request_id.encode()),
        (b"request-id", request_id.encode()),
    ]
    if refusal.status == 407:  # RFC 9110 11.7.1
        fields.append((b"proxy-authenticate", b'Basic realm="llm-passthrough"'))
    if refusal.retry_after is not None:  # RFC 9110 10.2.3
        fields.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.code == "draining":
        fields.append((b"connection", b"close"))
    # The OpenAI and Anthropic SDKs obey this header; without it they try three times.
    return fields if refusal.retry else [*fields, (b"x-should-retry", b"false")]
