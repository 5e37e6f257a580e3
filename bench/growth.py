"""What past calls leave behind: the memory after many calls, beside that after the first ones."""

from collections.abc import Sequence
from functools import partial

from bench import process
from bench.contenders import SERVE, WEB
from bench.measure import Case
from bench.trip import THEATRE, Scene, case, order_for

FEW, MANY = "memory after few calls", "memory after many calls"
_CALLS = {SERVE: (1_000, 100_000), WEB: (2_500, 20_000)}
"""How many; mitmweb's table of 2,000 calls is full after the first ones."""
_SHORT = 0.1  # of the usual work: a run that is to say something
_MOST = 20  # MB more, of mitmweb


def cases(share: float, names: Sequence[str]) -> list[Case]:
    """A gateway that has done nothing else before: these cases come first."""
    return _cases(SERVE, share) if SERVE in names else []


def web_cases(share: float) -> list[Case]:
    """The same of mitmweb, whose limits are as they are by default."""
    return _cases(WEB, share)


def _cases(name: str, share: float) -> list[Case]:
    first, last = _CALLS[name]
    few = max(round(first * min(1, share / _SHORT)), 16)
    many = max(round(last * (share if share > _SHORT else share / 2)), 2 * few)
    then = partial(_after, name, many - few)
    return [
        case(FEW, name, f"MB after {few:,} calls", partial(_after, name, few), once=True),
        case(MANY, name, f"MB after {many:,} calls", then, once=True, over=f"{FEW}: {name}"),
    ]


def _after(name: str, calls: int) -> float:
    stage = THEATRE.stage()
    contender = stage.contender(name)
    assert contender.pid
    stage.load(order_for(contender, Scene("", "1024", calls=calls), 1))
    process.settle(contender.pid)
    return process.resident(contender.pid)
