"""The state of one request and its answer while it is alive."""

import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from llm_passthrough.asked import read_request
from llm_passthrough.clients import ANYBODY, Identity
from llm_passthrough.dialects import reader
from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key
from llm_passthrough.links import mapped
from llm_passthrough.listen import Ear
from llm_passthrough.policy import NAMELESS, Named
from llm_passthrough.providers import Origin
from llm_passthrough.record import Body, Facts, Fault, Outcome, Pairs
from llm_passthrough.routes import Route, Upstream
from llm_passthrough.seal import plain
from llm_passthrough.tee import Tee
from llm_passthrough.turns import Talk, Turn, whole
from llm_passthrough.usage import Reading
from llm_passthrough.verdict import Question, Verdict
from llm_passthrough.wire import Fields, Stripped

_ID = re.compile(r"[0-9a-f]{28}")


def new_id(ago: float = 0.0) -> str:
    """An id that sorts by time: 12 hex digits of milliseconds and 16 of chance.

    It is of the moment that was so many seconds ago.
    """
    return f"{time.time_ns() // 1_000_000 - round(ago * 1000):012x}{random.getrandbits(64):016x}"


def is_id(text: str) -> bool:
    """Whether a text may be the id of an exchange."""
    return _ID.fullmatch(text) is not None


