"""Tickets of uploads: for whom they are, where, how long, and how many."""

import pytest
from llm_passthrough.clients import Identity
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Client
from llm_passthrough.tickets import Tickets, uploads

ALICE, BOB = Identity(Client("alice"), b"a"), Identity(Client("bob"), b"b")
PATH = b"/genai_passthrough/upload/v1beta/files"
URL = b"http://localhost:8080" + PATH + b"?upload_id=%s&upload_protocol=resumable"


class Clock:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def handed(clock: Clock, *ids: bytes, most: int = 10) -> Tickets:
    made = Tickets(clock, most)
    for one in ids:
        assert made.hand_out([(b"X-Goog-Upload-URL", URL % one)], ALICE) == [one]
    return made


@pytest.mark.parametrize(
    ("target", "good"),
    [
        pytest.param(PATH + b"?upload_id=one", True, id="as it was handed out"),
        pytest.param(PATH + b"?a=b&upload%5Fid=on%65&c", True, id="spelt in another way"),
        pytest.param(PATH + b"?upload_id=two", False, id="another upload"),
        pytest.param(PATH + b"?upload_id=", False, id="none"),
        pytest.param(PATH, False, id="no query"),
        pytest.param(PATH + b"?upload_id=one&upload_id=two", False, id="two of them"),
        pytest.param(PATH + b"/x?upload_id=one", False, id="another path"),
        pytest.param(
            b"/openai_passthrough/upload/v1beta/files?upload_id=one", False, id="another route"
        ),
    ],
)
def test_a_ticket_is_good_where_it_was_handed_out(clock: Clock, target: bytes, good: bool) -> None:
    holder = handed(clock, b"one").holder(target)
    assert holder is (ALICE if good else None)


def test_a_ticket_ends(clock: Clock) -> None:
    tickets, target = handed(clock, b"one"), PATH + b"?upload_id=one"
    clock.now += 86_399
    assert tickets.holder(target) is ALICE
    clock.now += 1
    assert tickets.holder(target) is None
    tickets.check(target, BOB)


def test_an_upload_is_who_began_its(clock: Clock) -> None:
    tickets, target = handed(clock, b"one"), b"/x?upload_id=one&upload_id=two"
    tickets.check(target, ALICE)
    tickets.check(PATH + b"?upload_id=two", BOB)
    with pytest.raises(Refusal) as caught:
        tickets.check(target, BOB)
    assert (caught.value.code, caught.value.status) == ("foreign_upload", 403)


def test_the_oldest_make_room(clock: Clock) -> None:
    tickets = handed(clock, b"1", b"2", b"1", b"3", most=2)
    good = [one for one in b"123" if tickets.holder(PATH + b"?upload_id=%c" % one)]
    assert bytes(good) == b"13"
    clock.now += 86_400
    tickets.hand_out([(b"x-goog-upload-control-url", URL % b"4")], ALICE)
    assert len(tickets._tickets) == 1


def test_other_headers_hand_nothing_out(clock: Clock) -> None:
    fields = [(b"Location", URL % b"one"), (b"X-Goog-Upload-URL", b"http://localhost/x?y=z")]
    assert Tickets(clock).hand_out(fields, ALICE) == []


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"/x", []),
        (b"/x?upload_id=1", [b"1"]),
        (b"/x?UPLOAD_ID=1&b&upload%5fid=%32", [b"1", b"2"]),
        (b"/x?a=upload", []),
    ],
)
def test_the_ids_in_a_target_are_known(target: bytes, found: list[bytes]) -> None:
    assert uploads(target) == found
