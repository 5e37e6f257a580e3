"""Guards: whatever goes wrong in a hook, the client is answered and no text of it is shown."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from weakref import WeakKeyDictionary

import pytest
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.guard import guarded, quiet, unraised, where
from llm_passthrough.pace import Pace
from llm_passthrough.wire import strip
from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.flow import Error
from mitmproxy.test import tflow

SECRET = "sk-SECRET-0123456789"


async def _no_pause(client: Client, seconds: float) -> None:
    """Nobody is refused so often here."""


class Door:
    """An addon with hooks that go wrong as they are told."""

    def __init__(self, error: BaseException | None = None, *, refusing: bool = True) -> None:
        self.live: MutableMapping[http.HTTPFlow, Exchange] = WeakKeyDictionary()
        self.refusals: list[Refusal] = []
        self.pace = Pace(lambda: 0.0, _no_pause)
        self._error, self._refusing = error, refusing
        self.went_on = False

    def refuse(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        if not self._refusing:
            raise OSError(SECRET)
        self.refusals.append(refusal)

    def _go(self) -> None:
        if self._error is not None:
            raise self._error
        self.went_on = True

    @guarded
    def decides(self, flow: http.HTTPFlow) -> None:
        self._go()

    @guarded
    async def decides_later(self, flow: http.HTTPFlow) -> None:
        await asyncio.sleep(0)
        self._go()

    @quiet
    def tells(self, flow: http.HTTPFlow) -> None:
        self._go()

    @unraised
    def connects(self, *, data: str = "") -> None:
        self._go()


type Hook = Callable[[Door, http.HTTPFlow], Awaitable[None] | None]


async def call(hook: Hook, door: Door, flow: http.HTTPFlow) -> None:
    """As mitmproxy calls a hook: what it waits for is waited for."""
    waiting = hook(door, flow)
    if waiting is not None:
        await waiting


def exchange() -> Exchange:
    return Exchange("the-id", 0.0, 0.0, "GET", b"/x", strip((), b"/x"))


HOOKS = [
    pytest.param(Door.decides, id="a plain hook"),
    pytest.param(Door.decides_later, id="a hook that waits"),
]
ERRORS = [
    pytest.param(ValueError(SECRET), id="an error"),
    pytest.param(asyncio.CancelledError(SECRET), id="a cancellation"),
    pytest.param(GeneratorExit(SECRET), id="an odd one"),
    pytest.param(RecursionError(SECRET), id="too deep"),
]


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_that_does_well_is_left_alone_and_timed(
    hook: Hook,
) -> None:
    door, flow = Door(), tflow.tflow()
    door.live[flow] = one = exchange()
    await call(hook, door, flow)
    assert door.went_on
    assert door.refusals == []
    assert one.own_time > 0


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_refusal_is_told_as_it_is(
    hook: Hook,
) -> None:
    door, flow = Door(Refusal("no_route", "say which")), tflow.tflow()
    await call(hook, door, flow)
    (refusal,) = door.refusals
    assert (refusal.code, refusal.message) == ("no_route", "say which")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("error", ERRORS)
async def test_any_other_error_is_a_500_that_names_the_log_and_shows_no_text(
    hook: Hook,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    door, flow = Door(error), tflow.tflow()
    door.live[flow] = exchange()
    await call(hook, door, flow)
    (refusal,) = door.refusals
    assert refusal.code == "internal"
    assert "the-id" in refusal.message
    assert SECRET not in refusal.message + caplog.text
    assert f"the-id: {type(error).__name__} at _go:" in caplog.text


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_who_wants_the_process_to_end_is_obeyed_after_the_client_was_answered(
    hook: Hook, error: type[BaseException]
) -> None:
    door, flow = Door(error(SECRET)), tflow.tflow()
    caught = None
    # By hand: such an error, let out of a task, would end the loop of the tests.
    try:
        coroutine = hook(door, flow)
        assert isinstance(coroutine, Coroutine)  # else it has ended already
        coroutine.send(None)
        coroutine.send(None)
    except (KeyboardInterrupt, SystemExit) as ended:
        caught = ended
    assert type(caught) is error
    assert [refusal.code for refusal in door.refusals] == ["internal"]


def test_a_flow_that_cannot_even_be_refused_is_killed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door, flow = Door(ValueError(SECRET), refusing=False), tflow.tflow()
    door.decides(flow)
    assert flow.error is not None
    assert flow.error.msg == Error.KILLED_MESSAGE
    assert SECRET not in caplog.text
    assert "OSError at refuse:" in caplog.text


@pytest.mark.parametrize("error", ERRORS)
def test_a_hook_that_only_tells_says_the_kind_and_stays_quiet(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    door, flow = Door(error), tflow.tflow()
    door.tells(flow)
    door.connects(data="x")
    assert door.refusals == []
    assert flow.error is None
    assert SECRET not in caplog.text
    kinds = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(kinds) == 2
    assert kinds[0].startswith(f"{type(error).__name__} at _go:")
    assert kinds[0].endswith("in tells")
    assert kinds[1].endswith("in connects")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_hook_that_only_tells_lets_the_process_end(error: type[BaseException]) -> None:
    door = Door(error())
    with pytest.raises(error):
        door.tells(tflow.tflow())
    with pytest.raises(error):
        door.connects()


def test_a_place_is_named_by_function_and_line_alone() -> None:
    assert where(None) == "an interrupt"
    assert where(ValueError(SECRET)) == "ValueError"
    try:
        int(SECRET)
    except ValueError as error:
        place = where(error)
    assert place.startswith("ValueError at test_a_place_is_named_by_function_and_line_alone:")
    assert SECRET not in place


def test_a_guard_keeps_the_hooks_name_and_its_parameters() -> None:
    for hook in (Door.decides, Door.decides_later, Door.tells, Door.connects):
        assert hook.__name__ in vars(Door)
        assert hasattr(hook, "__wrapped__")
