"""How the fuzzer talks to a gateway: a spoilt request is said, and all that comes is heard."""

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass

from live.fuzzground import Ground
from live.harness import Wire
from live.mutations import Message
from live.oracles import answers_in

_SILENCE = 0.15  # after which a request that may be unfinished is left at that


@dataclass
class Told:
    """What came of one case."""

    data: bytes
    tunnel: str | None = None
    heard: bytes = b""
    fault: str | None = None


def say(ground: Ground, message: Message) -> Told:
    """Send a message, hear what comes until the gateway closes; fails when it does not (O7)."""
    told = Told(ground.fill(message.data()), message.tunnel)
    try:
        with (
            contextlib.suppress(ConnectionError, ssl.SSLError),
            _connected(ground, message.tunnel) as sock,
        ):
            with contextlib.suppress(ConnectionError):
                sock.sendall(told.data)
            told.heard = _listen(sock, message.whole, ground.deadline)
    except TimeoutError:
        told.fault = f"O7: neither an answer nor a close, {message.whole=}: {told.data!r}"
    return told


def _connected(ground: Ground, tunnel: str | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", ground.port), ground.deadline)
    if tunnel is None or ground.trust is None:
        return sock
    wire = Wire(sock, ground.deadline)
    wire.send(f"CONNECT {tunnel}:443 HTTP/1.1\r\nHost: {tunnel}:443\r\n\r\n".encode())
    with contextlib.suppress(EOFError):
        wire.until(b"\r\n\r\n")
    return ground.trust.wrap_socket(sock, server_hostname=tunnel)


def _listen(sock: socket.socket, whole: bool, deadline: float) -> bytes:
    """All that is said. Who was answered, or may owe something, says no more after a while."""
    heard, open_still = b"", True
    end = time.monotonic() + deadline
    while True:
        answered = any(done for _, done in answers_in(heard)) or b"HTTP/1.1 101 " in heard
        if open_still and whole and answered:
            open_still = _ends(sock)
        if sock.fileno() < 0:
            return heard
        patient = whole or not open_still
        sock.settimeout(max(0.01, end - time.monotonic()) if patient else _SILENCE)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            if patient:
                raise
            open_still = _ends(sock)
            continue
        except OSError:
            data = b""
        if not data:
            return heard
        heard += data


def _ends(sock: socket.socket) -> bool:
    """This side has nothing more to say: whether it is open still."""
    with contextlib.suppress(OSError):
        if isinstance(sock, ssl.SSLSocket):
            sock.close()  # TLS has no half of an end that the other side would answer
        else:
            sock.shutdown(socket.SHUT_WR)
    return False
