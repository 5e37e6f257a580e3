"""The front door: one mitmproxy addon whose hooks read like the life of a request.

    requestheaders   admit:  strip the client's credentials, judge host, method and path
    passthrough_sign sign:   choose upstream and key, seal the headers (see layer.py)
    responseheaders  watch:  clean the answer's headers, decide whether to stream, set the tee
    response | error finish: exactly once, one record

An exception in a hook would let mitmproxy send the request on as it is. So every hook that
decides stands inside `guarded`, which answers the client instead.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from mitmproxy import ctx, http
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from llm_passthrough import deadlines, errors, failures, status
from llm_passthrough.build import Parts
from llm_passthrough.clients import identify, is_loopback
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange, body_of, new_id
from llm_passthrough.layer import Refused, arrived_absolute, client_failed
from llm_passthrough.providers import Origin
from llm_passthrough.record import Body, Fault, Outcome
from llm_passthrough.sinks.writer import Writer
from llm_passthrough.tee import Tee
from llm_passthrough.verdict import decide
from llm_passthrough.wire import clean_answer, map_urls, strip

_LOG = logging.getLogger(__name__)
_DOOR_HEADERS = frozenset(
    b"host origin referer sec-fetch-site access-control-request-method".split()
)
_STREAMED_TYPES = ("text/event-stream", "application/x-ndjson", "audio/", "video/")
_MESSAGES_KEPT = 200
_CAPTURES = ("none", "usage", "full")


def guarded(hook: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Whatever goes wrong in a hook that decides, the client is answered and nothing is sent."""

    @wraps(hook)
    async def guard(self: "Gateway", flow: http.HTTPFlow) -> None:
        entered = time.perf_counter()
        try:
            result = hook(self, flow)
            if result is not None:
                await result
        except Refusal as refusal:
            self.refuse(flow, refusal)
        except (KeyboardInterrupt, SystemExit):
            self.fail(flow)
            raise
        except BaseException as error:  # noqa: BLE001 - even a CancelledError must not let it pass
            self.fail(flow, error)
        if exchange := self.live.get(flow):
            exchange.own_time += time.perf_counter() - entered

    return guard


