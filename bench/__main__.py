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
from bench.contenders import MADE, WEB, installed
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


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only cases with this in their name; may be repeated.")
    ] = None,
    contender: Annotated[
        list[str] | None, typer.Option(help="Only this one (and what it is beside); repeated.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Calls alone, a tenth of the work, 3 rounds.")
    ] = False,
    http: Annotated[bool, typer.Option(help="With calls through real processes.")] = True,
    rounds: Annotated[int | None, typer.Option(min=1, help="Default: 5.")] = None,
    share: Annotated[
        float | None, typer.Option(min=0.0001, max=1, help="How much of the usual work is done.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw them.")] = None,
    into: Annotated[
        Path | None, typer.Option("--readme", help="Write them between this file's marks.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Show where this contender spends its time, instead.")
    ] = None,
) -> None:
    """What looking, recording and passing on cost."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    work = share or (0.1 if quick else 1.0)
    if profile is not None:
        profiling.show(profile, only or [], work, console)
        return
    cases = measure.selected(_cases(quick and not only, http, work, contender or []), only or [])
    if not cases:
        raise typer.BadParameter("no case has such a name")
    watch = Watch()
    try:
        with console.status("the contenders start") as status:
            cases = _ready(cases, console)
            results = measure.measured(
                cases, rounds or (_QUICK_ROUNDS if quick else _ROUNDS), status.update
            )
    finally:
        THEATRE.close()
    _tell(console, results, watch.machine(), json, svg, into)


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
