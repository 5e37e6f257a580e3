"""JSONL: what stands in the file after rotations, kills, full disks and other people's hands."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llm_passthrough.errors import ConfigError
from llm_passthrough.record import Facts, Record
from llm_passthrough.recorder import build
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.jsonl import Jsonl

DAY = 86_400.0
LINE = b'{"n":1,"pad":"xxxxxxxxxxxxxxxxxxxx"}\n'


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


RECORD: Record = build(Facts("1", 0.0, "GET", b"/x"), Redactor([]))


def jsonl(path: Path, size: int = 1 << 20, age: float = DAY, clock: Clock | None = None) -> Jsonl:
    return Jsonl(path, size, age, clock or Clock())


def put(sink: Jsonl, *numbers: int) -> None:
    for number in numbers:
        sink.write(RECORD, b'{"n":%d}\n' % number)


def numbers(*paths: Path) -> list[int]:
    """The records in these files; every line of them must be one."""
    return [json.loads(line)["n"] for path in paths for line in path.read_bytes().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def opened(folder: Path) -> list[str]:
    """The files below a folder that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it was that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [file for file in found if file.startswith(str(folder))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# -- who can read it --------------------------------------------------------------------------


@pytest.mark.usefixtures("no_umask")
def test_files_and_the_folders_that_are_made_for_them_are_for_this_user_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a" / "b" / "records.jsonl"
    clock = Clock()
    sink = jsonl(path, age=10, clock=clock)
    put(sink, 1)
    clock.now += 11
    put(sink, 2)
    sink.close()
    assert [mode(folder) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]
    files = list(path.parent.iterdir())
    assert len(files) == 3, "the file, its older part, its lock"
    assert {mode(file) for file in files} == {0o600}


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.touch(0o644)
    path.chmod(0o644)
    jsonl(path).close()
    assert mode(path) == 0o600


def test_a_folder_that_is_there_keeps_its_mode(path: Path) -> None:
    path.parent.chmod(0o755)
    jsonl(path).close()
    assert mode(path.parent) == 0o755


# -- what it refuses at start -----------------------------------------------------------------


def _symlink(path: Path) -> None:
    (path.parent / "other").write_text("theirs")
    path.symlink_to(path.parent / "other")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(_symlink, "is a symbolic link; name the file itself", id="a symbolic link"),
        pytest.param(lambda path: path.symlink_to("gone"), "symbolic link", id="a dangling one"),
        pytest.param(lambda path: os.mkfifo(path), "not a regular file; name a file", id="a FIFO"),
        pytest.param(lambda path: path.mkdir(), "Is a directory; name a file", id="a folder"),
        pytest.param(
            lambda path: Path(f"{path}.lock").symlink_to("x"), "symbolic link", id="a linked lock"
        ),
    ],
)
def test_what_is_no_file_of_its_own_is_refused_with_the_mend(
    path: Path, make: object, why: str
) -> None:
    assert callable(make)
    make(path)
    with pytest.raises(ConfigError) as refused:
        jsonl(path)
    assert str(refused.value).startswith(f"log.path: {path}: ")
    assert why in str(refused.value)
    assert not opened(path.parent), "nothing is left open"
    if (path.parent / "other").exists():
        assert (path.parent / "other").read_text() == "theirs"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="name a file in a folder that you can write to"):
        jsonl(tmp_path / "file" / "records.jsonl")


def test_a_second_gateway_in_the_same_place_is_refused_and_the_first_goes_on(path: Path) -> None:
    """K10."""
    first = jsonl(path)
    with pytest.raises(ConfigError, match="another gateway writes here; give this one its own"):
        jsonl(path)
    put(first, 1)
    first.close()
    second = jsonl(path)
    put(second, 2)
    second.close()
    assert numbers(path) == [1, 2]


def test_it_may_be_closed_twice(path: Path) -> None:
    sink = jsonl(path)
    sink.close()
    sink.close()


