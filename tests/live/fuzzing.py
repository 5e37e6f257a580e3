"""A seeded fuzzer: spoilt requests (mutations.py) at a real gateway, judged after every one.

Who is guilty gets the case cut down to the smallest request that shows it. `scripts/fuzz` runs it,
and a test a few hundred cases of it.
"""

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from live.fuzzgateways import ours
from live.fuzzground import Ground
from live.fuzzjudge import judge
from live.fuzzsaying import say
from live.mutations import Case, case
from live.shrinking import shrunk

_AT_ONCE = 8
_ALONE = 3  # how often each case of a guilty batch is tried alone
_FULL = 400  # cases between two looks at all records


@dataclass(frozen=True)
class Found:
    """A fault, and the smallest case that shows it (the whole batch, if none alone does)."""

    seed: int
    number: int
    fault: str
    case: Case | None
    request: bytes

    def __str__(self) -> str:
        steps = ", ".join(name for name, _ in self.case.steps) if self.case else "several at once"
        return (
            f"seed {self.seed}, case {self.number} ({steps})\n{self.fault}\n"
            f"smallest request: {self.request!r}"
        )


def attempt(ground: Ground, cases: Sequence[Case]) -> str | None:
    """What is wrong after these cases, which run at the same time; None if all is well."""
    ground.mark()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told = list(pool.map(lambda each: say(ground, each.message()), cases))
    ground.over()
    return judge(ground, told) or _asserted(ground.written)


def hunt(ground: Ground, seed: int, count: int, part: int = 0, parts: int = 1) -> Found | None:
    """Try `count` cases, or one of so many `parts` of them; the first fault, or None.

    The same seed gives the same cases.
    """
    chance = random.Random(seed)
    cases = [case(chance) for _ in range(count)]
    for at in range(part * _AT_ONCE, count, parts * _AT_ONCE):
        batch = cases[at : at + _AT_ONCE]
        fault = attempt(ground, batch)
        if fault is None and at // parts % _FULL < _AT_ONCE:
            fault = _asserted(ground.account)
        if fault is not None:
            return _cornered(ground, seed, at, batch, fault)
    fault = _asserted(ground.account)
    return Found(seed, count, fault, None, b"") if fault else None


def _asserted(check: Callable[[], None]) -> str | None:
    try:
        check()
    except AssertionError as error:
        return str(error)[:6000]
    return None


def _cornered(ground: Ground, seed: int, at: int, batch: list[Case], fault: str) -> Found:
    """Which of a batch it was, and the least of it that is still wrong."""
    # Each more than once: what a busy machine does late is seen at another time.
    for number, each in _ALONE * list(enumerate(batch, at)):
        alone = _alone(ground, each)
        if alone is not None:
            small = shrunk(each, lambda other: _alone(ground, other) is not None)
            return Found(
                seed,
                number,
                _alone(ground, small) or alone,
                small,
                ground.fill(small.message().data()),
            )
    sent = b"\n----\n".join(ground.fill(each.message().data()) for each in batch)
    return Found(seed, at, fault, None, sent)


def _alone(ground: Ground, each: Case) -> str | None:
    heard = ground.evil.connections
    fault = attempt(ground, [each])
    ground.evil.connections -= ground.evil.connections - heard  # the next one is judged alone too
    return fault if ground.evil.connections or fault else None


def main(
    seed: Annotated[int | None, typer.Option(help="By default another one each time.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="How many requests.")] = 1000,
    gateways: Annotated[int, typer.Option(min=1, help="How many are tried at once.")] = 4,
) -> None:
    """Spoilt requests at gateways on loopback; exit code 1 and the smallest one if it fails."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    # Most of the time of a case is waiting, for what may still be said and for what must not be.
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        grounds = [stack.enter_context(ours(Path(folder) / str(part))) for part in range(gateways)]
        started = time.monotonic()
        with ThreadPoolExecutor(gateways) as pool:
            hunts = [
                pool.submit(hunt, ground, seed, cases, part, gateways)
                for part, ground in enumerate(grounds)
            ]
        guilty = [one.result() for one in hunts if one.result()]
        for found in guilty:
            print(found)
    if guilty:
        raise typer.Exit(1)
    print(f"seed {seed}: {cases} cases in {time.monotonic() - started:.0f} s, nothing found")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
