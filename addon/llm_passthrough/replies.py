"""mitmproxy responses for what we answer ourselves: refusals and pages."""

import json

from mitmproxy import http

from llm_passthrough import cors, errors
from llm_passthrough.errors import ErrorShape, Refusal
from llm_passthrough.exchange import Exchange, new_id
from llm_passthrough.flows import Refused
from llm_passthrough.wire import Fields


def refused(refusal: Refusal, shape: ErrorShape, request_id: str, method: str) -> Refused:
    """A refusal as a response; to HEAD without a body (RFC 9110 9.3.2)."""
    content = b"" if method == "HEAD" else errors.body(refusal, shape, request_id)
    fields = errors.headers(refusal, request_id)
    response = Refused.make(refusal.status, content, http.Headers(fields))
    assert isinstance(response, Refused)
    return response


def refuse(flow: http.HTTPFlow, exchange: Exchange | None, refusal: Refusal) -> Refused:
    """Answer a flow with a refusal, in the shape that the route's SDKs can read."""
    shape = exchange.route.error_shape if exchange and exchange.route else "openai"
    flow.request.stream = False
    flow.request.headers.pop("expect", None)  # no invitation to send a body
    request_id = exchange.id if exchange else new_id()
    response = refused(refusal, shape, request_id, flow.request.method)
    if exchange is not None:
        fields = cors.told(response.headers.fields, exchange.permission)
        response.headers.fields = fields
        exchange.refuse(refusal.status, fields, response.content)
    flow.response = response
    return response


def page(
    status: int, value: dict[str, object] | None, method: str, permission: Fields = ()
) -> http.Response:
    """A page of ours as a response; without a value it has no content."""
    content = b"" if method == "HEAD" or value is None else json.dumps(value).encode()
    fields: Fields = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    response = http.Response.make(status, content, http.Headers(cors.told(fields, permission)))
    if value is None:  # RFC 9110 8.6: a 204 has no length either
        del response.headers["content-type"], response.headers["content-length"]
    return response


def told(response: http.Response) -> tuple[str, str]:
    """Code and message of a refusal, as the client was told."""
    code = response.headers.get("x-passthrough-error", "internal")
    try:
        return code, str(json.loads(response.content or b"{}")["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return code, code
