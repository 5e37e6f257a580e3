"""What a record is found by as a part of a conversation: hashes of messages, ids of answers."""

from typing import Any

import pytest
from llm_passthrough import lineage
from llm_passthrough.lineage import Lineage
from made import record, told

MARKED = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}


def of(asked: object, **facts: Any) -> Lineage:
    one = record(asked=asked, **facts)
    found = lineage.of_record(one)
    assert found == lineage.of_json(told(one)), "a record and its line are found alike"
    return found


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


FIRST = [user("Hi")]
NEXT = [*FIRST, {"role": "assistant", "content": "Hello."}, user("And now?")]


def test_a_turn_has_the_hash_of_the_one_before_among_those_of_its_beginnings() -> None:
    before, now = of({"messages": FIRST}), of({"messages": NEXT})
    texts = [message.text for message in lineage.split({"messages": NEXT})[1]]
    assert lineage.hashes(texts) == [before.messages_hash, *lineage.hashes(texts)[1:]]
    assert now.opening_hash == before.opening_hash == before.messages_hash
    assert now.messages_hash != before.messages_hash


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"messages": [user([MARKED])]}, id="a mark for the cache"),
        pytest.param({"messages": [user([{"type": "text", "text": "Hi"}])]}, id="one block"),
        pytest.param({"messages": [{"role": "system", "content": "x"}, user("Hi")]}, id="a system"),
        pytest.param({"input": "Hi", "instructions": "x"}, id="an input that is a text"),
        pytest.param(b' {"messages": [{"role": "user", "content": "Hi"}]}', id="spaces before"),
    ],
)
def test_what_means_the_same_has_the_same_hash(asked: object) -> None:
    assert of(asked)[2:] == of({"messages": FIRST})[2:]


def test_the_answers_ids_are_kept() -> None:
    answered = {"id": "resp_2", "output": [], "model": "gpt-5"}
    asked = {"input": "And now?", "previous_response_id": "resp_1"}
    path = {"path": b"/v1/responses", "client_path": b"/openai_passthrough/v1/responses"}
    assert of(asked, answered=answered, **path)[:2] == ("resp_2", "resp_1")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(b"", id="no body"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[1]", id="no object"),
        pytest.param({"messages": [], "input": None}, id="no messages"),
        pytest.param({"input": ["one", "two"]}, id="texts to embed"),
        pytest.param({"input": [1, 2, 3]}, id="numbers to embed"),
        pytest.param({"messages": FIRST, "x": "y" * (9 << 20)}, id="far too long"),
    ],
)
def test_what_is_no_conversation_is_found_by_nothing(asked: object) -> None:
    assert of(asked, body_limit=10 << 20)[2:] == (None, None)


def test_hashes_stay_the_same_for_they_are_stored() -> None:
    assert lineage.hashes(["a", "b"]) == [4681665781835383343, -4263203567069871367]
    assert len(lineage.hashes(["half a character: \ud800"])) == 1
