"""`python -m bench`: measures, shows tables and goals, writes JSON, a picture, a README's part."""

import json as jsons
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import (
    bulk,
    flood,
    goals,
    grid,
    growth,
    looking,
    measure,
    memory,
    pages,
    picture,
    process,
    profiling,
    readme,
    recording,
    streams,
    traffic,
)
from bench.contenders import HAPROXY, MADE, WEB, installed
from bench.machine import Machine, Watch
from bench.measure import Case, Result
from bench.trip import THEATRE

# One row a group of cases; each takes the share of the usual amount of work that is to be done.
ALONE = (looking.cases, recording.cases, pages.cases, memory.cases, growth.web_cases)
# The same, and the contenders to be measured. What begins with an untouched gateway comes first.
CALLS = (
    growth.cases,
    streams.idle_cases,
    traffic.cases,
    streams.cases,
    bulk.cases,
    flood.cases,
)
_WIDTH = 150  # of the tables, in a file
_ROUNDS, _QUICK_ROUNDS = 5, 3


def _cases(quick: bool, http: bool, share: float, chosen: Sequence[str]) -> list[Case]:
    """What can be measured: with calls, and in a run that is not quick also without."""
    http = http and process.available()
    names = installed(chosen) if http else []
    found = [case for group in CALLS for case in group(share, names)]
    found += [case for group in ALONE for case in (() if quick else group(share))]
    able = (*names, WEB) if http and not chosen else names
    return [case for case in found if case.column not in MADE or case.column in able]


Only = Annotated[
    list[str] | None, typer.Option(help="Only cases with this in their name; may be repeated.")
]
Contenders = Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")]
Quick = Annotated[bool, typer.Option("--quick", help="Calls alone, a tenth of the work, 3 rounds.")]
Http = Annotated[bool, typer.Option(help="With calls through real processes.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Default: 5.")]
Share = Annotated[
    float | None, typer.Option(min=0.0001, max=1, help="How much of the usual work is done.")
]
Json = Annotated[Path | None, typer.Option(help="Write the results to this file.")]
Svg = Annotated[Path | None, typer.Option(help="Draw them.")]
Readme = Annotated[
    Path | None, typer.Option("--readme", help="Write them between this file's marks.")
]
Profile = Annotated[
    str | None, typer.Option(help="Show where this contender spends its time, instead.")
]


def main(
    only: Only = None,
    contender: Contenders = None,
    quick: Quick = False,
    http: Http = True,
    rounds: Rounds = None,
    share: Share = None,
    json: Json = None,
    svg: Svg = None,
    into: Readme = None,
    profile: Profile = None,
) -> None:
    """What looking, recording and passing on cost, beside other gateways, and beside its goals."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    work = share or (0.1 if quick else 1.0)
    if profile is not None:
        profiling.show(profile, only or [], work, console)
        return
    if unknown := set(contender or []) - set(MADE):
        raise typer.BadParameter(f"no {', '.join(unknown)}; contenders: {', '.join(MADE)}")
    cases = measure.selected(_cases(quick and not only, http, work, contender or []), only or [])
    if not cases:
        raise typer.BadParameter("no case has such a name")
    _say_absent(console, contender or [])
    watch = Watch()
    failures: dict[str, str] = {}
    try:
        with console.status("the contenders start") as status:
            cases = _ready(cases, console)
            number = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
            results = measure.measured(cases, number, status.update, failures.__setitem__)
    finally:
        THEATRE.close()
    _tell(console, results, watch.machine(), json, svg, into)
    for name, why in failures.items():
        console.print(f"FAILED {name}: {why}", markup=False)
    if failures:
        raise typer.Exit(1)


def _say_absent(console: Console, chosen: Sequence[str]) -> None:
    """Who would be measured if he were installed; of nginx and HAProxy one is enough."""
    there = {*installed(chosen), WEB, HAPROXY}
    absent = [name for name in chosen or MADE if name not in there]
    if absent and process.available():
        console.print(f"not installed here, and so not measured: {', '.join(absent)}")


def _ready(cases: Sequence[Case], console: Console) -> list[Case]:
    """The cases whose contenders answer."""
    names = {case.column for case in cases}
    absent = THEATRE.ready([name for name in MADE if name in names])
    for name, why in absent.items():
        console.print(f"{name} is left out: {why}", markup=False)
    return [case for case in cases if case.column not in absent]


def _tell(
    console: Console,
    results: Sequence[Result],
    machine: Machine,
    json: Path | None,
    svg: Path | None,
    into: Path | None,
) -> None:
    measure.show(results, console)
    for table in grid.tables(results):
        console.print(table)
    verdicts = goals.verdicts(results)
    if verdicts:
        console.print(goals.table(verdicts))
    console.print(machine.line(), style="dim")
    if json is not None:
        value = {
            "machine": machine.as_json(),
            "goals": [one.as_json() for one in verdicts],
            "results": [result.as_json() for result in results],
        }
        json.write_text(jsons.dumps(value, indent=2) + "\n", encoding="utf-8")
    if svg is not None:
        svg.write_text(picture.svg(results, machine.short()), encoding="utf-8")
    if into is not None:
        readme.write(into, readme.section(results, verdicts, machine))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no process is left behind
    typer.run(main)
