"""How much later a client is served while another one floods."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bench.contenders import BARE, SCRIPT, SERVE
from bench.measure import Case
from bench.trip import THEATRE, Scene, case, order_for, percentile

ROW = "p99 during a flood"
_UNIT = "ms more than without it"
_PAUSE = 0.01  # between two calls of who is watched
_WATCHED = Scene("watched", "1024", connections=1, seconds=3, longest=3)
_FLOOD = Scene("flood", "1024", connections=64, seconds=4, longest=4)


def cases(share: float, names: Sequence[str]) -> list[Case]:
    """64 connections of another client that call as fast as they can; each of these contenders."""
    found = [name for name in names if name in (BARE, SCRIPT, SERVE)]
    return [case(ROW, name, _UNIT, partial(_later, name, share)) for name in found]


def _later(name: str, share: float) -> float:
    stage = THEATRE.stage()
    contender = stage.contender(name)
    watched = replace(order_for(contender, _WATCHED, 2 * share), pause=_PAUSE)
    alone = stage.load(watched)
    with stage.meanwhile(order_for(contender, _FLOOD, 2 * share, "flood")):
        flooded = stage.load(watched)
    return percentile(flooded.seconds, 99) - percentile(alone.seconds, 99)
