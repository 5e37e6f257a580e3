"""Who is asking: may this caller, with this Host and this Origin, ask us anything at all.

A web page in a developer's browser can reach a gateway on loopback; it must not spend his keys.
A browser names the page's origin in requests that matter (Fetch standard, 3.1), and its Host is
the name that was dialled, which tells a rebound name from ours.
"""

import base64
import contextlib
import hashlib
import ipaddress
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llm_passthrough.errors import Refusal
from llm_passthrough.policy import EVERYBODY, Client

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

    def at(self, host: str) -> "Door":
        """The same door, for a host that we stand for: that is our name then."""
        return Door(frozenset({_name(host)}), self.origins)

    def is_ours(self, host: str) -> bool:
        """Whether `host` (without a port) is a name of this gateway."""
        return _name(host) in self.names

    def check_host(self, host: str) -> None:
        """Refuse a name that is not ours: Refusal (misdirected)."""
        if not self.is_ours(host):
            raise Refusal(
                "misdirected",
                "this gateway does not answer to that Host; "
                "add it to listen.allowed_hosts if it should",
            )

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse what must not be asked: Refusal (method_not_allowed, foreign_origin)."""
        if method not in METHODS:
            raise Refusal("method_not_allowed", f"methods: {', '.join(sorted(METHODS))}")
        self._check_browser(method, headers)

    def page(self, headers: Mapping[str, str]) -> str | None:
        """The web origin that asks, where it is an allowed one: its browser is told so."""
        origin = headers.get("origin")
        return origin if origin in self.origins else None

    def _check_browser(self, method: str, headers: Mapping[str, str]) -> None:
        if self.page(headers) is not None:
            return
        origin = headers.get("origin")
        foreign = (
            (origin is not None and not self._same(origin, headers))
            or headers.get("sec-fetch-site", "").lower() in _FOREIGN_SITES
            or (method == "OPTIONS" and "access-control-request-method" in headers)
            or not self._ours_or_none(headers.get("referer"), headers.get("host", ""))
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

    def _ours_or_none(self, referer: str | None, host: str) -> bool:
        """Whether a link is on a page of ours, by whichever of our names; or on none."""
        if referer is None:
            return True
        try:
            page = urlsplit(referer)
            return self.is_ours(page.hostname or "") and page.port == urlsplit(f"//{host}").port
        except ValueError:
            return False


def check_fields(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse header values that somebody further on could read as several: Refusal (bad_request).

    RFC 9110 5.5: a value has no control character but a tab; a folded line (RFC 9112 5.2) has.
    """
    hosts = 0
    for name, value in fields:
        hosts += name.lower() == b"host"
        if _CONTROL.search(value):
            shown = name.decode("latin-1")[:64]
            raise Refusal("bad_request", f"the header {shown} has a control character or a fold")
    if hosts > 1:  # RFC 9112 3.2
        raise Refusal("bad_request", "the request has more than one Host")


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's loopback (::ffff:127.0.0.1 included)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def is_local(host: str) -> bool:
    """Whether a host is this machine, by its name or its address."""
    return _name(host) == "localhost" or is_loopback(_name(host))


@dataclass(frozen=True, slots=True)
class Identity:
    """A client as it has named itself: by which of its tokens (its SHA-256), and until when that
    one is good, in seconds since the epoch."""

    client: Client
    digest: bytes = b""
    expires: float = math.inf

    def check(self, wall: float, proxy: bool = False) -> None:
        """Refuse a token that has expired, and a client that is switched off.

        Raises Refusal: expired_token, proxy_expired_token, client_disabled.
        """
        if wall >= self.expires:
            raise Refusal(
                "proxy_expired_token" if proxy else "expired_token",
                f"this token of client {self.client.name} has expired; it needs a new one",
            )
        self.client.check_enabled()


ANYBODY = Identity(EVERYBODY)


@dataclass(frozen=True, slots=True)
class Clients:
    """Who may call, by the SHA-256 of each token: a token itself is kept nowhere.

    Where nobody is configured, everybody on this machine is `default`.
    """

    by_digest: Mapping[bytes, Identity]

    @property
    def required(self) -> bool:
        """Whether everybody has to name itself."""
        return bool(self.by_digest)

    @property
    def all(self) -> list[Client]:
        """The clients, each once."""
        return list({one.client.name: one.client for one in self.by_digest.values()}.values())

    def knows(self, credential: str) -> bool:
        """Whether a credential is a client's token: it is for us, and goes no further."""
        return any(hashlib.sha256(t).digest() in self.by_digest for t in _tokens(credential))

    def identify(
        self, credentials: Iterable[str], proxy: bool = False, wall: float = 0.0
    ) -> Identity:
        """A client by what it sent as its credentials; of several tokens, one that is good.

        Raises Refusal: unknown_client, or proxy_unknown_client for one that sees a proxy in us.
        """
        if not self.required:
            return ANYBODY
        found = None
        for credential in credentials:
            for token in _tokens(credential):
                # Found by its digest: how long that takes tells nothing about a token.
                if known := self.by_digest.get(hashlib.sha256(token).digest()):
                    if wall < known.expires:
                        return known
                    found = known
        return found or self._nobody(proxy)

    def again(self, identity: Identity, proxy: bool = False) -> Identity:
        """The same client as it is configured now: its token may be gone, its rules others.

        Raises Refusal as `identify` does.
        """
        if not self.required:
            return ANYBODY
        return self.by_digest.get(identity.digest) or self._nobody(proxy)

    def _nobody(self, proxy: bool) -> Identity:
        raise Refusal(
            "proxy_unknown_client" if proxy else "unknown_client",
            "this gateway knows no client by these credentials; send one of its tokens "
            + ("as the proxy's user or password" if proxy else "in the place of the API key"),
        )


def _tokens(credential: str) -> Iterator[bytes]:
    """What may be a token in a credential: as it is, without its scheme, either half of Basic."""
    scheme, _, rest = credential.partition(" ")
    yield credential.encode("latin-1", "replace")
    if rest:
        yield rest.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            yield from base64.b64decode(rest, validate=True).split(b":", 1)


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
