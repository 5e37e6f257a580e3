"""The port that workers share: free or refused, and each gets a part of what comes."""

import socket
import sys
from contextlib import closing

import pytest
from llm_passthrough.workers.port import BACKLOG, PortError, reserve


@pytest.mark.parametrize("own", [True, False], ids=["a socket each", "one socket"])
def test_a_free_port_is_found_and_stays_reserved_for_workers(own: bool) -> None:
    port = reserve("127.0.0.1", 0, own)
    assert port.addresses == [("127.0.0.1", port.number)]
    (first,) = port.sockets()
    with closing(first):
        first.listen(BACKLOG)
        with pytest.raises(PortError, match=rf"{port.number}: is in use; give another --port"):
            reserve("127.0.0.1", port.number, own)


def test_all_addresses_of_a_name_are_listened_on() -> None:
    port = reserve("localhost", 0)
    assert {number for _, number in port.addresses} == {port.number}
    sockets = port.sockets()
    assert [sock.getsockname()[:2] for sock in sockets] == port.addresses
    for sock in sockets:
        sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers have one socket")
def test_connections_go_to_all_sockets_of_a_port() -> None:
    port = reserve("127.0.0.1", 0)
    listening = [port.sockets()[0] for _ in range(2)]
    for sock in listening:
        sock.listen(BACKLOG)
    clients = [socket.create_connection(("127.0.0.1", port.number)) for _ in range(64)]
    taken = [0, 0]
    for number, sock in enumerate(listening):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            taken[number] += 1
    assert sum(taken) == 64
    assert min(taken) > 8
    for sock in (*clients, *listening):
        sock.close()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        pytest.param("no-such-host.invalid", "listen.host: no-such-host.invalid", id="no name"),
        pytest.param("192.0.2.1", "192.0.2.1:9: Cannot assign", id="somebody else's"),
    ],
)
def test_an_address_that_is_not_ours_is_said(host: str, says: str) -> None:
    with pytest.raises(PortError, match=says):
        reserve(host, 9)
