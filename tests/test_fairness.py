"""Fairness: who floods waits for his own requests, and nobody else does."""

import asyncio

from llm_passthrough.fairness import TOGETHER, Fairness


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def shared(at_once: int, clock: Clock | None = None) -> Fairness:
    """Somebody else has called a moment ago."""
    fairness = Fairness(clock or Clock(), at_once)
    await fairness.turn("b")
    await fairness.turn("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return fairness


async def begun(order: str, fairness: Fairness, passes: int) -> list[str]:
    """Requests that come at once, a letter for the client of each; what began in each pass."""
    found = [""]

    async def request(name: str) -> None:
        await fairness.turn(name)
        found[-1] += name

    tasks = [asyncio.create_task(request(name)) for name in order]
    for _ in range(passes):
        await asyncio.sleep(0)
        found.append("")
    await asyncio.gather(*tasks)
    return [each for each in found if each]


async def test_of_many_requests_of_one_client_a_few_begin_in_each_pass() -> None:
    assert await begun("a" * 7, await shared(3), 9) == ["aaa", "aaa", "a"]


async def test_who_calls_alone_waits_for_nothing() -> None:
    clock = Clock()
    assert await begun("a" * 7, Fairness(clock, 2), 9) == ["a" * 7]
    fairness = await shared(2, clock)
    clock.now = TOGETHER
    assert await begun("a" * 7, fairness, 9) == ["a" * 7]


async def test_nobody_waits_for_another_client() -> None:
    first, *rest = await begun("aaaaaaab", await shared(2), 9)
    assert first == "aab"
    assert "".join(rest) == "aaaaa"


async def test_who_comes_later_stands_behind_his_own() -> None:
    fairness = await shared(1)
    order: list[int] = []

    async def request(number: int) -> None:
        await fairness.turn("a")
        order.append(number)

    tasks = [asyncio.create_task(request(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(request(3)))
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]


async def test_who_leaves_while_he_waits_holds_up_nobody() -> None:
    fairness = await shared(1)
    tasks = [asyncio.create_task(fairness.turn("a")) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [False, True, False, False]
    await asyncio.wait_for(fairness.turn("a"), 5)


async def test_when_all_have_begun_nothing_goes_on() -> None:
    """The loop may rest."""
    fairness = await shared(2)
    await begun("aaaaa", fairness, 9)
    for _ in range(3):
        await asyncio.sleep(0)
    assert fairness._looks is False