# -- what was there before --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "torn"),
    [
        pytest.param(b"", b'{"n":1}\n', None, id="empty"),
        pytest.param(b'{"n":0}\n', b'{"n":0}\n{"n":1}\n', None, id="whole"),
        pytest.param(b'{"n":0}\n{"n":', b'{"n":0}\n{"n":\n{"n":1}\n', 5, id="torn"),
        pytest.param(b'{"n":', b'{"n":\n{"n":1}\n', 5, id="nothing but a torn one"),
        pytest.param(b'{"n":0}', b'{"n":0}\n{"n":1}\n', None, id="only the line break is missing"),
        pytest.param(b"[" * 9999, b"[" * 9999 + b'\n{"n":1}\n', 9999, id="torn deep inside"),
    ],
)
def test_a_torn_last_line_is_told_and_does_not_spoil_the_next_record(
    path: Path, before: bytes, after: bytes, torn: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """K02."""
    path.write_bytes(before)
    sink = jsonl(path)
    put(sink, 1)
    sink.close()
    assert path.read_bytes() == after
    told = f"1 record was cut off at its end ({torn} bytes" in caplog.text
    assert told is (torn is not None)


# -- what others do to it ---------------------------------------------------------------------


def _rename(path: Path) -> None:
    path.rename(path.with_name("old.jsonl"))


def _rename_and_create(path: Path) -> None:
    _rename(path)
    path.touch(0o600)


def _copy_and_truncate(path: Path) -> None:
    path.with_name("old.jsonl").write_bytes(path.read_bytes())
    os.truncate(path, 0)


@pytest.mark.parametrize(
    "hand",
    [
        pytest.param(_rename, id="logrotate: rename"),
        pytest.param(_rename_and_create, id="logrotate: rename and create"),
        pytest.param(_copy_and_truncate, id="logrotate: copytruncate"),
    ],
)
def test_nothing_is_lost_or_told_twice_when_somebody_rotates_the_file(
    path: Path, hand: object
) -> None:
    """K06."""
    assert callable(hand)
    sink = jsonl(path)
    put(sink, 1, 2)
    hand(path)
    put(sink, 3, 4)
    sink.close()
    assert numbers(path.with_name("old.jsonl")) == [1, 2]
    assert numbers(path) == [3, 4]
    assert mode(path) == 0o600


def test_it_goes_on_in_a_new_file_when_somebody_deletes_it(path: Path) -> None:
    """K06."""
    sink = jsonl(path)
    put(sink, 1)
    path.unlink()
    put(sink, 2)
    sink.close()
    assert numbers(path) == [2]


def test_it_goes_on_when_somebody_deletes_or_replaces_the_folder(tmp_path: Path) -> None:
    """K05: and the new folder is its own again."""
    path = tmp_path / "logs" / "records.jsonl"
    sink = jsonl(path)
    put(sink, 1)
    path.parent.rename(tmp_path / "moved")
    put(sink, 2)
    with pytest.raises(ConfigError, match="another gateway writes here"):
        jsonl(path)
    sink.close()
    assert numbers(tmp_path / "moved" / "records.jsonl", path) == [1, 2]
    assert mode(path.parent) == 0o700


def test_a_new_folder_that_is_another_gateways_is_left_to_it(tmp_path: Path) -> None:
    """K10."""
    path = tmp_path / "logs" / "records.jsonl"
    first = jsonl(path)
    path.parent.rename(tmp_path / "moved")
    second = jsonl(path)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            put(first, 1)
    put(second, 2)
    second.close()
    put(first, 3)
    first.close()
    assert numbers(path) == [2, 3]


def test_a_link_in_its_place_gets_nothing_and_when_it_is_gone_it_goes_on(path: Path) -> None:
    sink = jsonl(path)
    put(sink, 1)
    path.rename(path.with_name("old.jsonl"))
    other = path.with_name("other")
    other.write_text("theirs")
    path.symlink_to(other)
    for _ in range(3):
        with pytest.raises(OSError, match="symbolic link"):
            put(sink, 2)
    path.unlink()
    put(sink, 3)
    sink.close()
    assert other.read_text() == "theirs"
    assert numbers(path) == [3]


def test_a_file_in_the_place_of_its_folder_is_told_each_time(tmp_path: Path) -> None:
    """K05."""
    path = tmp_path / "logs" / "records.jsonl"
    sink = jsonl(path)
    path.parent.rename(tmp_path / "moved")
    path.parent.touch()
    before = opened(tmp_path)
    for _ in range(3):
        with pytest.raises(NotADirectoryError):
            put(sink, 1)
    assert len(opened(tmp_path)) <= len(before)
    sink.close()


# -- rotation ---------------------------------------------------------------------------------


def parts(path: Path) -> list[Path]:
    """All parts of a log, the oldest first."""
    return [*sorted(path.parent.glob("records-*.jsonl")), path]


def test_a_file_that_would_grow_too_large_is_put_aside_first(path: Path) -> None:
    sink = jsonl(path, size=2 * len(LINE))
    for _ in range(5):
        sink.write(RECORD, LINE)
    sink.close()
    assert [part.read_bytes() for part in parts(path)] == [LINE * 2, LINE * 2, LINE]
    assert parts(path)[0].name == "records-20231114T221320Z-1.jsonl"


def test_a_record_that_is_larger_than_a_file_may_be_has_a_file_of_its_own(path: Path) -> None:
    sink = jsonl(path, size=10)
    sink.write(RECORD, LINE)
    put(sink, 1)
    sink.close()
    assert [part.read_bytes() for part in parts(path)] == [LINE, b'{"n":1}\n']


def test_a_file_that_is_old_is_put_aside(path: Path) -> None:
    clock = Clock()
    sink = jsonl(path, age=60, clock=clock)
    put(sink, 1)
    clock.now += 59
    put(sink, 2)
    clock.now += 1
    put(sink, 3)
    clock.now += 59
    put(sink, 4)
    sink.close()
    assert [numbers(part) for part in parts(path)] == [[1, 2], [3, 4]]


def test_an_old_file_of_an_earlier_run_is_put_aside(path: Path) -> None:
    path.write_bytes(b'{"n":0}\n')
    os.utime(path, (1000.0, 1000.0))
    sink = jsonl(path, age=60)
    put(sink, 1)
    sink.close()
    assert [numbers(part) for part in parts(path)] == [[0], [1]]


def test_an_empty_file_is_never_put_aside(path: Path) -> None:
    clock = Clock()
    sink = jsonl(path, age=60, clock=clock)
    clock.now += 1000
    put(sink, 1)
    sink.close()
    assert parts(path) == [path]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(0.0, id="a clock that stands still"),
        pytest.param(-3600.0, id="a clock that is set back"),
        pytest.param(3600.0, id="a clock that runs"),
    ],
)
def test_no_part_is_ever_written_over(path: Path, step: float) -> None:
    """K14."""
    clock = Clock()
    sink = jsonl(path, size=1, clock=clock)
    for number in range(6):
        put(sink, number)
        clock.now += step if number % 2 else -step
    sink.close()
    assert sorted(numbers(*parts(path))) == list(range(6))
    assert len(parts(path)) == 6


