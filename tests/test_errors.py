"""Refusals: status, shape, headers, and whether an SDK is told to try again."""

import json

import pytest
from llm_passthrough import errors
from llm_passthrough.errors import CODES, ConfigError, Findings, Refusal

STATUSES = {
    "bad_request": 400,
    "bad_target": 400,
    "bad_region": 400,
    "foreign_origin": 403,
    "forward_blocked": 403,
    "forward_private": 403,
    "forward_plain": 403,
    "unknown_client": 401,
    "proxy_unknown_client": 407,
    "expired_token": 401,
    "proxy_expired_token": 407,
    "client_disabled": 403,
    "route_denied": 403,
    "provider_denied": 403,
    "model_denied": 403,
    "key_denied": 403,
    "foreign_upload": 403,
    "requests_per_minute": 429,
    "tokens_per_minute": 429,
    "daily_budget": 429,
    "monthly_budget": 429,
    "budget_unread": 503,
    "no_route": 404,
    "method_not_allowed": 405,
    "misdirected": 421,
    "busy": 503,
    "client_busy": 429,
    "too_many_connections": 503,
    "request_timeout": 408,
    "body_too_large": 413,
    "message_too_large": 413,
    "target_too_long": 414,
    "head_too_large": 431,
    "internal": 500,
    "upstream_unreachable": 502,
    "upstream_tls": 502,
    "upstream_protocol": 502,
    "no_key": 503,
    "no_endpoint": 503,
    "no_project": 503,
    "unsafe_options": 503,
    "log_unavailable": 503,
    "upstream_timeout": 504,
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    407: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    414: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
}
# https://cloud.google.com/apis/design/errors, by HTTP status.
GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    407: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    414: "INVALID_ARGUMENT",
    421: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def shaped(code: str, shape: errors.ErrorShape) -> dict[str, object]:
    """The body of a refusal, read back."""
    body: dict[str, object] = json.loads(
        errors.body(Refusal(code, "say what is right"), shape, "id")
    )
    return body


@pytest.mark.parametrize(("code", "status"), STATUSES.items())
def test_a_code_has_the_status_of_the_contract(code: str, status: int) -> None:
    assert Refusal(code, "").status == status


@pytest.mark.parametrize("code", CODES)
def test_openai_sdks_find_a_message_a_type_and_a_code_that_is_text(code: str) -> None:
    assert shaped(code, "openai") == {
        "error": {
            "message": "say what is right",
            "type": "gateway_error",
            "param": None,
            "code": code,
        }
    }


@pytest.mark.parametrize("code", CODES)
def test_anthropic_sdks_find_the_type_that_their_error_classes_go_by(code: str) -> None:
    assert shaped(code, "anthropic") == {
        "type": "error",
        "error": {"type": ANTHROPIC_TYPES[CODES[code].status], "message": "say what is right"},
        "request_id": "id",
    }


@pytest.mark.parametrize("code", CODES)
def test_google_sdks_find_an_object_with_a_number_and_a_status(code: str) -> None:
    status = CODES[code].status
    assert shaped(code, "google") == {
        "error": {
            "code": status,
            "message": "say what is right",
            "status": GOOGLE_STATUSES[status],
        }
    }


@pytest.mark.parametrize("code", CODES)
def test_headers_mark_a_refusal_as_ours_and_forbid_to_cache_it(code: str) -> None:
    fields = errors.headers(Refusal(code, ""), "id-1")
    told = dict(fields)
    assert len(told) == len(fields)
    assert told[b"content-type"] == b"application/json"
    assert told[b"cache-control"] == b"no-store"
    assert told[b"x-passthrough-error"] == code.encode()
    assert told[b"x-request-id"] == told[b"request-id"] == b"id-1"


@pytest.mark.parametrize("code", CODES)
def test_what_a_retry_cannot_heal_says_so_to_the_sdk(code: str) -> None:
    heals = code in (
        "busy",
        "client_busy",
        "too_many_connections",
        "request_timeout",
        "upstream_unreachable",
        "upstream_protocol",
        "upstream_timeout",
        "log_unavailable",
        "no_token",
        "token_timeout",
        "requests_per_minute",
        "tokens_per_minute",
        "budget_unread",
        "draining",
    )
    refusal = Refusal(code, "")
    assert refusal.retry is heals
    retry = [value for name, value in errors.headers(refusal, "") if name == b"x-should-retry"]
    assert retry == ([] if heals else [b"false"])


def test_at_the_end_the_client_is_told_to_come_back_on_another_connection() -> None:
    told = dict(errors.headers(Refusal("draining", "", 1), ""))
    assert (told[b"retry-after"], told[b"connection"]) == (b"1", b"close")


def test_a_message_with_any_character_is_still_plain_ascii_json() -> None:
    body = errors.body(Refusal("no_route", 'a "quote", a line\nbreak, ünïcode'), "openai", "")
    assert body.isascii()
    assert json.loads(body)["error"]["message"] == 'a "quote", a line\nbreak, ünïcode'


def test_a_configuration_error_keeps_its_lines_apart() -> None:
    error = ConfigError("file:1: a", "file:2: b")
    assert error.lines == ("file:1: a", "file:2: b")
    assert str(error) == "file:1: a\nfile:2: b"


def test_findings_keep_each_fault_and_warning_behind_its_place() -> None:
    findings = Findings()
    findings.fault("log.path", "is a folder; name a file")
    findings.warn("log", "is on a slow disk")
    findings.fault("listen.port", "is taken; choose another")
    assert findings.faults == [
        "log.path: is a folder; name a file",
        "listen.port: is taken; choose another",
    ]
    assert findings.warnings == ["log: is on a slow disk"]


@pytest.mark.parametrize(("pause", "sent"), [(None, []), (1, [b"1"]), (86_400, [b"86400"])])
def test_a_pause_is_told_where_it_is_known(pause: int | None, sent: list[bytes]) -> None:
    fields = errors.headers(Refusal("daily_budget", "", pause), "")
    assert [value for name, value in fields if name == b"retry-after"] == sent
