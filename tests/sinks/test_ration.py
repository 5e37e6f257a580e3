"""A ration: so many a minute of each name, however they come."""

from llm_passthrough.sinks.ration import Ration


def test_so_many_at_once_and_then_as_time_goes_by() -> None:
    now = 0.0
    ration = Ration(60, lambda: now)
    assert [ration.allows("a") for _ in range(61)] == [True] * 60 + [False]
    assert ration.allows("b")
    now = 1.0
    assert [ration.allows("a") for _ in range(2)] == [True, False]
    now = 1e6
    assert sum(ration.allows("a") for _ in range(100)) == 60


def test_without_a_rate_there_may_be_any_number() -> None:
    ration = Ration(None, lambda: 0.0)
    assert all(ration.allows("a") for _ in range(10_000))
