"""Deadlines: who is late, and what is said about it."""

import pytest
from llm_passthrough.config import Timeouts
from llm_passthrough.deadlines import overdue
from llm_passthrough.exchange import Exchange
from llm_passthrough.keyring import KeyRing
from llm_passthrough.providers import PROVIDERS
from llm_passthrough.routes import Upstream
from llm_passthrough.tee import Tee
from llm_passthrough.wire import strip

CONNECT = Timeouts(connect=10.0, first_byte=5.0, idle=5.0)
UPSTREAM = Upstream(
    PROVIDERS["openai"], KeyRing("openai", (), ""), None, first_byte=600.0, idle=300.0
)


def waiting(what: str, since: float = 0.0, *, upstream: Upstream | None = UPSTREAM) -> Exchange:
    """An exchange that has been waiting for something since then."""
    exchange = Exchange("1", 0.0, 0.0, "POST", b"/x", strip((), b"/x"), upstream=upstream)
    exchange.wait_for(what, since)
    return exchange


def seen_at(now: float) -> Tee:
    """A tee that saw something then."""
    tee = Tee(10, lambda: now)
    tee(b"x")
    return tee


@pytest.mark.parametrize(
    ("what", "now", "reason"),
    [
        pytest.param("connect", 10.0, None, id="connecting, just in time"),
        pytest.param("connect", 10.1, "connect after 10 s", id="connecting, late"),
        pytest.param("first_byte", 600.0, None, id="thinking, just in time"),
        pytest.param("first_byte", 600.1, "first_byte after 600 s", id="thinking, late"),
        pytest.param("idle", 300.0, None, id="a pause, just in time"),
        pytest.param("idle", 300.1, "idle after 300 s", id="a pause, late"),
        pytest.param("request", 1e9, None, id="the client's body is not the upstream's fault"),
        pytest.param("websocket", 1e9, None, id="a WebSocket may be silent"),
    ],
)
def test_each_phase_has_its_own_deadline(what: str, now: float, reason: str | None) -> None:
    exchange = waiting(what)
    assert overdue({"flow": exchange}, now, CONNECT) == (["flow"] if reason else [])
    assert exchange.timed_out == reason


def test_before_an_upstream_is_chosen_nothing_is_late() -> None:
    assert overdue({"flow": waiting("connect", upstream=None)}, 1e9, CONNECT) == []


def test_a_tunnel_has_as_long_to_connect_and_no_other_deadline() -> None:
    tunnel = waiting("connect", upstream=None)
    tunnel.keep_only("other.test:443")
    assert overdue({"flow": tunnel}, 10.0, CONNECT) == []
    assert overdue({"flow": tunnel}, 10.1, CONNECT) == ["flow"]
    assert tunnel.timed_out == "connect after 10 s"
    open_ = waiting("tunnel", upstream=None)
    open_.keep_only("other.test:443")
    assert overdue({"flow": open_}, 1e9, CONNECT.model_copy(update={"total": 1.0})) == []


def test_who_is_late_is_said_once() -> None:
    live = {"flow": waiting("connect")}
    assert overdue(live, 11.0, CONNECT) == ["flow"]
    assert overdue(live, 12.0, CONNECT) == []


def test_only_those_who_are_late_are_said() -> None:
    live = {"late": waiting("idle"), "new": waiting("idle", 200.0), "thinks": waiting("first_byte")}
    assert overdue(live, 301.0, CONNECT) == ["late"]


@pytest.mark.parametrize(
    ("what", "side"),
    [
        pytest.param("idle", "answer_tee", id="a chunk of the answer"),
        pytest.param("first_byte", "request_tee", id="a chunk of the body on its way up"),
    ],
)
def test_a_chunk_is_a_sign_of_life(what: str, side: str) -> None:
    exchange = waiting(what)
    setattr(exchange, side, seen_at(500.0))
    limit = 300.0 if what == "idle" else 600.0
    assert overdue({"flow": exchange}, 500.0 + limit, CONNECT) == []
    assert overdue({"flow": exchange}, 500.1 + limit, CONNECT) == ["flow"]


def test_a_tee_that_saw_nothing_is_no_sign_of_life() -> None:
    exchange = waiting("idle")
    exchange.answer_tee = Tee(10, lambda: 500.0)
    assert overdue({"flow": exchange}, 301.0, CONNECT) == ["flow"]
