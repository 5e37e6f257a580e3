"""The WebSockets that are open: each message is looked at, each turn is told as it ends.

An addon beside the gateway.
"""

from collections.abc import Callable, Mapping

from mitmproxy import http

from llm_passthrough import endings
from llm_passthrough.endings import Ending
from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import client_fault
from llm_passthrough.guard import quiet
from llm_passthrough.record import Facts
from llm_passthrough.websocket import keep_last


class Talks:
    """`live` holds the exchanges that are open; `put` takes the facts of a turn, and `finish` ends
    an exchange."""

    name = "llm_passthrough_talks"

    def __init__(
        self,
        live: Mapping[http.HTTPFlow, Exchange],
        put: Callable[[Facts], None],
        finish: Callable[[http.HTTPFlow, Exchange, Ending], None],
    ) -> None:
        self._live = live
        self._put = put
        self._finish = finish

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