def test_where_it_cannot_be_put_aside_the_file_grows_on_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ("r" * 240 + ".jsonl")  # with a time in it the name is too long
    sink = jsonl(path, size=10)
    put(sink, 1, 2, 3, 4)
    sink.close()
    assert numbers(path) == [1, 2, 3, 4]
    assert len(caplog.messages) == 1
    assert "cannot be rotated: File name too long" in caplog.text


# -- a full disk, a kill ----------------------------------------------------------------------

# The file may not grow beyond 1000 bytes: the kernel then writes in part, and after that fails.
_FULL = """
import os, resource, signal, sys
from pathlib import Path
from llm_passthrough.sinks.jsonl import Jsonl
path = Path(sys.argv[1])
sink = Jsonl(path, 1 << 20, 1e9)
line = lambda number: b'{"n":%d,"pad":"%s"}\\n' % (number, b"x" * 280)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
taken = []
fds = len(os.listdir("/proc/self/fd"))
for number in range(30):
    try:
        sink.write(None, line(number))
        taken.append(number)
    except OSError:
        pass
assert len(os.listdir("/proc/self/fd")) <= fds, "files are left open"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(None, line(99))
sink.close()
print(*taken, 99)
"""


def run(script: str, *args: object) -> str:
    """What a Python process of its own prints."""
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_did_not_fit_is_taken_back_and_when_there_is_room_again_it_goes_on(
    path: Path,
) -> None:
    taken = [int(number) for number in run(_FULL, path).split()]
    assert taken == [0, 1, 2, 99]
    assert numbers(path) == taken


