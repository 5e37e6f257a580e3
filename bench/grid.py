"""Shows cases that have a row and a column: on the screen, for a README, and as a picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.table import Table

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


def markdown(results: Sequence[Result]) -> str:
    """The same for a README."""
    lines = []
    for unit, found in _by_unit(results).items():
        columns = _columns(found)
        lines += ["", "| ".join(["", unit, *columns, ""]).strip()]
        lines.append("|---|" + "--:|" * len(columns))
        for row, cells in _rows(found).items():
            lines.append("| ".join(["", row, *(_cell(cells.get(c)) for c in columns), ""]).strip())
    return "\n".join(lines).strip() + "\n"


def picture(file: Path, results: Sequence[Result]) -> None:
    """Ratios as bars (SVG); needs pygal."""
    import pygal
    from pygal.style import Style

    found = next(found for found in _by_unit(results).values() if found[0].ratio is not None)
    rows = dict(reversed(_rows(found).items()))  # pygal begins at the bottom
    chart = pygal.HorizontalBar(
        style=Style(background="transparent", plot_background="transparent"),
        title=f"{found[0].case.unit}; {(found[0].case.against or '').rpartition(': ')[2]} = 1",
        x_labels=list(rows),
        js=(),
        height=70 * len(rows) + 120,
        print_values=True,
        formatter="{:.2f}".format,
    )
    for column in _columns(found):
        cells = (cells.get(column) for cells in rows.values())
        chart.add(column, [cell.ratio if cell else None for cell in cells])
    file.write_bytes(chart.render())


def _by_unit(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.case.row:
            found.setdefault(result.case.unit, []).append(result)
    return found


def _columns(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.case.column for result in results))


def _rows(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    rows: dict[str, dict[str, Result]] = {}
    for result in results:
        rows.setdefault(result.case.row, {})[result.case.column] = result
    return rows


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    value = median(result.values)
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{places}f}"
    return text if result.ratio is None else f"{text} ({result.ratio:.2f})"
