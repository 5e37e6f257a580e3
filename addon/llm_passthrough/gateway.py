"""The front door: one mitmproxy addon whose hooks read like the life of a request.

    http_connect     a tunnel is judged (see tunnels.py); each request inside is one like any other
    requestheaders   admit:  strip the client's credentials, judge host, method and path
    passthrough_sign sign:   choose upstream and key, seal the headers (see layer.py)
    responseheaders  watch:  clean the answer's headers, decide whether to stream, set the tee
    response | error finish: exactly once, one record; of a WebSocket see talks.py

An exception in a hook would let mitmproxy send the request on as it is. So every hook that
decides stands inside `guarded`, which answers the client instead.
"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from mitmproxy import http

from llm_passthrough import (
    admit,
    answers,
    deadlines,
    endings,
    framing,
    keep,
    replies,
    status,
    views,
)
from llm_passthrough.allowance import Allowance, Memory, used_by
from llm_passthrough.build import Parts
from llm_passthrough.clients import is_loopback
from llm_passthrough.connections import Connections
from llm_passthrough.crowd import Crowd
from llm_passthrough.egress import Egress
from llm_passthrough.endings import Ending
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.fairness import Fairness
from llm_passthrough.flows import Refused, client_failed, client_fault, client_of, unreached
from llm_passthrough.guard import guarded, quiet, unraised
from llm_passthrough.pace import Pace
from llm_passthrough.providers import Target
from llm_passthrough.record import Body, Fault, Outcome
from llm_passthrough.resumption import Resumption
from llm_passthrough.said import cleaned
from llm_passthrough.seal import Sealed
from llm_passthrough.sinks.writer import Writer
from llm_passthrough.sweep import end_overdue
from llm_passthrough.talks import Talks
from llm_passthrough.tee import Tee
from llm_passthrough.tickets import Tickets
from llm_passthrough.transport import was_reset
from llm_passthrough.tunnels import Tunnels
from llm_passthrough.wire import clean_reason, lowered, with_length


class Gateway:
    """The addon. `parts` may be swapped as a whole; an exchange keeps what it began with."""

    def __init__(
        self,
        parts: Parts,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.parts = parts
        self.writer = writer
        self.live: WeakKeyDictionary[http.HTTPFlow, Exchange] = WeakKeyDictionary()
        self.allowance = allowance or Memory()
        self.draining = False
        self.shared: Callable[[], str] | None = None  # whether other machines hear of us
        self.tunnels, self.tickets = Tunnels(), Tickets(clock)
        self.crowd, self.fairness = Crowd(lambda: self.parts.config.limits), Fairness(clock)
        self.connections = Connections(
            clock, lambda: self.parts.config, lambda target: self.parts.routes.shape(target)
        )
        self.egress = Egress(
            clock, self.tunnels, lambda: self.parts.clients.required, self.connections
        )
        self.resumption = Resumption(clock, self.egress.destination)
        self.talks = Talks(self.live, self, writer.put, self._finish, self.egress.end_talk)
        self.pace = Pace(clock, self.egress.pause)
        self._clock = clock
        self._chance = chance or random.SystemRandom()

    # -- the life of a request ----------------------------------------------------------------

    @guarded
    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """A tunnel is judged before anything is dialled."""
        exchange = self._open(flow)
        if self.draining:
            raise admit.draining()

        def finish(outcome: Outcome, fault: Fault | None) -> None:
            self._finish(flow, exchange, Ending(outcome, fault))

        if not await self.tunnels.open(flow, exchange, self.parts, finish):
            self.live.pop(flow, None)  # each request inside is an exchange of its own

    @quiet
    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """Finish what was refused, or leads nowhere: no other hook tells of it."""
        if exchange := self.live.get(flow):
            ending = endings.of_connect(exchange, unreached(flow))
            if ending.refusal is not None:
                self.refuse(flow, ending.refusal)
            self._finish(flow, exchange, ending)

    @guarded
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Admit: nothing of the client's credentials is left in the flow after this."""
        exchange = self._open(flow)
        if flow.error is None:  # else mitmproxy found it malformed, and says so in `error`
            self._admit(flow, exchange)
            if flow.response is None:
                await self.fairness.turn(exchange.identity.client.name)
                await self.allowance.take(exchange.identity.client)

    @guarded
    async def passthrough_sign(self, flow: http.HTTPFlow) -> None:
        """Sign: the last hook before a connection is made; see layer.py."""
        exchange, request = self.live.get(flow), flow.request
        if flow.response is not None:
            return  # we, or another addon, answer
        if exchange is None:
            raise Refusal("internal", "this request was not admitted")
        if admit.edited(request, exchange):
            self._admit(flow, exchange)
            if flow.response is not None:
                return
        body = None if request.stream else request.raw_content or b""
        if exchange.onward is not None:
            headers, target = await keep.onward(request, exchange, self.parts, self._clock)
            self._clear(flow, exchange, headers, target)
            return
        question = exchange.question(request.method, body)
        verdict, secret = await keep.choose(question, self._chance, self._clock)
        fields, body = exchange.stripped.fields, verdict.body
        if body is None:
            request.stream = exchange.request_tee = Tee(exchange.body_limit, self._clock)
        elif body != request.raw_content:
            request.data.content, fields = body, with_length(fields, len(body))
        headers = verdict.sealed(fields, secret)
        exchange.sign(verdict, secret, headers.fields)
        self._clear(flow, exchange, headers, verdict.target)

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Watch: the answer's head is cleaned; its body is streamed if it is one to stream."""
        exchange, response = self.live.get(flow), flow.response
        if exchange is None or response is None or isinstance(response, Refused):
            return
        exchange.status = response.status_code
        if exchange.origin is None:
            return  # another addon answers
        exchange.headers_at = self._clock()
        exchange.wait_for("idle", exchange.headers_at)
        fields = response.headers.fields
        if exchange.onward is None:
            now, wall = self._clock(), time.time()
            fields = answers.fields_of(exchange, fields, now, wall, self.tickets)
            response.data.reason = clean_reason(response.data.reason, exchange.secret)
        response.headers.fields = exchange.answer_headers = fields
        limit = self.parts.config.limits.response_buffer
        exchange.streaming = framing.is_streamed(response.headers, limit)
        if exchange.streaming:
            ear = exchange.listen(lowered(fields))
            response.stream = exchange.answer_tee = Tee(exchange.body_limit, self._clock, ear)

    @quiet
    def response(self, flow: http.HTTPFlow) -> None:
        """Finish what came to its end; a WebSocket only begins here."""
        exchange, response = self.live.get(flow), flow.response
        if exchange is None or response is None:
            return
        if flow.websocket is not None:
            exchange.converse(self._clock, lowered(response.headers.fields))
            return
        if exchange.answer_tee is not None:
            response.data.content = exchange.answer_tee.copy  # for people who look at the flow
        elif response.raw_content:
            exchange.answer_body = Body(response.raw_content, len(response.raw_content))
        cut = framing.ends_with_connection(response.headers) and was_reset(flow.server_conn)
        keep.told(exchange, response.data.content or b"", self._clock())
        self._finish(flow, exchange, endings.of_answer(exchange, response.status_code, cut))

    @quiet
    def error(self, flow: http.HTTPFlow) -> None:
        """Finish what broke, and say so to a client who has not heard anything yet."""
        exchange, error = self.live.get(flow), flow.error
        if exchange is None or error is None:
            return
        if exchange.killed:
            error.msg = error.KILLED_MESSAGE  # mitmproxy tells of the hanging up instead
        message = None if error.msg == error.KILLED_MESSAGE else error.msg
        error.msg = cleaned(error.msg)  # mitmproxy quotes heads in it
        ending = endings.of_error(exchange, message, client_failed(flow), client_fault(flow))
        if ending.refusal is not None and not exchange.streaming:
            answer = self.refuse(flow, ending.refusal)
            if exchange.unanswered:
                fields = keep.failed(exchange, answer.headers.fields, self._clock())
                answer.headers.fields = exchange.answer_headers = fields
        self._finish(flow, exchange, ending)

    # -- how it is done -----------------------------------------------------------------------

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> http.Response:
        """Answer the client ourselves, in the shape that the route's SDKs can read."""
        return replies.refuse(flow, self.live.get(flow), refusal)

    def _clear(
        self, flow: http.HTTPFlow, exchange: Exchange, headers: Sealed, target: Target
    ) -> None:
        """From here on the request may leave: for this target, with these sealed headers."""
        data, origin = flow.request.data, target.origin
        admit.note(flow, exchange)
        data.headers, data.path, data.authority = headers, target.path, b""
        data.scheme, data.host, data.port = origin.scheme.encode(), origin.host, origin.port
        self.egress.allow(client_of(flow), exchange)
        exchange.wait_for("first_byte", self._clock())

    def _open(self, flow: http.HTTPFlow) -> Exchange:
        exchange = admit.opened(flow.request, self.parts.config.log, self._clock)
        self.live[flow] = exchange
        flow.metadata[views.RECORD] = exchange.id
        return exchange

    def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        tunnel = self.tunnels.of(flow.client_conn)
        local = is_loopback(flow.client_conn.peername[0])
        tally, now, wall = self.writer.tally, self._clock(), time.time()
        used = partial(used_by, self.parts.clients.all, self.allowance)
        told = self.connections.told
        state = status.State(
            tally, now, local, wall, used, self.draining, self.tickets, told, self.shared
        )
        page = admit.judged(flow, exchange, self.parts, state, tunnel)
        if page is not None:
            flow.response = replies.page(*page, flow.request.method, exchange.permission)
            self.live.pop(flow, None)
        else:
            self.crowd.enter(exchange)

    def _finish(self, flow: http.HTTPFlow, exchange: Exchange, ending: Ending) -> None:
        """Exactly once: what is no longer in `live` is finished."""
        if self.live.pop(flow, None) is None:
            return
        self.crowd.leave(exchange)
        self.egress.withdraw(client_of(flow))
        views.keep(flow, exchange.request_tee, exchange.answer_tee)
        fault = ending.fault
        if fault is None and isinstance(flow.response, Refused):
            fault = Fault(*replies.told(flow.response), "gateway")
        self.writer.put(exchange.facts(self._clock(), ending.outcome, fault))

    # -- start and end ------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look after deadlines until cancelled."""
        while True:
            await asyncio.sleep(deadlines.EVERY)
            self.end_overdue()

    @unraised
    def end_overdue(self) -> None:
        """End what takes too long, was ended by a person, or may not go on; `error` (of a
        WebSocket, `websocket_end`) then tells of an exchange."""
        end_overdue(self.live, self.egress, self.parts.config.timeouts, self._clock())
        self.talks.look()

    def swap(self, parts: Parts) -> None:
        """Go on with other parts; what is open ends with those it was admitted with."""
        self.parts = parts
        self.resumption.forget()
        self.writer.knows(parts.redactor, parts.config.prices)

    def finish_all(self) -> None:
        """The gateway stops: what is still open is told as it stands."""
        for flow, exchange in list(self.live.items()):
            self._finish(flow, exchange, endings.of_stop(exchange))
