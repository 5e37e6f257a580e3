"""The smallest case that still shows a fault: fewer mutations, then fewer lines and bytes."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from live.mutations import Case


def shrunk(guilty: Case, still: Callable[[Case], bool]) -> Case:
    """The smallest case found that is `still` guilty: fewer mutations, then fewer bytes."""
    small, again = guilty, True
    while again:
        again = False
        for step in range(len(small.steps)):
            if still(small.without(step)):
                small, again = small.without(step), True
                break
    for lines in (True, False):
        small = _cut(small, still, lines)
    return small


def _cut(guilty: Case, still: Callable[[Case], bool], lines: bool) -> Case:
    """Without whole lines that do not matter; or without halves, quarters, ... of what is left."""
    data = guilty.message().data()
    tries: Iterator[tuple[int, int]]
    if lines:
        ends = [match.end() for match in re.finditer(rb"\r\n", data)]
        tries = iter(list(itertools.pairwise([0, *ends]))[::-1])
    else:
        sizes = itertools.takewhile(lambda size: size > 2, (len(data) >> n for n in range(1, 20)))
        tries = ((at, at + size) for size in sizes for at in range(len(data) - size, 0, -size))
    for start, stop in itertools.islice(tries, 60):
        other = data[:start] + data[stop:]
        if len(other) < len(data) and still(replace(guilty, kept=other)):
            data = other
    return replace(guilty, kept=data)
