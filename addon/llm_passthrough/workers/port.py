"""The port that workers share, as sockets that are bound before there is any worker.

Linux spreads connections over all sockets that listen on a port with SO_REUSEPORT, by a hash of
their addresses: evenly, and whatever the workers do. Elsewhere (macOS, the BSDs) such a port gives
all connections to one of them, so that the workers share one socket there and take connections
from it one by one, as they have time.

The parent keeps the sockets: what waits in the queue of a worker that died is served by the next.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

BACKLOG = 1024
"""Connections that may wait for a worker, such as one that is being replaced."""

type Info = tuple[int, str, int]
"""An address family, an address and a port."""


class PortError(Exception):
    """The port cannot be had: one line with the mend."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port on one or several addresses. `own`: each worker has sockets of its own."""

    infos: tuple[Info, ...]
    own: bool

    @property
    def number(self) -> int:
        """The port itself; the same on all addresses."""
        return self.infos[0][2]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where to connect."""
        return [(host, port) for _, host, port in self.infos]

    def sockets(self) -> tuple[socket.socket, ...]:
        """New sockets, bound to it. Raises PortError."""
        return tuple(_bound(info, self.own) for info in self.infos)


def reserve(host: str, port: int, own: bool = sys.platform == "linux") -> Port:
    """A port that is free, or the one that was asked for. Raises PortError where it is taken.

    With SO_REUSEPORT alone another gateway's port could be shared by mistake, which would get a
    half of the calls: so it is asked for without that first.
    """
    infos: list[Info] = []
    with contextlib.ExitStack() as held:
        for family, address in _resolved(host):
            sock = held.enter_context(_bound((family, address, port), False))
            port = sock.getsockname()[1]
            infos.append((family, address, port))
    return Port(tuple(infos), own)


def _resolved(host: str) -> Iterator[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortError(f"listen.host: {host} is no address of this machine: {error}") from None
    yield from dict.fromkeys((int(family), str(place[0])) for family, _, _, _, place in found)


def _bound(info: Info, own: bool) -> socket.socket:
    family, host, port = info
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if own:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        mend = "is in use; give another --port" if taken else os.strerror(error.errno or 0)
        raise PortError(f"{host}:{port}: {mend}") from None
    return sock
