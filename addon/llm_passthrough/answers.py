"""The head of a provider's answer as the client gets it, and what is learnt from it."""

from llm_passthrough import cors, keep
from llm_passthrough.exchange import Exchange
from llm_passthrough.tickets import Tickets
from llm_passthrough.wire import Fields, clean_answer, map_urls


def fields_of(
    exchange: Exchange, fields: Fields, now: float, wall: float, tickets: Tickets
) -> Fields:
    """The fields cleaned, led back through our route, and with what a browser is told.

    `now` is monotonic seconds, `wall` seconds since the epoch.
    """
    assert exchange.status is not None
    fields = clean_answer(fields, exchange.status, exchange.secret)
    fields = map_urls(fields, exchange.link)
    if exchange.identity.digest and exchange.by_prefix:
        exchange.note_uploads(tickets.hand_out(fields, exchange.identity))
    fields = keep.heard(exchange, fields, now, wall)
    return cors.told(fields, exchange.permission)
