"""The processes of one run: two providers, two clients, and the contenders that are needed."""

import contextlib
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench import certificate
from bench.call import Order, Outcome
from bench.contenders import DIRECT, LITELLM, MADE, PORTKEY, ROOT, TOKENS, Contender, Ground
from bench.process import Process, start, stop

_READY = 180.0
"""Seconds: LiteLLM takes half a minute on a slow machine."""
_PATIENCE = 20.0
"""Seconds in which one that takes connections must give a proper answer."""
_LOOK = 0.05
_UNDER_WAY = 0.2
"""Seconds after which a flood is one."""


class Stage:
    """Starts what is needed, hands out orders, ends all. With `sampled` contenders tell there
    where they spend their time."""

    def __init__(self, sampled: Path | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._running: list[Process] = []
        authority, own = certificate.written(self._folder)
        plain, tls = self._provider(), self._provider(str(own))
        self._ground = Ground(
            self._folder, _port(plain), _port(tls), authority, self._start, sampled
        )
        self._client, self._other = self._loader(), self._loader()
        self._contenders: dict[str, Contender] = {}

    def load(self, order: Order) -> Outcome:
        """What became of an order. Raises RuntimeError with the first things that went wrong."""
        _tell(self._client, order)
        return _heard(self._client, order)

    @contextlib.contextmanager
    def meanwhile(self, order: Order) -> Iterator[None]:
        """Another client carries out an order of his own during a with-block."""
        _tell(self._other, order)
        time.sleep(_UNDER_WAY)
        yield
        _heard(self._other, order)

    def contender(self, name: str) -> Contender:
        """One of the ways, started when it is asked for first."""
        if name not in self._contenders:
            self.ready([name])
        return self._contenders[name]

    def ready(self, names: Sequence[str]) -> dict[str, str]:
        """Start all of these at the same time, and wait until each answers a call.

        Returns why one that is not ours does not. Raises RuntimeError where one of ours does not.
        """
        absent = {}
        for name in names:
            if name not in self._contenders:
                self._contenders[name] = MADE[name](self._ground)
        for name in names:
            try:
                self._greet(self._contenders[name])
            except RuntimeError as error:
                if name not in (LITELLM, PORTKEY):
                    raise
                absent[name] = str(error)
        return absent

    def _greet(self, contender: Contender) -> None:
        """Call until there is an answer: some listen before they are ready."""
        host = f"localhost:{contender.port}"
        order = Order(contender.port, contender.plain, host, "16", 16, 1)
        order = replace(order, token=contender.token or TOKENS["bench"], extra=contender.extra)
        end, why = time.monotonic() + _READY, ""
        while time.monotonic() < end and self._lives(contender):
            time.sleep(_LOOK)
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", contender.port), 1).close()
                end = min(end, time.monotonic() + _PATIENCE) if not why else end
                try:
                    self.load(order)
                    return
                except RuntimeError as error:
                    why = str(error)
        raise RuntimeError(f"{contender.name} does not answer: {why}\n{self.said()}")

    def _lives(self, contender: Contender) -> bool:
        of_it = [process for process in self._running if process.pid == contender.pid]
        return contender.name == DIRECT or any(process.poll() is None for process in of_it)

    def said(self) -> str:
        """The last of what all have said."""
        return (self._folder / "output.log").read_text(errors="replace")[-500:]

    def _start(self, command: list[str], *, asked: bool = False, **env: str) -> Process:
        process = start(command, self._folder, asked=asked, **env)
        self._running.append(process)
        return process

    def _provider(self, *arguments: str) -> Process:
        command = [sys.executable, "-P", "-m", "bench.provider", *arguments]
        return self._start(command, asked=True, PYTHONPATH=str(ROOT))

    def _loader(self) -> Process:
        command = [sys.executable, "-P", "-m", "bench.load"]
        return self._start(command, asked=True, PYTHONPATH=str(ROOT))

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self._running):
            stop(process)
        shutil.rmtree(self._folder, ignore_errors=True)


def _port(provider: Process) -> int:
    assert provider.stdout
    return int(provider.stdout.readline())


def _tell(client: Process, order: Order) -> None:
    assert client.stdin
    print(json.dumps(asdict(order)), file=client.stdin, flush=True)


def _heard(client: Process, order: Order) -> Outcome:
    assert client.stdout
    outcome = Outcome(**json.loads(client.stdout.readline()))
    if outcome.faults:
        raise RuntimeError(f"{order}: {outcome.faults[:3]}")
    return outcome
