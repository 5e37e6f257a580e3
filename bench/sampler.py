"""Runs a program and tells where its threads spend processor time.

`python -m bench.sampler FILE MODULE:FUNCTION ARGUMENT...`. The first SWITCH begins, the second one
writes FILE. A timer of processor time interrupts the main thread; each thread then gets as much
weight as it has used since the last look, so that one that waits gets none, and who is looked at
is not who happened to be interrupted. What the looking takes is left out. Of other threads than
the main one the sums are right, but not the functions: they are seen where they wait their turn.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType

SWITCH = signal.SIGRTMIN
"""mitmproxy has taken SIGUSR1 and SIGUSR2."""
_EVERY = 0.005  # seconds of processor time


class Sampler:
    """Sums up the time of each function: in itself, and with all that it calls."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._itself: defaultdict[CodeType, float] = defaultdict(float)
        self._total: defaultdict[CodeType, float] = defaultdict(float)
        self._packages: defaultdict[str, float] = defaultdict(float)
        self._threads: defaultdict[str, float] = defaultdict(float)
        self._used: dict[int, float] = {}
        self._runs = self._looks = False

    def switch(self, *_: object) -> None:
        """Begin, or end and write down."""
        self._runs = not self._runs
        if self._runs:
            self._look(None)
            self._itself.clear()
            self._total.clear()
            self._packages.clear()
            self._threads.clear()
        signal.setitimer(signal.ITIMER_PROF, _EVERY * self._runs, _EVERY)
        if not self._runs:
            self._write()

    def tick(self, _: int, frame: FrameType | None) -> None:
        """Look at all threads."""
        if not self._looks:  # one look may be interrupted by the next
            self._looks = True
            self._look(frame)
            self._used[threading.get_ident()] = time.thread_time()
            self._looks = False

    def _look(self, interrupted: FrameType | None) -> None:
        own, frames = threading.get_ident(), sys._current_frames()
        for thread in threading.enumerate():
            ident = thread.ident
            if ident is None or ident not in frames:
                continue
            used = time.clock_gettime(time.pthread_getcpuclockid(ident))
            spent = used - self._used.get(ident, used)
            self._used[ident] = used
            if spent > 0:
                self._threads[thread.name] += spent
                self._add(interrupted if ident == own else frames[ident], spent)

    def _add(self, frame: FrameType | None, spent: float) -> None:
        if frame is not None:
            self._itself[frame.f_code] += spent
        seen: set[CodeType] = set()
        while frame is not None:
            seen.add(frame.f_code)
            frame = frame.f_back
        for code in seen:
            self._total[code] += spent
        for package in {package_of(code.co_filename) for code in seen}:
            self._packages[package] += spent

    def _write(self) -> None:
        told = {
            "threads": dict(self._threads),
            "packages": dict(self._packages),
            "functions": [
                [package_of(code.co_filename), _named(code), self._itself[code], spent]
                for code, spent in self._total.items()
            ],
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(self._file)


def package_of(file: str) -> str:
    """Whose a source file is: a distribution's top name, or a module of the standard library."""
    for place in ("site-packages", "addon"):
        _, found, below = file.rpartition(f"{os.sep}{place}{os.sep}")
        if found:
            name, _, rest = below.partition(os.sep)
            return name.removesuffix(".py") + _shelf(name, rest)
    if file.startswith("<"):
        return file.strip("<>").removeprefix("frozen ").replace("string", "(made at run time)")
    if f"{os.sep}bench{os.sep}" in file:
        return "(start)"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    below = file.rpartition(f"{os.sep}{version}{os.sep}")[2]
    return below.partition(os.sep)[0].removesuffix(".py")


def _shelf(package: str, rest: str) -> str:
    """Of the two that matter most the part, too."""
    shelf, inside, _ = rest.partition(os.sep)
    return f".{shelf}" if inside and package in ("mitmproxy", "llm_passthrough") else ""


def _named(code: CodeType) -> str:
    parts = Path(code.co_filename).parts[-2:]
    return f"{'/'.join(parts)}: {code.co_qualname}"


def main() -> None:
    """Run the program that the command line names."""
    _, file, entry, *arguments = sys.argv
    sampler = Sampler(Path(file))
    signal.signal(signal.SIGPROF, sampler.tick)
    signal.signal(SWITCH, sampler.switch)
    module, _, function = entry.partition(":")
    sys.argv = [function, *arguments]
    getattr(import_module(module), function)()


if __name__ == "__main__":
    main()
