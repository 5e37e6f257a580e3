"""The crowd: places of open requests, taken and given back."""

import pytest
from llm_passthrough.clients import ANYBODY, Identity
from llm_passthrough.config import Limits
from llm_passthrough.crowd import Crowd
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.policy import Client
from llm_passthrough.wire import strip


def exchange(name: str = "") -> Exchange:
    one = Exchange("1", 0.0, 0.0, "POST", b"/x", strip((), b"/x"))
    one.identity = Identity(Client(name)) if name else ANYBODY
    return one


def refused(crowd: Crowd, one: Exchange) -> tuple[str, int | None]:
    with pytest.raises(Refusal) as caught:
        crowd.enter(one)
    crowd.leave(one)
    return caught.value.code, caught.value.retry_after


def test_each_client_has_its_places_and_all_have_theirs() -> None:
    crowd = Crowd(lambda: Limits(requests=3, requests_per_client=2))
    open_ = [exchange("a"), exchange("a"), exchange("b")]
    crowd.enter(open_[0])
    crowd.enter(open_[1])
    assert refused(crowd, exchange("a")) == ("client_busy", 1)
    crowd.enter(open_[2])
    assert refused(crowd, exchange("c")) == ("busy", 1)
    assert len(crowd) == 3
    crowd.leave(open_[0])
    crowd.enter(exchange("a"))


def test_a_request_takes_one_place_and_gives_it_back_once() -> None:
    crowd = Crowd(lambda: Limits(requests=1))
    one = exchange()
    for _ in range(2):  # it was edited, and is judged again
        crowd.enter(one)
    assert len(crowd) == 1
    one.identity = Identity(Client("another"))
    for _ in range(2):
        crowd.leave(one)
    assert len(crowd) == 0
    crowd.enter(exchange())


def test_limits_that_change_hold_from_the_next_request_on() -> None:
    limits = Limits(requests=5)
    crowd = Crowd(lambda: limits)
    crowd.enter(exchange())
    limits = Limits(requests=1)
    assert refused(crowd, exchange())[0] == "busy"
