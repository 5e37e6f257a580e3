"""What mitmproxy says when an upstream fails, made into a refusal that a person understands."""

from llm_passthrough.errors import Refusal

_TLS = ("tls", "ssl", "certificate", "handshake")
_LONGEST = 200


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
    return Refusal("upstream_protocol", f"{origin} closed the connection before it had answered")


def _about_tls(message: str) -> bool:
    return any(word in message.lower() for word in _TLS)


def _plain(message: str) -> str:
    return "".join(c if c.isprintable() else " " for c in message)[:_LONGEST]
