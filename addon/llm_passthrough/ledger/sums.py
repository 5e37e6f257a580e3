"""Sums of calls: how many, errors, tokens, cost, and quantiles of times, in a bounded memory."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llm_passthrough.columns import Row

# Quantiles are right to 1 %: values fall into buckets that grow by this factor, so that a million
# calls need no more memory than a thousand.
_GROWTH = math.log(1.02)
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens")


@dataclass(slots=True)
class Times:
    """Durations in ms, as counts of buckets."""

    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, ms: float | None) -> None:
        """Count one; None is unknown and not counted."""
        if ms is not None:
            self.buckets[round(math.log(max(ms, 0.001)) / _GROWTH)] += 1

    def quantile(self, share: float) -> float | None:
        """The duration that this share of them does not exceed."""
        rank = math.ceil(share * self.buckets.total())
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return float(f"{math.exp(bucket * _GROWTH):.4g}")
        return None


@dataclass(slots=True)
class Group:
    """The sums of a group. `counted` and `priced` say for how many calls there was anything."""

    calls: int = 0
    errors: int = 0
    counted: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    priced: int = 0
    cost: dict[str, float] = field(default_factory=dict)
    total: Times = field(default_factory=Times)
    first_token: Times = field(default_factory=Times)

    def add(self, row: Row) -> None:
        """Count a call. A WebSocket is counted by its turns: its own record adds what they leave,
        and is a call only where it failed."""
        if not row.turns or row.outcome != "ok":
            self.calls += 1
            self.errors += row.outcome != "ok"
        self.counted += row.input_tokens is not None or row.output_tokens is not None
        for name in TOKENS:
            setattr(self, name, _plus(getattr(self, name), getattr(row, name)))
        if row.cost is not None:
            self.priced += 1
            self.pay(row.currency or "USD", row.cost)
        if not row.turns:
            self.total.add(row.total_ms)
            self.first_token.add(row.first_token_ms)

    def pay(self, currency: str, amount: float) -> None:
        """Add an amount; currencies are never mixed."""
        self.cost[currency] = self.cost.get(currency, 0.0) + amount

    def numbers(self) -> dict[str, Any]:
        """The sums as JSON has them; null where nothing is known."""
        return {
            "calls": self.calls,
            "errors": self.errors,
            "counted_calls": self.counted,
            **{name: getattr(self, name) for name in TOKENS},
            "priced_calls": self.priced,
            "cost": {name: round(amount, 9) for name, amount in self.cost.items()} or None,
            "total_ms_p50": self.total.quantile(0.5),
            "total_ms_p95": self.total.quantile(0.95),
            "first_token_ms_p50": self.first_token.quantile(0.5),
            "first_token_ms_p95": self.first_token.quantile(0.95),
        }


def whole(groups: Iterable[Group]) -> Group:
    """All groups as one."""
    sum_ = Group()
    for group in groups:
        for name in ("calls", "errors", "counted", "priced", *TOKENS):
            setattr(sum_, name, _plus(getattr(sum_, name), getattr(group, name)))
        for currency, amount in group.cost.items():
            sum_.pay(currency, amount)
        sum_.total.buckets.update(group.total.buckets)
        sum_.first_token.buckets.update(group.first_token.buckets)
    return sum_


def _plus(sum_: int | None, count: int | None) -> int | None:
    """A sum that stays unknown as long as nothing is known."""
    return sum_ if count is None else count if sum_ is None else sum_ + count
