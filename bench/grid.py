"""Shows cases that have a row and a column: on the screen, and for a README."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from bench.contenders import MADE
from bench.measure import Result


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """A table for each unit."""
    for unit, found in _by_unit(results).items():
        shown = Table(box=None, pad_edge=False, title=unit, title_justify="left")
        columns = _columns(found)
        shown.add_column("")
        for column in columns:
            shown.add_column(column, justify="right")
        for row, cells in _rows(found).items():
            shown.add_row(row, *(_cell(cells.get(column)) for column in columns))
        yield shown


def markdown(results: Sequence[Result], *, units: bool = False) -> str:
    """One table for a README, each row perhaps with its unit."""
    columns = _columns(results)
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for row, cells in _rows(results).items():
        unit = next(iter(cells.values())).case.unit
        told = row if not units or row.endswith(unit) else f"{row}: {unit}"
        lines.append("| " + " | ".join([told, *(_cell(cells.get(c)) for c in columns)]) + " |")
    return "\n".join(lines) + "\n"


def _by_unit(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.case.row:
            found.setdefault(result.case.unit, []).append(result)
    return found


def _columns(results: Sequence[Result]) -> list[str]:
    found = dict.fromkeys(result.case.column for result in results)
    return [name for name in MADE if name in found] + [name for name in found if name not in MADE]


def _rows(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    rows: dict[str, dict[str, Result]] = {}
    for result in results:
        rows.setdefault(result.case.row, {})[result.case.column] = result
    return rows


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    text = number(result.median)
    if result.more is not None and result.case.beyond != result.case.name:
        return f"{text} ({'+' if result.more >= 0 else '-'}{number(abs(result.more))})"
    return text if result.ratio is None else f"{text} ({result.ratio:.2f})"


def number(value: float) -> str:
    """With as many places as mean something."""
    places = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"
