"""`python -m bench`: measures, prints a table, writes JSON."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import grid, looking, measure, memory, mitmweb, pages, recording, traffic

# One row a group of cases; each takes the share of the usual amount of work that is to be done.
GROUPS = (looking.cases, recording.cases, pages.cases, memory.cases, mitmweb.cases)
_WIDTH = 110  # of the table, in a file


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only cases with this in their name; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the work, 3 rounds.")] = False,
    http: Annotated[bool, typer.Option(help="With calls through real processes.")] = True,
    rounds: Annotated[int | None, typer.Option(min=1, help="Default: 9.")] = None,
    share: Annotated[
        float | None, typer.Option(min=0.0001, max=1, help="How much of the usual work is done.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables of HTTP calls.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw the first of them; needs pygal.")] = None,
) -> None:
    """What looking, recording and passing on cost."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    work = share or (0.1 if quick else 1.0)
    groups = (*GROUPS, traffic.cases) if http else GROUPS
    cases = measure.selected([case for group in groups for case in group(work)], only or [])
    if not cases:
        raise typer.BadParameter("no case has such a name")
    with console.status("") as status:
        results = measure.measured(cases, rounds or (3 if quick else 9), status.update)
    measure.show(results, console)
    for table in grid.tables(results):
        console.print(table)
    if json is not None:
        measure.write(json, results)
    if markdown is not None:
        markdown.write_text(grid.markdown(results), encoding="utf-8")
    if svg is not None:
        grid.picture(svg, results)


if __name__ == "__main__":
    typer.run(main)
