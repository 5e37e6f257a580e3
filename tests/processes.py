"""Runs the tests in several processes, which are forked when all tests are collected.

pytest-xdist's processes collect each for itself: each imports six thousand modules of SDKs, which
took a fifth of the whole run. A process takes one file of tests after the other, and what it told
of a test is told to pytest by the parent, as if it had run the test itself.
"""

import atexit
import contextlib
import itertools
import os
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import pytest
from coverage import Coverage

WAITING = ("live",)
"""Folders of tests that wait, for sockets and for programs, more than they compute."""

type Told = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""What a process tells of a test: reports and warnings, as hooks get them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("processes")
    # pytest keeps short options for itself and its plug-ins, of which this is one.
    group._addoption("-n", dest="processes", default="auto", help="how many run tests; 0: this one")


def pytest_configure(config: pytest.Config) -> None:
    number = _number(config.option.processes)
    if number and not config.option.collectonly and not config.option.usepdb:
        config.pluginmanager.register(Parent(number))


def _number(wanted: str) -> int:
    """One more than there are cores, as many tests wait for something; where a fork is safe."""
    if wanted != "auto":
        return int(wanted)
    return len(os.sched_getaffinity(0)) + 1 if sys.platform == "linux" else 0


@dataclass(eq=False)
class Child:
    """A process that runs tests; `left` are those it was given and has not told of."""

    pid: int
    line: Connection
    left: deque[int] = field(default_factory=deque)


class Parent:
    """Hands out files of tests and tells pytest what comes back."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._files: deque[list[int]] = deque()
        self._children: list[Child] = []
        self._lost = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None  # pytest says so
        self._session = session
        session.config._tmp_path_factory.getbasetemp()  # one for all
        files = itertools.groupby(range(len(session.items)), lambda at: session.items[at].path)
        for path, numbers in files:
            add = self._files.append if path.parent.name in WAITING else self._files.appendleft
            add(list(numbers))
        try:
            for _ in range(min(self._number, len(self._files))):
                self._fork()
            while self._children:
                self._hear()
        finally:
            for child in self._children:
                os.kill(child.pid, 9)
                os.waitpid(child.pid, 0)
        return True

    def _fork(self) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            for other in (ours, *(child.line for child in self._children)):
                other.close()
            be_child(self._session, theirs)
        theirs.close()
        self._children.append(Child(pid, ours))

    def _hear(self) -> None:
        ready = wait([child.line for child in self._children])
        for child in [child for child in self._children if child.line in ready]:
            try:
                told = child.line.recv()
            except (EOFError, ConnectionResetError):
                self._end(child)
                continue
            if told is None:
                numbers = self._next(child)
                child.left.extend(numbers)
                with contextlib.suppress(BrokenPipeError):  # then it has ended
                    child.line.send(numbers)
            else:
                self._tell(child.left.popleft(), told)

    def _next(self, child: Child) -> list[int]:
        """Who waits leaves a processor to who computes: one process begins at the other end."""
        if not self._files:
            return []
        return self._files.popleft() if child is self._children[0] else self._files.pop()

    def _tell(self, number: int, told: Told) -> None:
        item, hook = self._session.items[number], self._session.config.hook
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports, warned = told
        for data in reports:
            report = hook.pytest_report_from_serializable(config=item.config, data=data)
            item.ihook.pytest_runtest_logreport(report=report)
        for arguments in warned:
            hook.pytest_warning_recorded.call_historic(kwargs=arguments)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _end(self, child: Child) -> None:
        """It has nothing more to do, or ended in the middle of a test: the rest is for another."""
        self._children.remove(child)
        child.line.close()
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if child.left:
            self._lost += 1
            self._fail(child.left.popleft(), f"the process that ran it ended with {code}")
            if child.left:
                self._files.appendleft(list(child.left))
            if self._lost > 3:
                self._give_up("four processes ended in the middle of a test")
            if self._files:
                self._fork()
        elif code:
            self._give_up(f"a process ended with {code} after its last test")

    def _give_up(self, why: str) -> NoReturn:
        self._session.shouldfail = why  # pytest shows it
        raise self._session.Failed(why)

    def _fail(self, number: int, why: str) -> None:
        item = self._session.items[number]
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        to_data = item.config.hook.pytest_report_to_serializable
        self._tell(number, ([to_data(config=item.config, report=report)], []))


class Teller:
    """Keeps what hooks are told of a test, in a child."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: Told = [], []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        to_data = self._config.hook.pytest_report_to_serializable
        self._told[0].append(to_data(config=self._config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        kind = warning_message.category
        message = warnings.WarningMessage(  # itself might not cross to another process
            str(warning_message.message),
            kind if kind.__module__ == "builtins" else UserWarning,
            warning_message.filename,
            warning_message.lineno,
        )
        self._told[1].append(
            {"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
        )

    def take(self) -> Told:
        told, self._told = self._told, ([], [])
        return told


def be_child(session: pytest.Session, line: Connection) -> NoReturn:
    """Run what is given, then leave; pytest itself ends in the parent alone."""
    code = 1
    try:
        atexit._clear()  # what is there is the parent's
        _begin_capture(session.config)
        _run(session, line)
        coverage = Coverage.current()
        if coverage:
            coverage.stop()
            coverage.save()
        atexit._run_exitfuncs()
        code = 0
    except BaseException:  # whatever it is, this process does not go on as pytest
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _begin_capture(config: pytest.Config) -> None:
    """Into files of its own; and nobody writes to the terminal."""
    config.pluginmanager.unregister(name="terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()


def _run(session: pytest.Session, line: Connection) -> None:
    teller = Teller(session.config)
    session.config.pluginmanager.register(teller)
    teller.take()  # warnings of before, which pytest tells each new plug-in
    for tests in _given(session, line):
        # What is torn down between two files is what no test of another file can need.
        path = tests[-1].path
        elsewhere = next((item for item in session.items if item.path != path), None)
        session._setupstate.teardown_exact(tests[0])
        for test, following in itertools.pairwise((*tests, elsewhere)):
            test.ihook.pytest_runtest_protocol(item=test, nextitem=following)
            line.send(teller.take())
    session._setupstate.teardown_exact(None)


def _given(session: pytest.Session, line: Connection) -> Iterator[list[pytest.Item]]:
    """The tests of a file, as long as there are files."""
    while True:
        line.send(None)
        numbers = line.recv()
        if not numbers:
            return
        yield [session.items[number] for number in numbers]
