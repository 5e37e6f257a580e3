"""JSONL: one `write` a record, rotated by size and age, safe against kill -9 and a full disk.

Files are 0600 in a folder that is made 0700. A torn last line (from a kill in the middle of a
write, or a full disk) is ended with a line break, so that it never spoils the next record.
"""

import errno
import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llm_passthrough.errors import ConfigError
from llm_passthrough.record import Record

_LOG = logging.getLogger(__name__)
_TAIL = 16 << 20  # bytes in which the beginning of a torn line is looked for
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Jsonl:
    """Appends records to `path`; `rotate_bytes` and `rotate_seconds` begin a new file.

    Raises ConfigError when the file cannot be had at start, naming the mend.
    """

    name = "jsonl"
    durable = True

    def __init__(
        self,
        path: Path,
        rotate_bytes: int,
        rotate_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._where = str(path)
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._clock = clock
        self._fd = -1
        self._lock = -1
        self._stuck = False
        try:
            _make(path.parent)
            self._lock = self._locked()
            self._open()
        except OSError as error:
            self.close()
            raise ConfigError(f"log.path: {path}: {_why(error)}") from None

    def write(self, record: Record, line: bytes) -> None:
        """Append one line with one write; what was written in part is taken back."""
        end = self._follow()
        if end and (end + len(line) > self._rotate_bytes or self._old()):
            self._rotate()
        try:
            self._append(line)
        except OSError:
            # The next record opens the file anew, which ends what may have been left torn.
            os.close(self._fd)
            self._fd = -1
            raise

    def _append(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file and let another process have the folder."""
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def _open(self) -> None:
        fd = os.open(self._path, _FLAGS, 0o600)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            os.fchmod(fd, 0o600)
            if status.st_size and os.pread(fd, 1, status.st_size - 1) != b"\n":
                self._mend(fd, status.st_size)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._file = fd, (status.st_dev, status.st_ino)
        self._born = status.st_mtime if status.st_size else self._clock()

    def _mend(self, fd: int, size: int) -> None:
        """End a last line that has no end, and say so where a record was lost with it."""
        tail = os.pread(fd, _TAIL, max(0, size - _TAIL)).rpartition(b"\n")[2]
        os.write(fd, b"\n")
        try:
            json.loads(tail)
        except (ValueError, RecursionError):
            _LOG.warning(
                "%s: 1 record was cut off at its end (%d bytes of it are left); readers skip it",
                self._path,
                len(tail),
            )

    def _locked(self) -> int:
        fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _lock_again(self) -> None:
        """Have the lock of this folder, which may be another one than that at start."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(f"{self._path}.lock"), os.fstat(self._lock)):
                return
        lock = self._locked()
        os.close(self._lock)
        self._lock = lock

    def _follow(self) -> int:
        """Open anew when somebody renamed or removed the file; how long it is."""
        try:
            here = os.stat(self._where, follow_symlinks=False)
            if self._fd >= 0 and self._file == (here.st_dev, here.st_ino):
                return here.st_size
        except FileNotFoundError:
            pass
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _make(self._path.parent)
        self._lock_again()
        self._open()
        return os.fstat(self._fd).st_size

    def _old(self) -> bool:
        return self._clock() - self._born >= self._rotate_seconds

    def _rotate(self) -> None:
        """Begin a new file; where that cannot be, the old one grows on: no record is lost."""
        try:
            self._path.rename(self._free_name())
        except OSError as error:
            if not self._stuck:
                _LOG.error("%s: cannot be rotated: %s", self._path, error.strerror)
            self._stuck = True
            return
        self._stuck = False
        os.close(self._fd)
        self._fd = -1
        self._open()

    def _free_name(self) -> Path:
        """`records-<time>.jsonl`, with a number behind it where that is taken."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        stem, suffix = self._path.stem, self._path.suffix
        name, number = self._path.with_name(f"{stem}-{stamp}{suffix}"), 1
        while name.exists():
            name = self._path.with_name(f"{stem}-{stamp}-{number}{suffix}")
            number += 1
        return name


def _make(folder: Path) -> None:
    """A folder and those above it that are not there yet, each for this user alone."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _why(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link; name the file itself"
    if error.errno == errno.EWOULDBLOCK:
        return "another gateway writes here; give this one its own log.path"
    return f"{error.strerror}; name a file in a folder that you can write to"
