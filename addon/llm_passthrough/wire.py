"""What leaves and what comes back: strip the client's credentials, clean the provider's answer.

The module that edits a request's and an answer's headers. Header
fields are raw (name, value) byte pairs; what no rule names keeps its order and spelling.
"""

import hashlib
import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from pydantic import SecretStr

from llm_passthrough.redact import SHORTEST, forms

type Fields = tuple[tuple[bytes, bytes], ...]

CREDENTIALS = frozenset(
    b"authorization proxy-authorization api-key x-api-key x-goog-api-key "
    b"ocp-apim-subscription-key cookie".split()
)
# They name the caller's account, so they go with his credential.
ACCOUNT = frozenset(b"openai-organization openai-project x-goog-user-project".split())
_QUERY_CREDENTIALS = frozenset(b"key api_key api-key access_token subscription-key".split())
# WebSocket subprotocols that stand for a header, and the name under which they are taken
# (https://platform.openai.com/docs/guides/realtime-websocket).
_SUBPROTOCOLS = {
    b"openai-insecure-api-key": b"subprotocol",
    b"openai-ephemeral-key": b"subprotocol",
    b"openai-organization": b"openai-organization",
    b"openai-project": b"openai-project",
}
# RFC 9110 7.6.1; our own marks go no further than one hop either.
_HOP = frozenset(b"keep-alive te trailer upgrade http2-settings".split())
_HOP_PREFIXES = (b"proxy-", b"x-passthrough-")
# A request that asks the next hop to believe something about this one.
_BELIEVE = frozenset(b"via forwarded x-original-url x-rewrite-url x-http-method-override".split())
_ANSWER_DROPS = CREDENTIALS | frozenset(b"set-cookie alt-svc strict-transport-security".split())
_LINKS = frozenset(b"location x-goog-upload-url x-goog-upload-control-url".split())
_RETRY = frozenset(b"x-should-retry retry-after retry-after-ms".split())
DOOR_HEADERS = frozenset(
    b"host origin referer sec-fetch-site access-control-request-method "
    b"access-control-request-headers access-control-request-private-network "
    b"access-control-request-local-network".split()
)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SPELT = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_", b"abcdefghijklmnopqrstuvwxyz-")
_NO_NAME = bytes(
    set(range(256)) - set(string.ascii_letters.encode() + b"0123456789!#$%&'*+-.^_`|~")
)
_FRAMING = frozenset(b"content-length transfer-encoding host".split())


@dataclass(frozen=True, slots=True)
class Stripped:
    """A request's fields and target without credentials, and what was taken off.

    `taken` are the client's own credentials (as sent): for redaction, or to be passed on where
    the configuration says so. `control` are the x-passthrough-* headers, names in lower case.
    `sent` are fields and target as they came, for a host that gets no key of ours. `tokens` are
    those values of `taken` that are for this gateway: they are passed on to nobody.
    """

    fields: Fields
    target: bytes
    taken: Fields
    control: dict[bytes, bytes]
    sent: tuple[Fields, bytes] = ((), b"")
    tokens: frozenset[bytes] = frozenset()

    def value(self, name: bytes) -> str:
        """The first value taken under a header name, or an empty text; never a token of ours."""
        found = (v for key, v in self.taken if key == name and v not in self.tokens)
        return next(found, b"").decode("latin-1")

    def texts(self, names: frozenset[bytes]) -> dict[str, str]:
        """Those of the kept headers that are named (in lower case), as texts."""
        return {
            lower.decode("latin-1"): value.decode("latin-1")
            for name, value in self.fields
            if (lower := name.lower()) in names
        }

    @property
    def credentials(self) -> Iterable[str]:
        """All that a client may be known by: it may put its token wherever a key goes."""
        return (value.decode("latin-1") for _, value in self.taken)

    @property
    def proxy_credentials(self) -> Iterable[str]:
        """What a client may be known by that takes us for its proxy (RFC 9110 11.7.2)."""
        return (v.decode("latin-1") for name, v in self.taken if name == b"proxy-authorization")

    @property
    def secrets(self) -> Iterable[str]:
        """The client's credentials, each without its scheme."""
        for name, value in self.taken:
            if name not in ACCOUNT:
                text = value.decode("latin-1")
                yield text
                yield text.partition(" ")[2] or text