class Gateway:
    """The addon. `parts` may be swapped as a whole; an exchange keeps what it began with."""

    def __init__(
        self,
        parts: Parts,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.parts = parts
        self.writer = writer
        self.live: WeakKeyDictionary[http.HTTPFlow, Exchange] = WeakKeyDictionary()
        self._signed: dict[str, tuple[http.HTTPFlow, Exchange]] = {}
        self._dialling: dict[str, Any] = {}
        self._clock = clock
        self._chance = chance or random.SystemRandom()

    # -- connections ------------------------------------------------------------------------

    def client_connected(self, client: Any) -> None:
        """Only this machine may connect, whatever address the port is bound to."""
        if not is_loopback(client.peername[0]):
            client.error = "not from this machine"

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """A tunnel is refused before anything is dialled."""
        exchange = self._open(flow)
        self.refuse(flow, Refusal("forward_blocked", "this gateway opens no tunnels; use a route"))
        self._finish(flow, exchange, "refused")

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Only the origin that the client's present request is signed for may be dialled."""
        entry = self._signed.get(data.client.id)
        if entry is None or not _same(entry[1].origin, data.server.address, data.server.tls):
            data.server.error = "not a destination of this request"
            return
        self._dialling[data.client.id] = data.server

    def client_disconnected(self, client: Any) -> None:
        """Forget what belonged to the connection."""
        self._signed.pop(client.id, None)
        self._dialling.pop(client.id, None)

    # -- the life of a request --------------------------------------------------------------

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Admit: nothing of the client's credentials is left in the flow after this."""
        exchange = self._open(flow)
        if flow.error is not None:
            return  # mitmproxy found it malformed and says so in `error`
        self._admit(flow, exchange)

    @guarded
    async def passthrough_sign(self, flow: http.HTTPFlow) -> None:
        """Sign: the last hook before a connection is made; see layer.py."""
        exchange = self.live.get(flow)
        if exchange is None:
            raise Refusal("internal", "a request came by unseen")
        if flow.response is not None:
            return  # another addon answers, or we did
        request = flow.request
        if exchange.seen != _seen(request):
            self._restrip(flow, exchange)
            self._admit(flow, exchange)
            if flow.response is not None:
                return
        body = None if request.stream else request.raw_content or b""
        route, path, query = self.parts.routes.choose(request.data.path)
        verdict = decide(route, path, query, request.method, exchange.stripped, body, self._chance)
        origin = verdict.target.origin
        exchange.upstream, exchange.detected_by = verdict.upstream, verdict.detected_by
        exchange.key, exchange.secret, exchange.origin = verdict.key, verdict.secret, origin
        exchange.url = str(origin) + verdict.target.path.decode("latin-1")
        exchange.path = path
        exchange.request_headers = verdict.headers.fields
        if body is None:
            exchange.request_tee = Tee(exchange.body_limit, self._clock)
            request.stream = exchange.request_tee
        else:
            exchange.request_body = Body(body, len(body))
        data = request.data
        data.headers, data.path, data.authority = verdict.headers, verdict.target.path, b""
        data.scheme, data.host, data.port = origin.scheme.encode(), origin.host, origin.port
        self._signed[flow.client_conn.id] = (flow, exchange)
        exchange.wait_for("connect", self._clock())

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """From here on the first byte is awaited (a TLS handshake counts as connecting)."""
        if not data.server.tls:
            self._connected(data.client.id)

    def tls_established_server(self, data: Any) -> None:
        """The same, once the handshake is done."""
        self._connected(data.context.client.id)

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Watch: the answer's head is cleaned; its body is streamed if it is one to stream."""
        exchange, response = self.live.get(flow), flow.response
        if exchange is None or response is None or isinstance(response, Refused):
            return
        if exchange.origin is None:
            exchange.status = response.status_code  # another addon's answer
            return
        exchange.headers_at = self._clock()
        exchange.wait_for("idle", exchange.headers_at)
        exchange.status = response.status_code
        fields = clean_answer(response.headers.fields, response.status_code, exchange.secret)
        fields = map_urls(fields, lambda name, url: _mapped(exchange, name, url))
        response.headers.fields = exchange.answer_headers = fields
        exchange.streaming = self._is_stream(response)
        if exchange.streaming:
            exchange.answer_tee = Tee(exchange.body_limit, self._clock)
            response.stream = exchange.answer_tee

    def response(self, flow: http.HTTPFlow) -> None:
        """Finish what came to its end."""
        exchange = self.live.get(flow)
        if exchange is None or flow.response is None:
            return
        if flow.websocket is not None:
            exchange.wait_for("websocket", self._clock())
            exchange.request_tee = Tee(exchange.body_limit, self._clock)
            exchange.answer_tee = Tee(exchange.body_limit, self._clock)
            exchange.streaming = True
            return
        if exchange.answer_tee is not None:
            flow.response.data.content = exchange.answer_tee.copy  # for people who look at it
        outcome: Outcome = "upstream_error" if flow.response.status_code >= 400 else "ok"
        self._finish(flow, exchange, "refused" if exchange.refused else outcome)

    def error(self, flow: http.HTTPFlow) -> None:
        """Finish what broke, and say so to a client who has not heard anything yet."""
        exchange = self.live.get(flow)
        if exchange is None or flow.error is None:
            return
        if exchange.refused:
            self._finish(flow, exchange, "refused")
        elif exchange.origin is None and not client_failed(flow):
            self.refuse(flow, Refusal("bad_request", "this is not a well-formed HTTP request"))
            self._finish(flow, exchange, "refused")
        elif client_failed(flow) or flow.error.msg == flow.error.KILLED_MESSAGE:
            killed = flow.error.msg == flow.error.KILLED_MESSAGE
            fault = Fault("killed", "a person ended it", "gateway") if killed else _CLIENT_LEFT
            self._finish(flow, exchange, "error" if killed else "client_abort", fault)
        else:
            self._upstream_failed(flow, exchange, flow.error.msg)

    # -- WebSockets ---------------------------------------------------------------------------

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Count what goes by, and keep no more of it than a person would look at."""
        exchange = self.live.get(flow)
        assert flow.websocket is not None
        messages = flow.websocket.messages
        if exchange is not None:
            tee = exchange.request_tee if messages[-1].from_client else exchange.answer_tee
            if tee is not None:
                tee(messages[-1].content + b"\n")
        if len(messages) > 2 * _MESSAGES_KEPT:
            del messages[:-_MESSAGES_KEPT]

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Finish: the conversation is over."""
        exchange = self.live.get(flow)
        if exchange is not None:
            self._finish(flow, exchange, "ok")

    # -- how it is done -------------------------------------------------------------------------

    def _open(self, flow: http.HTTPFlow) -> Exchange:
        data = flow.request.data
        stripped = strip(data.headers.fields, data.path or data.authority)
        data.headers.fields = stripped.fields
        if data.path:
            data.path = stripped.target
        log = self.parts.config.log
        exchange = Exchange(
            id=new_id(),
            started=time.time(),
            at=self._clock(),
            method=flow.request.method,
            client_path=stripped.target,
            stripped=stripped,
            client=identify(),
            capture=_lower(log.capture, stripped.control.get(b"x-passthrough-capture")),
            body_limit=log.body_limit,
            request_headers=stripped.fields,
        )
        self.live[flow] = exchange
        return exchange

    def _restrip(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The flow was edited since it was admitted: strip it again, keep what was taken."""
        data = flow.request.data
        again = strip(data.headers.fields, data.path)
        data.headers.fields, data.path = again.fields, again.target
        before = exchange.stripped
        exchange.stripped = type(before)(again.fields, again.target, before.taken, before.control)

    def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        request, parts = flow.request, self.parts
        path = request.data.path.partition(b"?")[0]
        wanted = {
            name.lower().decode("latin-1"): value.decode("latin-1")
            for name, value in exchange.stripped.fields
            if name.lower() in _DOOR_HEADERS
        }
        parts.door.check(request.host, arrived_absolute(request), request.method, wanted)
        if request.method in ("GET", "HEAD"):
            page = status.page(parts.routes, path, self.writer.tally)
            if page is not None:
                flow.response = _json(page[0], json.dumps(page[1]).encode(), request.method)
                self.live.pop(flow, None)
                return
        exchange.route, rest, _ = parts.routes.choose(request.data.path)
        if rest in (b"", b"/"):
            raise Refusal("no_route", _bare(exchange.route.prefix))
        if parts.config.log.required and not self.writer.tally.healthy:
            raise Refusal("log_unavailable", "records cannot be written, and log.required is on")
        exchange.own_base = _own_base(flow, wanted.get("host", ""), exchange.route.prefix)
        exchange.seen = _seen(request)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > parts.config.limits.request_buffer:
            request.stream = True

    def _is_stream(self, response: http.Response) -> bool:
        kind = response.headers.get("content-type", "").lower()
        length = response.headers.get("content-length")
        if kind.startswith(_STREAMED_TYPES) or length is None:
            return True
        return not length.isdigit() or int(length) > self.parts.config.limits.response_buffer

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        """Answer the client ourselves, in the shape that his SDK can read."""
        exchange = self.live.get(flow)
        shape = exchange.route.error_shape if exchange and exchange.route else "openai"
        request_id = exchange.id if exchange else new_id()
        content = errors.body(refusal, shape, request_id)
        if flow.request.method == "HEAD":
            content = b""
        fields = errors.headers(refusal, request_id)
        flow.request.stream = False
        flow.request.headers.pop("expect", None)  # no invitation to send a body
        flow.response = Refused.make(refusal.status, content, http.Headers(fields))
        if exchange is not None:
            exchange.refused = True
            exchange.status = refusal.status
            exchange.answer_headers = flow.response.headers.fields
            exchange.answer_body = Body(content, len(content))
            exchange.answer_tee = None

    def fail(self, flow: http.HTTPFlow, error: BaseException | None = None) -> None:
        """An error of ours: answer 500 with a reference to the log, in which only its kind is."""
        exchange = self.live.get(flow)
        reference = exchange.id if exchange else new_id()
        _LOG.error("%s: %s in the gateway", reference, _where(error))
        try:
            self.refuse(flow, Refusal("internal", f"the gateway failed; see its log: {reference}"))
        except BaseException:  # noqa: BLE001 - without an answer the flow must still not go on
            flow.kill()

    def _upstream_failed(self, flow: http.HTTPFlow, exchange: Exchange, message: str) -> None:
        origin = str(exchange.origin)
        refusal = failures.of_upstream(message, origin, exchange.waiting_for, exchange.timed_out)
        fault = Fault(refusal.code, refusal.message, "upstream")
        outcome: Outcome = "timeout" if exchange.timed_out else "upstream_abort"
        if not exchange.streaming:
            self.refuse(flow, refusal)
            exchange.refused = False
        self._finish(flow, exchange, outcome, fault)

    def _connected(self, client_id: str) -> None:
        self._dialling.pop(client_id, None)
        entry = self._signed.get(client_id)
        if entry is not None:
            entry[1].wait_for("first_byte", self._clock())

    def _finish(
        self,
        flow: http.HTTPFlow,
        exchange: Exchange,
        outcome: Outcome,
        fault: Fault | None = None,
    ) -> None:
        """Exactly once: what is no longer in `live` is finished."""
        if self.live.pop(flow, None) is None:
            return
        self._signed.pop(flow.client_conn.id, None)
        if exchange.request_tee is not None:
            exchange.request_body = body_of(exchange.request_tee)
        if exchange.answer_tee is not None:
            exchange.answer_body = body_of(exchange.answer_tee)
        elif exchange.streaming is False and flow.response and flow.response.raw_content:
            if not isinstance(flow.response, Refused):
                content = flow.response.raw_content
                exchange.answer_body = Body(content, len(content))
        if outcome == "refused" and fault is None and isinstance(flow.response, Refused):
            fault = Fault(*_told(flow.response), "gateway")
        self.writer.put(exchange.facts(self._clock(), outcome, fault))

    # -- start and end ---------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look after deadlines until cancelled."""
        while True:
            await asyncio.sleep(deadlines.EVERY)
            self.end_overdue()

    def end_overdue(self) -> None:
        """End every exchange whose upstream takes too long."""
        late = deadlines.overdue(
            self.live.values(), self._clock(), self.parts.config.timeouts.connect
        )
        for flow, exchange in list(self.live.items()):
            if exchange in late:
                self._abort(flow)

    def _abort(self, flow: http.HTTPFlow) -> None:
        """End the upstream's side of a flow; mitmproxy then tells us in `error`."""
        handlers = ctx.master.addons.get("proxyserver").connections
        handler = handlers.get(flow.client_conn.id)
        if handler is None:
            return
        server = self._dialling.get(flow.client_conn.id) or flow.server_conn
        transport = handler.transports.get(server)
        if transport is not None and transport.handler is not None:
            transport.handler.cancel("deadline")

    def finish_all(self) -> None:
        """The gateway stops: what is still open is told as it stands."""
        fault = Fault("stopped", "the gateway was stopped", "gateway")
        for flow, exchange in list(self.live.items()):
            self._finish(flow, exchange, "error", fault)


_CLIENT_LEFT = Fault("client_abort", "the client went away", "client")


def _seen(request: http.Request) -> tuple[bytes, str, int, Any]:
    data = request.data
    return data.path, data.host, data.port, data.headers.fields


def _same(origin: Origin | None, address: Any, tls: bool) -> bool:
    if origin is None or address is None:
        return False
    return (origin.host, origin.port) == tuple(address[:2]) and tls == (origin.scheme == "https")


def _lower(configured: str, asked: bytes | None) -> str:
    """The capture for a request: what it asks for, where that is less than the configuration's."""
    wanted = asked.decode("latin-1").strip().lower() if asked else configured
    if wanted not in _CAPTURES:
        return configured
    return min(configured, wanted, key=_CAPTURES.index)


def _own_base(flow: http.HTTPFlow, host: str, prefix: str) -> bytes:
    """How the client addresses this route: scheme, Host and prefix."""
    scheme = "https" if flow.client_conn.tls_established else "http"
    return f"{scheme}://{host or 'localhost'}{prefix}".encode("latin-1")


def _mapped(exchange: Exchange, name: bytes, url: bytes) -> bytes | None:
    """A URL of the provider's, as one of ours: see wire.map_urls."""
    assert exchange.origin is not None
    base = exchange.upstream.base.path if exchange.upstream and exchange.upstream.base else b""
    scheme, _, rest = url.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    if not rest:
        if url.startswith(b"/") and not url.startswith(b"//"):
            return exchange.own_base + url.removeprefix(base)
        return url if name == b"location" else None
    own = exchange.origin.scheme.encode() == scheme and exchange.origin.authority == authority
    if own:
        return exchange.own_base + (slash + path).removeprefix(base)
    return url if name == b"location" else None


def _bare(prefix: str) -> str:
    if "genai" in prefix:
        return (
            "the path is empty: google-genai drops it when Vertex's project and location come "
            "from the environment only; pass project= and location=, or any api_key="
        )
    return f"the path is empty; put the API's path behind {prefix}"


def _json(code: int, content: bytes, method: str) -> http.Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return http.Response.make(code, b"" if method == "HEAD" else content, headers)


def _told(response: http.Response) -> tuple[str, str]:
    """Code and message of a refusal."""
    code = response.headers.get("x-passthrough-error", "internal")
    try:
        return code, str(json.loads(response.content or b"{}")["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return code, code


def _where(error: BaseException | None) -> str:
    """The kind of an error and the line it came from; its text may hold a secret."""
    if error is None:
        return "an interrupt"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place
