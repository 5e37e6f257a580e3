"""Starts programs that are imported already: one process imports them once and forks for each.

Importing mitmproxy and the gateway is most of a start, and the live tests start a hundred
gateways. A program that is started here is the real one in a process of its own, with the
environment, folder, umask and files that it is given; it differs from one that was called by its
name in that its interpreter is warm:

- what is read while Python starts or modules are imported was read when the nursery began
  (`EARLY` names the variables; who sets one of them needs a real start);
- its command line in /proc is the nursery's, its parent is the nursery;
- the seed of `hash()` is the nursery's;
- the gateway's self-test (llm_passthrough/canary.py) was passed by the nursery;
- at its end its threads are joined and its exit handlers called, but no module is taken down.

This file is both sides: the tests import `Nursery`, which runs the file as a program.
"""

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import random
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

EARLY = re.compile(r"PYTHON|LANG|LC_|LD_|MITMPROXY_|SSLKEYLOGFILE$|PYDANTIC_|TYPER_")
PROGRAMS = {  # a command and the function that its script calls
    "mitmdump": ("mitmproxy.tools.main", "mitmdump"),
    "mitmweb": ("mitmproxy.tools.main", "mitmweb"),
    "llm-passthrough": ("llm_passthrough.cli", "main"),
    "python": ("__main__", "run_file"),
}
SCRIPTS = "LLM_PASSTHROUGH_TEST_SCRIPTS"  # files that are run before the program
# What the programs import while they start, beside the modules of their functions.
MODULES = """mitmproxy.tools.dump mitmproxy.tools.web.master tornado.platform.asyncio
llm_passthrough.attach llm_passthrough.cli.launch llm_passthrough.pages.handlers genai_prices
genai_prices.data""".split()


class Nursery:
    """The process that forks, seen from the tests."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._orders, theirs = socket.socketpair()
        self._one = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=env,
        )
        theirs.close()

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        output: int,
        errors: int | None = None,
    ) -> "Child":
        """A program with nothing to read; its stderr is `errors`, else `output` too."""
        umask = os.umask(0o077)
        os.umask(umask)
        order = {"command": command, "env": dict(env), "cwd": str(cwd), "umask": umask}
        reads, writes = os.pipe()
        with open(os.devnull, "rb") as nothing:
            files = [nothing.fileno(), output, output if errors is None else errors, writes]
            with self._one:
                socket.send_fds(self._orders, [b"+"], files)
                os.close(writes)
                self._orders.sendall(json.dumps(order).encode() + b"\n")
                return Child(command, reads)

    def stop(self) -> None:
        """End it, and what it started and still runs."""
        self._orders.close()
        self._process.wait()


class Child:
    """A process that the nursery forked: the part of `subprocess.Popen` that tests use."""

    def __init__(self, args: Sequence[str], told: int) -> None:
        self.args = args
        self.returncode: int | None = None
        self._told = os.fdopen(told, "rb", buffering=0)  # its pid, then how it ended; a line each
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = self._told.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        return line

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# -- the other side --------------------------------------------------------------------------------


def main() -> None:
    """Import everything, then fork for each order; in a child, run its program."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path(sys.executable).parent)  # where a command's own script lies
    for name in (*MODULES, *(module for module, _ in PROGRAMS.values())):
        with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
            importlib.import_module(name)
    asyncio.run(sing())
    gc.collect()
    gc.freeze()
    leave(Forker(orders).run())


def leave(program: Callable[[], Any]) -> None:
    """End as Python does, but that its modules are not taken down: that takes 0.1 s."""
    try:
        code = program()
    except SystemExit as end:
        code = end.code
    if not isinstance(code, int | None):
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


async def sing() -> None:
    """The self-test at start is passed here, once for all children."""
    from llm_passthrough import canary, layer, options
    from llm_passthrough.config import Limits
    from mitmproxy.options import Options
    from mitmproxy.tools.dump import DumpMaster

    master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
    master.options.update(**options.FORCED)
    canary.sing(master, lambda: layer.install(Limits()))
    logging.getLogger().handlers.clear()  # the master's; each child has one of its own


def run_file() -> None:
    """What `python FILE` does."""
    runpy.run_path(sys.argv[1], run_name="__main__")


class Forker:
    """Forks for each order and tells what became of each child."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders, self._lines = orders, orders.makefile("rb")
        self._children: dict[int, int] = {}  # pid -> where to tell how it ended
        self._ended, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.detach())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> Callable[[], Any]:
        """Returns in a child only, with what it is to run."""
        while True:
            ready, _, _ = select.select([self._orders, self._ended], [], [])
            if self._ended in ready:
                self._ended.recv(4096)
                self._reap()
            if self._orders in ready:
                program = self._fork()
                if program:
                    return program

    def _fork(self) -> Callable[[], Any] | None:
        _, files, _, _ = socket.recv_fds(self._orders, 1, 4)
        order = self._lines.readline()
        if not order.endswith(b"\n"):  # who gave the orders is gone
            self._end()
        *stdio, told = files
        pid = os.fork()
        if pid == 0:
            return become(json.loads(order), stdio)
        self._children[pid] = told
        os.write(told, b"%d\n" % pid)
        for file in stdio:
            os.close(file)
        return None

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                told = self._children.pop(pid)
                with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                    os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
                os.close(told)

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def become(order: dict[str, Any], stdio: list[int]) -> Callable[[], Any]:
    """Be as a process is that was started with this order; returns the program."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(stdio):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(order["cwd"])
    os.umask(order["umask"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    random.seed()
    sys.argv = order["command"]
    for script in filter(None, os.environ.pop(SCRIPTS, "").split(os.pathsep)):
        runpy.run_path(script)
    module, function = PROGRAMS[Path(sys.argv[0]).name]
    program: Callable[[], Any] = getattr(sys.modules[module], function)
    return program


if __name__ == "__main__":
    main()