def digest(token: SecretStr) -> bytes:
    """The SHA-256 by which a client's token is known."""
    return hashlib.sha256(token.get_secret_value().encode()).digest()


def strip(fields: Fields, target: bytes) -> Stripped:
    """Take off every credential, hop-by-hop header and control header of a request."""
    named = _nominated(fields)
    upgrade = _asks_websocket(fields)
    kept: list[tuple[bytes, bytes]] = []
    taken: list[tuple[bytes, bytes]] = []
    control: dict[bytes, bytes] = {}
    for name, value in fields:
        key = spelt(name)
        if key in CREDENTIALS or key in ACCOUNT:
            taken.append((key, value))
        elif key == b"sec-websocket-protocol":
            kept.extend(_subprotocols(name, value, taken))
        elif key == b"connection":
            kept.extend(_connection(name, value, upgrade))
        elif upgrade and _is_websocket(key, value):
            kept.append((name, value))
        elif key.startswith(b"x-passthrough-"):
            control.setdefault(key, value)
        elif not (_stays_here(key, named) or key in _BELIEVE or key.startswith(b"x-forwarded-")):
            kept.append((name, value))
    bare = _without_credentials(target, taken)
    return Stripped(tuple(kept), bare, tuple(taken), control, (fields, target))


def onward(fields: Fields) -> Fields:
    """A request's fields as a proxy passes them on: without what is for this hop alone, the
    client's own credentials among them."""
    named = _nominated(fields)
    upgrade = _asks_websocket(fields)
    kept: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        key = spelt(name)
        if key == b"connection":
            kept.extend(_connection(name, value, upgrade))
        elif not _stays_here(key, named) or (upgrade and _is_websocket(key, value)):
            kept.append((name, value))
    return tuple(kept)


def whole_path(target: bytes) -> tuple[bytes, bytes | None]:
    """A target's raw path, and its raw query or None where it has none."""
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def clean_answer(fields: Fields, status: int, secret: SecretStr | None) -> Fields:
    """An answer's fields without what belongs to the hop, to the browser or to our account.

    A header that holds our key, in whatever spelling, is dropped whatever its name: providers
    have echoed it. What a client could read as the end of a line becomes a space, as in a fold
    (RFC 9110 5.5, RFC 9112 5.2).
    """
    named = _nominated(fields)
    whole = b"\t".join(value for _, value in fields)
    if _CONTROL.search(whole):
        fields = tuple((name, _CONTROL.sub(b" ", value)) for name, value in fields)
        whole = b"\t".join(value for _, value in fields)
    echoed = [form for form in _spellings(secret) if form in whole] if secret else []
    kept: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        key = spelt(name)
        if key == b"connection":
            kept.extend(_connection(name, value, upgrade=status == 101))
            continue
        drop = (
            key in _ANSWER_DROPS
            or key.startswith(b"access-control-")
            or (_stays_here(key, named) and not (key == b"upgrade" and status == 101))
            or any(spelling in value for spelling in echoed)
        )
        if not drop:
            kept.append((name, value))
    return tuple(kept)


def clean_reason(reason: bytes, secret: SecretStr | None) -> bytes:
    """An answer's reason phrase, or none where it holds our key or what is no text."""
    echoed = secret is not None and any(form in reason for form in _spellings(secret))
    return b"" if echoed or _CONTROL.search(reason) else reason


def map_urls(fields: Fields, swap: Callable[[bytes, bytes], bytes | None]) -> Fields:
    """Fields in which the URLs that would lead the client past us are mapped by `swap`.

    `swap(name, url)` gives the new URL, or None to drop the header.
    """
    out = [(n, swap(n.lower(), v) if n.lower() in _LINKS else v) for n, v in fields]
    return tuple((name, value) for name, value in out if value is not None)


