"""The parent of workers: starts them, replaces those that die, passes on orders, waits for all.

It has no event loop and no thread, so that it may fork at any time; what it does it does between
two waits. Signals are for the parent alone: workers hear of them by their lines, since whoever
sends them (a terminal, a service manager) may send them to all processes at once or to one.
"""

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llm_passthrough.workers.channel import AGAIN, CUT, DRAIN, LOST, READY, RELOAD, Channel
from llm_passthrough.workers.port import Port, PortError
from llm_passthrough.workers.seat import Seat

_LOG = logging.getLogger(__name__)
_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_LIVED = 30.0
"""Seconds after which the death of a worker is not the next one of a row."""
_FIRST, _LONGEST = 0.5, 30.0
"""Pauses before a worker of such a row is replaced, in seconds; each is twice the one before."""
_WAITED_FOR = 1.0
"""Seconds for which clients wait in the queue of a worker that is to be started again."""
_TRIES = 6
"""Starts in a row that fail, of every worker, after which there is no hope."""


@dataclass(slots=True)
class Worker:
    """A worker, or the place of one; times are monotonic seconds.

    `failures` is how often in a row it died young, `due` when it is to be started.
    """

    number: int
    channel: Channel
    sockets: tuple[socket.socket, ...] = ()
    pid: int | None = None
    ready: bool = False
    since: float = 0.0
    failures: int = 0
    due: float | None = None


