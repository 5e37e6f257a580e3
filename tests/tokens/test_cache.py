"""The cache in front of a token endpoint: when it fetches, what it serves, what it says."""

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable

import pytest
from llm_passthrough.tokens.cache import AGAIN, ANEW, EARLY, LAST, Token, TokenError, TokenSource
from pydantic import SecretStr

from tokens.harness import Clock, Records

SECRET = "refresh-token-SECRET-0123456789"


class Endpoint:
    """A token endpoint as a function; `hold` keeps its answers back, `fail` is raised instead."""

    def __init__(self, clock: Clock, lifetime: float = 3600.0) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.fail: BaseException | None = None
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> Token:
        self.calls += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        number = self.calls
        self.open.wait(30)
        self.running -= 1
        if self.fail is not None:
            raise self.fail
        return Token(SecretStr(f"token-{number}"), self.clock.now + self.lifetime)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint(clock: Clock) -> Endpoint:
    return Endpoint(clock)


@pytest.fixture
def source(endpoint: Endpoint, clock: Clock) -> TokenSource:
    return TokenSource("azure/main", endpoint, clock=clock)


async def text(source: TokenSource) -> str:
    return (await source.get()).get_secret_value()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def renewed(source: TokenSource) -> None:
    """Let a fetch that is under way come to its end."""
    await until(lambda: source._pending is None)


async def test_a_token_is_fetched_once_and_served_until_it_has_to_be_renewed(
    source: TokenSource, endpoint: Endpoint, clock: Clock
) -> None:
    first = await source.get()
    clock.now += endpoint.lifetime - EARLY - 1
    assert await source.get() is first
    assert endpoint.calls == 1


@pytest.mark.parametrize(
    ("lifetime", "early"),
    [
        pytest.param(3600.0, EARLY, id="an hour: five minutes before its end"),
        pytest.param(86_400.0, EARLY, id="a day: five minutes too"),
        pytest.param(600.0, 150.0, id="ten minutes: a quarter of them"),
        pytest.param(290.0, 72.5, id="the rest of an older token: not at each request"),
    ],
)
async def test_a_token_is_renewed_before_its_end_while_the_old_one_serves(
    source: TokenSource, endpoint: Endpoint, clock: Clock, lifetime: float, early: float
) -> None:
    endpoint.lifetime = lifetime
    assert await text(source) == "token-1"
    clock.now += lifetime - early - 0.5
    assert await text(source) == "token-1"
    assert endpoint.calls == 1
    endpoint.open.clear()
    clock.now += 1
    assert [await text(source) for _ in range(5)] == ["token-1"] * 5
    endpoint.open.set()
    await renewed(source)
    assert await text(source) == "token-2"
    assert endpoint.calls == 2


async def test_a_token_that_ends_in_a_moment_is_not_used_any_more(
    source: TokenSource, endpoint: Endpoint, clock: Clock
) -> None:
    await source.get()
    clock.now += endpoint.lifetime - LAST
    assert await text(source) == "token-2"


async def test_a_token_that_never_lasts_is_still_handed_out(
    source: TokenSource, endpoint: Endpoint
) -> None:
    endpoint.lifetime = -60.0
    assert [await text(source), await text(source)] == ["token-1", "token-2"]


async def test_fifty_waiting_requests_make_one_fetch(
    source: TokenSource, endpoint: Endpoint
) -> None:
    """H05."""
    endpoint.open.clear()
    waiting = [asyncio.create_task(source.get()) for _ in range(50)]
    await until(lambda: endpoint.calls == 1)
    endpoint.open.set()
    values = await asyncio.gather(*waiting)
    assert {id(value) for value in values} == {id(values[0])}
    assert (endpoint.calls, endpoint.most_running) == (1, 1)


async def test_fifty_waiting_requests_get_one_failure(
    source: TokenSource, endpoint: Endpoint
) -> None:
    endpoint.fail = ValueError(SECRET)
    endpoint.open.clear()
    waiting = [asyncio.create_task(source.get()) for _ in range(50)]
    await until(lambda: endpoint.calls == 1)
    endpoint.open.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(result) for result in results} == {"ValueError"}
    assert all(isinstance(result, TokenError) for result in results)
    assert endpoint.calls == 1


async def test_a_request_that_goes_away_takes_the_token_from_nobody(
    source: TokenSource, endpoint: Endpoint
) -> None:
    """H06."""
    endpoint.open.clear()
    leaving, staying = (asyncio.create_task(text(source)) for _ in range(2))
    await until(lambda: endpoint.calls == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    endpoint.open.set()
    assert await staying == "token-1"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(ValueError(f"the body was {SECRET}"), id="a library's error"),
        pytest.param(TokenError("the token endpoint gave no token"), id="our own"),
        pytest.param(SystemExit(SECRET), id="a library that wants to end the process"),
        pytest.param(KeyboardInterrupt(), id="what no `except Exception` catches"),
    ],
)
async def test_a_failed_fetch_is_said_once_and_tried_anew_by_the_next_request(
    source: TokenSource, endpoint: Endpoint, records: Records, failure: BaseException
) -> None:
    failure.__cause__ = ValueError(SECRET)
    endpoint.fail = failure
    with pytest.raises(TokenError) as caught:
        await source.get()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown + "".join(records.texts)
    assert caught.value.late is False
    assert records.names.count("llm_passthrough.tokens.cache") == 1
    assert "azure/main: no token" in "".join(records.texts)
    endpoint.fail = None
    assert await text(source) == "token-2"