@dataclass(slots=True, weakref_slot=True)
class Exchange:
    """One exchange. Times named `at` are of the monotonic clock, in seconds.

    `seen` is the request's target and fields as we left them: when they are others at signing,
    somebody edited the request in between, and it is judged anew. `onward` is a proxy client's
    destination that is no provider's; `bare`: nothing is recorded of it but host and bytes.
    `preferred` names the key that is taken if it may be. `unread`: when it timed out, the client
    had not taken what was written to it. `denied`: why its client may not go on talking.
    `replay_of` is the id of the exchange that this one repeats. `permission` is what the browser
    of an allowed web page is told. `uploads` are ids of uploads: who has one may go on with it.
    """

    id: str
    started: float
    at: float
    method: str
    client_path: bytes
    stripped: Stripped
    identity: Identity = ANYBODY
    capture: str = "full"
    body_limit: int = 0
    own_base: bytes = b""
    route: Route | None = None
    upstream: Upstream | None = None
    detected_by: str | None = None
    key: Key | None = None
    wanted: Named = NAMELESS
    secret: SecretStr | None = None
    origin: Origin | None = None
    ear: Ear | None = None
    talk: Talk | None = None
    url: str | None = None
    path: bytes = b""
    query: bytes | None = None
    seen: tuple[object, ...] | None = None
    onward: Origin | None = None
    bare: bool = False
    replay_of: str | None = None
    preferred: str = ""
    permission: Fields = ()
    uploads: tuple[str, ...] = ()
    request_tee: Tee | None = None
    answer_tee: Tee | None = None
    streaming: bool | None = None
    refused: bool = False
    status: int | None = None
    headers_at: float | None = None
    waiting_for: str = "request"
    since: float = 0.0
    timed_out: str | None = None
    unread: bool = False
    denied: Refusal | None = None
    place: str | None = None
    killed: bool = False
    own_time: float = 0.0
    connect: float | None = None
    tls: float | None = None
    finished: bool = False
    request_headers: Fields = ()
    answer_headers: Fields = ()
    request_body: Body = field(default_factory=Body)
    answer_body: Body = field(default_factory=Body)

    def question(self, method: str, body: bytes | None) -> Question:
        """What is to be decided; `body` is None while it still streams."""
        assert self.route is not None
        client, sent = self.identity.client, self.stripped
        path, query = self.path, self.query
        return Question(self.route, path, query, method, sent, body, client, self.preferred)

    def sign(self, verdict: Verdict, secret: SecretStr | None, shown: Fields) -> None:
        """Note what was decided; `shown` are the upstream's fields with a placeholder."""
        self.upstream, self.detected_by = verdict.upstream, verdict.detected_by
        self.key, self.wanted, self.secret = verdict.key, verdict.wanted, secret
        self.origin = verdict.target.origin
        self.url = str(self.origin) + verdict.target.path.decode("latin-1")
        self.request_headers = shown
        if verdict.body is not None:
            self.request_body = Body(verdict.body, len(verdict.body))

    def keep_only(self, host: str) -> None:
        """Record no more of this exchange than where it went and how many bytes."""
        self.capture, self.bare = "none", True
        self.client_path = host.encode("latin-1", "replace")

    def pass_on(self, shown: Fields, path: bytes, body: bytes | None) -> None:
        """Note that the request goes on as it came; `shown` are its fields with placeholders."""
        assert self.onward is not None
        self.origin, self.detected_by = self.onward, "host"
        self.url = str(self.origin) + ("" if self.bare else path.decode("latin-1"))
        self.request_headers = shown
        if body is not None:
            self.request_body = Body(body, len(body))

    def refuse(self, status: int, fields: Fields, content: bytes | None) -> None:
        """Note that the client gets an answer of ours."""
        self.refused = True
        self.status = status
        self.answer_headers = fields
        self.answer_body = Body(content or b"", len(content or b""))
        self.answer_tee = None

    def link(self, name: bytes, url: bytes) -> bytes | None:
        """A URL of the upstream's as one of this route's; see links.mapped."""
        assert self.origin is not None
        assert self.upstream is not None
        base = self.upstream.base_for(self.key).path
        return mapped(name, url, self.origin, base, self.own_base)

    def listen(self, headers: Pairs) -> Ear | None:
        """What listens to the answer that begins with `headers`, while it goes by."""
        if self.capture == "none" or self.upstream is None or self.status is None:
            return None
        provider, kinds = self.upstream.provider, dict(headers)
        kind = kinds.get("content-type", "")
        found = reader(self.path, provider.name, provider.error_shape, kind, self.status, headers)
        self.ear = Ear(found, kinds.get("content-encoding")) if found else None
        return self.ear

    def note_uploads(self, ids: Iterable[bytes]) -> None:
        """Ids of uploads that must not stand in the record."""
        self.uploads += tuple(upload.decode("latin-1") for upload in ids)

    @property
    def by_prefix(self) -> bool:
        """Whether the client knows us by a prefix, and not as its proxy."""
        return self.route is not None and self.route.rule == "prefix"

    @property
    def unanswered(self) -> bool:
        """Whether it went to an upstream that has not said anything yet."""
        return self.origin is not None and self.headers_at is None

    def complete(self) -> bool:
        """Whether the protocol says that the answer was whole, whatever came after it."""
        return self.ear is not None and self.ear.end().complete is True

    def converse(self, clock: Callable[[], float], headers: Pairs) -> None:
        """The exchange has become a WebSocket: both directions are streams from here on."""
        self.wait_for("websocket", clock())
        self.streaming = True
        path = self.path + b"?" + (self.query or b"")
        shape = self.route.error_shape if self.route else "openai"
        model = read_request(path, shape, b"").model
        self.talk = Talk(self.body_limit, clock, self.listen(headers), model)

    def hear(self, from_client: bool, message: bytes) -> Facts | None:
        """One WebSocket message went by; the facts of the turn that ended with it."""
        turn = self.talk.hear(from_client, message) if self.talk else None
        return self._told(turn) if turn else None

    def _told(self, turn: Turn) -> Facts:
        """What the writer needs to tell a turn: an exchange of its own, part of this one."""
        total = turn.ended - turn.asked
        return replace(
            self._facts(turn.reading),
            id=new_id(total),
            started=time.time() - total,
            at=turn.asked,
            request=turn.sent,
            response_headers=(),
            response=turn.got,
            total=total,
            first_byte=turn.begun - turn.asked,
            connect=None,
            tls=None,
            gateway=None,
            part_of=self.id,
            turn=turn.number,
            turns=None,
        )

    def wait_for(self, what: str, now: float) -> None:
        """Note what is awaited from the upstream since `now`: connect, first_byte or idle."""
        self.waiting_for = what
        self.since = now

    def connected(self, now: float) -> None:
        """Note that a connection was made for this exchange; it was dialled for since `since`."""
        if self.waiting_for == "connect":
            self.connect = now - self.since

    def shaken_hands(self, now: float) -> None:
        """Note that its TLS handshake is over."""
        if self.connect is not None:
            self.tls = now - self.since - self.connect

    def _reading(self) -> Reading | None:
        """What was heard of the answer; of what was not, nobody knows whether it was whole."""
        if self.ear is None:
            return None
        heard = self.ear.end()
        tee = self.talk.got if self.talk else self.answer_tee
        blind = tee.blind if tee else None
        if blind is not None:
            heard = replace(heard, unread=heard.unread or blind, complete=heard.complete or None)
        if self.talk and self.talk.turns:  # what came after the last of them has no beginning
            heard = replace(heard, first_token_at=None)
        return heard

    def facts(self, now: float, outcome: Outcome, fault: Fault | None) -> Facts:
        """What the writer needs to tell this exchange; it is over."""
        facts = self._facts(self._reading())
        facts.total, facts.outcome, facts.fault = now - self.at, outcome, fault
        return facts

    def _facts(self, reading: Reading | None) -> Facts:
        """The facts but for how it ended."""
        talk = self.talk
        return Facts(
            id=self.id,
            started=self.started,
            at=self.at,
            method=self.method,
            client_path=self.client_path,
            client=self.identity.client.name,
            route=self.route.prefix if self.route else None,
            provider=self.upstream.provider.name if self.upstream else None,
            detected_by=self.detected_by,
            key=self.key.name if self.key else None,
            url=self.url,
            path=self.path,
            capture=self.capture,
            body_limit=self.body_limit,
            request_headers=self.request_headers,
            request=_body(talk.sent if talk else self.request_tee) or self.request_body,
            status=self.status,
            response_headers=self.answer_headers,
            response=_body(talk.got if talk else self.answer_tee) or self.answer_body,
            first_byte=None if self.headers_at is None else self.headers_at - self.at,
            connect=self.connect,
            tls=self.tls,
            gateway=self.own_time,
            reading=reading,
            shape=self.upstream.provider.error_shape if self.upstream else "openai",
            replay_of=self.replay_of,
            model=talk.model if talk else None,
            turns=talk.turns if talk and self.ear else None,
            secrets=(*self.stripped.secrets, *plain(filter(None, [self.secret])), *self.uploads),
        )


def _body(tee: Tee | None) -> Body | None:
    """What a tee saw, as the writer takes it."""
    return None if tee is None else whole(tee)
