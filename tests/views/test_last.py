"""The last calls: mitmproxy's view forgets the oldest finished ones, and nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from llm_passthrough.options import OWN, VIEW_BYTES, VIEW_FLOWS
from llm_passthrough.views.last import LastCalls
from mitmproxy import exceptions, http
from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.test import taddons, tflow
from mitmproxy.websocket import WebSocketMessage


class Options:
    """The addon that declares our options."""

    def load(self, loader: Any) -> None:
        for option in OWN:
            loader.add_option(*option)


class Desk:
    """A view, what keeps it short, and calls that go by; `held` is what a person can see."""

    def __init__(self) -> None:
        self.view = View()
        self.last = LastCalls(self.view, lambda flow: not flow.marked)
        self.context = taddons.context(Options(), self.view, self.last)
        self.number = 0

    def limit(self, flows: int = 0, size: str = "0") -> None:
        self.context.options.update(**{VIEW_FLOWS: flows, VIEW_BYTES: size})

    def begin(self, body: bytes = b"", answer: bytes = b"") -> http.HTTPFlow:
        """A call under way, named by its number."""
        self.number += 1
        flow = tflow.tflow(resp=True)
        flow.comment = str(self.number)
        flow.timestamp_created = flow.request.timestamp_start = float(self.number)
        flow.client_conn.timestamp_end = None
        flow.request.content = body
        assert flow.response is not None
        flow.response.content = answer
        self.view.requestheaders(flow)
        return flow

    def end(self, flow: http.HTTPFlow) -> http.HTTPFlow:
        flow.live = False
        self.last.response(flow)
        return flow

    def call(self, body: bytes = b"", answer: bytes = b"") -> http.HTTPFlow:
        return self.end(self.begin(body, answer))

    @property
    def held(self) -> list[str]:
        flows: list[Flow] = list(self.view.resolve("@all"))
        return [flow.comment for flow in flows]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with desk.context:
        yield desk


def test_the_oldest_calls_leave(desk: Desk) -> None:
    desk.limit(flows=3)
    for _ in range(5):
        desk.call()
    assert desk.held == ["3", "4", "5"]
    assert len(desk.view) == 3


def test_a_call_that_is_under_way_is_not_counted(desk: Desk) -> None:
    desk.limit(flows=1)
    desk.begin()
    desk.call()
    desk.call()
    assert desk.held == ["1", "3"]


def test_bodies_are_counted_in_bytes(desk: Desk) -> None:
    desk.limit(size="100k")
    for _ in range(4):
        desk.call(b"x" * 30_000, b"y" * 10_000)
    assert desk.held == ["3", "4"]
    desk.call(b"x" * 200_000)
    assert desk.held == []  # it alone is too much


def test_a_websockets_messages_are_counted_when_it_ends(desk: Desk) -> None:
    desk.limit(size="100k")
    desk.call()
    flow = tflow.twebsocketflow()
    flow.comment = "talk"
    desk.view.requestheaders(flow)
    assert flow.websocket is not None
    flow.websocket.messages = [WebSocketMessage(1, True, b"x" * 60_000)] * 2
    desk.last.response(flow)
    assert desk.held == ["1", "talk"]  # it only begins
    flow.live = False
    desk.last.websocket_end(flow)
    assert desk.held == []


def test_a_call_that_breaks_off_is_finished_too(desk: Desk) -> None:
    desk.limit(flows=1)
    broken = desk.begin()
    broken.live = False
    desk.last.error(broken)
    desk.call()
    assert desk.held == ["2"]


def test_no_limit_is_no_limit(desk: Desk) -> None:
    desk.limit()
    for _ in range(50):
        desk.call(b"x" * 1000)
    assert len(desk.held) == 50


def test_another_limit_holds_from_the_next_call_on(desk: Desk) -> None:
    desk.limit(flows=10)
    for _ in range(8):
        desk.call()
    desk.limit(flows=2)
    desk.call()
    assert desk.held == ["8", "9"]


@pytest.mark.parametrize(
    ("touch", "let_go"),
    [
        pytest.param(
            lambda flow: setattr(flow, "marked", ":red_circle:"),
            lambda flow: setattr(flow, "marked", ""),
            id="marked by hand",
        ),
        pytest.param(lambda flow: flow.intercept(), lambda flow: flow.resume(), id="intercepted"),
        pytest.param(
            lambda flow: setattr(flow, "live", True),
            lambda flow: setattr(flow, "live", False),
            id="not sent to its end",
        ),
    ],
)
def test_what_a_person_holds_stays_and_is_not_counted(desk: Desk, touch: Any, let_go: Any) -> None:
    desk.limit(flows=2)
    first = desk.call()
    touch(first)
    for _ in range(4):
        desk.call()
    assert desk.held == ["1", "4", "5"]
    let_go(first)
    desk.call()
    assert desk.held == ["5", "6"]


def test_many_that_stay_do_not_push_out_the_newest(desk: Desk) -> None:
    desk.limit(flows=2, size="1m")
    for _ in range(20):
        desk.call(b"x" * 400_000).marked = ":red_circle:"
    for _ in range(5):
        desk.call()
    assert desk.held[-2:] == ["24", "25"]
    assert len(desk.held) == 22


def test_a_connection_that_is_closed_has_nothing_under_way(desk: Desk) -> None:
    desk.limit(flows=1)
    first = desk.call()
    first.live = True
    first.client_conn.timestamp_end = 1.0
    desk.call()
    assert desk.held == ["2"]


def test_what_a_person_removed_is_forgotten(desk: Desk) -> None:
    desk.limit(flows=3)
    first = desk.call()
    desk.call()
    desk.view.remove([first])
    desk.call()
    desk.call()
    assert desk.held == ["2", "3", "4"]
    desk.view.clear()
    desk.call()
    assert desk.held == ["5"]


def test_a_flow_that_runs_again_is_new_again(desk: Desk) -> None:
    desk.limit(flows=2)
    first = desk.call()
    desk.call()
    desk.end(first)
    desk.call()
    assert desk.held == ["1", "3"]


def test_a_filter_hides_and_keeps_nothing(desk: Desk) -> None:
    desk.limit(flows=2)
    desk.view.set_filter_cmd("~comment nobody")
    for _ in range(4):
        desk.call()
    assert desk.held == ["3", "4"]


def test_a_size_that_is_none_is_refused(desk: Desk) -> None:
    with pytest.raises(exceptions.OptionsError, match=f"{VIEW_BYTES} must be a size such as 256m"):
        desk.limit(size="much")


def test_memory_does_not_grow_with_the_number_of_calls(desk: Desk) -> None:
    desk.limit(flows=20)
    for _ in range(400):
        desk.call(b"x" * 100)
    assert len(desk.held) == len(desk.view.settings) == 20
    assert len(desk.last._held) == 20
    assert desk.last._bytes == 20 * (100 + (8 << 10))
