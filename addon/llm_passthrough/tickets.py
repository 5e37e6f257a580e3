"""Tickets: who may go on with an upload at the URL that we handed out, without any credential.

Google's SDKs send a file to the URL of the answer that began its upload; google-genai for Python
sends no credential with it. The `upload_id` in that URL is a ticket then: for the client that
began the upload, as long as its token is good, and at that URL's path alone.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from llm_passthrough.clients import Identity
from llm_passthrough.errors import Refusal

_HEADERS = frozenset((b"x-goog-upload-url", b"x-goog-upload-control-url"))
_NAME = b"upload_id"
_MOST = 10_000
_SECONDS = 86_400.0
"""How long an upload may take."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    """For whom and where it is, and until when (monotonic seconds)."""

    identity: Identity
    path: bytes
    until: float


class Tickets:
    """Those that were handed out, by the SHA-256 of each; the oldest make room."""

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._tickets: dict[bytes, _Ticket] = {}
        self.tell: Callable[[bytes, bytes, Identity], None] = lambda digest, path, identity: None
        """Called with each one that is handed out: its SHA-256, for what path, for whom."""

    def hand_out(self, fields: Iterable[tuple[bytes, bytes]], identity: Identity) -> list[bytes]:
        """Take note of the upload URLs in an answer's fields, as the client gets them; their ids.

        They are those of our prefixes: a URL that leads elsewhere was dropped before.
        """
        handed = []
        for name, url in fields:
            if name.lower() in _HEADERS:
                path, _, query = _target_of(url).partition(b"?")
                for upload in _uploads(query):
                    self.learn(_digest(upload), path, identity)
                    self.tell(_digest(upload), path, identity)
                    handed.append(upload)
        return handed

    def holder(self, target: bytes) -> Identity | None:
        """For whom the one ticket in a target (path and query) is; None where it is none."""
        path, _, query = target.partition(b"?")
        uploads = _uploads(query)
        ticket = self._of(uploads[0]) if len(uploads) == 1 else None
        return ticket.identity if ticket is not None and ticket.path == path else None

    def check(self, target: bytes, identity: Identity) -> None:
        """Refuse an upload that another client has begun: Refusal (foreign_upload)."""
        for upload in _uploads(target.partition(b"?")[2]):
            ticket = self._of(upload)
            if ticket is not None and ticket.identity.client.name != identity.client.name:
                raise Refusal("foreign_upload", "another client has begun this upload")

    def _of(self, upload: bytes) -> _Ticket | None:
        ticket = self._tickets.get(_digest(upload))
        return ticket if ticket is not None and self._clock() < ticket.until else None

    def learn(self, digest: bytes, path: bytes, identity: Identity) -> None:
        """Take note of a ticket by its SHA-256; another worker may have handed it out."""
        # All are good for as long: the first is the first to end.
        while self._tickets:
            first, oldest = next(iter(self._tickets.items()))
            if len(self._tickets) < self._most and self._clock() < oldest.until:
                break
            del self._tickets[first]
        self._tickets.pop(digest, None)
        self._tickets[digest] = _Ticket(identity, path, self._clock() + _SECONDS)


def uploads(target: bytes) -> list[bytes]:
    """The upload ids in a target: who has one may go on with the upload."""
    return _uploads(target.partition(b"?")[2])


def _uploads(query: bytes) -> list[bytes]:
    if b"%" not in query and _NAME not in query.lower():
        return []
    pairs = (part.partition(b"=") for part in query.split(b"&"))
    return [
        unquote_to_bytes(value)
        for name, _, value in pairs
        if unquote_to_bytes(name).lower() == _NAME and value
    ]


def _target_of(url: bytes) -> bytes:
    """Path and query of an absolute URL."""
    path = url.partition(b"://")[2].partition(b"/")[2]
    return b"/" + path


def _digest(upload: bytes) -> bytes:
    return hashlib.sha256(upload).digest()
