"""What mitmproxy says when an upstream fails, made into a refusal that a person understands."""

from llm_passthrough.errors import Refusal
from llm_passthrough.record import Fault, Outcome

_TLS = ("tls", "ssl", "certificate", "handshake")
_LONGEST = 200
# How mitmproxy begins to tell of an answer that it does not take.
_MALFORMED = ("Cannot parse HTTP response", "unexpected server response", "Received ")


BROKEN_OFF = Fault("upstream_abort", "the upstream broke the connection off", "upstream")
_LEFT = Fault("client_abort", "the client went away without a close frame", "client")
_ABNORMAL = 1006


def of_websocket(
    code: int | None, reason: str | None, by_client: bool
) -> tuple[Outcome, Fault | None]:
    """How a WebSocket ended, from its close code (RFC 6455 7.4) and the side that ended it."""
    if code is None or code == _ABNORMAL:
        return ("client_abort", _LEFT) if by_client else ("upstream_abort", BROKEN_OFF)
    if not by_client and (code == 1002 or code == 1003 or 1007 <= code <= 1015 or code >= 3000):
        text = f"closed with {code}" + (f": {_plain(reason)}" if reason else "")
        return "upstream_error", Fault("websocket_close", text, "upstream")
    return "ok", None


def of_upstream(message: str, origin: str, waiting_for: str, timed_out: str | None) -> Refusal:
    """The refusal for a transport failure.

    `message` is mitmproxy's text; only what the operating system or OpenSSL said is quoted, as
    the rest may hold bytes that came from the other side. `waiting_for` is the phase in which it
    happened, `timed_out` the deadline that was ours.
    """
    if timed_out is not None:
        return Refusal("upstream_timeout", f"{origin} took too long ({timed_out})")
    if waiting_for == "connect":
        code = "upstream_tls" if _about_tls(message) else "upstream_unreachable"
        return Refusal(code, f"{origin} could not be reached: {_plain(message)}")
    if message.startswith(_MALFORMED):
        return Refusal("upstream_protocol", f"{origin} gave an answer that is no well-formed HTTP")
    return Refusal("upstream_protocol", f"{origin} closed the connection before it had answered")


def _about_tls(message: str) -> bool:
    return any(word in message.lower() for word in _TLS)


def _plain(message: str) -> str:
    return "".join(c if c.isprintable() else " " for c in message)[:_LONGEST]
