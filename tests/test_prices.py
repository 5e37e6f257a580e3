"""What a call cost: the user's prices first, then the list, else unknown."""

from datetime import UTC, datetime
from typing import Any

import pytest
from llm_passthrough import prices
from llm_passthrough.prices import price
from llm_passthrough.record import Cost
from llm_passthrough.usage import Usage

WHEN = datetime(2026, 11, 25, 12, tzinfo=UTC)
USED = Usage(input_tokens=1000, output_tokens=100)


@pytest.fixture
def listed() -> None:
    pytest.importorskip("genai_prices")


@pytest.mark.parametrize(
    ("usage", "rates", "amount"),
    [
        pytest.param(USED, {"input": 2, "output": 10}, 0.003, id="input and output"),
        pytest.param(
            Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=600, cache_write_tokens=300,
                  cache_write_1h_tokens=100),
            {"input": 10, "output": 1, "cache_read": 1, "cache_write": 12.5, "cache_write_1h": 20},
            (100 * 10 + 600 * 1 + 200 * 12.5 + 100 * 20) / 1e6, id="the cache, each at its rate",
        ),
        pytest.param(
            Usage(input_tokens=1000, cache_read_tokens=600), {"input": 2}, 0.002,
            id="the cache at the input's rate, where it has none",
        ),
        pytest.param(USED, {"input": 2}, None, id="output without a rate is not free"),
        pytest.param(USED, {"input": 0, "output": 0}, 0.0, id="a price of zero is a price"),
    ],
)  # fmt: skip
def test_the_users_rates_are_dollars_a_million_tokens(
    usage: Usage, rates: dict[str, float], amount: float | None
) -> None:
    cost = price("openai", "m", usage, WHEN, {"m": rates})
    assert (cost and cost.amount) == (amount if amount is None else pytest.approx(amount))
    assert cost is None or (cost.currency, cost.source) == ("USD", "config")


@pytest.mark.parametrize(
    ("table", "amount"),
    [
        pytest.param({"gpt-4o": 1, "gpt-*": 2}, 1, id="a name before a pattern"),
        pytest.param({"azure/gpt-4o": 3, "gpt-4o": 1}, 3, id="with its provider before without"),
        pytest.param({"gpt-*": 2, "gpt-4*": 4, "*": 9}, 4, id="the longest pattern"),
        pytest.param({"azure/*": 5}, 5, id="all of a provider"),
    ],
)
def test_the_most_exact_row_of_the_users_table_counts(
    table: dict[str, float], amount: float
) -> None:
    rows = {name: {"input": rate, "output": 0} for name, rate in table.items()}
    cost = price("azure", "gpt-4o", Usage(input_tokens=1_000_000), WHEN, rows)
    assert cost == Cost(amount, "USD", "config")


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-2024-08-06"),
        ("azure", "gpt-4o-2024-08-06"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("gemini", "gemini-2.5-flash"),
        ("vertex", "gemini-2.5-flash"),
        ("vertex", "claude-sonnet-4-5"),
        ("groq", "llama-3.3-70b-versatile"),
        ("xai", "grok-4"),
    ],
)
def test_listed_prices_name_their_source(provider: str, model: str) -> None:
    cost = price(provider, model, USED, WHEN)
    assert cost is not None
    assert cost.amount > 0
    assert cost.source.startswith("genai-prices 0.")


@pytest.mark.usefixtures("listed")
def test_cached_tokens_are_cheaper_and_an_hours_cache_is_dearer() -> None:
    def amount(**counts: int) -> float:
        usage = Usage(input_tokens=10_000, output_tokens=0, **counts)
        cost = price("anthropic", "claude-sonnet-4-5-20250929", usage, WHEN)
        assert cost is not None
        return cost.amount

    write = 10_000
    assert amount(cache_read_tokens=write) < amount() < amount(cache_write_tokens=write)
    assert amount(cache_write_tokens=write) < amount(
        cache_write_tokens=write, cache_write_1h_tokens=write
    )


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(Usage(1000, 100), id="plain"),
        pytest.param(Usage(99_999, 7, 90_000, 5_000), id="the cache"),
        pytest.param(
            Usage(9_000, 7, 1_000, 5_000, cache_write_5m_tokens=4_000, cache_write_1h_tokens=1_000),
            id="the cache, for different times",
        ),
        pytest.param(Usage(9_000, 0, 0, 5_000, cache_write_1h_tokens=5_000), id="for an hour"),
        pytest.param(Usage(500_000, 100, 400_000), id="beyond a step"),
        pytest.param(Usage(1000, 100, output_audio_tokens=50), id="a kind that is rare"),
        pytest.param(Usage(output_tokens=100), id="no input"),
    ],
)
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-3-5-haiku-20241022"),
        ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-chat"),
    ],
)
def test_rates_that_are_kept_come_to_what_the_list_says(
    provider: str, model: str, usage: Usage
) -> None:
    calculate = prices._calculator()
    assert calculate is not None
    try:
        amount = float(calculate(provider, model, usage, WHEN))
    except ValueError:
        assert price(provider, model, usage, WHEN) is None
        return
    for _ in range(2):
        cost = price(provider, model, usage, WHEN)
        assert cost is not None
        assert cost.amount == pytest.approx(amount, rel=1e-12)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        pytest.param("openai", None, USED, id="no model"),
        pytest.param("openai", "no-such-model", USED, id="an unknown model"),
        pytest.param("my-openai-proxy", "gpt-4o", USED, id="a provider with a name that is alike"),
        pytest.param("nobody", "gpt-4o", USED, id="an unknown provider"),
        pytest.param("openai", "gpt-4o", Usage(), id="no counts"),
        pytest.param(
            "openai", "gpt-4o", Usage(input_tokens=1, cache_read_tokens=5), id="counts that clash"
        ),
        pytest.param("mistral", "voxtral-mini-latest", USED, id="billed by the minute, not 0"),
    ],
)
def test_what_cannot_be_worked_out_is_unknown(
    provider: str, model: str | None, usage: Usage
) -> None:
    assert price(provider, model, usage, WHEN) is None


def test_without_the_list_only_the_users_prices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "genai_prices", None)
    prices._calculator.cache_clear()
    try:
        assert price("openai", "gpt-4o", USED, WHEN) is None
        assert price("openai", "m", USED, WHEN, {"m": {"input": 1, "output": 1}}) is not None
    finally:
        prices._calculator.cache_clear()


@pytest.mark.parametrize("error", [ValueError, AttributeError, LookupError, TypeError])
def test_a_list_that_fails_is_an_unknown_price(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise error("x")

    monkeypatch.setattr(prices, "_calculator", lambda: broken)
    prices._plain_rates.cache_clear()
    try:
        assert price("openai", "gpt-4o", USED, WHEN) is None
    finally:
        prices._plain_rates.cache_clear()
