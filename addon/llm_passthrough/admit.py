"""Admitting a request: its credentials taken off, its door and its route judged."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mitmproxy import http

from llm_passthrough import cors, links, status
from llm_passthrough.build import Parts
from llm_passthrough.clients import Clients, Identity, check_fields
from llm_passthrough.config import Limits, Log
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange, is_id, new_id
from llm_passthrough.flows import arrived_absolute
from llm_passthrough.forward import named, shown
from llm_passthrough.heads import too_large
from llm_passthrough.policy import Client, lower
from llm_passthrough.providers import Origin
from llm_passthrough.routes import Route, check, need_path
from llm_passthrough.tickets import uploads
from llm_passthrough.tunnels import Tunnel, refuse_nested
from llm_passthrough.wire import CREDENTIALS, DOOR_HEADERS, strip, whole_path

# What a flow's metadata says of the exchange that it was; plain texts, as they are saved with it.
RECORD = "llm_passthrough_record"
PROVIDER = "llm_passthrough_provider"
KEY = "llm_passthrough_key"
_ADMINISTRATOR = Identity(Client("mitmweb"))


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
        capture=lower(log.capture, stripped.control.get(b"x-passthrough-capture")),
        body_limit=log.body_limit,
        request_headers=stripped.fields,
        replay_of=_asked_replay(stripped.control.get(b"x-passthrough-replay")),
        preferred=stripped.control.get(b"x-passthrough-prefer-key", b"").decode("latin-1"),
    )


def note(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Note in a flow what it takes to send it again as it was sent."""
    upstream, key = exchange.upstream, exchange.key
    flow.metadata[RECORD] = exchange.id
    flow.metadata[PROVIDER] = upstream.provider.name if upstream else ""
    flow.metadata[KEY] = key.name if key else ""


def _asked_replay(value: bytes | None) -> str | None:
    text = (value or b"").decode("latin-1").strip()
    return text if is_id(text) else None


def edited(request: http.Request, exchange: Exchange) -> bool:
    """Whether somebody edited the request since it was admitted; if so, it is stripped again."""
    if exchange.seen == _seen(request):
        return False
    data, before = request.data, exchange.stripped
    again = strip(data.headers.fields, data.path)
    data.headers.fields, data.path = again.fields, again.target
    own = tuple(field for field in before.sent[0] if field[0].lower() in CREDENTIALS)
    sent = ((*again.fields, *own), again.target)
    exchange.stripped = replace(before, fields=again.fields, target=again.target, sent=sent)
    return True


def judged(
    flow: http.HTTPFlow,
    exchange: Exchange,
    parts: Parts,
    state: status.State,
    tunnel: Tunnel | None = None,
) -> status.Page | None:
    """A page of ours that was asked for, or None: the exchange has its route. Raises Refusal."""
    request, stripped = flow.request, exchange.stripped
    _check_version(request)
    check_fields(stripped.fields)
    if flow.is_replay:
        _repeated(flow, exchange, parts)
        _note(request, exchange, parts, state)
        return None
    # mitmproxy's own `method` is in capitals, whatever was sent.
    method = request.data.method.decode("latin-1")
    headers = stripped.texts(DOOR_HEADERS)
    origin = _meant(request, parts, tunnel)
    if origin is None:
        parts.door.check_host(request.host)
        parts.door.check(method, headers)
        page = _permit(exchange, parts, method, headers)
        page = page or status.page(parts.routes, method, request.data.path, state)
        if page is not None:
            return page
        _identify(exchange, parts, tunnel, state, proxy=False)
        exchange.route, exchange.path, exchange.query = parts.routes.choose(request.data.path)
        need_path(exchange.route, exchange.path)
        host, prefix = headers.get("host", ""), exchange.route.prefix
    else:
        _identify(exchange, parts, tunnel, state, proxy=True)
        exchange.route = by_host(parts, origin, request.data.path, method, headers)
        exchange.path, exchange.query = whole_path(request.data.path)
        host, prefix = origin.authority.decode(), ""
        if not exchange.route.upstreams:
            _pass_on(exchange, origin, parts)
        elif page := _permit(exchange, parts, method, headers):
            return page
    exchange.identity.client.check_route(exchange.route.prefix)
    _note(request, exchange, parts, state)
    tls = flow.client_conn.tls_established
    exchange.own_base = links.own_base(tls, host, prefix)
    _measure(request, parts.config.limits)
    return None


def _pass_on(exchange: Exchange, origin: Origin, parts: Parts) -> None:
    exchange.onward = origin
    if parts.forward.other == "tunnel":  # not opened either, as far as plain HTTP goes
        exchange.keep_only(str(origin))


def _permit(
    exchange: Exchange, parts: Parts, method: str, headers: Mapping[str, str]
) -> status.Page | None:
    """What the browser of an allowed web page is told; the page where this was all it asked."""
    origin = parts.door.page(headers)
    if origin is None:
        return None
    exchange.permission = cors.permission(origin)
    if method != "OPTIONS" or "access-control-request-method" not in headers:
        return None
    exchange.permission += cors.preflight(headers)
    return 204, None


