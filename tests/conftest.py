"""What coverage looks at, and what else all tests have in common.

Looked at, Python takes twice as long. So coverage sees how our modules are imported, and the tests
of those that decide about requests and secrets: `scripts/test` wants these whole. With
`--measure-all` it sees every test but those whose gateways are other processes.
"""

import contextlib
import faulthandler
import gc
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

import processes
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from coverage import Coverage
from hypothesis import HealthCheck, settings

# What is slow on a busy machine is not wrong.
ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", ANY_SPEED, max_examples=40)
# For who changes a reader of strangers' data: scripts/test --hypothesis-profile thorough
settings.register_profile("thorough", ANY_SPEED, max_examples=2000)
settings.load_profile("quick")

TESTS = Path(__file__).parent
MEASURED = tuple(
    f"test_{name}.py"
    for name in "wire seal routes clients identities config bifrost errors tee".split()
)
# Its gateways are other processes; read files and run scripts; not there on each machine.
UNMEASURED = ("live", "test_layout.py", "test_scripts.py", "test_corpus.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    processes.pytest_addoption(parser)
    parser.addoption(
        "--measure-all", action="store_true", help="let coverage look at all tests (twice as long)"
    )


def pytest_configure(config: pytest.Config) -> None:
    processes.pytest_configure(config)


def is_measured(item: pytest.Item) -> bool:
    """Whether coverage looks at a test."""
    if not item.config.getoption("measure_all"):
        return item.path.name in MEASURED and item.path.parent == TESTS
    places = map(TESTS.joinpath, UNMEASURED)
    return not any(map(item.path.is_relative_to, places))


@contextlib.contextmanager
def unwatched() -> Iterator[Coverage | None]:
    """Coverage is off for the length of a with-block."""
    coverage = Coverage.current()
    if coverage is None:
        yield None
        return
    coverage.stop()
    try:
        yield coverage
    finally:
        coverage.start()


class Watchdog:
    """A test that hangs is shown with its stacks and ends its worker: the run goes on and fails.

    pytest's own (`faulthandler_timeout`) starts and joins a thread for each test, which costs more
    than most of the tests.
    """

    LONGEST = 300.0
    SLACK = 10.0  # seconds by which it may bite earlier

    def __init__(self) -> None:
        self._set = -self.SLACK

    def watch(self, item: pytest.Item) -> None:
        now = time.monotonic()
        if now - self._set >= self.SLACK:
            self._set = now
            stderr = item.config.stash[fault_handler_stderr_fd_key]
            faulthandler.dump_traceback_later(self.LONGEST, file=stderr, exit=True)


WATCHDOG = Watchdog()


def pytest_unconfigure() -> None:
    faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    WATCHDOG.watch(item)
    if is_measured(item):
        return (yield)
    with unwatched():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()  # what is imported stays: there is nothing to be found
    with unwatched() as coverage:
        finder = OurModules(coverage)
        sys.meta_path.insert(0, finder)
        try:
            return (yield)
        finally:
            sys.meta_path.remove(finder)
            gc.freeze()
            gc.enable()


class OurModules(MetaPathFinder):
    """Lets coverage, which is off, see how our modules are imported."""

    def __init__(self, coverage: Coverage | None) -> None:
        self._coverage = coverage
        self._depth = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._coverage is None or name.partition(".")[0] != "llm_passthrough":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Seen(spec.loader, self)
        return spec

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Coverage is on; one module may import another."""
        assert self._coverage
        self._depth += 1
        if self._depth == 1:
            self._coverage.start()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._coverage.stop()


class Seen(SourceFileLoader):
    def __init__(self, loader: SourceFileLoader, finder: OurModules) -> None:
        super().__init__(loader.name, loader.path)
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        with self._finder.looking():
            super().exec_module(module)
