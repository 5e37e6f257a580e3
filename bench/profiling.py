"""Where a gateway spends its processor time while it is called: by thread, package and function."""

import json
import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from bench import process
from bench.contenders import BARE, OURS, WORKERS
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
    told, spent, calls = sampled(name, scenes[0], share)
    console.print(f"{name}; {scenes[0].name}: {calls:,} calls, {spent / calls * 1e6:,.0f} us each")
    for table in tables(told):
        console.print(table)


def sampled(name: str, scene: Scene, share: float) -> tuple[dict[str, Any], float, int]:
    """What the sampler told, the seconds of processor time, and of how many calls."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.json"
        stage = Stage(file)
        try:
            contender = stage.contender(name)
            assert contender.pid
            order = replace(order_for(contender, scene, 1), seconds=_SECONDS * share)
            stage.load(replace(order, seconds=order.seconds / 5))  # what is loaded once is loaded
            os.kill(contender.pid, signal.SIGUSR1)
            before = process.cpu(contender.pid)
            outcome = stage.load(order)
            spent = process.cpu(contender.pid) - before
            os.kill(contender.pid, signal.SIGUSR1)
            return _read(file), spent.all, len(outcome.seconds)
        finally:
            stage.close()


def _read(file: Path) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


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
