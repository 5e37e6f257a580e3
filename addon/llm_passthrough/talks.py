"""The WebSockets that are open: each message is looked at, each turn is told as it ends.

One whose client may not go on is closed, between two turns. An addon beside the gateway.
"""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from mitmproxy import http

from llm_passthrough import endings
from llm_passthrough.allowance import Allowance, check
from llm_passthrough.build import Parts
from llm_passthrough.endings import Ending
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import client_fault
from llm_passthrough.guard import quiet
from llm_passthrough.record import Facts
from llm_passthrough.websocket import keep_last


class Terms(Protocol):
    """By what a client may go on: the parts that hold now, and what it has used."""

    @property
    def parts(self) -> Parts:
        """Who may call, and what each may do."""

    @property
    def allowance(self) -> Allowance:
        """How much each has used."""


class Talks:
    """`live` holds the exchanges that are open; `put` takes the facts of a turn, `finish` ends
    an exchange, and `close` tells the client of a flow why his WebSocket is closed."""

    name = "llm_passthrough_talks"

    def __init__(
        self,
        live: Mapping[http.HTTPFlow, Exchange],
        terms: Terms,
        put: Callable[[Facts], None],
        finish: Callable[[http.HTTPFlow, Exchange, Ending], None],
        close: Callable[[http.HTTPFlow, Refusal], None],
    ) -> None:
        self._live = live
        self._terms = terms
        self._put = put
        self._finish = finish
        self._close = close

    @quiet
    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Look at a message, tell the turn that it ends, and keep no more messages than a person
        would look at."""
        exchange, talk = self._live.get(flow), flow.websocket
        if talk is None:
            return
        if exchange is not None:
            turn = exchange.hear(talk.messages[-1].from_client, talk.messages[-1].content)
            if turn is not None:
                self._put(turn)
                self._end_denied(flow, exchange)
        keep_last(talk.messages)

    @quiet
    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Finish: the conversation is over."""
        exchange, talk = self._live.get(flow), flow.websocket
        if exchange is not None and talk is not None:
            by_client = bool(talk.closed_by_client)
            code, reason, fault = talk.close_code, talk.close_reason, client_fault(flow)
            ending = endings.of_talk(exchange, code, reason, by_client, fault)
            self._finish(flow, exchange, ending)

    def look(self, wall: float | None = None) -> None:
        """Close the WebSockets whose clients may not go on, each when its answer is over; `wall` is
        seconds since the epoch."""
        now = time.time() if wall is None else wall
        for flow, exchange in list(self._live.items()):
            if exchange.talk is not None:
                exchange.denied = self._denial(exchange, now)
                if not exchange.talk.answering:
                    self._end_denied(flow, exchange)

    def _end_denied(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        if exchange.denied is not None:
            self._close(flow, exchange.denied)

    def _denial(self, exchange: Exchange, wall: float) -> Refusal | None:
        """Why a client may not go on with what it began: its token or its route was taken away, or
        a limit of what it may use is reached."""
        terms = self._terms
        try:
            identity = terms.parts.clients.again(exchange.identity)
            identity.check(wall)
            client = identity.client
            if exchange.route is not None:
                client.check_route(exchange.route.prefix)
            if client.limits.metered:
                check(client, terms.allowance.used(client.name), wall, ongoing=True)
        except Refusal as refusal:
            return refusal
        return None
