"""What clients have not taken: what is closed and never read is cut, what goes on is not."""

import asyncio

import pytest
from llm_passthrough.leftovers import Leftovers


class Socket(asyncio.WriteTransport):
    """As asyncio's are: closed, it stays until nothing is left in it."""

    def __init__(self, left: int = 0, closing: bool = True) -> None:
        super().__init__()
        self.left, self.closing, self.cut = left, closing, False

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.cut, self.left = True, 0


@pytest.mark.parametrize(
    ("socket", "is_left"),
    [
        pytest.param(Socket(), False, id="all was taken"),
        pytest.param(Socket(9), True, id="an answer was not"),
        pytest.param(Socket(9, closing=False), True, id="one is under way"),
    ],
)
def test_what_was_not_taken_is_known(socket: Socket, is_left: bool) -> None:
    leftovers = Leftovers()
    leftovers.watch(socket)
    assert bool(leftovers) is is_left


def test_what_is_closed_and_never_read_is_cut_when_its_time_is_over() -> None:
    leftovers, socket = Leftovers(), Socket(9)
    leftovers.watch(socket)
    assert [leftovers.sweep(now, 10) for now in (0, 5, 10)] == [1, 1, 1]
    assert not socket.cut
    assert leftovers.sweep(10.1, 10) == 0
    assert socket.cut


@pytest.mark.parametrize(
    "socket",
    [
        pytest.param(Socket(0), id="all was taken"),
        pytest.param(Socket(9, closing=False), id="an exchange that is open has its own deadline"),
    ],
)
def test_what_holds_nothing_or_is_open_is_left_alone(socket: Socket) -> None:
    leftovers = Leftovers()
    leftovers.watch(socket)
    assert [leftovers.sweep(now, 10) for now in (0, 100)] == [0, 0]
    assert not socket.cut


def test_a_client_that_reads_on_slowly_is_waited_for() -> None:
    leftovers, socket = Leftovers(), Socket(100)
    leftovers.watch(socket)
    for now in range(0, 100, 8):
        socket.left -= 1
        assert leftovers.sweep(now, 10) == 1
    assert not socket.cut
    socket.left = 0
    assert leftovers.sweep(100, 10) == 0
