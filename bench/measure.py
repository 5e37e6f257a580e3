"""Runs cases in rounds, one after the other in each, and shows medians and ratios.

What a machine does meanwhile changes from second to second: a case is therefore compared with its
counterpart of the same round, and the ratio that is shown is the median of those.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure: `run` gives one number in `unit`.

    `against` is the name of the case that the ratio is to; `goal` is the most that the best round
    should come to. A case that `once` is said of is run in the first round only. Cases with a
    `row` and a `column` are shown in a table of their own, see grid.py.
    """

    name: str
    unit: str
    run: Callable[[], float]
    against: str | None = None
    goal: float | None = None
    once: bool = False
    row: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to, round by round; the ratio is to the case that it is compared with."""

    case: Case
    values: tuple[float, ...]
    ratio: float | None

    def as_json(self) -> dict[str, Any]:
        """The result as it is written to a file."""
        return {
            "name": self.case.name,
            "unit": self.case.unit,
            "median": median(self.values),
            "best": min(self.values),
            "against": self.case.against,
            "ratio": self.ratio,
            "goal": self.case.goal,
            "values": self.values,
        }


def selected(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases with one of these texts in their name, and what they are compared with."""
    wanted = [case for case in cases if not names or any(name in case.name for name in names)]
    needed = {case.against for case in wanted}
    return [case for case in cases if case in wanted or case.name in needed]


def measured(
    cases: Sequence[Case], rounds: int, say: Callable[[str], None] = lambda _: None
) -> list[Result]:
    """Run every case in every round."""
    values: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases:
            if number == 0 or not case.once:
                say(f"round {number + 1} of {rounds}: {case.name}")
                values[case.name].append(case.run())
    return [Result(case, tuple(values[case.name]), _ratio(case, values)) for case in cases]


def _ratio(case: Case, values: dict[str, list[float]]) -> float | None:
    if case.against is None:
        return None
    pairs = zip(values[case.name], values[case.against], strict=False)
    ratios = [mine / other for mine, other in pairs if other]
    return median(ratios) if ratios else None


def table(results: Sequence[Result]) -> Table:
    """The results for a person."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("", "median", "best", "goal", "ratio"):
        shown.add_column(heading, justify="left" if not heading else "right")
    shown.add_column("unit")
    for result in results:
        case = result.case
        if case.row:
            continue
        best = min(result.values)
        missed = case.goal is not None and best > case.goal
        shown.add_row(
            case.name,
            _number(median(result.values)),
            f"[red]{_number(best)}[/]" if missed else _number(best),
            "" if case.goal is None else f"{case.goal:g}",
            "" if result.ratio is None else f"{result.ratio:.1f}",
            case.unit,
        )
    return shown


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def write(path: Path, results: Sequence[Result]) -> None:
    """The results as JSON, with what they were measured on."""
    value = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version,
        "platform": platform.platform(),
        "results": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    console.print(table(results))
    console.print("Time is the process's own where nothing else is said.", style="dim")
    console.print("A ratio is to the case of the same group that does nothing.", style="dim")


def spent(action: Callable[[], object], count: int = 1) -> float:
    """Microseconds of this process's own time that one of `count` took."""
    begun = time.process_time()
    action()
    return (time.process_time() - begun) / count * 1e6
