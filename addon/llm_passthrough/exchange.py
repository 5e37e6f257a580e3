"""The state of one request and its answer while it is alive."""

import os
import time
from dataclasses import dataclass, field

from pydantic import SecretStr

from llm_passthrough.keyring import Key
from llm_passthrough.providers import Origin
from llm_passthrough.record import Body, Facts, Fault, Outcome
from llm_passthrough.routes import Route, Upstream
from llm_passthrough.tee import Tee
from llm_passthrough.wire import Fields, Stripped


def new_id() -> str:
    """An id that sorts by time: 12 hex digits of milliseconds and 16 of chance."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


@dataclass(slots=True, weakref_slot=True)
class Exchange:
    """One exchange. Times named `at` are of the monotonic clock, in seconds.

    `seen` is the request's target and fields as we left them: when they are others at signing,
    somebody edited the request in between, and it is judged anew.
    """

    id: str
    started: float
    at: float
    method: str
    client_path: bytes
    stripped: Stripped
    client: str = "default"
    capture: str = "full"
    body_limit: int = 0
    own_base: bytes = b""
    route: Route | None = None
    upstream: Upstream | None = None
    detected_by: str | None = None
    key: Key | None = None
    secret: SecretStr | None = None
    origin: Origin | None = None
    url: str | None = None
    path: bytes = b""
    seen: tuple[bytes, str, int, Fields] | None = None
    request_tee: Tee | None = None
    answer_tee: Tee | None = None
    streaming: bool | None = None
    refused: bool = False
    status: int | None = None
    headers_at: float | None = None
    waiting_for: str = "request"
    since: float = 0.0
    timed_out: str | None = None
    own_time: float = 0.0
    finished: bool = False
    request_headers: Fields = ()
    answer_headers: Fields = ()
    request_body: Body = field(default_factory=Body)
    answer_body: Body = field(default_factory=Body)

    def wait_for(self, what: str, now: float) -> None:
        """Note what is awaited from the upstream since `now`: connect, first_byte or idle."""
        self.waiting_for = what
        self.since = now

    def facts(self, now: float, outcome: Outcome, fault: Fault | None) -> Facts:
        """What the writer needs to tell this exchange; it is over."""
        return Facts(
            id=self.id,
            started=self.started,
            method=self.method,
            client_path=self.client_path,
            client=self.client,
            route=self.route.prefix if self.route else None,
            provider=self.upstream.provider.name if self.upstream else None,
            detected_by=self.detected_by,
            key=self.key.name if self.key else None,
            url=self.url,
            path=self.path,
            stream=self.streaming,
            capture=self.capture,
            body_limit=self.body_limit,
            request_headers=self.request_headers,
            request=self.request_body,
            status=self.status,
            response_headers=self.answer_headers,
            response=self.answer_body,
            total=now - self.at,
            first_byte=None if self.headers_at is None else self.headers_at - self.at,
            gateway=self.own_time,
            outcome=outcome,
            fault=fault,
            secrets=tuple(self.stripped.secrets),
        )


def body_of(tee: Tee | None) -> Body:
    """What a tee saw, as the writer takes it."""
    if tee is None or not tee.size:
        return Body()
    return Body(tee.copy, tee.size, tee.sha256() if tee.truncated else None)
