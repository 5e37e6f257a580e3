"""The README's part about this: what was measured, on what, beside its goals."""

from collections.abc import Sequence
from pathlib import Path

from bench import grid, traffic
from bench.goals import Verdict
from bench.machine import Machine
from bench.measure import Result

BEGIN, END = "<!-- bench: scripts/bench --readme writes this -->", "<!-- /bench -->"


def section(results: Sequence[Result], verdicts: Sequence[Verdict], machine: Machine) -> str:
    """Goals and tables as Markdown."""
    lines = [f"Measured on {machine.line()}.", "", "| | goal | measured | |", "|---|--:|--:|---|"]
    for one in verdicts:
        met = "met" if one.met else "**missed**"
        lines.append(f"| {one.goal.text} | {one.wanted} | {one.shown} | {met} |")
    shown = [one for one in results if one.case.unit == traffic.CPU]
    rest = [one for one in results if one.case.unit != traffic.CPU and _told(one)]
    lines += ["", "Microseconds of processor time a call, in brackets beside a bare `mitmdump -q`:"]
    lines += ["", grid.markdown(shown)]
    lines += ["By the clock, in brackets what is more than direct; and memory:"]
    lines += ["", grid.markdown(rest, units=True)]
    return "\n".join(lines).strip() + "\n"


def _told(result: Result) -> bool:
    """What takes as long as others are served first says little: of calls by the clock, those
    that come alone are told."""
    case = result.case
    return bool(case.row) and (case.unit != traffic.TIME or case.row.startswith(traffic.ONE))


def write(file: Path, text: str) -> None:
    """Put a text between the two marks of a file. Raises ValueError where they are not there."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file.name} has no {BEGIN} ... {END}")
    file.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
