"""How tests are spread over processes: what is told of them is as if one had run them all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import processes
import pytest

SAID = ("stdout", "stderr")
FIRST = """
import os, warnings, pytest

@pytest.fixture(scope="module")
def once():
    print("begun in the fixture")
    yield os.getpid()
    open("ended", "a").write("x")

def test_one(once):
    open("ran", "a").write("first\\n")
    assert os.getpid() == once

def test_another_in_the_same_process(once):
    assert os.getpid() == once

def test_what_is_printed_is_shown(once):
    print("printed in the test")
    os.system("echo printed by a child")
    assert once == 0

def test_skipped():
    pytest.skip("for a reason")

@pytest.mark.xfail(reason="not yet")
def test_expected():
    assert False

def test_warning():
    warnings.warn("beware of it", DeprecationWarning)
"""
SECOND = """
import os, pytest

def test_before():
    pass

def test_that_ends_its_process():
    os._exit(7)

@pytest.mark.parametrize("number", range(3))
def test_after(number):
    open("ran", "a").write(f"after {number}\\n")
"""
BROKEN = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("no such thing")

def test_setup(broken):
    pass

@pytest.fixture
def late():
    yield
    raise RuntimeError("too late")

def test_teardown(late):
    pass
"""


@dataclass(frozen=True)
class Ended:
    """How a pytest ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Forker:
    """This file as a program of its own, in which pytest is imported once for all cases."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder: Path, *options: str, **files: str) -> Ended:
        """A pytest over these files."""
        for name, text in files.items():
            (folder / f"test_{name}.py").write_text(text)
        (folder / "said").mkdir()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(folder), *options]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Ended(code, *((folder / "said" / name).read_text() for name in SAID))

    def stop(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.stop()


def main() -> None:
    for order in sys.stdin:
        folder, *options = json.loads(order)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            be_pytest(Path(folder), options)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def be_pytest(folder: Path, options: Sequence[str]) -> NoReturn:
    code = 70
    try:
        for number, name in enumerate(SAID, 1):
            file = (folder / "said" / name).open("w")
            os.dup2(file.fileno(), number)
            setattr(sys, name, file)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.chdir(folder)
        place = ("-c", "/dev/null", "--rootdir", str(folder), "-p", "no:cacheprovider")
        code = int(pytest.main([*place, *options, str(folder)], plugins=[processes]))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


@pytest.mark.parametrize("number", ["0", "3"])
def test_all_is_told_once_whoever_ran_it(forker: Forker, tmp_path: Path, number: str) -> None:
    files = {"first": FIRST, "broken": BROKEN}
    got = forker.run(tmp_path, "-n", number, "-rA", **files)
    assert got.returncode == 1
    told = "1 failed, 4 passed, 1 skipped, 1 xfailed, 1 warning, 2 errors"
    assert got.stdout.count(told) == 1, got.stdout
    for text in ("beware of it", "no such thing", "too late", "for a reason", "not yet"):
        assert text in got.stdout
    assert "begun in the fixture" in got.stdout
    assert "printed in the test\nprinted by a child\n" in got.stdout
    assert (tmp_path / "ended").read_text() == "x"
    assert (tmp_path / "ran").read_text() == "first\n"


def test_a_process_that_ends_fails_its_test_and_another_goes_on(
    forker: Forker, tmp_path: Path
) -> None:
    got = forker.run(tmp_path, "-n", "2", second=SECOND)
    assert got.returncode == 1
    assert "1 failed, 4 passed" in got.stdout
    assert "the process that ran it ended with 7" in got.stdout
    assert "test_that_ends_its_process" in got.stdout
    assert (tmp_path / "ran").read_text() == "after 0\nafter 1\nafter 2\n"


def test_processes_that_end_again_and_again_end_the_run(forker: Forker, tmp_path: Path) -> None:
    each = "import os\ndef test_it():\n    os._exit(7)\n"
    got = forker.run(tmp_path, "-n", "2", **{f"number{number}": each for number in range(9)})
    assert got.returncode == 1
    assert "four processes ended in the middle of a test" in got.stdout


def test_what_fails_to_end_after_the_last_test_fails_the_run(
    forker: Forker, tmp_path: Path
) -> None:
    text = """
import pytest

@pytest.fixture(scope="session")
def all_along():
    yield
    raise RuntimeError("too late")

def test_it(all_along):
    pass
"""
    got = forker.run(tmp_path, "-n", "2", one=text, other="def test_other():\n    pass\n")
    assert got.returncode == 1
    assert "a process ended with 1 after its last test" in got.stdout
    assert "too late" in got.stderr


def test_the_first_failure_ends_a_run_that_wants_it(forker: Forker, tmp_path: Path) -> None:
    slow = "import time\ndef test_slow():\n    time.sleep(60)\n"
    got = forker.run(
        tmp_path, "-n", "2", "-x", slow=slow, wrong="def test_wrong():\n    assert False\n"
    )
    assert got.returncode == 1
    assert "1 failed" in got.stdout
    assert "stopping after 1 failures" in got.stdout


def test_an_error_while_tests_are_collected_runs_none(forker: Forker, tmp_path: Path) -> None:
    got = forker.run(tmp_path, "-n", "2", first=FIRST, wrong="import nothing_of_this_name\n")
    assert got.returncode == 2
    assert "nothing_of_this_name" in got.stdout
    assert not (tmp_path / "ran").exists()


def test_what_belongs_to_a_folder_ends_when_another_folder_begins(
    forker: Forker, tmp_path: Path
) -> None:
    text = """
import pytest

@pytest.fixture(scope="package")
def place():
    yield
    open("ended", "a").write("{name} ")

def test_it(place):
    pass
"""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        for file in ("test_a.py", "test_b.py"):
            (tmp_path / name / file).write_text(text.replace("{name}", name))
    got = forker.run(tmp_path, "-n", "1")
    assert got.returncode == 0, got.stdout
    assert set((tmp_path / "ended").read_text().split()) == {"one", "two"}


if __name__ == "__main__":
    main()
