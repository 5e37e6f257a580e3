"""Which JSONL logs a path means: one, that of each worker beside it, or all of a folder."""

from pathlib import Path
from typing import NamedTuple

from llm_passthrough import retention


class Log(NamedTuple):
    """One JSONL log: `path` is being written; with `alone`, nothing else belongs to it."""

    path: Path
    alone: bool = False

    def rotated(self) -> list[retention.Rotated]:
        """What was rotated out of it, the oldest first."""
        if self.alone:
            return []
        try:
            return retention.rotated(self.path.parent, self.path.stem, self.path.suffix)
        except (FileNotFoundError, NotADirectoryError):
            return []


def logs_of(path: Path) -> list[Log]:
    """The logs of a file, which several workers may have written, or of a folder."""
    if path.is_dir():
        stems = {retention.log_of(file)[0] for file in path.glob("*.jsonl")}
        return [Log(path / f"{stem}.jsonl") for stem in sorted(stems)]
    if retention.log_of(path)[1]:
        return [Log(path, alone=True)]
    return [Log(file) for file in retention.family(path)]
