"""Counts by tables."""

from typing import Any

import pytest
from llm_passthrough.usage import Counts, Usage


@pytest.mark.parametrize(
    ("rows", "raw", "value"),
    [
        pytest.param("a", {"a": 0}, 0, id="a zero that is told is a zero"),
        pytest.param("a", {}, None, id="what is not told is not known"),
        pytest.param("a b", {"b": 2}, 2, id="the first place that has one"),
        pytest.param("a b", {"a": 0, "b": 2}, 0, id="a zero is a number"),
        pytest.param("a.b", {"a": {"b": 3}}, 3, id="a key in a key"),
        pytest.param("a.b", {"a": 7}, None, id="no key in a number"),
        pytest.param("a+b", {"a": 1, "b": 2}, 3, id="a sum"),
        pytest.param("a+b", {"b": 2}, 2, id="a sum of one"),
        pytest.param("a+b", {}, None, id="a sum of nothing"),
        pytest.param("a+b|c", {"a": 1, "c": 4}, 5, id="a sum with a choice in it"),
        pytest.param("a.AUDIO", {"a": [{"modality": "AUDIO", "tokenCount": 5}]}, 5, id="modality"),
        pytest.param("a.AUDIO", {"a": [{"modality": 4, "tokenCount": 5}]}, 5, id="by number"),
        pytest.param("a.AUDIO", {"a": [{"modality": "audio", "tokens": 5}]}, 5, id="small"),
        pytest.param("a", {"a": 3.0}, 3, id="a whole number with a point"),
    ],
)
def test_a_row_finds_its_count(rows: str, raw: dict[str, Any], value: int | None) -> None:
    notes: list[str] = []
    usage = Counts(input_tokens=rows).read(raw, notes)
    assert (usage and usage.input_tokens) == value
    assert notes == []


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", [], float("nan"), 1 << 60])
def test_what_is_no_count_is_not_known_and_is_noted(value: object) -> None:
    notes: list[str] = []
    assert Counts(input_tokens="a").read({"a": value}, notes) is None
    assert notes == ["usage: a is not a count"]


def test_usages_add_up_and_what_is_not_known_stays_so() -> None:
    total = Usage(input_tokens=1, output_tokens=2) + Usage(input_tokens=4)
    assert total == Usage(input_tokens=5, output_tokens=2)
