"""Where a gateway spends its processor time while it is called: by thread, package and function."""

import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from bench import process
from bench.contenders import BARE, OURS, WORKERS
from bench.sampler import SWITCH
from bench.stage import Stage
from bench.traffic import SCENES
from bench.trip import Scene, order_for

_ABLE = (BARE, *(name for name in OURS if name != WORKERS))
_SECONDS = 10.0
_MOST = 25  # functions
_PATIENCE = 10.0


def show(name: str, only: Sequence[str], share: float, console: Console) -> None:
    """Print the tables for a contender; the kind of call is the first one with one of these
    texts in its name. Raises typer.BadParameter for a contender that tells nothing."""
    if name not in _ABLE:
        raise typer.BadParameter(f"of these one: {', '.join(_ABLE)}")
    scenes = [one for one in SCENES if not only or any(text in one.name for text in only)]
    if not scenes:
        raise typer.BadParameter("no kind of call has such a name")
    profile = sampled(name, scenes[0], share)
    each = profile.seconds / profile.calls * 1e6
    kernel = profile.kernel / profile.seconds
    console.print(f"{name}; {scenes[0].name}: {profile.calls:,} calls, {each:,.0f} us each")
    console.print(f"{kernel:.0%} of it in the system's calls")
    for table in tables(profile.told):
        console.print(table)
    console.print("Functions of other threads are those in which they waited.", style="dim")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the sampler told, the seconds of processor time, those of them in the system's calls,
    and of how many calls."""

    told: dict[str, Any]
    seconds: float
    kernel: float
    calls: int


def sampled(name: str, scene: Scene, share: float) -> Profile:
    """A profile of a contender under calls of this kind."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.json"
        stage = Stage(file)
        try:
            contender = stage.contender(name)
            assert contender.pid
            order = replace(order_for(contender, scene, 1), seconds=_SECONDS * share)
            stage.load(replace(order, seconds=order.seconds / 5))  # what is loaded once is loaded
            os.kill(contender.pid, SWITCH)
            before, kernel = process.cpu(contender.pid), process.kernel(contender.pid)
            outcome = stage.load(order)
            spent = process.cpu(contender.pid) - before
            kernel = process.kernel(contender.pid) - kernel
            os.kill(contender.pid, SWITCH)
            if not _written(file):
                raise RuntimeError(f"{name} does not tell: {stage.said()}")
            told = json.loads(file.read_text(encoding="utf-8"))
            return Profile(told, spent.all, kernel, len(outcome.seconds))
        finally:
            stage.close()


def _written(file: Path) -> bool:
    end = time.monotonic() + _PATIENCE
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return file.exists()


def tables(told: dict[str, Any]) -> list[Table]:
    """Shares of the time that was seen."""
    functions = told["functions"]
    every = sum(told["threads"].values()) or 1.0
    itself: defaultdict[str, float] = defaultdict(float)
    for package, _, own, _ in functions:
        itself[package] += own
    threads = [(f"{spent / every:.1%}", name) for name, spent in _by(told["threads"])]
    packages = [
        (f"{spent / every:.1%}", f"{told['packages'][name] / every:.1%}", name)
        for name, spent in _by(itself)[:_MOST]
    ]
    first = sorted(functions, key=lambda row: -row[2])[:_MOST]
    rows = [(f"{own / every:.1%}", f"{total / every:.1%}", name) for _, name, own, total in first]
    return [
        _table("by thread", ("", ""), threads),
        _table("by package", ("itself", "with what it calls", ""), packages),
        _table("by function", ("itself", "with what it calls", ""), rows),
    ]


def _by(spent: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda item: -item[1])


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for heading in headings:
        shown.add_column(heading, justify="left" if not heading else "right")
    for row in rows:
        shown.add_row(*row)
    return shown
