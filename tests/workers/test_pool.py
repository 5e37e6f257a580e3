"""What clients have used, counted by several workers: each sum once, whoever tells it how often."""

import json
from dataclasses import dataclass, field

import pytest
from llm_passthrough.allowance import Past, Spent, Used, day_of, month_of
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Client, Limits
from llm_passthrough.workers.pool import Pool, Told

NOON = 1_790_000_040.0 // 86_400 * 86_400 + 43_200
ALICE = Client("alice", limits=Limits(requests_per_minute=5))


@dataclass
class Workers:
    """Some pools and the clock that they have in common."""

    now: float = NOON
    pools: dict[str, Pool] = field(default_factory=dict)

    def pool(self, life: str) -> Pool:
        return self.pools.setdefault(life, Pool(life, wall=lambda: self.now))

    def told(self, life: str) -> Told:
        """All that one knows, as it comes out of the line."""
        self.pool(life).again()
        told: Told = json.loads(json.dumps(self.pool(life).news()))
        return told


@pytest.fixture
def workers() -> Workers:
    return Workers()


async def test_all_count_what_each_has_counted(workers: Workers) -> None:
    one, other, third = map(workers.pool, ("1", "2", "3"))
    for pool, calls in ((one, 2), (other, 3)):
        for _ in range(calls):
            await pool.take(ALICE)
            pool.spend("alice", Spent(1, 10, 0.5))
    other.spend("bob", Spent(1, 1, 0.0, 1))
    third.hear(workers.told("1"))
    third.hear(workers.told("2"))
    whole = Spent(5, 50, 2.5)
    assert third.used("alice") == Used(5, 50, whole, whole)
    assert third.used("bob") == Used(0, 1, Spent(1, 1, 0.0, 1), Spent(1, 1, 0.0, 1))
    assert third.used("nobody") == Used()
    with pytest.raises(Refusal, match="5 requests per minute"):
        await third.take(ALICE)
    await one.take(ALICE)  # it has heard of nobody


async def test_a_sum_that_comes_twice_late_or_through_others_counts_once(workers: Workers) -> None:
    one, other, third = map(workers.pool, ("1", "2", "3"))
    await one.take(ALICE)
    early = workers.told("1")
    await one.take(ALICE)
    other.hear(workers.told("1"))
    for told in (workers.told("2"), workers.told("1"), early, workers.told("2")):
        third.hear(told)
    assert third.used("alice").requests == 2
    one.hear(workers.told("3"))  # its own sums come back
    assert one.used("alice").requests == 2


async def test_only_what_is_new_is_told_and_of_many_clients_bit_by_bit(workers: Workers) -> None:
    one, other = workers.pool("1"), workers.pool("2")
    assert one.news() == {}
    for number in range(450):
        one.spend(f"client-{number}", Spent(1, 1))
    sizes = []
    while news := one.news():
        sizes.append(len(news["1"]))
        other.hear(news)
    assert sizes == [200, 200, 50]
    assert all(other.used(f"client-{number}").tokens == 1 for number in range(450))
    assert other.news() == {}  # who told it told everybody
    await one.take(ALICE)
    assert one.news().keys() == {"1"}


async def test_what_one_counted_that_is_no_more_is_told_by_the_others(workers: Workers) -> None:
    workers.pool("2.1").spend("alice", Spent(1, 10, 0.5))
    workers.pool("1.1").hear(workers.told("2.1"))
    workers.pool("2.2").hear(workers.told("1.1"))
    workers.pool("2.2").spend("alice", Spent(1, 10, 0.5))
    assert workers.pool("2.2").used("alice").day == Spent(2, 20, 1.0)


@pytest.mark.parametrize(
    ("later", "left"),
    [
        pytest.param(60, Used(0, 0, Spent(1, 7, 1.0), Spent(1, 7, 1.0)), id="a minute"),
        pytest.param(86_400, Used(0, 0, Spent(), Spent(1, 7, 1.0)), id="a day"),
        pytest.param(40 * 86_400, Used(), id="a month"),
    ],
)
async def test_windows_end_for_what_others_counted_too(
    workers: Workers, later: float, left: Used
) -> None:
    await workers.pool("1").take(ALICE)
    workers.pool("1").spend("alice", Spent(1, 7, 1.0))
    workers.pool("2").hear(workers.told("1"))
    workers.now += later
    assert workers.pool("2").used("alice") == left
    await workers.pool("1").take(ALICE)
    workers.pool("2").hear(workers.told("1"))
    assert workers.pool("2").used("alice").requests == 1


async def test_the_past_is_that_before_the_group_began() -> None:
    asked: list[float] = []

    def past(until: float) -> Past:
        asked.append(until)
        spent = {"alice": Spent(1, 1, 9.0)}
        return Past(day_of(NOON), month_of(NOON), spent, spent)

    pool = Pool("1", past, NOON - 3600, lambda: NOON)
    await pool.take(Client("alice", limits=Limits(monthly=10)))
    assert asked == [NOON - 3600]
    assert pool.used("alice").month.cost == 9.0