def test_a_torn_line_on_a_full_disk_leaves_nothing_open(path: Path) -> None:
    path.write_bytes(b'{"n":' + b"0" * 995)
    script = _FULL.replace("sink = Jsonl(path", "path.rename('x'); sink = Jsonl(path").replace(
        "taken = []", "os.rename('x', path); taken = []"
    )
    folder = path.parent
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    assert done.stdout.split() == ["99"]
    assert json.loads(path.read_bytes().splitlines()[1])["n"] == 99


def _mounted(folder: Path) -> bool:
    """A disk of 16 kB at this folder, where this user may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not sys.platform.startswith("linux") or not _mounted(tmp_path):
        pytest.skip("a disk can be mounted by root on Linux only")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_loses_only_what_does_not_fit(small_disk: Path) -> None:
    path = small_disk / "records.jsonl"
    sink = jsonl(path)
    taken, faults = [], set()
    for number in range(12):
        try:
            sink.write(RECORD, b'{"n":%d,"pad":"%s"}\n' % (number, b"x" * 3000))
            taken.append(number)
        except OSError as error:
            faults.add(error.strerror)
    assert faults == {"No space left on device"}
    assert numbers(path) == taken
    path.rename(small_disk / "aside")
    (small_disk / "aside").unlink()
    put(sink, 99)
    sink.close()
    assert numbers(path) == [99]


# For each path that it is told, a process that says who it is and writes records until a kill;
# a number that was printed was taken before. What they have in common is imported once.
_ENDLESS = """
import os, sys, time
from pathlib import Path
from llm_passthrough.record import Body, Facts
from llm_passthrough.redact import Redactor
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.writer import Writer
for path in sys.stdin:
    if not os.fork():
        break
    os.wait()
    print("over", flush=True)
else:
    sys.exit()
print(os.getpid(), flush=True)
writer = Writer([Jsonl(Path(path.strip()), 1 << 30, 1e9)], Redactor([]), 1000)
writer.start()
number = 0
while True:
    number += 1
    writer.put(Facts(str(number), 0.0, "GET", b"/x", response=Body(b"x" * 3000, 3000), status=200))
    while writer.tally.written < number:
        time.sleep(0)
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def endless() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS], stdin=pipe, stdout=pipe, text=True
    ) as p:
        yield p


@pytest.mark.parametrize("after", [1, 2, 7, 30, 111])
def test_a_kill_loses_no_record_that_was_written_and_spoils_none_that_follows(
    path: Path, after: int, endless: subprocess.Popen[str]
) -> None:
    assert endless.stdin
    assert endless.stdout
    print(path, file=endless.stdin, flush=True)
    pid = int(endless.stdout.readline())
    told = [int(endless.stdout.readline()) for _ in range(after)]
    os.kill(pid, signal.SIGKILL)
    told += map(int, iter(endless.stdout.readline, "over\n"))
    sink = jsonl(path)
    put(sink, 0)
    sink.close()
    lines = path.read_bytes().splitlines()
    found = [int(json.loads(line)["id"]) for line in lines[: len(told)]]
    assert found == told
    assert json.loads(lines[-1]) == {"n": 0}
    assert len(lines) <= len(told) + 2, "at most one record is torn or untold"
