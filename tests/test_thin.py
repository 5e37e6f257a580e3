"""Long JSON made short: it stays JSON, and says the same where it matters."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.thin import KEEP, RAW, Bounded, Thinner, parsed, thinned, without_numbers


def thin(pieces: list[bytes]) -> bytes:
    thinner = Thinner()
    return b"".join(thinner.feed(piece) for piece in pieces) + thinner.end()


_VALUES = st.recursive(
    st.none()
    | st.floats(allow_nan=False)
    | st.text(alphabet='ab"\\é\n0, ')
    | st.builds(str.__mul__, st.sampled_from(['\\"', "é", "x", "\\", "12, "]), st.integers(0, 900))
    | st.builds(lambda x, n: [x] * n, st.sampled_from([0.25, -1e-9, 7]), st.integers(0, 400)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\'), inner),
    max_leaves=5,
)  # fmt: skip


@given(_VALUES, st.data())
def test_what_is_thinned_is_still_json_of_the_same_shape(
    value: object, data: st.DataObject
) -> None:
    body = json.dumps(value, indent=data.draw(st.sampled_from([None, 1]))).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=20)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert _same(json.loads(thin(pieces)), value)


def _same(short: object, whole: object) -> bool:
    if isinstance(whole, str):
        return isinstance(short, str) and (short == whole or len(json.dumps(whole)) > 250)
    if isinstance(whole, list):
        if not isinstance(short, list):
            return False
        cut = len(short) < len(whole) and len(whole) > 20
        return cut or (len(short) == len(whole) and all(map(_same, short, whole)))
    if isinstance(whole, dict):
        return isinstance(short, dict) and short.keys() == whole.keys() and all(
            _same(short[key], whole[key]) for key in whole
        )  # fmt: skip
    return short == whole


def test_any_cut_is_thinned_the_same() -> None:
    value = {"b64": "A" * 5000, "é": ["\\" * 3000, [0.5] * 900], "text": 'x" ' * 200, "n": 7}
    body = json.dumps(value).encode()
    chance = random.Random(1)
    whole = thin([body[i : i + 1] for i in range(len(body))])
    assert len(whole) < 4000
    for _ in range(50):
        cuts = sorted(chance.sample(range(1, len(body)), 9))
        assert len(thin([body[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)])) < 8000


def test_a_short_text_stays_as_it_is_and_a_long_one_is_bounded() -> None:
    assert thinned(b'{"a": "' + b"x" * 5000 + b'"}') == b'{"a": "' + b"x" * 5000 + b'"}'
    assert thinned(b'{"a": "' + b"x" * RAW + b'"}') == b'{"a": "' + b"x" * 1024 + b'"}'
    bounded = Bounded()
    bounded.add(b"{}," * KEEP)
    assert bounded.lost
    assert len(bounded.take()) == KEEP
    assert not bounded.lost


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(rb'"\ud83d"', "\ud83d", id="half a surrogate pair"),
        pytest.param(b'"\xff"', "�", id="no UTF-8"),
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="a key twice"),
    ],
)
def test_kind_reading(text: bytes, value: object) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"9" * 5000, b"{} {}"])
def test_what_is_no_json_raises_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)


def test_long_arrays_of_numbers_are_emptied() -> None:
    body = json.dumps({"data": [{"embedding": [0.125] * 3000}], "usage": {"total": 3}}).encode()
    assert json.loads(without_numbers(body)) == {"data": [{"embedding": []}], "usage": {"total": 3}}
