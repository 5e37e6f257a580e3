"""Cutting an answer into messages: the same messages in any cut."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.sse import Cutter, Each, Items, Lines, Message, Sse, Whole


def cut(cutter: Cutter, pieces: Iterable[bytes]) -> list[Message]:
    found: list[Message] = []
    for piece in pieces:
        found += cutter.feed(piece)
    return [*found, *cutter.end()]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        pytest.param(b"data: a\n\n", [(b"", b"a")], id="one event"),
        pytest.param(b"data:a\n\n", [(b"", b"a")], id="no blank"),
        pytest.param(b"data:  a\n\n", [(b"", b" a")], id="one blank is taken off"),
        pytest.param(b"event: e\ndata: a\n\n", [(b"e", b"a")], id="a name"),
        pytest.param(b"data: a\nevent: e\n\n", [(b"e", b"a")], id="the name behind"),
        pytest.param(b"data: a\ndata: b\n\n", [(b"", b"a\nb")], id="two lines"),
        pytest.param(b"event: e\n\ndata: a\n\n", [(b"", b"a")], id="a name without data"),
        pytest.param(b": c\n\ndata: a\n\n", [(b"", b"a")], id="a comment"),
        pytest.param(b"id: 1\nretry: 2\nx\ndata: a\n\n", [(b"", b"a")], id="other fields"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\rdata: c", [(b"", b"a"), (b"", b"b"), (b"", b"c")],
                     id="every line end, and none"),
        pytest.param(b"data:\n\n", [(b"", b"")], id="empty data"),
        pytest.param(b'data: a\n\n{"x":1}\n', [(b"", b"a"), (b"", b'{"x":1}')], id="bare JSON"),
        pytest.param(b"", [], id="nothing"),
    ],
)  # fmt: skip
def test_events_are_cut(body: bytes, messages: list[Message]) -> None:
    assert cut(Sse(), [body]) == messages
    assert cut(Sse(), [body[i : i + 1] for i in range(len(body))]) == messages


@given(st.lists(st.sampled_from([b"data: a", b"event: e", b"\n", b"\r", b"\r\n", b":", b"{}"])))
def test_any_cut_gives_the_same_events(parts: list[bytes]) -> None:
    body = b"".join(parts)
    whole = cut(Sse(), [body])
    assert cut(Sse(), [body[i : i + 1] for i in range(len(body))]) == whole
    half = len(body) // 2
    assert cut(Sse(), [body[:half], b"", body[half:]]) == whole


@given(
    st.lists(
        st.sampled_from(
            [
                b"data: a\n\n",
                b"data: a\r\n\r\n",
                b"event: e\ndata: a\n\n",
                b"event: e\r\ndata: a\r\n\r\n",
                b"event: e\r\r\ndata: a\r\n\r\n",
                b"event: e\ndata: a\rdata: b\n\n",
                b"data: a\n\r\n\r\n",
                b"event: e\n\n",
                b"data: ",
                b"event: ",
                b"\r",
                b"\n",
            ]
        )
    )
)
def test_an_event_in_a_chunk_of_its_own_is_cut_as_it_is_anywhere(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    assert cut(Sse(), chunks) == cut(Sse(), [body[i : i + 1] for i in range(len(body))])


def test_lines_are_cut() -> None:
    assert cut(Lines(), [b'{"a":1}\r', b'\n\n{"b"', b":2}"]) == [
        (b"", b'{"a":1}'),
        (b"", b'{"b":2}'),
    ]


_VALUES = st.recursive(
    st.integers() | st.text(alphabet='a"\\[]{}, é\n', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('k"\\{', max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.lists(st.dictionaries(st.text("k}", max_size=4), _VALUES, max_size=3), max_size=4), st.data()
)
def test_any_cut_gives_the_same_items_of_an_array(
    values: list[dict[str, object]], data: st.DataObject
) -> None:
    body = json.dumps(values, indent=data.draw(st.sampled_from([None, 2]))).encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    items = Items()
    assert [json.loads(text) for _, text in cut(items, pieces)] == values
    assert items.closed is True


def test_an_array_that_is_not_closed_says_nothing_of_its_end() -> None:
    items = Items()
    assert len(cut(items, [b'[{"a":1}', b',{"b":2'])) == 1
    assert items.closed is None


def test_a_whole_text_comes_at_its_end_and_a_websocket_message_at_once() -> None:
    assert cut(Whole(), [b"{", b"}"]) == [(b"", b"{}")]
    assert Each().feed(b"{}") == ((b"", b"{}"),)