@dataclass
class Parent:
    """`greet` is called once, when all workers listen. Times come from a monotonic `clock`."""

    port: Port
    count: int
    greet: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    workers: list[Worker] = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.time()
        self._greeted = False
        self._orders: list[bytes] = []
        self._code: int | None = None
        self._signalled, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._shared = () if self.port.own else self.port.sockets()
        # All lines are there before the first worker: none misses what another one tells.
        self.workers = [Worker(number + 1, Channel()) for number in range(self.count)]

    def run(self) -> Seat | int:
        """In each worker its seat; in the parent, when all have ended, the exit code."""
        for worker in self.workers:
            worker.sockets = self._sockets()
        self._listen_to_signals()
        gc.collect()
        gc.freeze()  # what is there now is not copied by looking at it
        self.workers[0].due = self.clock()  # the others when it is ready: a fault is said once
        while True:
            for worker in self._due():
                if seat := self._start(worker):
                    return seat
            if self._code is not None and not any(worker.pid for worker in self.workers):
                return self._code
            self._wait()

    def _due(self) -> list[Worker]:
        now = self.clock()
        return [worker for worker in self.workers if worker.due is not None and worker.due <= now]

    def _sockets(self) -> tuple[socket.socket, ...]:
        return self.port.sockets() if self.port.own else self._shared

    def _listen_to_signals(self) -> None:
        for end in (self._signalled, self._wake):
            end.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._signalled, selectors.EVENT_READ)

    # -- workers --------------------------------------------------------------------------------

    def _start(self, worker: Worker) -> Seat | None:
        """Fork; the seat in the worker, None in the parent."""
        worker.due, worker.ready, worker.since = None, False, self.clock()
        try:
            if not worker.sockets:
                worker.sockets = self._sockets()
            pid = os.fork()
        except (OSError, PortError) as error:
            _LOG.error("worker %d cannot be started: %s", worker.number, error)
            self._failed(worker)
            return None
        if pid == 0:
            return self._seat(worker)
        worker.pid = pid
        worker.channel.theirs.close()
        self._selector.register(worker.channel.sock, selectors.EVENT_READ, worker)
        return None

    def _seat(self, worker: Worker) -> Seat:
        """In the worker: let go of what is the parent's and the others'."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self._selector.close()
        self._signalled.close()
        self._wake.close()
        for other in self.workers:
            other.channel.sock.close()
            if other is not worker:
                other.channel.theirs.close()
                if self.port.own:
                    _close(other.sockets)
        sockets, theirs = worker.sockets, worker.channel.theirs
        return Seat(worker.number, self.count, sockets, theirs, self._began, not self.port.own)

    def _ended(self, worker: Worker, status: int) -> None:
        """A worker is no more."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel.sock)
        self._relay(worker)  # what it told last
        worker.channel.close()
        worker.channel, worker.pid = Channel(), None
        for other in self.workers:
            if other is not worker:
                other.channel.order(LOST + b"%d" % worker.number)
        code = os.waitstatus_to_exitcode(status)
        if self._code is not None:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        if not self._greeted:
            self._give_up(worker, how, code)
            return
        _LOG.error("worker %d %s: another one takes its place", worker.number, how)
        self._failed(worker)

    def _give_up(self, worker: Worker, how: str, code: int) -> None:
        """The first start fails: there is no use in another one."""
        if code not in (1, 2):  # else it has said why
            _LOG.error("worker %d %s while it started: giving up", worker.number, how)
        self._end(CUT, code if code > 0 else 1)

    def _failed(self, worker: Worker) -> None:
        """Start it again: at once, or after a while when it dies again and again."""
        lived = worker.ready and self.clock() - worker.since > _LIVED
        worker.failures = 0 if lived else worker.failures + 1
        if all(one.failures >= _TRIES and not one.ready for one in self.workers):
            _LOG.error("no worker can be started any more: giving up")
            self._end(CUT, 1)
            return
        pause = _FIRST * 2 ** (worker.failures - 2) if worker.failures > 1 else 0.0
        worker.due = self.clock() + min(pause, _LONGEST)
        worker.ready = False
        if pause > _WAITED_FOR and self.port.own:
            # Its queue is given up; from now on the others get all connections.
            _close(worker.sockets)
            worker.sockets = ()

    # -- waiting --------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until something happens, or a worker is due."""
        due = [worker.due for worker in self.workers if worker.due is not None]
        timeout = max(0.0, min(due) - self.clock()) if due else None
        for key, events in self._selector.select(timeout):
            if key.data is None:
                for number in self._signalled.recv(4096):
                    self._signal(number)
            elif events & selectors.EVENT_READ:
                self._relay(key.data)
        for worker in self.workers:
            self._attend(worker)

    def _attend(self, worker: Worker) -> None:
        """Look at a line as long as something is to be read from it, or to be written to it."""
        channel = worker.channel
        channel.flush()
        reads = selectors.EVENT_READ * (not channel.ended)
        wanted = reads | selectors.EVENT_WRITE * channel.waits
        known = self._selector.get_map().get(channel.sock)
        if known is None or known.events == wanted:
            return
        if wanted:
            self._selector.modify(channel.sock, wanted, worker)
        else:
            self._selector.unregister(channel.sock)

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                self._reap()
            case signal.SIGHUP:
                for worker in self.workers:
                    worker.channel.order(RELOAD)
            case signal.SIGINT | signal.SIGTERM:
                self._end(CUT if self._orders else DRAIN, 0)

    def _reap(self) -> None:
        for worker in self.workers:
            if worker.pid is not None:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    self._ended(worker, status)

    def _relay(self, worker: Worker) -> None:
        """What a worker said: to the others what is for them."""
        for line in worker.channel.lines():
            if line == READY:
                self._is_ready(worker)
            elif line.startswith(b"{"):
                for other in self.workers:
                    if other is not worker:
                        other.channel.tell(line)

    def _is_ready(self, worker: Worker) -> None:
        worker.ready = True
        if worker.number == 1 and not self._greeted:
            for other in self.workers[1:]:
                other.due = self.clock() if self._code is None else None
        for other in self.workers:
            if other is not worker and other.ready:
                other.channel.order(AGAIN)
        if not self._greeted and all(one.ready for one in self.workers):
            self._greeted = True
            self.greet()

    def _end(self, order: bytes, code: int) -> None:
        """End all: the first order drains, the second cuts, the third kills."""
        for worker in self.workers:
            worker.due = None
            _close(worker.sockets)
            worker.channel.order(order)
            if len(self._orders) > 1 and worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)
        self._orders.append(order)
        self._code = code if self._code is None else self._code


def _close(sockets: tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()
