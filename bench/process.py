"""Processes that are measured: started, watched from outside with their children, ended."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK, _PATIENCE = 0.1, 100  # seconds, and how often
_IDLE = 0.1  # of a processor


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in seconds: all of it, and that of each process's first thread."""

    all: float
    first: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.all - other.all, self.first - other.first)


def available() -> bool:
    """Whether this system tells what is needed (proc(5), /proc/PID/task/TID/schedstat)."""
    return Path("/proc/self/schedstat").exists()


def family(pid: int) -> list[int]:
    """A process and all that it started, and so on."""
    found = [pid]
    for one in found:  # it grows meanwhile
        for task in _tasks(one):
            with contextlib.suppress(OSError):  # a thread that ended just now
                found += map(int, (task / "children").read_text().split())
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def cpu(pid: int) -> Cpu:
    """What a process and its children have used so far, to the nanosecond."""
    every = first = 0.0
    for one in family(pid):
        for task, spent in _spent(one):
            every += spent
            first += spent if task == one else 0.0
    return Cpu(every, first)


def kernel(pid: int) -> float:
    """Seconds that a process alone has spent in the system's calls, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[12]) / os.sysconf("SC_CLK_TCK")


def _spent(pid: int) -> Iterator[tuple[int, float]]:
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            yield int(task.name), int((task / "schedstat").read_text().split()[0]) / 1e9


def settle(pid: int) -> None:
    """Wait until a process has done what it has to do, such as writing records."""
    for _ in range(_PATIENCE):
        before = cpu(pid).all
        time.sleep(_LOOK)
        if cpu(pid).all - before < _IDLE * _LOOK:
            return


def resident(pid: int) -> float:
    """The memory of a process and its children, in MB."""
    return sum(_status(one, "VmRSS:") for one in family(pid))


def forget_peak(pid: int) -> None:
    """From now on, `peak` tells of what comes."""
    for one in family(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5", encoding="ascii")


def peak(pid: int) -> float:
    """The most memory that a process and its children each had since then, in MB."""
    return sum(_status(one, "VmHWM:") for one in family(pid))


def _status(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.partition(field)[2].split()[0]) / 1024


def start(command: Sequence[str], cwd: Path, *, asked: bool = False, **env: str) -> "Process":
    """A process; `asked` is one that is told something and answers. What it says is in a file."""
    kept = {k: v for k, v in os.environ.items() if "API_KEY" not in k and "PROXY" not in k.upper()}
    with (cwd / "output.log").open("a") as output:
        return subprocess.Popen(  # noqa: S603 - programs of ours, or found by their name
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if asked else output,
            stderr=output,
            text=True,
            cwd=cwd,
            env=kept | env,
        )


type Process = subprocess.Popen[str]


def stop(process: Process) -> None:
    """End a process, in order if it can."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