def lowered(fields: Fields) -> list[tuple[str, str]]:
    """Fields as texts, names in lower case."""
    return [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def with_length(fields: Fields, length: int) -> Fields:
    """The fields with the Content-Length, if there is one, of a body that we changed."""
    return tuple(
        (name, str(length).encode() if name.lower() == b"content-length" else value)
        for name, value in fields
    )


def ask_to_retry(fields: Fields) -> Fields:
    """An answer's fields that make the OpenAI and Anthropic SDKs try again at once.

    Both obey `x-should-retry` whatever the status is, and take the pause from `retry-after-ms`;
    0 would mean their own pause of half a second and more, so that it is 1.
    """
    kept = [field for field in fields if field[0].lower() not in _RETRY]
    return (*kept, (b"x-should-retry", b"true"), (b"retry-after-ms", b"1"))


def spelt(name: bytes) -> bytes:
    """A header's name as it is compared: many servers take `X_Api_Key` for `x-api-key`, and some
    pass over what no name may hold (RFC 9110 5.1)."""
    return name.translate(_SPELT, _NO_NAME)


def _stays_here(key: bytes, named: frozenset[bytes]) -> bool:
    return key in _HOP or key in named or key.startswith(_HOP_PREFIXES)


@lru_cache(maxsize=64)
def _spellings(secret: SecretStr) -> tuple[bytes, ...]:
    key = secret.get_secret_value()
    return tuple(form.encode() for form in (forms(key) if len(key) >= SHORTEST else {key}))


def _is_websocket(key: bytes, value: bytes) -> bool:
    return key == b"upgrade" and value.lower() == b"websocket"


def _asks_websocket(fields: Fields) -> bool:
    """Whether this hop is to become a WebSocket: both headers say so (RFC 6455 4.1)."""
    asked = [(n.lower(), v.lower()) for n, v in fields if n.lower() in (b"upgrade", b"connection")]
    return (b"upgrade", b"websocket") in asked and any(
        name == b"connection" and b"upgrade" in map(bytes.strip, value.split(b","))
        for name, value in asked
    )


def _nominated(fields: Fields) -> frozenset[bytes]:
    """The headers that `Connection` names; never those that frame or route the message."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    names = {spelt(part.strip()) for value in values for part in value.split(b",")}
    return frozenset(names - _FRAMING)


def _connection(name: bytes, value: bytes, upgrade: bool) -> list[tuple[bytes, bytes]]:
    """What stays of a Connection header: that this connection ends, or becomes a WebSocket."""
    tokens = {part.strip().lower() for part in value.split(b",")}
    if upgrade and b"upgrade" in tokens:
        return [(name, b"Upgrade")]
    return [(name, b"close")] if b"close" in tokens else []


def _subprotocols(
    name: bytes, value: bytes, taken: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """WebSocket subprotocols without those that carry a key or name the caller's account."""
    parts = [part.strip() for part in value.split(b",")]
    found = [part for part in parts if part.partition(b".")[0].lower() in _SUBPROTOCOLS]
    if not found:
        return [(name, value)]
    for part in found:
        kind, _, carried = part.partition(b".")
        taken.append((_SUBPROTOCOLS[kind.lower()], carried))
    rest = [part for part in parts if part not in found]
    return [(name, b", ".join(rest))] if rest else []


def _without_credentials(target: bytes, taken: list[tuple[bytes, bytes]]) -> bytes:
    """The target without the query parameters that carry a key; the rest byte for byte."""
    path, _, query = target.partition(b"?")
    kept = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        # Behind a second question mark too: for some readers a query begins there.
        if unquote_to_bytes(name).rpartition(b"?")[2].lower() in _QUERY_CREDENTIALS:
            taken.append((b"query", unquote_to_bytes(value)))
        else:
            kept.append(part)
    if len(kept) == query.count(b"&") + 1:
        return target
    return path + b"?" + b"&".join(kept) if kept else path
