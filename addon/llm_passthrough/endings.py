"""How an exchange ended: its outcome, whose fault that was, and what to tell a client."""

from dataclasses import dataclass

from llm_passthrough import failures
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.record import Fault, Outcome


@dataclass(frozen=True, slots=True)
class Ending:
    """What the record says; `refusal` is for a client that has heard nothing yet."""

    outcome: Outcome
    fault: Fault | None = None
    refusal: Refusal | None = None


OK = Ending("ok")
REFUSED = Ending("refused")
_STOPPED = Ending("error", Fault("stopped", "the gateway was stopped", "gateway"))
_KILLED = Ending("error", Fault("killed", "a person ended it", "gateway"))
_LEFT = Ending("client_abort", Fault("client_abort", "the client went away", "client"))
_BROKEN_OFF = Ending("upstream_abort", failures.BROKEN_OFF)
_POLICY_VIOLATION = 1008  # RFC 6455 7.4.1
_MALFORMED = Ending(
    "refused", refusal=Refusal("bad_request", "this is not a well-formed HTTP request")
)


def of_answer(exchange: Exchange, status: int, cut: bool) -> Ending:
    """The end of an answer; `cut` when its connection broke where its end would have been."""
    if exchange.refused:
        return REFUSED
    if cut:
        return _BROKEN_OFF
    return Ending("upstream_error" if status >= 400 else "ok")


def of_error(
    exchange: Exchange, message: str | None, client_left: bool, fault: Refusal | None = None
) -> Ending:
    """The end of what broke; `message` is mitmproxy's, None where a person ended it.

    `fault` is what is wrong with what the client sent, if it was that.
    """
    if exchange.refused:
        return REFUSED
    if message is None:
        return _KILLED
    if fault is not None:
        return Ending("refused", refusal=fault)
    if client_left:
        return OK if exchange.complete() else _LEFT  # it may go after the last event
    if exchange.origin is None:
        return _MALFORMED
    if exchange.unread and exchange.timed_out and exchange.timed_out.startswith("idle"):
        text = f"the client did not take the answer ({exchange.timed_out})"
        return Ending("timeout", Fault("client_timeout", text, "client"))
    refusal = failures.of_upstream(
        message, str(exchange.origin), exchange.waiting_for, exchange.timed_out
    )
    outcome: Outcome = "upstream_error" if exchange.headers_at is None else "upstream_abort"
    if exchange.timed_out:
        outcome = "timeout"
    return Ending(outcome, Fault(refusal.code, refusal.message, "upstream"), refusal)


def of_connect(exchange: Exchange, message: str | None) -> Ending:
    """The end of a CONNECT that got no tunnel: refused, or (`message`) it led to nothing."""
    if message is None:
        return REFUSED
    where = exchange.client_path.decode("latin-1")
    refusal = failures.of_upstream(message, where, "connect", exchange.timed_out)
    outcome: Outcome = "timeout" if exchange.timed_out else "upstream_error"
    return Ending(outcome, Fault(refusal.code, refusal.message, "upstream"), refusal)


def of_stop(exchange: Exchange) -> Ending:
    """The end of what is open when the gateway ends."""
    return OK if exchange.complete() else _STOPPED


def of_talk(
    exchange: Exchange,
    code: int | None,
    reason: str | None,
    by_client: bool,
    fault: Refusal | None = None,
) -> Ending:
    """The end of a WebSocket, closed with `code` by one side, or by us for a `fault` of one."""
    if fault is not None and code == _POLICY_VIOLATION:
        return Ending("refused", Fault(fault.code, fault.message, "gateway"))
    if fault is not None and by_client:
        return Ending("refused", Fault(fault.code, fault.message, "client"))
    if fault is not None:
        return Ending("upstream_error", Fault(fault.code, fault.message, "upstream"))
    if exchange.timed_out:
        text = f"it was open for too long ({exchange.timed_out})"
        return Ending("timeout", Fault("upstream_timeout", text, "gateway"))
    outcome, told = failures.of_websocket(code, reason, by_client)
    if outcome == "client_abort" and exchange.complete():
        return OK  # it left between two responses; Codex does
    return Ending(outcome, told)