async def test_a_failed_renewal_leaves_the_old_token_and_waits_before_the_next_try(
    source: TokenSource, endpoint: Endpoint, clock: Clock
) -> None:
    await source.get()
    endpoint.fail = ValueError("down")
    clock.now += endpoint.lifetime - EARLY
    for _ in range(5):
        assert await text(source) == "token-1"
        await renewed(source)
    assert endpoint.calls == 2
    clock.now += AGAIN
    assert await text(source) == "token-1"
    await renewed(source)
    assert endpoint.calls == 3
    endpoint.fail = None
    clock.now += AGAIN
    await source.get()
    await renewed(source)
    assert await text(source) == "token-4"


async def test_a_slow_endpoint_fails_the_request_late_and_serves_those_who_come_later(
    endpoint: Endpoint, clock: Clock
) -> None:
    """H05: the part of the cache; tests/live/test_vertex.py has the whole."""
    source = TokenSource("vertex/main", endpoint, clock=clock)
    endpoint.open.clear()
    for _ in range(3):
        with pytest.raises(TokenError, match="no answer within") as caught:
            await source.get(0.01)
        assert caught.value.late is True
        assert caught.value.__cause__ is None
    endpoint.open.set()
    await renewed(source)
    assert await text(source) == "token-1"
    assert endpoint.calls == 1


async def test_the_loop_goes_on_while_a_token_is_fetched(
    source: TokenSource, endpoint: Endpoint
) -> None:
    endpoint.open.clear()
    waiting = asyncio.create_task(text(source))
    for _ in range(20):
        await asyncio.sleep(0.001)
    # The loop itself lets the fetch go on: had the fetch held it up, this were never reached.
    assert not waiting.done()
    endpoint.open.set()
    assert await waiting == "token-1"


async def test_a_dropped_token_is_fetched_once_more(
    source: TokenSource, endpoint: Endpoint
) -> None:
    first = await source.get()
    assert source.drop(first) is True
    assert await asyncio.gather(*(text(source) for _ in range(10))) == ["token-2"] * 10
    assert endpoint.calls == 2


async def test_late_refusals_of_a_dropped_token_do_not_drop_its_successor(
    source: TokenSource, endpoint: Endpoint
) -> None:
    first = await source.get()
    assert source.drop(first) is True
    assert source.drop(first) is True
    second = await source.get()
    assert source.drop(first) is True
    assert await source.get() is second
    assert endpoint.calls == 2


async def test_a_new_token_that_is_refused_at_once_is_not_fetched_again_and_again(
    source: TokenSource, endpoint: Endpoint, clock: Clock
) -> None:
    source.drop(await source.get())
    second = await source.get()
    assert source.drop(second) is False
    assert await source.get() is second
    clock.now += ANEW
    assert source.drop(second) is True
    assert await text(source) == "token-3"
    assert endpoint.calls == 3


@pytest.mark.parametrize(
    ("value", "chance"),
    [
        pytest.param(None, False, id="a key without tokens"),
        pytest.param(SecretStr("token-1"), True, id="the same text is not the same token"),
    ],
)
async def test_what_is_not_the_present_token_is_not_dropped(
    source: TokenSource, endpoint: Endpoint, value: SecretStr | None, chance: bool
) -> None:
    first = await source.get()
    assert source.drop(value) is chance
    assert await source.get() is first


def test_a_source_outlives_the_loop_in_which_it_waited(endpoint: Endpoint, clock: Clock) -> None:
    source = TokenSource("azure/main", endpoint, clock=clock)
    endpoint.open.clear()
    with pytest.raises(TokenError):
        asyncio.run(source.get(0.01))
    endpoint.open.set()
    assert asyncio.run(text(source)) == "token-2"
    assert asyncio.run(text(source)) == "token-2"


async def test_a_machine_without_threads_left_says_so(
    source: TokenSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TokenError, match="no thread"):
        await source.get()


async def test_a_token_occurs_in_no_record_and_no_repr(
    source: TokenSource, endpoint: Endpoint, records: Records
) -> None:
    value = await source.get()
    endpoint.fail = ValueError("down")
    source.drop(value)
    with pytest.raises(TokenError):
        await source.get()
    logging.getLogger("test").warning("%r %r", value, Token(value, 0.0))
    assert "token-1" not in "".join(records.texts)
