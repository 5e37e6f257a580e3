"""Deadlines: one look over all open exchanges at short intervals, instead of a timer for each."""

from collections.abc import Mapping

from llm_passthrough.config import Timeouts
from llm_passthrough.exchange import Exchange

EVERY = 0.25
"""Seconds between two looks: how exact a deadline is."""


def overdue[F](live: Mapping[F, Exchange], now: float, timeouts: Timeouts) -> list[F]:
    """The flows whose upstream took too long; their `timed_out` is set to the reason.

    `now` is on the exchanges' clock; a provider may have other `timeouts` than these.
    """
    late = []
    for flow, exchange in live.items():
        if exchange.timed_out is None:
            exchange.timed_out = _passed(exchange, now, timeouts)
            if exchange.timed_out is not None:
                late.append(flow)
    return late


def _passed(exchange: Exchange, now: float, timeouts: Timeouts) -> str | None:
    """The deadline that an exchange has passed."""
    if exchange.upstream is None and exchange.onward is None and not _is_dialled(exchange):
        return None
    if timeouts.total is not None and now - exchange.at > timeouts.total:
        return f"total after {timeouts.total:g} s"
    limit = _limit(exchange, timeouts)
    if limit is None or now - _last_sign(exchange) <= limit:
        return None
    return f"{exchange.waiting_for} after {limit:g} s"


def _is_dialled(exchange: Exchange) -> bool:
    """Whether it is a tunnel that is on its way to another host."""
    return exchange.bare and exchange.waiting_for == "connect"


def _limit(exchange: Exchange, timeouts: Timeouts) -> float | None:
    """Seconds that the present phase may take, or None where nothing is awaited from upstream."""
    waits = exchange.upstream or timeouts
    phases = {"connect": timeouts.connect, "first_byte": waits.first_byte, "idle": waits.idle}
    return phases.get(exchange.waiting_for)


def _last_sign(exchange: Exchange) -> float:
    """When the upstream, or a body on its way up, was last heard of."""
    tees = (exchange.request_tee, exchange.answer_tee)
    seen = [tee.last for tee in tees if tee is not None and tee.last is not None]
    return max([exchange.since, *seen])
