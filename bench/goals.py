"""What the numbers should come to, and whether they do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench import flood, growth, streams, traffic
from bench.contenders import LITELLM, PORTKEY, SCRIPT, SERVE, WORKERS
from bench.grid import number
from bench.measure import Result, times

type Found = dict[str, Result]
"""Results by their names."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that `measured` tells of the results, or None where they do not; `most` or
    `least` is what it should be. `after` names the case whose unit says how much was done."""

    text: str
    unit: str
    measured: Callable[[Found], float | None]
    most: float | None = None
    least: float | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, what was measured, and of how much, where a short run does less."""

    goal: Goal
    value: float
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether it is as it should be."""
        most, least = self.goal.most, self.goal.least
        return (most is None or self.value <= most) and (least is None or self.value >= least)

    @property
    def wanted(self) -> str:
        """The goal as it is shown."""
        sign, limit = ("≤", self.goal.most) if self.goal.least is None else ("≥", self.goal.least)
        assert limit is not None
        return f"{sign} {limit:,g}{self.goal.unit}"

    @property
    def shown(self) -> str:
        """What was measured, as it is shown."""
        return f"{number(self.value)}{self.goal.unit}{self.note}"

    def as_json(self) -> dict[str, Any]:
        """The verdict as it is written to a file."""
        goal = self.goal
        told = {"goal": goal.text, "most": goal.most, "least": goal.least}
        return told | {"measured": self.value, "met": self.met}


def _ratio(row: str, column: str) -> Callable[[Found], float | None]:
    return lambda found: found[name].ratio if (name := f"{row}: {column}") in found else None


def _more(row: str, column: str) -> Callable[[Found], float | None]:
    return lambda found: found[name].more if (name := f"{row}: {column}") in found else None


def _value(row: str, column: str) -> Callable[[Found], float | None]:
    return lambda found: found[name].median if (name := f"{row}: {column}") in found else None


def _times(row: str, column: str, other: str) -> Callable[[Found], float | None]:
    """By how many times one contender's number is another's, round by round."""

    def measured(found: Found) -> float | None:
        mine, its = (found.get(f"{row}: {name}") for name in (column, other))
        return times(mine.values, its.values) if mine and its else None

    return measured


_RATE = f"{traffic.MANY}, calls a second"
_BARE = "processor time a call, a bare mitmdump's being 1"
GOALS = (
    Goal(f"`serve`, connections kept: {_BARE}", "", _ratio(traffic.KEPT, SERVE), most=0.5),
    Goal(f"`serve`, a connection a call: {_BARE}", "", _ratio(traffic.ANEW, SERVE), most=0.5),
    Goal(f"`mitmdump -s`, connections kept: {_BARE}", "", _ratio(traffic.KEPT, SCRIPT), most=1.15),
    Goal("`serve`, calls a second: LiteLLM's being 1", "", _times(_RATE, SERVE, LITELLM), least=10),
    Goal("`serve`, calls a second: Portkey's being 1", "", _times(_RATE, SERVE, PORTKEY), least=2),
    Goal("two workers, calls a second: one's being 1", "", _times(_RATE, WORKERS, SERVE),
         least=1.6),
    Goal("`serve`, a stream's first event: later than direct", " ms",
         _more(streams.FIRST, SERVE), most=1.5),
    Goal("`serve`, each event of a stream: later than direct", " ms",
         _more(streams.WAY, SERVE), most=0.5),
    Goal("`serve`, events lost, or merged that were sent apart", "",
         _value(streams.SPOILT, SERVE), most=0),
    Goal("`serve`, open idle streams a GB of memory", "", _value(streams.IDLE, SERVE),
         least=10_000),
    Goal("`serve`, memory after 100,000 calls: that after 1,000 being 1", "",
         _ratio(growth.MANY, SERVE), most=1.1, after=f"{growth.MANY}: {SERVE}"),
    Goal("`serve`, p99 of a client while another one floods: more than without", " ms",
         _value(flood.ROW, SERVE), most=100),
)  # fmt: skip


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """A verdict for each goal that these results say something about."""
    found = {result.case.name: result for result in results}
    told = ((goal, goal.measured(found)) for goal in GOALS)
    return [Verdict(goal, value, _note(goal, found)) for goal, value in told if value is not None]


def _note(goal: Goal, found: Found) -> str:
    unit = found[goal.after].case.unit if goal.after else ""
    return f" ({unit.partition(' ')[2]})" if unit else ""


def table(found: Sequence[Verdict]) -> Table:
    """The verdicts for a person."""
    shown = Table(box=None, pad_edge=False, title="goals", title_justify="left")
    shown.add_column("")
    for heading in ("goal", "measured", ""):
        shown.add_column(heading, justify="right")
    for one in found:
        met = "[green]met[/]" if one.met else "[red]missed[/]"
        shown.add_row(one.goal.text.replace("`", ""), one.wanted, one.shown, met)
    return shown
