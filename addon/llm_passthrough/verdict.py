"""The verdict on a request: which upstream, which key, and what exactly is sent to it."""

import random
from dataclasses import dataclass, replace

from pydantic import SecretStr

from llm_passthrough.bodies import top_level
from llm_passthrough.clients import session
from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key
from llm_passthrough.modelnames import deciding, named, needs_none, runs_none
from llm_passthrough.policy import ALL, EVERYBODY, NAMELESS, Client, Named
from llm_passthrough.providers import Ask, Credential, Target
from llm_passthrough.providers.google import names_vertex
from llm_passthrough.routes import Route, Upstream
from llm_passthrough.seal import Sealed, sign
from llm_passthrough.wire import ACCOUNT, Fields, Stripped

# How much of a body is looked at for a Vertex resource name, when nothing else decides.
_LOOK = 64 << 10
# Where a client may have put his own credential, in the order in which it is looked for.
_OWN = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key", b"query", b"subprotocol")
_NO_KEY = Key("client", "client", SecretStr(""))


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was admitted, as it is when it is about to leave.

    `path` is the raw path after the prefix, `query` the raw query or None, `body` the buffered
    body or None while it still streams. `client` is who asks, `preferred` the name of the key
    that is taken if it may be.
    """

    route: Route
    path: bytes
    query: bytes | None
    method: str
    stripped: Stripped
    body: bytes | None
    client: Client = EVERYBODY
    preferred: str = ""

    @property
    def pinned(self) -> str | None:
        """The key that the client asks for by name."""
        name = self.stripped.control.get(b"x-passthrough-key")
        return name.decode("latin-1") if name else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that is decided about one request before it leaves.

    `secret` is the key's, or the client's own where it is passed on; None for a key whose token
    has yet to be fetched, and where nothing is sent. `body` is None while it still streams.
    """

    upstream: Upstream
    detected_by: str
    key: Key | None
    wanted: Named
    secret: SecretStr | None
    credential: Credential | None
    target: Target
    body: bytes | None

    @property
    def label(self) -> str:
        """What stands for the secret wherever somebody looks."""
        return f"[{self.upstream.provider.name}/{self.key.name if self.key else 'client'}]"

    def sealed(self, fields: Fields, secret: SecretStr | None) -> Sealed:
        """The request's fields, with `secret` sealed to the target's origin."""
        extra = self.upstream.extra_headers
        return sign(fields, self.target.origin, self.credential, secret, self.label, extra)


def decide(question: Question, chance: random.Random, now: float = 0.0) -> Verdict:
    """The verdict on a request; `now` is monotonic seconds. Raises Refusal."""
    route, path, stripped, body = question.route, question.path, question.stripped, question.body
    hint = _hint(route, path, body)
    upstream, rule = route.upstream(path, stripped.value(b"authorization"), hint)
    question.client.check_provider(upstream.provider.name)
    _check_models(question, upstream)
    upstream = _with_keys_of(question.client, upstream, question.pinned)
    wanted = _wanted(upstream, question)
    key = None
    if not (upstream.forward or upstream.keyless):
        held = session(stripped.fields)
        pinned, preferred = question.pinned, question.preferred
        key = upstream.ring.pick(wanted, pinned, chance, now, held, preferred)
    fields = (*stripped.fields, *upstream.extra_headers)
    names = frozenset(name.lower() for name, _ in fields)
    ask = Ask(question.method, path, question.query, names, hint, exact=route.rule == "host")
    target = upstream.provider.locate(ask, key or _NO_KEY, upstream.base_for(key))
    if key is None:
        credential, secret = _own(stripped) if upstream.forward else (None, None)
    else:
        credential, secret = upstream.provider.sign(ask, key), key.secret
        if body and upstream.provider.rewrite:
            body = upstream.provider.rewrite(ask, key, target, body)
    return Verdict(upstream, rule, key, wanted, secret, credential, target, body)


def _check_models(question: Question, upstream: Upstream) -> None:
    """Refuse models that are not the client's, and what may be for one. Raises Refusal."""
    client = question.client
    if not client.asks_model:
        return
    upgrade = any(name.lower() == b"upgrade" for name, _ in question.stripped.fields)
    if modelless := needs_none(question.method, question.path, upgrade):
        question = replace(question, body=b"")
    found = named(*_told(question), upstream.provider.name)
    client.check_models(found.names)
    if found.unknown and not modelless:
        raise Refusal(
            "model_denied",
            f"client {client.name} may use some models only, and this request does not tell which "
            f"one it is for: {found.unknown}",
        )


def _with_keys_of(client: Client, upstream: Upstream, pinned: str | None) -> Upstream:
    """The upstream with those of its keys that are the client's. Raises Refusal (key_denied)."""
    ring = upstream.ring
    if client.keys == ALL or not ring.keys:
        return upstream
    if pinned is not None:
        client.check_key(pinned)
    keys = tuple(key for key in ring.keys if client.may_use_key(key.name))
    if not keys:
        client.check_key(ring.keys[0].name)
    return replace(upstream, ring=replace(ring, keys=keys))  # the states of keys are shared


def _hint(route: Route, path: bytes, body: bytes | None) -> str | None:
    """The Vertex resource path that the body names, where nothing before it decides."""
    if body is None or route.decided_by_path(path):
        return None
    model = top_level(body[:_LOOK]).get("model")
    return model if names_vertex(model) else None


def _wanted(upstream: Upstream, question: Question) -> Named:
    """The models that are asked for, where the choice of a key depends on them."""
    if not upstream.ring.asks_model:
        return NAMELESS
    if question.body is None and runs_none(question.path):
        return NAMELESS
    return deciding(*_told(question), upstream.provider.name)


def _told(question: Question) -> tuple[bytes, bytes | None, str, str | None, bytes | None]:
    """What a request says of its models: path, query, kind and coding of its body, the body."""
    fields = {name.lower(): value.decode("latin-1") for name, value in question.stripped.fields}
    kind, coding = fields.get(b"content-type", ""), fields.get(b"content-encoding")
    return question.path, question.query, kind, coding, question.body


def _own(stripped: Stripped) -> tuple[Credential | None, SecretStr | None]:
    """The client's own credential, once, and the account headers that go with it."""
    account = tuple((name, value) for name, value in stripped.taken if name in ACCOUNT)
    for name in _OWN:
        if value := stripped.value(name):
            header = {b"query": b"x-goog-api-key", b"subprotocol": b"authorization"}.get(name, name)
            form = b"Bearer {key}" if name == b"subprotocol" else b"{key}"
            return Credential(header, form, account), SecretStr(value)
    return None, None
