"""Calls over time for the dashboard: sums by piece of time and by provider, model or client."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal, get_args

from llm_passthrough.columns import Row
from llm_passthrough.ledger import Span
from llm_passthrough.ledger.lines import epoch
from llm_passthrough.ledger.sums import Group, whole
from llm_passthrough.pages.markup import plain

type By = Literal["provider", "model", "client", "key"]

BY: tuple[By, ...] = get_args(By.__value__)
REST = "(others)"
_STEPS = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_MOST_PIECES = 50
_MOST_NAMES = 7
_LONGEST_NAME = 48


@dataclass(slots=True)
class Series:
    """Sums of calls: `starts` are the pieces of time (seconds since the epoch), `step` long."""

    by: By
    step: int
    starts: list[int]
    names: list[str]
    sums: dict[str, Group] = field(default_factory=dict)
    by_name: dict[str, list[Group]] = field(default_factory=dict)
    by_piece: list[Group] = field(default_factory=list)
    failed: dict[str, list[int]] = field(default_factory=dict)

    @property
    def all(self) -> Group:
        """All calls together."""
        return whole(self.sums.values())

    @property
    def currency(self) -> str:
        """The currency of most of the cost: amounts of several are never added up."""
        cost = self.all.cost
        return max(cost, key=lambda name: cost[name], default="USD")

    def labels(self) -> list[str]:
        """The pieces of time for a person, in local time."""
        form = "%H:%M" if self.step < 86_400 else "%b %d"
        if len(self.starts) * self.step > 86_400 * 1.5 and self.step < 86_400:
            form = "%b %d %H:%M"
        return [datetime.fromtimestamp(start).astimezone().strftime(form) for start in self.starts]


def series(rows: Iterable[Row], by: By, span: Span, now: float) -> Series:
    """The sums of rows; of many names the ones with most calls, the others as one."""
    dated = [(moment, row) for row in rows if (moment := epoch(row.time)) is not None]
    named = cache(_named)
    first = max(span.since, min((moment for moment, _ in dated), default=now - 3600))
    last = min(span.until, max(now, max((moment for moment, _ in dated), default=now)))
    step = next((s for s in _STEPS if (last - first) / s <= _MOST_PIECES), _STEPS[-1])
    offset = datetime.fromtimestamp(first).astimezone().utcoffset()
    shift = round(offset.total_seconds()) if offset and step >= 3600 else 0
    start = int((first + shift) // step * step - shift)
    count = min(int((last - start) // step) + 1, 10 * _MOST_PIECES)
    names = Counter(named(getattr(row, by)) for _, row in dated)
    top = [name for name, _ in names.most_common(_MOST_NAMES)]
    found = Series(by, step, [start + step * n for n in range(count)], top)
    if len(names) > len(top):
        found.names = [*top, REST]
    for name in found.names:
        found.by_name[name] = [Group() for _ in range(count)]
    for moment, row in dated:
        piece = min(max(int((moment - start) // step), 0), count - 1)
        name = named(getattr(row, by))
        found.by_name[name if name in found.by_name else REST][piece].add(row)
        if row.outcome != "ok":
            pieces = found.failed.setdefault(plain(row.outcome or "?")[:32], [0] * count)
            pieces[piece] += 1
    found.sums = {name: whole(groups) for name, groups in found.by_name.items()}
    found.by_piece = [whole(groups) for groups in zip(*found.by_name.values(), strict=True)]
    found.by_piece = found.by_piece or [Group() for _ in range(count)]
    return found


def _named(value: str | None) -> str:
    return plain(value or "-")[:_LONGEST_NAME]
