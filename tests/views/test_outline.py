"""Outlines: YAML that a person reads, and that means the value when a machine reads it."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.views.outline import outline, plain
from ruamel.yaml import YAML


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({"model": "gpt-4o"}, "model: gpt-4o\n", id="a word stands as it is"),
        pytest.param(
            {"a": "Hello, you! How are you?"}, "a: Hello, you! How are you?\n", id="so do a few"
        ),
        pytest.param({"a": 'He said "so".'}, 'a: He said "so".\n', id="quotes inside"),
        pytest.param({"a": "2026-01-02"}, 'a: "2026-01-02"\n', id="no date by accident"),
        pytest.param({"a": "no"}, 'a: "no"\n', id="no falsehood by accident"),
        pytest.param({"a": "b: c"}, 'a: "b: c"\n', id="no object by accident"),
        pytest.param({"a": "b #c"}, 'a: "b #c"\n', id="no comment by accident"),
        pytest.param({"a": ""}, 'a: ""\n', id="an empty text"),
        pytest.param({"a": "b\nc"}, "a: |-\n  b\n  c\n", id="lines stand in a block"),
        pytest.param({"a": "b\nc\n"}, "a: |\n  b\n  c\n", id="with their last line break"),
        pytest.param({"a": "b\n\n"}, "a: |+\n  b\n\n", id="or with more of them"),
        pytest.param({"a": "  b\nc"}, "a: |2-\n    b\n  c\n", id="a block that begins with spaces"),
        pytest.param({"a": "w " * 60}, f"a: |-\n  {'w ' * 60}\n", id="a long line"),
        pytest.param(
            {"a": '"{\\"b\\": 1}"'}, 'a: |-\n  "{\\"b\\": 1}"\n', id="no escapes upon escapes"
        ),
        pytest.param(
            {"turns": [{"user": "Hi"}, {"model": [{"text": "x"}, {"note": "y"}]}]},
            'turns:\n- user: Hi\n- model:\n  - text: x\n  - note: "y"\n',
            id="a list of objects",
        ),
        pytest.param(
            {"a": 1, "b": 0.5, "c": True, "d": None, "e": [], "f": {}},
            "a: 1\nb: 0.5\nc: true\nd: null\ne: []\nf: {}\n",
            id="what is no text",
        ),
        pytest.param(
            {"a": [[1, 2], ["b"]]}, "a:\n-\n  - 1\n  - 2\n-\n  - b\n", id="lists in lists"
        ),
    ],
)
def test_a_value_is_written_so_that_it_can_be_read(value: object, text: str) -> None:
    assert outline(value) == text
    assert parsed(text) == value


def test_nothing_that_a_terminal_or_a_page_obeys_is_left() -> None:
    odd = "\x1b[31m \x00\x07\x9b\u202e\u2066\u2028\ufeff\ud800\r"
    shown = outline({odd: odd, "block": f"{odd}\n{odd}"})
    assert not set(odd) - set("[31m ") & set(shown)
    assert "\\x1b[31m" in shown
    assert plain("a\r\nb\tc") == "a\nb\tc"


_TEXTS = st.text(max_size=40) | st.text(alphabet=" \t\n:#-|>'\"ab\\,[]{}&*!%@`é", max_size=12)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def shown(value: Any) -> Any:
    """What an outline may make of a value: odd characters are told, all else is the same."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [shown(one) for one in value]
    return (
        {plain(name): shown(one) for name, one in value.items()}
        if isinstance(value, dict)
        else value
    )


@given(st.dictionaries(_TEXTS, _VALUES, min_size=1, max_size=5))
def test_any_value_reads_back_as_itself(value: dict[str, Any]) -> None:
    assert parsed(outline(value)) == shown(value)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_what_is_nested_without_end_is_written_in_one_line(depth: int) -> None:
    deep: Any = "end"
    for _ in range(depth):
        deep = [deep]
    assert outline({"a": deep}).count("\n") < 20
