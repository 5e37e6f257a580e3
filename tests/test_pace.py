"""The pace of refusals: some at once, then so many a second, and nobody waits for another."""

import pytest
from llm_passthrough.clients import Identity
from llm_passthrough.exchange import Exchange
from llm_passthrough.pace import AT_ONCE, LONGEST, PER_SECOND, Pace
from llm_passthrough.policy import Client as Caller
from llm_passthrough.wire import strip
from mitmproxy.connection import Client
from mitmproxy.test import tflow


class Scene:
    """A clock that is moved by hand, and the pauses that were made."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.pace = Pace(lambda: self.now, self._pause)

    async def _pause(self, client: Client, seconds: float) -> None:
        self.pauses.append(seconds)


def test_some_are_refused_at_once_and_more_at_a_pace() -> None:
    scene = Scene()
    waits = [scene.pace.wait("a") for _ in range(AT_ONCE + 3)]
    assert waits[: AT_ONCE + 1] == [0.0] * (AT_ONCE + 1)
    assert waits[AT_ONCE + 1 :] == pytest.approx([1 / PER_SECOND, 2 / PER_SECOND])
    assert scene.pace.wait("b") == 0
    scene.now += 3600
    assert scene.pace.wait("a") == 0


def test_nobody_waits_for_too_long_and_it_is_over_soon() -> None:
    scene = Scene()
    waits = [scene.pace.wait("a") for _ in range(10_000)]
    assert max(waits) == LONGEST
    scene.now += LONGEST + AT_ONCE / PER_SECOND
    assert scene.pace.wait("a") == 0


async def test_who_is_refused_much_is_held() -> None:
    scene, flow = Scene(), tflow.tflow()
    one = Exchange("1", 0.0, 0.0, "POST", b"/x", strip((), b"/x"), Identity(Caller("a")))
    for _ in range(AT_ONCE + 1):
        await scene.pace.hold(flow, one)
    assert scene.pauses == []
    await scene.pace.hold(flow, one)
    await scene.pace.hold(flow, None)
    assert scene.pauses == pytest.approx([1 / PER_SECOND])
