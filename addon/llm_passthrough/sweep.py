"""The sweep: one look over all that is open ends what takes too long; no timer for each."""

from collections.abc import Mapping

from mitmproxy import http

from llm_passthrough.config import Timeouts
from llm_passthrough.deadlines import overdue
from llm_passthrough.egress import Egress
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.flows import client_of, is_uploading


def end_overdue(
    live: Mapping[http.HTTPFlow, Exchange], egress: Egress, timeouts: Timeouts, now: float
) -> None:
    """End every exchange that takes too long, or that a person has ended, and connections on
    which nothing happens; mitmproxy then calls the `error` hook of an exchange."""
    for flow in overdue(live, now, timeouts):
        live[flow].unread = egress.is_unread(flow)  # then it is not the provider that is silent
        egress.hang_up(flow)
    for flow, exchange in list(live.items()):
        # mitmproxy only marks it, and would let a stream run to its end.
        if flow.error and flow.error.msg == flow.error.KILLED_MESSAGE and not exchange.killed:
            exchange.killed = True
            egress.hang_up(flow)
        elif is_uploading(flow) and egress.stalled(flow, now):
            text = f"nothing came of the request's body for {timeouts.request_body:g} s"
            egress.interrupt(flow, Refusal("request_timeout", text))
    egress.close_late(now, {client_of(flow).id for flow in live})
