"""`python -m bench`: measures, prints a table, writes JSON."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import looking, measure, memory, recording

# One row a group of cases; each takes the share of the usual amount of work that is to be done.
# What a gateway costs over HTTP, beside a bare mitmdump, belongs into a module and a row of its
# own.
GROUPS = (looking.cases, recording.cases, memory.cases)
_WIDTH = 110  # of the table, in a file


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only cases with this in their name; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the work, 3 rounds.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Default: 9.")] = None,
    share: Annotated[
        float | None, typer.Option(min=0.0001, max=1, help="How much of the usual work is done.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """What looking, recording and passing on cost."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    work = share or (0.1 if quick else 1.0)
    cases = measure.selected([case for group in GROUPS for case in group(work)], only or [])
    if not cases:
        raise typer.BadParameter("no case has such a name")
    with console.status("") as status:
        results = measure.measured(cases, rounds or (3 if quick else 9), status.update)
    measure.show(results, console)
    if json is not None:
        measure.write(json, results)


if __name__ == "__main__":
    typer.run(main)
