"""On what was measured, and what else this machine did meanwhile."""

import os
import platform
import resource
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What a number depends on; `others` is the share of all processors that programs which are
    none of this bench took while it ran, or None where that cannot be told."""

    time: str
    processor: str
    cores: int
    memory: str
    system: str
    python: str
    mitmproxy: str
    seconds: float
    load_before: float
    load_after: float
    others: float | None

    def short(self) -> str:
        """What matters most."""
        return (
            f"{self.cores} cores of {self.processor}, Python {self.python}, "
            f"mitmproxy {self.mitmproxy}, {self.time[:10]}"
        )

    def line(self) -> str:
        """All that in a sentence."""
        long = f"{self.seconds / 60:.0f} minutes" if self.seconds > 120 else f"{self.seconds:.0f} s"
        busy = "" if self.others is None else f", other programs took {self.others:.0%} of it"
        return (
            f"{self.cores} cores of {self.processor}, {self.memory}, {self.system}, Python "
            f"{self.python}, mitmproxy {self.mitmproxy}, on {self.time[:10]}; load "
            f"{self.load_before:.1f} before{busy}; {long}"
        )

    def as_json(self) -> dict[str, object]:
        """For a file."""
        return asdict(self)


class Watch:
    """Looks at the machine from now on."""

    def __init__(self) -> None:
        self._begun = time.time()
        self._load = os.getloadavg()[0]
        self._busy, self._own = _busy(), _own()

    def machine(self) -> Machine:
        """What it was until now; all processes of this bench must have ended."""
        now, seconds = _busy(), time.time() - self._begun
        others = None
        if now is not None and self._busy is not None:
            spent = now - self._busy - (_own() - self._own)
            others = max(spent, 0.0) / (seconds * (os.cpu_count() or 1))
        return Machine(
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._begun)),
            _processor(),
            os.cpu_count() or 1,
            _memory(),
            f"{platform.system()} {platform.release()}",
            platform.python_version(),
            version("mitmproxy"),
            seconds,
            self._load,
            os.getloadavg()[0],
            others,
        )


def _own() -> float:
    """Seconds of processor time of this process and of those that it waited for."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def _busy() -> float | None:
    """Seconds that all processors were not idle, those included that a host took (proc(5))."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _, _, *others = map(int, line[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> str:
    kilobytes = _field("/proc/meminfo", "MemTotal").partition(" ")[0]
    return f"{int(kilobytes) / (1 << 20):.0f} GB" if kilobytes else "memory unknown"


def _field(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, "")
