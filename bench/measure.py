"""Runs cases in rounds, one after the other in each, and shows medians and ratios.

What a machine does meanwhile changes from second to second: a case is therefore compared with its
counterpart of the same round, and the ratio that is shown is the median of those.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure: `run` gives one number in `unit`.

    `against` is the name of the case that the ratio is to, `beyond` of the one that is taken off;
    `goal` is the most that the best round should come to. A case that `once` is said of is run in
    the first round only. Cases with a `row` and a `column` are shown in a table of their own, see
    grid.py: there the column is the contender.
    """

    name: str
    unit: str
    run: Callable[[], float]
    against: str | None = None
    goal: float | None = None
    once: bool = False
    row: str = ""
    column: str = ""
    beyond: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to, round by round; the ratio is to the case that it is compared with, and
    `more` is what it has more than the one that is taken off."""

    case: Case
    values: tuple[float, ...]
    ratio: float | None
    more: float | None = None

    @property
    def median(self) -> float:
        """The number that stands for all rounds."""
        return median(self.values)

    def as_json(self) -> dict[str, Any]:
        """The result as it is written to a file."""
        return {
            "name": self.case.name,
            "row": self.case.row,
            "column": self.case.column,
            "unit": self.case.unit,
            "median": self.median,
            "best": min(self.values),
            "against": self.case.against,
            "ratio": self.ratio,
            "beyond": self.case.beyond,
            "more": self.more,
            "goal": self.case.goal,
            "values": self.values,
        }


def selected(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases with one of these texts in their name, and what they are compared with."""
    wanted = [case for case in cases if not names or any(name in case.name for name in names)]
    needed = {name for case in wanted for name in (case.against, case.beyond)}
    return [case for case in cases if case in wanted or case.name in needed]


def measured(
    cases: Sequence[Case],
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
    failed: Callable[[str, str], None] = lambda _, __: None,
) -> list[Result]:
    """Run every case in every round; what fails is told, and left out from then on."""
    values: dict[str, list[float]] = {case.name: [] for case in cases}
    left = list(cases)
    for number in range(rounds):
        for case in list(left):
            if number == 0 or not case.once:
                say(f"round {number + 1} of {rounds}: {case.name}")
                try:
                    values[case.name].append(case.run())
                except (RuntimeError, OSError) as error:
                    failed(case.name, str(error))
                    left.remove(case)
    return [_result(case, values) for case in left]


def _result(case: Case, values: dict[str, list[float]]) -> Result:
    mine = tuple(values[case.name])
    ratio = times(mine, values[case.against]) if case.against else None
    return Result(case, mine, ratio, _more(mine, values[case.beyond]) if case.beyond else None)


def times(mine: Sequence[float], other: Sequence[float]) -> float | None:
    """How many times the other, round by round; None where nothing can be said."""
    ratios = [one / two for one, two in zip(mine, other, strict=False) if two]
    return median(ratios) if ratios else None


def _more(mine: Sequence[float], other: Sequence[float]) -> float | None:
    pairs = [one - two for one, two in zip(mine, other, strict=False)]
    return median(pairs) if pairs else None


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
            _number(result.median),
            f"[red]{_number(best)}[/]" if missed else _number(best),
            "" if case.goal is None else f"{case.goal:g}",
            "" if result.ratio is None else f"{result.ratio:.1f}",
            case.unit,
        )
    return shown


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    if all(result.case.row for result in results):
        return
    console.print(table(results))
    console.print("Time is the process's own where nothing else is said.", style="dim")
    console.print("A ratio is to the case of the same group that does nothing.", style="dim")


def spent(action: Callable[[], object], count: int = 1) -> float:
    """Microseconds of this process's own time that one of `count` took."""
    begun = time.process_time()
    action()
    return (time.process_time() - begun) / count * 1e6
