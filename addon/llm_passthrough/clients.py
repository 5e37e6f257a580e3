"""Who is asking: may this caller, with this Host and this Origin, ask us anything at all.

A web page in a developer's browser can reach a gateway on loopback; it must not spend his keys.
A browser names the page's origin in requests that matter (Fetch standard, 3.1), and its Host is
the name that was dialled, which tells a rebound name from ours.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llm_passthrough.errors import Refusal

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True)
class Door:
    """The names that we answer to, and the web origins that may call us."""

    names: frozenset[str]
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Iterable[str], origins: Iterable[str] = ()) -> "Door":
        """A door for loopback and these further host names."""
        return cls(_LOCAL_NAMES | {_name(host) for host in hosts}, frozenset(origins))

    def is_ours(self, host: str) -> bool:
        """Whether `host` (without a port) is a name of this gateway."""
        return _name(host) in self.names

    def check(self, host: str, absolute: bool, method: str, headers: Mapping[str, str]) -> None:
        """Refuse who must not ask: Refusal (misdirected, forward_blocked, foreign_origin, ...).

        `host` is the target's, from the URL of an absolute-form request or the Host header.
        """
        if not self.is_ours(host):
            if absolute:
                raise Refusal(
                    "forward_blocked", "this gateway forwards to no other host; use its routes"
                )
            raise Refusal(
                "misdirected",
                "this gateway does not answer to that Host; "
                "add it to listen.allowed_hosts if it should",
            )
        if method not in METHODS:
            raise Refusal("method_not_allowed", f"methods: {', '.join(sorted(METHODS))}")
        self._check_browser(method, headers)

    def _check_browser(self, method: str, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is not None and origin in self.origins:
            return
        foreign = (
            (origin is not None and not self._same(origin, headers))
            or headers.get("sec-fetch-site", "").lower() in _FOREIGN_SITES
            or (method == "OPTIONS" and "access-control-request-method" in headers)
            or not self._ours_or_none(headers.get("referer"))
        )
        if foreign:
            raise Refusal(
                "foreign_origin",
                "a web page of another origin asks; add it to listen.allowed_origins if it may",
            )

    def _same(self, origin: str, headers: Mapping[str, str]) -> bool:
        """Whether a page's origin is this gateway itself, port included."""
        try:
            parts = urlsplit(origin)
            return self.is_ours(parts.hostname or "") and parts.netloc == headers.get("host")
        except ValueError:
            return False

    def _ours_or_none(self, referer: str | None) -> bool:
        if referer is None:
            return True
        try:
            return self.is_ours(urlsplit(referer).hostname or "")
        except ValueError:
            return False


def check_fields(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse header values that somebody further on could read as several: Refusal (bad_request).

    RFC 9110 5.5: a value has no control character but a tab; a folded line (RFC 9112 5.2) has.
    """
    for name, value in fields:
        if _CONTROL.search(value):
            shown = name.decode("latin-1")[:64]
            raise Refusal("bad_request", f"the header {shown} has a control character or a fold")


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's loopback (::ffff:127.0.0.1 included)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def identify() -> str:
    """The client's name: everybody is `default` as long as no clients are configured."""
    return "default"


# Where tools say which conversation a call belongs to, in the order in which they are looked for.
_SESSIONS = (
    b"x-claude-code-session-id",
    b"session-id",
    b"conversation-id",
    b"x-session-id",
    b"x-session-affinity",
)
SESSION_HEADERS = frozenset(
    spelling.decode() for name in _SESSIONS for spelling in (name, name.replace(b"-", b"_"))
)


def session(fields: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The session that a client names in its headers, or None."""
    named = {
        lower: value
        for name, value in fields
        if (lower := name.lower().replace(b"_", b"-")) in _SESSIONS
    }
    return next((named[name].decode("latin-1") for name in _SESSIONS if name in named), None)


def _name(host: str) -> str:
    return host.lower().rstrip(".").removeprefix("[").removesuffix("]")