def _measure(request: http.Request, limits: Limits) -> None:
    """Stream a body that is long, refuse one that is too long: Refusal (body_too_large)."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        return
    if int(length) > limits.request_body:
        raise too_large(limits.request_body)
    if int(length) > limits.request_buffer:
        request.stream = True


def _check_version(request: http.Request) -> None:
    """Whoever claims another version in plain text would have his request written anew for it, by
    mitmproxy, as one that no seal is on (RFC 9112 2.3)."""
    if request.http_version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refusal("bad_request", "only HTTP/1.1 and HTTP/1.0 are spoken here")


def _note(request: http.Request, exchange: Exchange, parts: Parts, state: status.State) -> None:
    if state.draining:
        raise draining()
    if parts.config.log.required and not state.tally.healthy:
        raise Refusal("log_unavailable", "records cannot be written, and log.required is on")
    exchange.seen = _seen(request)


def draining() -> Refusal:
    """What is told to whoever comes after the end has begun."""
    return Refusal("draining", "the gateway is about to end; try again in a moment", 1)


def _repeated(flow: http.HTTPFlow, exchange: Exchange, parts: Parts) -> None:
    """The route of a flow that somebody sends again from mitmweb: by the origin that it was for.

    He is an administrator of this gateway; the flow may be from a file, and is trusted in nothing.
    """
    data = flow.request.data
    origin, told = Origin(flow.request.scheme, named(flow.request.host), data.port), flow.metadata
    check(data.path)
    provider, before, key = told.get(PROVIDER), told.get(RECORD), told.get(KEY)
    exchange.preferred = key if isinstance(key, str) else ""
    exchange.replay_of = before if isinstance(before, str) and is_id(before) else None
    exchange.identity = _ADMINISTRATOR
    exchange.route = parts.hosts.again(origin, data.path, provider)
    if exchange.route is None:
        exchange.route = Route(f"host:{origin.host}", ())
        raise Refusal("forward_blocked", "no provider that is configured is at this origin")
    exchange.path, exchange.query = whole_path(data.path)


def _meant(request: http.Request, parts: Parts, tunnel: Tunnel | None) -> Origin | None:
    """The origin that a client means that takes us for its proxy; None where it means us."""
    if tunnel is not None and tunnel.kind != "own":
        refuse_nested(arrived_absolute(request), request.scheme == "https")
        return tunnel.origin
    if not arrived_absolute(request):
        return None
    ours = parts.door.is_ours(request.host)
    if ours and (request.port == parts.config.listen.port or parts.routes.has(request.data.path)):
        return None
    return Origin(request.scheme, named(request.host), request.port)


def by_host(
    parts: Parts, origin: Origin, target: bytes, method: str, headers: Mapping[str, str]
) -> Route:
    """The route that stands for an origin; one without an upstream where a request to it may be
    passed on as it came. Raises Refusal."""
    check(target)
    route = parts.hosts.route(origin, target)
    if route is None and (origin.scheme, origin.port) == ("http", 80):
        route = parts.hosts.route(Origin("https", origin.host, 443), target)
        if route is not None and parts.forward.plain_http == "refuse":
            raise Refusal(
                "forward_plain",
                f"plain http:// to {shown(origin.host)}; use https://, "
                "or set forward.plain_http to upgrade",
            )
    if route is None:
        parts.hosts.check_port(origin.host)
        parts.forward.check_name(origin.host)
        return Route(f"host:{origin.host}", ())
    parts.door.at(origin.host).check(method, headers)
    return route


def _identify(
    exchange: Exchange, parts: Parts, tunnel: Tunnel | None, state: status.State, proxy: bool
) -> None:
    """Who asks: inside a tunnel, who opened it. Raises Refusal where it may not ask (any more)."""
    stripped, clients = exchange.stripped, parts.clients
    if tunnel is not None and not (tunnel.kind == "own" and clients.required):
        exchange.identity = clients.again(tunnel.identity)
    elif proxy:
        exchange.identity = clients.identify(stripped.proxy_credentials, True, state.wall)
    else:
        _identify_here(exchange, clients, state)
    exchange.identity.check(state.wall, proxy and tunnel is None)
    exchange.capture = exchange.identity.client.captured(exchange.capture)
    if clients.required:
        values = (value for _, value in stripped.taken)
        tokens = frozenset(v for v in values if clients.knows(v.decode("latin-1")))
        exchange.stripped = replace(stripped, tokens=tokens)


def _identify_here(exchange: Exchange, clients: Clients, state: status.State) -> None:
    """Who asks on a prefix: by its token, or by the ticket of an upload. Raises Refusal."""
    stripped, tickets = exchange.stripped, state.tickets
    if tickets is None or not clients.required:
        exchange.identity = clients.identify(stripped.credentials, False, state.wall)
        return
    try:
        exchange.identity = clients.identify(stripped.credentials, False, state.wall)
    except Refusal:
        holder = tickets.holder(stripped.target)
        if holder is None:
            raise
        exchange.identity = clients.again(holder)
    exchange.note_uploads(uploads(stripped.target))
    tickets.check(stripped.target, exchange.identity)


def _seen(request: http.Request) -> tuple[object, ...]:
    data = request.data
    return data.method, data.path, data.host, data.port, data.headers.fields
