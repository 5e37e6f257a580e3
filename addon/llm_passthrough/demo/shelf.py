"""The files that clients uploaded, kept in memory for as long as the demo provider runs."""

import re
from collections import OrderedDict
from dataclasses import dataclass, replace

KEEP = 64  # files; the oldest goes first


@dataclass(frozen=True)
class File:
    """One stored file. ``made`` is in epoch seconds."""

    id: str
    name: str
    type: str
    data: bytes
    made: float
    purpose: str = "user_data"


class Shelf:
    """A small store of files by id; a Gemini upload grows here until it is finalized."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, File] = OrderedDict()

    def put(self, file: File) -> File:
        """Keep a file, and forget the oldest when the shelf is full."""
        self._files[file.id] = file
        while len(self._files) > KEEP:
            self._files.popitem(last=False)
        return file

    def append(self, id: str, data: bytes) -> File | None:
        """Add bytes to the end of a file; None when there is no such file."""
        file = self._files.get(id)
        return self.put(replace(file, data=file.data + data)) if file else None

    def get(self, id: str) -> File | None:
        """The file of this id, or None."""
        return self._files.get(id)

    def drop(self, id: str) -> bool:
        """Forget a file; False when there was none."""
        return self._files.pop(id, None) is not None

    def starting(self, prefix: str) -> list[File]:
        """All files whose id starts so, newest first."""
        return [file for id, file in reversed(self._files.items()) if id.startswith(prefix)]


@dataclass(frozen=True)
class Part:
    """One part of a multipart/form-data body (RFC 7578)."""

    name: str
    filename: str | None
    type: str
    data: bytes


def parts(content_type: str, body: bytes) -> dict[str, Part]:
    """The parts of a form by name; ValueError when it is not multipart."""
    found = re.search(r'boundary="?([^";,]+)"?', content_type)
    if found is None:
        raise ValueError("Content-Type is not multipart/form-data with a boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode())
    read = [_part(piece) for piece in pieces[1:-1]]
    return {part.name: part for part in read}


def _part(piece: bytes) -> Part:
    head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    text = head.decode("utf-8", "replace")
    name = re.search(r'(?<!file)name="([^"]*)"', text)
    filename = re.search(r'filename="([^"]*)"', text)
    type = re.search(r"(?im)^content-type:\s*(\S+)", text)
    return Part(
        name[1] if name else "",
        filename[1] if filename else None,
        type[1] if type else "application/octet-stream",
        data,
    )
