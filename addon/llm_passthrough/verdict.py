"""The verdict on a request: which upstream, which key, and what exactly is sent to it."""

import random
from dataclasses import dataclass

from pydantic import SecretStr

from llm_passthrough.bodies import model_of, top_level
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Credential, Target
from llm_passthrough.providers.google import names_vertex
from llm_passthrough.routes import Route, Upstream
from llm_passthrough.wire import ACCOUNT, Sealed, Stripped, sign

# How much of a body is looked at for a Vertex resource name, when nothing else decides.
_LOOK = 64 << 10
# Where a client may have put his own credential, in the order in which it is looked for.
_OWN = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"query", b"subprotocol")
_NO_KEY = Key("client", "client", SecretStr(""))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that is decided about one request before it leaves."""

    upstream: Upstream
    detected_by: str
    key: Key | None
    secret: SecretStr | None
    target: Target
    headers: Sealed


def decide(
    route: Route,
    path: bytes,
    query: bytes | None,
    method: str,
    stripped: Stripped,
    body: bytes | None,
    chance: random.Random,
) -> Verdict:
    """The verdict on a request whose raw path after the prefix is `path`.

    `body` is the buffered body, None while it still streams. Raises Refusal.
    """
    hint = _hint(route, path, body)
    upstream, rule = route.upstream(path, stripped.value(b"authorization"), hint)
    key = _key(upstream, path, stripped, body, chance)
    fields = (*stripped.fields, *upstream.extra_headers)
    names = frozenset(name.lower() for name, _ in fields)
    ask = Ask(method, path, query, names, hint)
    target = upstream.provider.locate(ask, key or _NO_KEY, upstream.base_for(key))
    if key is None:
        credential, secret = _own(stripped) if upstream.forward else (None, None)
    else:
        credential, secret = upstream.provider.sign(ask, key), key.secret
    label = f"[{upstream.provider.name}/{key.name if key else 'client'}]"
    headers = sign(
        stripped.fields, target.origin, credential, secret, label, upstream.extra_headers
    )
    return Verdict(upstream, rule, key, secret, target, headers)


def _hint(route: Route, path: bytes, body: bytes | None) -> str | None:
    """The Vertex resource path that the body names, where nothing before it decides."""
    if body is None or route.decided_by_path(path):
        return None
    model = top_level(body[:_LOOK]).get("model")
    return model if names_vertex(model) else None


def _key(
    upstream: Upstream,
    path: bytes,
    stripped: Stripped,
    body: bytes | None,
    chance: random.Random,
) -> Key | None:
    """A key of the ring; None where the client's own credential goes on, or none at all."""
    if upstream.forward or upstream.keyless:
        return None
    ring = upstream.ring
    model = None
    if ring.asks_model:
        kind = next((v for n, v in stripped.fields if n.lower() == b"content-type"), b"")
        model = model_of(path, kind.decode("latin-1"), body or b"", upstream.provider.name)
    pinned = stripped.control.get(b"x-passthrough-key")
    return ring.pick(model, pinned.decode("latin-1") if pinned else None, chance)


def _own(stripped: Stripped) -> tuple[Credential | None, SecretStr | None]:
    """The client's own credential, once, and the account headers that go with it."""
    account = tuple((name, value) for name, value in stripped.taken if name in ACCOUNT)
    for name in _OWN:
        if value := stripped.value(name):
            header = {b"query": b"x-goog-api-key", b"subprotocol": b"authorization"}.get(name, name)
            form = b"Bearer {key}" if name == b"subprotocol" else b"{key}"
            return Credential(header, form, account), SecretStr(value)
    return None, None
