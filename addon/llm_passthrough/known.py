"""What is known of a finished exchange: its heads, its bodies decoded, what it asked and said.

Nothing is redacted yet; recorder.py does that.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from llm_passthrough.asked import Asked, read_messages, read_request
from llm_passthrough.bodies import decoded
from llm_passthrough.clients import SESSION_HEADERS
from llm_passthrough.conversation.sockets import messages
from llm_passthrough.dialects import reader
from llm_passthrough.prices import Rates, price
from llm_passthrough.record import Body, Cost, Facts, Fault, Outcome, Pairs
from llm_passthrough.usage import Reading

type Prices = Mapping[str, Rates]

# A whole body that is read for the record, decompressed; a larger one is read as far as this.
_LONGEST_READ = 32 << 20
_WEBSOCKET = 101
# How much of a WebSocket's messages is looked at for what they ask for.
_MESSAGES_READ = 256 << 10


@dataclass(slots=True)
class Side:
    """A request or an answer: header pairs as texts, the first value of each name in lower case,
    and the body without its content coding (`cut`: there was more of it)."""

    pairs: Pairs
    by_name: dict[str, str]
    size: int
    content: bytes
    cut: bool
    sha256: str | None
    coding: str | None = None
    """A content coding that could not be undone."""

    @classmethod
    def of(cls, fields: Iterable[tuple[bytes, bytes]], body: Body) -> "Side":
        """Fields as texts, and a body."""
        texts = [(_known_text if len(field[1]) < _SHORT else _text)(field) for field in fields]
        by_name = {lower: pair[1] for pair, lower in texts}
        if len(by_name) < len(texts):  # of those that stand twice the first counts
            by_name |= {lower: pair[1] for pair, lower in reversed(texts)}
        copy, size = body.copy, body.size
        digest = body.sha256
        if digest is None and size and size == len(copy):
            digest = hashlib.sha256(copy).hexdigest()
        coding = by_name.get("content-encoding")
        content, cut = decoded(copy, coding, _LONGEST_READ)
        undone = coding if coding and copy and content is copy else None
        return cls(
            [pair for pair, _ in texts],
            by_name,
            size,
            content,
            cut or size > len(copy),
            digest,
            undone,
        )

    @property
    def kind(self) -> str:
        """The content type."""
        return self.by_name.get("content-type", "")


@dataclass(slots=True)
class Known:
    """All that there is to tell of an exchange, with what secrets there are in it."""

    facts: Facts
    sent: Side
    got: Side
    asked: Asked
    reading: Reading
    outcome: Outcome
    fault: Fault | None
    cost: Cost | None

    @classmethod
    def of(cls, facts: Facts, prices: Prices | None) -> "Known":
        """What the facts of an exchange amount to; `prices` are the user's own."""
        sent = Side.of(facts.request_headers, facts.request)
        got = Side.of(facts.response_headers, facts.response)
        asked, reading = _asked(facts, sent), _reading(facts, got)
        outcome, fault = _judged(facts, reading)
        cost = _cost(facts, asked, reading, prices)
        return cls(facts, sent, got, asked, reading, outcome, fault, cost)

    def session(self) -> dict[str, str]:
        """The ids by which a client groups its calls, by the names that it gives them."""
        found, headers = dict(self.asked.session), self.sent.by_name
        if not SESSION_HEADERS.isdisjoint(headers):
            found |= {n: value for n, value in headers.items() if n in SESSION_HEADERS}
        return found

    def unread(self) -> str | None:
        """What could not be read, or may be read in another way, and why."""
        asked, read = self.asked.unread, self.reading.unread
        if asked is None:
            return read
        return f"request: {asked}" + (f"; {read}" if read else "")


def _text(field: tuple[bytes, bytes]) -> tuple[tuple[str, str], str]:
    """A field as texts (latin-1, RFC 9110 5.5), and its name in lower case."""
    name = field[0].decode("latin-1")
    return (name, field[1].decode("latin-1")), name.lower()


# Most fields come again with every call.
_known_text = lru_cache(maxsize=4096)(_text)
_SHORT = 256


def _asked(facts: Facts, sent: Side) -> Asked:
    if facts.capture == "none" or facts.provider is None:
        return Asked()
    if facts.status == _WEBSOCKET:
        text = sent.content[:_MESSAGES_READ].decode("utf-8", "replace")
        asked = read_messages(facts.path, facts.shape, messages(text))
        return replace(asked, model=asked.model or facts.model)
    whole = not sent.cut
    if sent.coding and whole:
        return Asked(
            model=read_request(facts.path, facts.shape, b"").model,
            unread=f"content coding {sent.coding}",
        )
    return read_request(facts.path, facts.shape, sent.content, sent.kind if whole else None)


def _reading(facts: Facts, got: Side) -> Reading:
    """What the answer said: heard while it went by, or read now that it is whole."""
    if facts.reading is not None:
        return facts.reading
    refused = facts.outcome == "refused"
    if facts.capture == "none" or refused or facts.status is None or not got.content:
        return Reading()
    found = reader(facts.path, facts.provider, facts.shape, got.kind, facts.status, got.pairs)
    if found is None:
        return Reading()
    found.feed(got.content, 0.0)
    return found.end()


def _judged(facts: Facts, reading: Reading) -> tuple[Outcome, Fault | None]:
    """Outcome and fault, where the answer itself says more than the way it came."""
    outcome, fault = facts.outcome, facts.fault
    # The SDKs hang up at an error inside a stream: it is why the client went away.
    left = outcome == "client_abort"
    if not left and (outcome not in ("ok", "upstream_error") or fault is not None):
        return outcome, fault
    if reading.error_type or reading.error_code or reading.error_message:
        kind = reading.error_type or reading.error_code or "error"
        told = Fault(kind, reading.error_message or kind, "upstream", reading.error_code)
        return "upstream_error", told
    if reading.complete is False and outcome == "ok" and facts.reading is not None:
        return "upstream_abort", Fault(
            "incomplete", "the stream ended before its last event", "upstream"
        )
    return outcome, fault


def _cost(facts: Facts, asked: Asked, reading: Reading, prices: Prices | None) -> Cost | None:
    if reading.usage is None or facts.provider is None:
        return None
    when = datetime.fromtimestamp(facts.started, UTC)
    for model in (reading.model, asked.model):
        cost = price(facts.provider, model, reading.usage, when, prices)
        if cost is not None:
            return cost
    return None
