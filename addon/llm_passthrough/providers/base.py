"""What all providers share: where a request goes (Target) and how it is signed (Credential)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from llm_passthrough.errors import ErrorShape
from llm_passthrough.keyring import Key

# A name, or an address; what else a URL parser takes for a host, a resolver may read otherwise.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 6454): the only place that a credential may go to."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> bytes:
        """The value of the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = self.port == {"https": 443, "http": 80}[self.scheme]
        return (host if own else f"{host}:{self.port}").encode()

    def is_at(self, address: tuple[str, int] | None, tls: bool) -> bool:
        """Whether a connection to `address` is one to this origin."""
        return address == (self.host, self.port) and tls == (self.scheme == "https")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}"


@dataclass(frozen=True, slots=True)
class Base:
    """A base URL, taken apart once at start: its origin and its path without a last slash."""

    origin: Origin
    path: bytes = b""

    @classmethod
    def parse(cls, url: str) -> "Base":
        """Raises ValueError that says what is wrong, without the URL (it may hold a password)."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("not a URL; write https://host/path") from None
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host) or port == 0:
            raise ValueError("not a URL; write https://host/path")
        if "@" in parts.netloc or "?" in url or "#" in url:
            raise ValueError("a base URL has no user, query or fragment; write https://host/path")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError("a base URL is printable ASCII without spaces")
        port = port or (443 if parts.scheme == "https" else 80)
        return cls(Origin(parts.scheme, host, port), parts.path.rstrip("/").encode())


@dataclass(frozen=True, slots=True)
class Ask:
    """What a provider may know of a request before it is signed.

    `path` is the raw path after the prefix (b"" or b"/..."), `query` the raw query without its
    question mark (None when there was none); the client's credentials are already off both.
    `hint` is the Vertex resource path that the body named as its model, if that was looked at.
    `exact`: the client addressed the provider's own host, so that its path is whole as it is.
    """

    method: str
    path: bytes
    query: bytes | None
    headers: frozenset[bytes] = frozenset()
    hint: str | None = None
    exact: bool = False

    def target(self, base: Base, path: bytes) -> "Target":
        """The target at `base` with another path and the same query."""
        return Target(base.origin, _join(base.path + path, self.query))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: an origin and the raw path with its query (origin-form)."""

    origin: Origin
    path: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """How a key is sent: one header, in which `{key}` stands for the secret, and plain ones."""

    header: bytes
    form: bytes = b"{key}"
    extra: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: a row of the table in providers/__init__.py.

    `locate` makes the target of an Ask (raises Refusal), `sign` says how a key is sent with it,
    `rewrite` replaces in a body what names the caller's account, byte for byte else. `probe` is
    the path (and query) of the provider's list of models. `has_host` says of a host's name whether
    it is one of the provider's, where these are too many to name.
    """

    name: str
    base_url: str | None
    error_shape: ErrorShape
    locate: Callable[[Ask, Key, Base], Target]
    sign: Callable[[Ask, Key], Credential]
    probe: bytes = b"/models"
    rewrite: Callable[[Ask, Key, Target, bytes], bytes] | None = None
    has_host: Callable[[str], bool] | None = None


def bearer(ask: Ask, key: Key) -> Credential:
    """`Authorization: Bearer <key>` (RFC 6750) and the headers of the key's own account."""
    return Credential(b"Authorization", b"Bearer {key}", key.account_headers)


def as_it_is(ask: Ask, key: Key, base: Base) -> Target:
    """The client's path behind the base URL's."""
    return ask.target(base, ask.path or b"/")


def _join(path: bytes, query: bytes | None) -> bytes:
    return path if query is None else path + b"?" + query
