"""What a call cost: by the user's own prices, else by genai-prices, else unknown (None).

Prices are what the provider lists, in US dollars; discounts of a contract are the user's table's
business. Costs a few hundred microseconds, and some tenths of a second once: for a writer's
thread, not for the event loop.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from typing import Any

from llm_passthrough.record import Cost
from llm_passthrough.usage import Usage

type Rates = Mapping[str, float]
type Calculate = Callable[[str, str, Usage, datetime], Decimal]

_MILLION = 1_000_000


# Our providers under the names that genai-prices gives them; others are tried as they are.
_PROVIDERS = {
    "gemini": "google",
    "vertex": "google",
    "bedrock": "aws",
    "xai": "x-ai",
    "grok": "x-ai",
    "voyage": "voyageai",
    "moonshot": "moonshotai",
    "kimi": "moonshotai",
    "together-ai": "together",
}
# What it prices, and our name for it where that differs.
_COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "cache_audio_read_tokens": "cache_read_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
    "web_searches": "web_searches",
    "rerank_searches": "search_units",
    "input_audio_seconds": "audio_seconds",
}


def price(
    provider: str,
    model: str | None,
    usage: Usage,
    when: datetime,
    table: Mapping[str, Rates] | None = None,
) -> Cost | None:
    """The cost of a call that `model` answered at `when`, or None where it is not known.

    `table` holds the user's prices: a model, or a pattern of models (`gpt-4o*`), perhaps with its
    provider before it (`azure/gpt-4o*`), and US dollars a million tokens: `input`, `output`, and
    where they differ from input `cache_read`, `cache_write`, `cache_write_1h`.
    """
    if not model or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    if table and (rates := _own(provider, model, table)) is not None:
        amount = _by_rates(usage, rates)
        return None if amount is None else Cost(amount, "USD", "config")
    return _listed(provider, model, usage, when)


def _own(provider: str, model: str, table: Mapping[str, Rates]) -> Rates | None:
    """The most exact row: a name before a pattern, a long pattern before a short one."""
    names = (f"{provider}/{model}", model)
    for name in names:
        if name in table:
            return table[name]
    fitting = [row for row in table if any(fnmatchcase(name, row) for name in names)]
    return table[max(fitting, key=len)] if fitting else None


def _by_rates(usage: Usage, rates: Rates) -> float | None:
    """The cost by the user's rates; None where tokens were used that have no rate."""
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    hour = min(usage.cache_write_1h_tokens or 0, written)
    if (given and "input" not in rates) or (made and "output" not in rates):
        return None
    base = rates.get("input", 0.0)
    short = rates.get("cache_write", base)
    total = (
        max(given - read - written, 0) * base
        + read * rates.get("cache_read", base)
        + (written - hour) * short
        + hour * rates.get("cache_write_1h", short)
        + made * rates.get("output", 0.0)
    )
    return total / _MILLION


def _listed(provider: str, model: str, usage: Usage, when: datetime) -> Cost | None:
    calculate = _calculator()
    if calculate is None:
        return None
    name = _PROVIDERS.get(provider.lower(), provider.lower())
    try:
        counts, rates = _plain_counts(usage), None
        if counts is not None:
            rates = _plain_rates(name, model, int(when.timestamp()) // _BUCKET)
        if counts is None or rates is None:
            amount = calculate(name, model, usage, when)
        else:
            amount = _sum(rates, counts)
    except (LookupError, ValueError, AttributeError, TypeError, ArithmeticError):
        # LookupError: it does not know the model. The others: it fails on some real answers.
        return None
    return Cost(float(amount), "USD", _source())


# genai-prices takes half a millisecond a call, and as long to find that it does not know a model.
# Almost all calls have plain counts only and are below every step of a price, where the price is
# linear: its rates are asked for once.
_BUCKET = 1800  # seconds for which they are kept: some prices depend on the time of day
_STEP = 100_000  # input tokens; the lowest step of a known price is 128,000
_PLAIN = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens",
)  # fmt: skip
_plain_of = attrgetter(*_PLAIN)
_others_of = attrgetter(*(ours for ours in _COUNTS.values() if ours not in _PLAIN))

type _Counts = tuple[int, ...]  # as _PLAIN names them
type _PerToken = tuple[Decimal, ...]  # US dollars that each of them adds; empty: it is not known


def _plain_counts(usage: Usage) -> _Counts | None:
    """The plain counts, unless others have a price here too, or a step of it is reached."""
    if any(_others_of(usage)):
        return None
    counts = tuple(count or 0 for count in _plain_of(usage))
    given, _, read, write, short, hour = counts
    return counts if read + write <= given <= _STEP and short + hour <= write else None


def _sum(rates: _PerToken, counts: _Counts) -> Decimal:
    if not rates:
        raise LookupError
    return sum((rate * n for rate, n in zip(rates, counts, strict=True) if n), Decimal())


@lru_cache(maxsize=512)
def _plain_rates(provider: str, model: str, bucket: int) -> _PerToken | None:
    """The rates of a model, or None where its price is not linear. Raises as `calculate` does."""
    calculate = _calculator()
    assert calculate is not None
    when = datetime.fromtimestamp(bucket * _BUCKET, UTC)

    def cost(*counts: int) -> Decimal:
        return calculate(provider, model, _usage(counts), when)

    n = 1000
    try:
        base, written = cost(n), cost(n, 0, 0, n)
    except LookupError:
        return ()
    more = (
        base,
        cost(n, n) - base,
        cost(n, 0, n) - base,
        written - base,
        cost(n, 0, 0, n, n) - written,
        cost(n, 0, 0, n, 0, n) - written,
    )
    rates = tuple(amount / n for amount in more)
    probes = ((_STEP, 7001, 4003, 5009, 3001, 2008), (_STEP, 7001, 4003, 5009, 0, 2008))
    off = (abs(_sum(rates, probe) - cost(*probe)) for probe in probes)
    return rates if max(off) < Decimal("1e-12") else None


def _usage(counts: _Counts) -> Usage:
    return Usage(**dict(zip(_PLAIN, counts, strict=False)))


@cache
def _calculator() -> Calculate | None:
    """genai-prices, imported when it is first needed: it is an extra, and slow to load."""
    try:
        from genai_prices import Usage as Counted
        from genai_prices import calc_price
    except ImportError:
        return None

    known = _known(Counted)

    def calculate(provider: str, model: str, usage: Usage, when: datetime) -> Decimal:
        counts = {name: getattr(usage, _COUNTS[name]) for name in known}
        given = Counted(**{name: count for name, count in counts.items() if count is not None})
        result = calc_price(given, model, provider_id=provider, genai_request_timestamp=when)
        if result.provider.id != provider:  # it takes a name that is alike, which is a guess
            raise LookupError(provider)
        if not result.total_price and not _prices_tokens(result.model_price):
            raise LookupError(model)
        return result.total_price

    return calculate


def _known(counted: Callable[..., Any]) -> tuple[str, ...]:
    """The counts that the installed version knows; it warns of others, or fails on them."""
    known = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in _COUNTS:
            with suppress(TypeError, UserWarning):
                counted(**{name: 1})
                known.append(name)
    return tuple(known)


def _prices_tokens(prices: object) -> bool:
    """Whether tokens have a price, be it 0; a model may be billed by other units alone."""
    return any(getattr(prices, name, None) is not None for name in ("input_mtok", "output_mtok"))


@cache
def _source() -> str:
    try:
        return f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        return "genai-prices ?"
