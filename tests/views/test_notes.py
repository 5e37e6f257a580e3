"""Notes: what is said of a finished call in mitmproxy's own table, and how it gets there."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, get_args
from weakref import ref

import made
import pytest
from llm_passthrough.record import Cost, Fault, Outcome, Record, Usage
from llm_passthrough.views.notes import MARKS, RECORD, SIZES, Notes, comment
from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow
from mitmproxy.utils.emoji import emoji

USAGE = Usage(input_tokens=1204, cache_read_tokens=1024, output_tokens=310)


def record(ident: str = "", error: Fault | None = None, **facts: Any) -> Record:
    return replace(made.record(ident, **facts), error=error)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(
            {"usage": USAGE, "cost": Cost(0.0041, "USD", "x"), "first_token": 320.4},
            "openai gpt-4o · 1,204 in (1,024 cached) / 310 out · $0.004100 · first token 320 ms",
            id="everything is known",
        ),
        pytest.param({}, "openai gpt-4o", id="nothing else is known"),
        pytest.param(
            {"usage": Usage(input_tokens=7, cache_read_tokens=0)},
            "openai gpt-4o · 7 in",
            id="no answer, nothing cached",
        ),
        pytest.param(
            {"usage": Usage(output_tokens=0)}, "openai gpt-4o · 0 out", id="zero is a count"
        ),
        pytest.param(
            {"asked": {}, "answered": {"model": "gpt-x"}},
            "openai gpt-x",
            id="the model that answered",
        ),
        pytest.param({"asked": {}}, "openai chat", id="no model: the operation"),
        pytest.param({"turn": 2}, "openai gpt-4o · turn 2", id="a turn of a WebSocket"),
        pytest.param(
            {
                "outcome": "refused",
                "status": 503,
                "provider": None,
                "asked": b"",
                "error": Fault("no_key", "set OPENAI_API_KEY", "gateway"),
            },
            "refused 503: set OPENAI_API_KEY",
            id="why it was refused",
        ),
        pytest.param(
            {
                "outcome": "upstream_error",
                "status": 429,
                "error": Fault("rate_limit", "Slow down.", "upstream"),
            },
            "upstream error 429: Slow down. · openai gpt-4o",
            id="what the provider complains of comes first",
        ),
        pytest.param(
            {"outcome": "client_abort", "usage": Usage(output_tokens=3)},
            "client abort 200 · openai gpt-4o · 3 out",
            id="the client went away",
        ),
        pytest.param(
            {"outcome": "timeout", "status": None}, "timeout · openai gpt-4o", id="no answer at all"
        ),
        pytest.param(
            {"asked": {"model": "a\x1b[31m\u202eb\nc"}},
            "openai a\\x1b[31m\\u202eb\\nc",
            id="nothing that a terminal obeys",
        ),
    ],
)
def test_a_call_is_one_line(facts: dict[str, Any], said: str) -> None:
    assert comment(record(**facts)) == said


def test_a_line_is_short_whatever_came_from_outside() -> None:
    fault = Fault("x", "m" * 5000, "upstream")
    told = comment(record(outcome="error", error=fault, asked={"model": "m" * 250}))
    assert len(told) <= 300
    assert told.endswith("…")


def test_every_outcome_has_a_mark_of_its_own_that_mitmproxy_knows() -> None:
    outcomes = get_args(Outcome.__value__)
    assert set(MARKS) == set(outcomes)
    assert len(set(MARKS.values())) == len(outcomes)
    assert all(mark in emoji for mark in MARKS.values())
    # Those that mitmweb offers to people: with them a flow is marked by hand.
    assert not [mark for mark in MARKS.values() if "circle" in mark]


class Desk:
    """A view with a flow in it, and the notes beside it."""

    def __init__(self) -> None:
        self.view = View()
        self.notes = Notes()
        self.updated: list[str] = []
        self.view.sig_view_update.connect(self._update)
        self.context = taddons.context(self.view, self.notes)

    def _update(self, flow: Any) -> None:
        self.updated.append(flow.comment)

    def flow(self, ident: str = "1") -> http.HTTPFlow:
        flow = tflow.tflow()
        flow.metadata[RECORD] = ident
        self.view.requestheaders(flow)
        self.notes.requestheaders(flow)
        return flow

    async def tell(self, told: Record) -> None:
        """What the writer's thread does; then let the loop do what it was asked to."""
        thread = threading.Thread(target=self.notes.write, args=(told, b""))
        thread.start()
        thread.join()
        await asyncio.sleep(0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    with desk.context:
        yield desk


async def test_the_flow_of_a_record_gets_comment_and_mark_and_is_shown_anew(desk: Desk) -> None:
    flow, other = desk.flow("1"), desk.flow("2")
    await desk.tell(record("1", usage=USAGE, answered={"a": 1}))
    assert flow.comment == "openai gpt-4o · 1,204 in (1,024 cached) / 310 out"
    assert flow.marked == MARKS["ok"]
    assert desk.updated == [flow.comment]
    assert (other.comment, other.marked) == ("", "")


async def test_how_long_the_bodies_were_goes_with_it(desk: Desk) -> None:
    flow = desk.flow()
    await desk.tell(record("1", answered="12345"))
    assert flow.metadata[SIZES["response"]] == 5
    assert flow.metadata[SIZES["request"]] == len('{"model": "gpt-4o", "messages": []}')
    assert flow.copy().metadata == flow.metadata


async def test_a_websocket_tells_what_its_turns_took_together(desk: Desk) -> None:
    flow, other = desk.flow("1"), desk.flow("2")
    cost = Cost(0.5, "USD", "x")
    turn = {"part_of": "1", "status": 101, "first_token": 3.0}
    await desk.tell(record("11", turn=1, usage=USAGE, cost=cost, **turn))
    assert flow.comment == "openai gpt-4o · 1 turn · 1,204 in (1,024 cached) / 310 out · $0.5000"
    assert flow.marked == ""
    await desk.tell(record("12", turn=2, usage=USAGE, cost=cost, **turn))
    await desk.tell(record("13", turn=3, **turn))
    await desk.tell(record("21", turn=1, **turn | {"part_of": "2"}))
    await desk.tell(record("1", turns=3, status=101))
    assert flow.comment == "openai gpt-4o · 3 turns · 2,408 in (2,048 cached) / 620 out · $1.00"
    assert flow.marked == MARKS["ok"]
    assert (other.comment, other.marked) == ("openai gpt-4o · 1 turn", "")


async def test_what_a_person_wrote_stays(desk: Desk) -> None:
    flow = desk.flow()
    flow.comment, flow.marked = "look at this", ":red_circle:"
    await desk.tell(record("1"))
    assert (flow.comment, flow.marked) == ("look at this", ":red_circle:")
    assert not desk.notes.own(flow)


async def test_what_we_wrote_is_written_anew_when_a_flow_runs_again(desk: Desk) -> None:
    flow = desk.flow("1")
    await desk.tell(record("1"))
    flow.metadata[RECORD] = "2"
    desk.notes.requestheaders(flow)
    await desk.tell(record("2", outcome="refused", status=403))
    assert flow.comment == "refused 403 · openai gpt-4o"
    assert flow.marked == MARKS["refused"]
    assert desk.notes.own(flow)


async def test_a_flow_without_a_mark_is_nobodys(desk: Desk) -> None:
    flow = desk.flow()
    assert desk.notes.own(flow)
    await desk.tell(record("1"))
    flow.marked = ""  # a person took it off
    assert desk.notes.own(flow)
    flow.marked = ":default:"
    assert not desk.notes.own(flow)


async def test_a_record_without_a_flow_is_passed_over(desk: Desk) -> None:
    await desk.tell(record("before any flow"))
    desk.flow("1")
    await desk.tell(record("of nobody"))
    assert desk.updated == []


async def test_a_flow_is_not_kept_for_its_note(desk: Desk) -> None:
    flow = tflow.tflow()
    flow.metadata[RECORD] = "1"
    desk.notes.requestheaders(flow)
    gone = ref(flow)
    del flow
    gc.collect()
    assert gone() is None
    await desk.tell(record("1"))


def test_a_loop_that_has_ended_is_no_fault() -> None:
    notes = Notes()
    flow = tflow.tflow()
    flow.metadata[RECORD] = "1"

    async def once() -> None:
        notes.requestheaders(flow)

    asyncio.run(once())
    notes.write(record("1"), b"")
    notes.close()
    assert flow.comment == ""
