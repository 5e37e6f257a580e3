"""What a call costs over HTTP, beside nothing, nginx or HAProxy, a bare mitmdump, and others."""

from collections.abc import Iterator, Sequence

from bench.contenders import BARE, DIRECT, LITELLM, PORTKEY, SERVE, WORKERS
from bench.measure import Case
from bench.trip import Scene, Trip, case

CPU = "us of processor time a call"
TIME = "ms a call"
RATE = "calls a second"
KEPT, ONE, MANY = "1 KB, 16 connections", "1 KB, 1 connection", "1 KB, 64 connections"
ANEW = "1 KB, a connection a call"
LOOP = f"{SERVE}, its event loop alone"

_KB, _LARGE, _MB = "1024", f"{100 << 10}", f"{1 << 20}"
SCENES = (
    Scene(KEPT, _KB),
    Scene(ONE, _KB, connections=1),
    Scene(MANY, _KB, connections=64),
    Scene(ANEW, _KB, keep=False),
    Scene("1 KB, TLS upstream", _KB, tls=True),
    Scene("1 KB, TLS upstream, a connection a call", _KB, keep=False, connections=4, tls=True),
    Scene("100 KB, 16 connections", _LARGE, 100 << 10),
    Scene("100 KB, 1 connection", _LARGE, 100 << 10, connections=1, rare=True),
    Scene("100 KB, 64 connections", _LARGE, 100 << 10, connections=64, rare=True),
    Scene("100 KB, a connection a call", _LARGE, 100 << 10, keep=False, rare=True),
    Scene("100 KB, TLS upstream", _LARGE, 100 << 10, tls=True, rare=True),
    Scene("1 MB, 4 connections", _MB, 1 << 20, 4),
    Scene("1 MB, 1 connection", _MB, 1 << 20, 1, rare=True),
    Scene("1 MB, 16 connections", _MB, 1 << 20, 16, rare=True),
    Scene("1 MB, 64 connections", _MB, 1 << 20, 64, rare=True),
    Scene("1 MB, a connection a call", _MB, 1 << 20, 4, keep=False, rare=True),
    Scene("1 MB, TLS upstream", _MB, 1 << 20, 4, tls=True, rare=True),
)
_SHORT = 0.2  # of the usual work: rare scenes are left out
_EVERYBODY = (KEPT, MANY, ANEW)
"""Where gateways that are not ours are measured, and two workers of ours."""


def cases(share: float, names: Sequence[str]) -> list[Case]:
    """Each kind of call by each of these contenders."""
    scenes = [scene for scene in SCENES if not scene.rare or share > _SHORT]
    return [found for scene in scenes for found in _calls(scene, share, names)]


def _calls(scene: Scene, share: float, names: Sequence[str]) -> Iterator[Case]:
    trips = {name: Trip(name, scene, share) for name in names if _plays(name, scene)}
    bare = BARE if BARE in trips else None
    for name, trip in trips.items():
        if name != DIRECT:
            yield case(scene.name, name, CPU, trip.cpu, against=bare)
    if SERVE in trips:
        yield case(scene.name, LOOP, CPU, trips[SERVE].loop, against=bare)
    base = DIRECT if DIRECT in trips else None
    for name, trip in trips.items():
        yield case(f"{scene.name}, time", name, TIME, trip.time, beyond=base)
    if scene.name == MANY:
        for name, trip in trips.items():
            yield case(scene.name + ", calls a second", name, RATE, trip.rate)


def _plays(name: str, scene: Scene) -> bool:
    if name == DIRECT:
        return not scene.tls
    return name not in (WORKERS, LITELLM, PORTKEY) or scene.name in _EVERYBODY
