"""Admitting a request: its credentials taken off, its door and its route judged."""

import time
from collections.abc import Callable
from dataclasses import replace

from mitmproxy import http

from llm_passthrough import links, status
from llm_passthrough.build import Parts
from llm_passthrough.clients import check_fields, identify
from llm_passthrough.config import Log
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange, lower, new_id
from llm_passthrough.layer import arrived_absolute
from llm_passthrough.routes import need_path
from llm_passthrough.wire import DOOR_HEADERS, strip


def opened(request: http.Request, log: Log, clock: Callable[[], float]) -> Exchange:
    """The exchange of a new request; nothing of its credentials is left in it."""
    data = request.data
    stripped = strip(data.headers.fields, data.path or data.authority)
    data.headers.fields = stripped.fields
    if data.path:
        data.path = stripped.target
    return Exchange(
        id=new_id(),
        started=time.time(),
        at=clock(),
        method=request.method,
        client_path=stripped.target,
        stripped=stripped,
        client=identify(),
        capture=lower(log.capture, stripped.control.get(b"x-passthrough-capture")),
        body_limit=log.body_limit,
        request_headers=stripped.fields,
    )


def edited(request: http.Request, exchange: Exchange) -> bool:
    """Whether somebody edited the request since it was admitted; if so, it is stripped again."""
    if exchange.seen == _seen(request):
        return False
    data = request.data
    again = strip(data.headers.fields, data.path)
    data.headers.fields, data.path = again.fields, again.target
    exchange.stripped = replace(exchange.stripped, fields=again.fields, target=again.target)
    return True


def judged(
    flow: http.HTTPFlow, exchange: Exchange, parts: Parts, state: status.State
) -> status.Page | None:
    """A page of ours that was asked for, or None: the exchange has its route. Raises Refusal."""
    request, stripped = flow.request, exchange.stripped
    if flow.is_replay:
        raise Refusal("forward_blocked", "a flow cannot be replayed; send its request again")
    check_fields(stripped.fields)
    headers = stripped.texts(DOOR_HEADERS)
    # mitmproxy's own `method` is in capitals, whatever was sent.
    method = request.data.method.decode("latin-1")
    parts.door.check(request.host, arrived_absolute(request), method, headers)
    page = status.page(parts.routes, method, request.data.path, state)
    if page is not None:
        return page
    exchange.route, exchange.path, exchange.query = parts.routes.choose(request.data.path)
    need_path(exchange.route, exchange.path)
    if parts.config.log.required and not state.tally.healthy:
        raise Refusal("log_unavailable", "records cannot be written, and log.required is on")
    tls = flow.client_conn.tls_established
    exchange.own_base = links.own_base(tls, headers.get("host", ""), exchange.route.prefix)
    exchange.seen = _seen(request)
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > parts.config.limits.request_buffer:
        request.stream = True
    return None


def _seen(request: http.Request) -> tuple[object, ...]:
    data = request.data
    return data.method, data.path, data.host, data.port, data.headers.fields
