"""WebSockets that are open: whose client may not go on is closed, between two turns."""

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from llm_passthrough.allowance import Spent, Used
from llm_passthrough.clients import Clients, Identity
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.policy import Client, Limits
from llm_passthrough.routes import Route
from llm_passthrough.talks import Talks
from llm_passthrough.wire import strip
from mitmproxy import http, websocket
from mitmproxy.test import tflow
from test_turns import CREATED, REALTIME, Message, done, talking
from wsproto.frame_protocol import Opcode

DIGEST = b"d" * 32


class Scene:
    """One WebSocket of the client `one`; `closed` are the codes with which it was told to end."""

    def __init__(self) -> None:
        self.used = Used()
        self.closed: list[str] = []
        self.told = 0
        self.knows(Client("one"))
        self.flow = tflow.tflow()
        self.flow.websocket = websocket.WebSocketData()
        self.exchange = Exchange("1", 0.0, 0.0, "GET", b"/x", strip((), b"/x"))
        self.exchange.identity = Identity(Client("one"), DIGEST)
        self.exchange.route = Route("/openai_passthrough", ())
        self.exchange.talk = talking(REALTIME)
        live = {self.flow: self.exchange}
        self.talks = Talks(live, self, self._put, lambda *_: None, self._close)  # type: ignore[arg-type]

    def knows(self, client: Client | None, expires: float = math.inf) -> None:
        """From now on the configuration says this."""
        table: Mapping[bytes, Identity] = {b"another": Identity(Client("another"), b"another")}
        if client is not None:
            table = {**table, DIGEST: Identity(client, DIGEST, expires)}
        self.parts: Any = SimpleNamespace(clients=Clients(table))

    @property
    def allowance(self) -> Any:
        return SimpleNamespace(used=lambda name: self.used)

    def _put(self, facts: object) -> None:
        self.told += 1

    def _close(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        self.closed.append(refusal.code)

    def says(self, message: Message) -> None:
        """The provider says this."""
        assert self.flow.websocket
        text = json.dumps(message[1]).encode()
        self.flow.websocket.messages.append(websocket.WebSocketMessage(Opcode.TEXT, False, text))
        self.talks.websocket_message(self.flow)


DOLLAR = Used(day=Spent(calls=1, cost=1.0), month=Spent(calls=1, cost=1.0))


@pytest.mark.parametrize(
    ("client", "used", "code"),
    [
        pytest.param(Client("one"), DOLLAR, None, id="no limit"),
        pytest.param(Client("one", limits=Limits(daily=2)), DOLLAR, None, id="some money is left"),
        pytest.param(Client("one", limits=Limits(daily=1)), DOLLAR, "daily_budget", id="a day's"),
        pytest.param(
            Client("one", limits=Limits(monthly=1)), DOLLAR, "monthly_budget", id="a month's"
        ),
        pytest.param(
            Client("one", limits=Limits(tokens_per_minute=9)),
            Used(tokens=9),
            "tokens_per_minute",
            id="tokens",
        ),
        pytest.param(
            Client("one", limits=Limits(requests_per_minute=1, daily=9)),
            Used(requests=1),
            None,
            id="it is no further request",
        ),
        pytest.param(None, DOLLAR, "unknown_client", id="its token was taken away"),
        pytest.param(Client("one", enabled=False), DOLLAR, "client_disabled", id="switched off"),
        pytest.param(
            Client("one", routes=("/anthropic_passthrough",)), DOLLAR, "route_denied", id="a route"
        ),
    ],
)
def test_who_may_not_go_on_is_told_so(client: Client | None, used: Used, code: str | None) -> None:
    scene = Scene()
    scene.talks.look()
    assert scene.closed == []
    scene.used = used
    scene.knows(client)
    scene.talks.look()
    assert scene.closed == ([code] if code else [])


def test_a_token_that_expires_ends_what_was_begun_with_it() -> None:
    scene = Scene()
    scene.knows(Client("one"), expires=1000.0)
    scene.talks.look(999.0)
    assert scene.closed == []
    scene.talks.look(1000.0)
    assert scene.closed == ["expired_token"]


def test_an_answer_comes_to_its_end_first() -> None:
    scene = Scene()
    scene.says(CREATED)
    scene.knows(None)
    scene.talks.look()
    assert scene.closed == []
    scene.says(done())
    assert (scene.told, scene.closed) == (1, ["unknown_client"])


def test_who_may_go_on_again_when_an_answer_ends_is_not_closed() -> None:
    scene = Scene()
    scene.says(CREATED)
    scene.knows(None)
    scene.talks.look()
    scene.knows(Client("one"))
    scene.talks.look()
    scene.says(done())
    assert scene.closed == []


def test_where_nobody_is_configured_everybody_goes_on() -> None:
    scene = Scene()
    scene.parts = SimpleNamespace(clients=Clients({}))
    scene.talks.look()
    assert scene.closed == []


def test_what_is_no_websocket_is_left_alone() -> None:
    scene = Scene()
    scene.exchange.talk = None
    scene.knows(None)
    scene.talks.look()
    assert scene.closed == []
