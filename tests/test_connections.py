"""The clients' connections: which of them are late, and what is told before there is a flow."""

import json

import pytest
from llm_passthrough.config import Config, Limits, Timeouts
from llm_passthrough.connections import LINGER, Connections, Phase
from llm_passthrough.errors import ErrorShape, Refusal

CONFIG = Config(
    timeouts=Timeouts(request_head=10, request_body=20, keep_alive=30),
    limits=Limits(connections=8),
)


class Clock:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def shape(target: bytes) -> ErrorShape:
    return "anthropic" if target.startswith(b"/anthropic") else "openai"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> Connections:
    return Connections(clock, lambda: CONFIG, shape)


def never(ident: str) -> float | None:
    """No sign of life, ever."""
    return None


@pytest.mark.parametrize(
    ("phase", "limit"),
    [
        pytest.param("opening", 10, id="nothing was asked"),
        pytest.param("head", 10 + LINGER, id="a head, that its reader should have ended"),
        pytest.param("busy", 20, id="a body that nobody wants"),
        pytest.param("idle", 30, id="between two requests"),
        pytest.param("open", 30, id="a tunnel or a WebSocket in which nothing happens"),
        pytest.param("leaving", LINGER, id="turned away"),
    ],
)
def test_each_thing_that_a_connection_does_may_take_its_time(
    connections: Connections, phase: Phase, limit: float
) -> None:
    connections.open("a")
    visit = connections.visit("a")
    assert visit is not None
    visit.enter(phase, 100.0)
    assert connections.overdue(100.0 + limit, (), never) == []
    waiting = connections.overdue(100.1 + limit, ("a",), never)
    assert waiting == (["a"] if phase == "open" else [])
    assert connections.overdue(100.1 + limit, (), never) == ["a"]


def test_a_sign_of_life_keeps_a_body_alive_whatever_its_clock_says(
    connections: Connections,
) -> None:
    connections.open("a")
    visit = connections.visit("a")
    assert visit is not None
    visit.enter("busy", 100.0)
    for now, sign in ((110.0, 5e9), (129.0, 5e9 - 3600), (148.0, 5e9)):
        assert not connections.stalled("a", now, lambda ident, sign=sign: sign)
    assert not connections.stalled("a", 168.0, lambda ident: 5e9)
    assert connections.stalled("a", 168.1, lambda ident: 5e9)


def test_what_is_no_clients_connection_is_not_known(connections: Connections) -> None:
    assert connections.visit("a") is None
    assert not connections.stalled("a", 1e9, never)
    connections.open("a")
    assert len(connections) == 1
    connections.close("a")
    connections.close("a")
    assert len(connections) == 0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param(b"POST /anthropic/v1/messages HTTP/1.1", "timeout_error", id="by its target"),
        pytest.param(b"POST /anthropic", "timeout_error", id="by a part of it"),
        pytest.param(b"POST", "gateway_error", id="without a target"),
        pytest.param(b"\xff \xfe \xfd", "gateway_error", id="of no text"),
        pytest.param(b"", "gateway_error", id="of nothing"),
    ],
)
def test_who_is_refused_before_there_is_a_flow_is_told_in_his_providers_shape(
    connections: Connections, line: bytes, kind: str
) -> None:
    answer = connections.refuse(line, Refusal("request_timeout", "too slow"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nx-passthrough-error: request_timeout" in head
    assert b"\r\nconnection: close" in head
    assert b"content-length: %d" % len(body) in head
    error = json.loads(body)["error"]
    assert (error["type"], error["message"]) == (kind, "too slow")
    assert connections.refused == {"request_timeout": 1}


def test_who_comes_when_all_is_full_is_told_so_and_beyond_that_nobody_is_heard(
    connections: Connections, clock: Clock
) -> None:
    stay = [connections.open(str(number)) for number in range(20)]
    assert stay == [True] * 8 + [True] * 5 + [False] * 7
    refused = [ident for ident in map(str, range(13)) if told(connections, ident)]
    assert refused == ["8", "9", "10", "11", "12"]
    assert connections.told() == {"connections": 13, "unrecorded": {"too_many_connections": 7}}
    clock.now += LINGER + 0.1  # who says nothing does not stay for long
    assert connections.overdue(clock.now, (), never) == refused
    connections.close("0")
    for ident in refused:
        connections.close(ident)
    connections.open("new")
    assert told(connections, "new") is None


def told(connections: Connections, ident: str) -> str | None:
    visit = connections.visit(ident)
    assert visit is not None
    return visit.refusal and visit.refusal.code


def test_there_are_no_more_connections_than_there_is_room_for(connections: Connections) -> None:
    connections.room = 4
    assert connections.most == 4
    connections.room = 100
    assert connections.most == 8


def test_those_that_are_over_but_unread_take_places_too(connections: Connections) -> None:
    connections.unread = CONFIG.limits.connections
    assert connections.open("a")
    visit = connections.visit("a")
    assert visit is not None
    assert visit.refusal is not None
    connections.unread = 0
    connections.open("b")
    visit = connections.visit("b")
    assert visit is not None
    assert visit.refusal is None
