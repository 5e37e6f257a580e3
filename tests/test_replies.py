"""Replies: what we answer ourselves, as mitmproxy sends it and as the record tells it."""

import json

import pytest
from llm_passthrough.errors import CODES, ErrorShape, Refusal
from llm_passthrough.flows import Refused
from llm_passthrough.replies import page, refused, told
from mitmproxy import http

SHAPES: tuple[ErrorShape, ...] = ("openai", "anthropic", "google")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("code", CODES)
def test_a_refusal_is_told_in_the_record_as_the_client_hears_it(
    code: str, shape: ErrorShape
) -> None:
    response = refused(Refusal(code, "what would be right"), shape, "id-1", "POST")
    assert isinstance(response, Refused)
    assert response.status_code == CODES[code].status
    assert response.headers["content-length"] == str(len(response.content or b""))
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-passthrough-error"] == code
    assert told(response) == (code, "what would be right")


def test_head_is_refused_without_a_body() -> None:
    response = refused(Refusal("no_route", "no"), "openai", "id-1", "HEAD")
    assert response.content == b""
    assert response.headers["x-passthrough-error"] == "no_route"
    assert told(response) == ("no_route", "no_route")


@pytest.mark.parametrize(("method", "content"), [("GET", {"a": 1}), ("HEAD", None)])
def test_a_page_is_json_that_nobody_keeps(method: str, content: object) -> None:
    response = page(200, {"a": 1}, method)
    assert (json.loads(response.content) if response.content else None) == content
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert "x-passthrough-error" not in response.headers


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="no body"),
        pytest.param(b"<html>", id="no JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"error": "text"}', id="an error that is no object"),
    ],
)
def test_a_body_that_another_addon_replaced_is_told_by_its_code(content: bytes) -> None:
    response = http.Response.make(404, content, {"x-passthrough-error": "no_route"})
    assert told(response) == ("no_route", "no_route")
    assert told(http.Response.make(500, content)) == ("internal", "internal")
