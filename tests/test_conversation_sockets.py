"""WebSockets as conversations: each answer behind its question, sound counted, nothing raised."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_passthrough.conversation import turns
from llm_passthrough.conversation.sockets import messages, talk


def joined(*objects: dict[str, Any]) -> str:
    """Messages as a record holds them: one behind the other."""
    return "".join(map(json.dumps, objects))


def shown(sent: str, got: str) -> list[tuple[str, bool, list[tuple[str, str]]]]:
    return [
        (turn.role, turn.answer, [(part.kind, part.text or part.name) for part in turn.parts])
        for turn in talk(sent, got)
    ]


def asks(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return {"type": "conversation.item.create", "item": item}


def says(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    item = {"type": "message", "role": "assistant", "content": content}
    return {"type": "response.done", "response": {"status": "completed", "output": [item]}}


GO = {"type": "response.create"}


def test_each_answer_of_a_realtime_session_stands_behind_its_question() -> None:
    session = {"type": "session.update", "session": {"instructions": "Be brief."}}
    sent = joined(session, asks("one"), GO, asks("two"), GO)
    assert shown(sent, joined({"type": "session.created"}, says("eins"), says("zwei"))) == [
        ("system", False, [("text", "Be brief.")]),
        ("user", False, [("text", "one")]),
        ("assistant", True, [("text", "eins")]),
        ("user", False, [("text", "two")]),
        ("assistant", True, [("text", "zwei")]),
    ]


def test_what_was_spoken_is_told_by_its_transcript_and_counted() -> None:
    sent = joined(*[{"type": "input_audio_buffer.append", "audio": "AAAA"}] * 3, GO)
    heard = {
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": "hello",
    }
    assert shown(sent, joined(heard, says("hi"))) == [
        ("user", False, [("note", "sound in 3 messages")]),
        ("user", True, [("text", "hello")]),
        ("assistant", True, [("text", "hi")]),
    ]


def test_responses_over_a_websocket_are_read_like_those_over_http() -> None:
    create = {"type": "response.create", "model": "m", "instructions": "S", "input": "hello"}
    call = {"type": "function_call", "name": "run", "arguments": "{}", "call_id": "1"}
    done = {"type": "response.completed", "response": {"output": [call]}}
    found = shown(joined(create), joined(done))
    assert [(role, answer) for role, answer, _ in found] == [
        ("system", False),
        ("user", False),
        ("assistant", True),
    ]
    assert found[-1][2][0][0] == "tool_call"


@pytest.mark.parametrize(
    ("content", "ends"), [("clientContent", "turnComplete"), ("client_content", "turn_complete")]
)
def test_gemini_live_is_put_together_up_to_the_end_of_each_turn(content: str, ends: str) -> None:
    turn = {"role": "user", "parts": [{"text": "hello"}]}
    sent = joined({"setup": {"model": "m"}}, {content: {"turns": [turn], ends: True}})
    pieces = [
        {"serverContent": {"modelTurn": {"parts": [{"text": text}]}}} for text in ("good ", "day")
    ]
    assert shown(sent, joined(*pieces, {"serverContent": {"turnComplete": True}})) == [
        ("user", False, [("text", "hello")]),
        ("model", True, [("text", "good day")]),
    ]


def test_a_session_that_broke_off_shows_what_was_there() -> None:
    piece = {"serverContent": {"modelTurn": {"parts": [{"text": "half"}]}}}
    assert shown("", joined(piece) + '{"serverCont') == [("model", True, [("text", "half")])]
    assert shown(joined(asks("one"))[:-5], "") == []


def test_an_error_is_told() -> None:
    fault = {"type": "error", "error": {"type": "invalid_request_error", "message": "no such"}}
    assert any("no such" in text for _, _, said in shown("", joined(fault)) for _, text in said)


def test_a_record_of_a_websocket_is_shown_as_what_was_said() -> None:
    record = {
        "request": {"body": joined(asks("one"), GO), "bytes": 1},
        "response": {"status": 101, "body": joined(says("eins")), "bytes": 1},
    }
    assert [turn.role for turn in turns(record)] == ["user", "assistant"]
    other = {"request": {"body": "x", "bytes": 1}, "response": {"status": 101, "bytes": 0}}
    assert [turn.role for turn in turns(other)] == ["request"]


@given(st.text(), st.text())
def test_no_text_raises(sent: str, got: str) -> None:
    talk(sent, got)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = (
    "type item session response setup clientContent serverContent toolCall realtimeInput".split()
)
KINDS = "conversation.item.create session.update response.create response.done error x".split()


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(KINDS)), max_size=4))
def test_no_shape_raises(objects: list[dict[str, Any]]) -> None:
    talk(joined(*objects), joined(*objects))


def test_messages_end_where_they_cannot_be_read() -> None:
    assert list(messages('{"a":1} {"b":2}\n{"c"')) == [{"a": 1}, {"b": 2}]
