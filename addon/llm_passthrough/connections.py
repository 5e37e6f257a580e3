"""The clients' connections: how many there are, what each is doing, and for how long it may.

No timer stands behind a connection: one look over all of them at short intervals finds the few
that are late. What a request in the making is refused with before there is a flow for it, is said
here too, and counted: no record tells of it.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from llm_passthrough import errors
from llm_passthrough.config import Config, Limits, Timeouts
from llm_passthrough.errors import ErrorShape, Refusal

type Phase = Literal["opening", "head", "busy", "idle", "open", "leaving"]

LINGER = 5.0
"""Seconds for which what a client still sends is read after he was turned away: a connection that
is closed with unread bytes in it is reset, and its last answer is lost (RFC 9112 9.6)."""


_FULL = "too many connections are open already; see limits.connections"


@dataclass(slots=True, eq=False)
class Visit:
    """One connection of a client. Times are in seconds on the clock of `Connections`.

    `opening`: nothing of a request was read yet, a TLS handshake included; `head`: a part of a
    head was; `busy`: a request is under way; `idle`: between two; `open`: it has become a tunnel
    or a WebSocket; `leaving`: turned away.
    `sign` is the last sign of life as mitmproxy notes it, and `changed` when it was last another.
    `refusal` is what his first request will be told, where he should not have come.
    """

    since: float
    phase: Phase = "opening"
    sign: float | None = None
    changed: float = 0.0
    refusal: Refusal | None = None

    def enter(self, phase: Phase, now: float) -> None:
        """From now on it does something else."""
        self.phase, self.since = phase, now

    def quiet(self, sign: float | None, now: float) -> float:
        """For how long the last sign of life has been the same one."""
        if sign != self.sign:
            self.sign, self.changed = sign, now
        return now - max(self.changed, self.since)


class Connections:
    """All open connections by their ids; `config` is the one that holds now."""

    def __init__(
        self,
        clock: Callable[[], float],
        config: Callable[[], Config] = Config,
        shape: Callable[[bytes], ErrorShape] = lambda target: "openai",
    ) -> None:
        self.clock = clock
        self._config = config
        self._shape = shape
        self._open: dict[str, Visit] = {}
        self.refused: Counter[str] = Counter()
        self.unread = 0
        """How many more are over, but for an answer that their client does not take."""
        self.room: int | None = None
        """What the process's file descriptors leave room for."""
        self.more: Callable[[], dict[str, object]] = dict
        """What a person is told beside, of a group of workers."""

    @property
    def most(self) -> int:
        """How many connections may be open; those beyond are told so, up to an eighth more."""
        return min(self.limits.connections, self.room or self.limits.connections)

    def told(self) -> dict[str, object]:
        """What a person is told of them."""
        own: dict[str, object] = {"connections": len(self), "unrecorded": dict(self.refused)}
        return own | self.more()

    @property
    def limits(self) -> Limits:
        """The limits that hold now."""
        return self._config().limits

    @property
    def timeouts(self) -> Timeouts:
        """The deadlines that hold now."""
        return self._config().timeouts

    def __len__(self) -> int:
        return len(self._open)

    def open(self, ident: str) -> bool:
        """A client has connected; whether he may stay, were it only to be told that he may not."""
        visit = Visit(self.clock())
        beyond = len(self._open) + self.unread + 1 - self.most
        if beyond > self.most // 8 + 4:
            self.refused["too_many_connections"] += 1
            return False
        if beyond > 0:
            visit.refusal = Refusal("too_many_connections", _FULL, 1)
        self._open[ident] = visit
        return True

    def close(self, ident: str) -> None:
        """A client's connection is over."""
        self._open.pop(ident, None)

    def visit(self, ident: str) -> Visit | None:
        """What is known of a connection; None of one that is no client's, as of a replay."""
        return self._open.get(ident)

    def refuse(self, line: bytes, refusal: Refusal) -> bytes:
        """The answer to a request of which no more than this can be read of its first line."""
        self.refused[refusal.code] += 1
        target = (line.split(None, 2)[1:2] or [b""])[0]
        content = errors.body(refusal, self._shape(target), "")
        fields = [
            *errors.headers(refusal, ""),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
        ]
        start = f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()
        head = b"".join(b"\r\n%s: %s" % field for field in fields if field[1])
        return b"%s%s\r\n\r\n%s" % (start, head, content)

    def stalled(self, ident: str, now: float, sign: Callable[[str], float | None]) -> bool:
        """Whether nothing has come of a body for too long; `sign` as below."""
        visit = self._open.get(ident)
        return visit is not None and self._is_late(ident, visit, now, sign)

    def overdue(
        self, now: float, waiting: Collection[str], sign: Callable[[str], float | None]
    ) -> list[str]:
        """The connections that have come to an end: nobody is told, as nobody asks.

        Those in `waiting` are left alone: an exchange of theirs is open, and has deadlines of its
        own, but in a tunnel or a WebSocket. `sign` gives the last sign of life of a connection;
        only whether it is another one than before is looked at, so that no clock has to be the
        same as ours.
        """
        return [
            ident
            for ident, visit in self._open.items()
            if (visit.phase == "open" or ident not in waiting)
            and self._is_late(ident, visit, now, sign)
        ]

    def _is_late(
        self, ident: str, visit: Visit, now: float, sign: Callable[[str], float | None]
    ) -> bool:
        timeouts = self.timeouts
        match visit.phase:
            case "opening":
                limit = timeouts.request_head if visit.refusal is None else LINGER
                return now - visit.since > limit
            case "head":  # the reader answers; this is for one that cannot
                return now - visit.since > timeouts.request_head + LINGER
            case "idle":
                return now - visit.since > timeouts.keep_alive
            case "leaving":
                return now - visit.since > LINGER
            case "busy":
                return visit.quiet(sign(ident), now) > timeouts.request_body
        return visit.quiet(sign(ident), now) > timeouts.keep_alive
