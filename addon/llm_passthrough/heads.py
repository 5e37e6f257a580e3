"""The head of a request: read, and what it and the body are too large for."""

from mitmproxy import http
from mitmproxy.net.http import http1

from llm_passthrough.config import Limits
from llm_passthrough.errors import Refusal

CHUNKED = -2
"""Stands for the length of a body that has none."""
MALFORMED = Refusal("bad_request", "this is not a well-formed HTTP request")
TOO_LONG = Refusal("target_too_long", "the request line is too long; see limits.request_line")
TOO_LARGE = Refusal("head_too_large", "the request's head is too large; see limits.request_head")
_TOO_MANY = Refusal("head_too_large", "too many request headers; see limits.request_headers")


def too_large(limit: int) -> Refusal:
    """The refusal of a body of more than so many bytes."""
    text = f"the body is longer than {limit} bytes; see limits.request_body"
    return Refusal("body_too_large", text)


def beyond(sizes: list[int], whole: int, limits: Limits) -> Refusal | None:
    """What a head is too large for: `sizes` are those of its lines, in bytes, `whole` its own."""
    if sizes[0] > limits.request_line:
        return TOO_LONG
    if len(sizes) - 1 > limits.request_headers:
        return _TOO_MANY
    return TOO_LARGE if whole > limits.request_head else None


def parsed(lines: list[bytes]) -> tuple[http.Request | None, int | None]:
    """The request that a head begins, and the length of its body: CHUNKED, or None where its
    headers contradict each other. Without a request where the head is none."""
    try:
        request = http1.read_request_head(lines)
    except ValueError:
        return None, None
    try:
        length = http1.expected_http_body_size(request)
    except ValueError:
        return request, None
    return request, CHUNKED if length is None else length
