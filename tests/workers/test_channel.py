"""Lines between a parent and a worker: whole, in order, and nobody waits for who does not read."""

import asyncio

from llm_passthrough.workers.channel import MOST, READY, Channel
from llm_passthrough.workers.seat import GONE, Seat


async def seated(channel: Channel, heard: list[bytes]) -> Seat:
    seat = Seat(1, 2, (), channel.theirs, 0.0, turns=False)
    await seat.join(heard.append)
    return seat


async def until_said(heard: list[bytes], count: int) -> None:
    async with asyncio.timeout(5):
        while len(heard) < count:
            await asyncio.sleep(0)


async def test_both_ends_get_whole_lines_and_hear_of_the_end() -> None:
    channel, heard = Channel(), list[bytes]()
    channel.order(b"said before there was anybody")
    seat = await seated(channel, heard)
    seat.line.send(b'{"a": 1}')
    channel.order(b"drain")
    await until_said(heard, 2)
    assert channel.lines() == [READY, b'{"a": 1}']
    assert not channel.ended
    channel.sock.close()
    await until_said(heard, 3)
    assert heard == [b"said before there was anybody", b"drain", GONE]
    seat.line.send(b"to nobody")


async def test_who_does_not_read_loses_what_is_told_but_no_order() -> None:
    channel, heard = Channel(), list[bytes]()
    line = b"{%s}" % (b"x" * 9998)
    for _ in range(4 * MOST // len(line)):
        channel.tell(line)
    assert channel.waits
    channel.order(b"drain")
    await seated(channel, heard)
    async with asyncio.timeout(5):
        while heard[-1:] != [b"drain"]:
            channel.flush()
            await asyncio.sleep(0)
    assert MOST < sum(map(len, heard)) < 3 * MOST
    assert set(heard) == {line, b"drain"}
    assert not channel.waits


def test_the_end_of_a_worker_is_seen() -> None:
    channel = Channel()
    channel.theirs.sendall(b"ready\nhalf a li")
    channel.theirs.close()
    assert channel.lines() == [READY]
    assert channel.ended
    channel.order(b"drain")  # to nobody
    channel.close()
