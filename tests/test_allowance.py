"""How much a client has used, with a clock that is moved by hand."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from llm_passthrough import allowance
from llm_passthrough.allowance import Memory, Past, PastError, Spent, day_of, month_of
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Client, Limits

NOON = datetime(2026, 11, 26, 12, 0, 20, tzinfo=UTC).timestamp()
DAY, DAYS_LEFT = 86_400, 4


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def memory(clock: Clock, past: Callable[[float], Past] | None = None) -> Memory:
    return Memory(past, clock)


def client(**limits: float) -> Client:
    return Client("alice", limits=Limits(**limits))  # type: ignore[arg-type]


async def refusal(kept: Memory, who: Client) -> tuple[str, int | None, bool] | None:
    """Code, pause and whether to try again; None for who may go on."""
    try:
        await kept.take(who)
    except Refusal as refused:
        return refused.code, refused.retry_after, refused.retry
    return None


async def test_without_limits_everything_passes(clock: Clock) -> None:
    kept = memory(clock)
    kept.spend("alice", Spent(1, 10**9, 10**6))
    for _ in range(1000):
        assert await refusal(kept, client()) is None
    assert kept.used("alice").requests == 1000


async def test_requests_are_counted_by_the_minute(clock: Clock) -> None:
    kept, who = memory(clock), client(requests_per_minute=2)
    assert [await refusal(kept, who) for _ in range(2)] == [None, None]
    for _ in range(3):  # what is refused does not count
        assert await refusal(kept, who) == ("requests_per_minute", 40, True)
    clock.now += 39.5
    assert await refusal(kept, who) == ("requests_per_minute", 1, True)
    clock.now += 0.5
    assert await refusal(kept, who) is None


async def test_a_refusal_says_whose_limit_it_is_and_when_it_is_whole_again(clock: Clock) -> None:
    with pytest.raises(Refusal) as caught:
        await memory(clock).take(client(daily=0.0))
    assert caught.value.message == (
        "client alice has used up the daily budget of $0; it is whole again in 43180 s"
    )


async def test_each_client_has_its_own(clock: Clock) -> None:
    kept = memory(clock)
    assert await refusal(kept, client(requests_per_minute=1)) is None
    assert await refusal(kept, client(requests_per_minute=1)) is not None
    await kept.take(Client("bob", limits=Limits(requests_per_minute=1)))


@pytest.mark.parametrize(
    ("limits", "spent", "refused"),
    [
        pytest.param({"tokens_per_minute": 100}, Spent(1, 99), None, id="tokens, not all of them"),
        pytest.param(
            {"tokens_per_minute": 100}, Spent(1, 100), ("tokens_per_minute", 40, True), id="tokens"
        ),
        pytest.param({"daily": 1.5}, Spent(1, 1, 1.49), None, id="money, not all of it"),
        pytest.param(
            {"daily": 1.5}, Spent(1, 1, 1.5), ("daily_budget", DAY // 2 - 20, False), id="a day's"
        ),
        pytest.param(
            {"monthly": 1.5, "daily": 1.0},
            Spent(1, 1, 2.0),
            ("monthly_budget", DAYS_LEFT * DAY + DAY // 2 - 20, False),
            id="a month's, which lasts longer",
        ),
        pytest.param({"daily": 1.5}, Spent(9, 9, 0.0, 9), None, id="of unknown price, for nothing"),
        pytest.param(
            {"daily": 1.5, "unpriced": 0.25},
            Spent(9, 9, 0.5, 4),
            ("daily_budget", DAY // 2 - 20, False),
            id="of unknown price, as the configuration says",
        ),
        pytest.param({"daily": 0.0}, Spent(), ("daily_budget", DAY // 2 - 20, False), id="nothing"),
    ],
)
async def test_when_it_is_used_up_the_next_call_is_refused(
    clock: Clock, limits: dict[str, float], spent: Spent, refused: tuple[str, int, bool] | None
) -> None:
    kept, who = memory(clock), client(**limits)
    kept.spend("alice", spent)
    assert await refusal(kept, who) == refused
    if refused is not None and spent.calls:
        clock.now += refused[1]
        assert await refusal(kept, who) is None


def past(**spent: Spent) -> Callable[[float], Past]:
    return lambda until: Past(day_of(until), month_of(until), spent, spent)


async def test_what_was_spent_before_the_start_counts(clock: Clock) -> None:
    kept, who = memory(clock, past(alice=Spent(3, 30, 0.75))), client(daily=1.0, monthly=2.0)
    assert await refusal(kept, who) is None
    kept.spend("alice", Spent(1, 10, 0.25))
    assert kept.used("alice").day == Spent(4, 40, 1.0)
    assert (await refusal(kept, who) or ())[0] == "daily_budget"
    clock.now += DAY
    assert kept.used("alice").day == Spent()
    assert await refusal(kept, who) is None
    kept.spend("alice", Spent(1, 10, 1.0))
    assert (await refusal(kept, who) or ())[0] == "monthly_budget"
    clock.now += (DAYS_LEFT + 1) * DAY
    assert kept.used("alice").month == Spent()
    assert await refusal(kept, who) is None


async def test_the_past_is_read_once_off_the_loop_and_only_where_a_budget_needs_it(
    clock: Clock,
) -> None:
    threads: list[threading.Thread] = []

    def read(until: float) -> Past:
        threads.append(threading.current_thread())
        return past()(until)

    kept = memory(clock, read)
    await kept.take(client(requests_per_minute=9, tokens_per_minute=9))
    assert not threads
    kept.prepare()
    await asyncio.gather(*(kept.take(client(daily=1.0)) for _ in range(9)))
    kept.prepare()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_as_long_as_the_past_is_not_known_nothing_is_spent(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "_PATIENCE", 0.01)
    go_on = threading.Event()

    def read(until: float) -> Past:
        go_on.wait(10)
        return past(alice=Spent(1, 1, 5.0))(until)

    kept = memory(clock, read)
    assert await refusal(kept, client(daily=1.0)) == ("budget_unread", 5, True)
    assert await refusal(kept, client()) is None
    go_on.set()
    monkeypatch.setattr(allowance, "_PATIENCE", 10)
    assert (await refusal(kept, client(daily=1.0)) or ())[0] == "daily_budget"


async def test_a_past_that_cannot_be_read_is_tried_again_after_a_while(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def read(until: float) -> Past:
        tries.append(until)
        if len(tries) < 2:
            raise PastError("no")
        return past()(until)

    kept = memory(clock, read)
    for _ in range(3):
        assert await refusal(kept, client(daily=1.0)) == ("budget_unread", 5, True)
    assert len(tries) == 1
    monkeypatch.setattr(allowance, "_AGAIN", 0.0)
    assert await refusal(kept, client(daily=1.0)) is None


@pytest.mark.parametrize("month", range(1, 13))
def test_a_month_ends_when_the_next_one_begins(month: int) -> None:
    begins = datetime(2028, month, 1, tzinfo=UTC).timestamp()
    assert month_of(begins) == month_of(begins + 27 * DAY) == month_of(begins - 1) + 1
    assert allowance.month_begins(month_of(begins + 12345)) == begins
