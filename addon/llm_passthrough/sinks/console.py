"""The console: one line a call, for a person; nothing from outside reaches the terminal raw."""

from datetime import datetime

from rich.console import Console
from rich.text import Text

from llm_passthrough.record import Record

_COLOURS = {"ok": "green", "refused": "yellow", "client_abort": "yellow"}
_LONGEST = 60


class ConsoleSink:
    """Prints time, client, provider, model, status, duration and bytes of a call."""

    name = "console"
    durable = False

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, record: Record, line: bytes) -> None:
        """Print one line."""
        self._console.print(row(record), soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


def row(record: Record) -> Text:
    """A record as one line of text."""
    moment = datetime.fromisoformat(record.time).astimezone().strftime("%H:%M:%S")
    answer = record.response
    status = str(answer.status) if answer else "---"
    what = record.model.requested or record.operation or record.request.client_path
    text = Text()
    text.append(f"{moment} ", "dim")
    text.append(f"{plain(record.client):<10} ", "dim")
    text.append(f"{record.provider or '-':<10} ", "bold")
    text.append(f"{plain(what):<32} ")
    text.append(f"{status} ", _COLOURS.get(record.outcome, "red"))
    text.append(f"{_duration(record.timing_ms.total):>8} ")
    sent, got = _size(record.request.bytes), _size(answer.bytes if answer else 0)
    text.append(f"{sent:>8} up {got:>8} down", "dim")
    if record.outcome != "ok":
        cause = f"  {record.outcome}"
        if record.error:
            cause += f": {plain(record.error.message, 200)}"
        text.append(cause, _COLOURS.get(record.outcome, "red"))
    return text


def plain(text: str, longest: int = _LONGEST) -> str:
    """Text from outside without control characters, and no longer than a line should be."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _duration(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"
