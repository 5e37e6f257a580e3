"""What an answer said: token counts as tables, and a reading.

Counts are inclusive: input holds cached tokens, output holds reasoning tokens. Unknown is None.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_type_hints

type Object = Mapping[str, Any]


# Never changed, but not frozen: that would make making one many times slower, and each call makes
# one. So it is with all that a record is made of.
@dataclass(slots=True)
class Usage:
    """Token counts. Input includes cached tokens, output includes reasoning tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    tool_use_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    total_tokens: int | None = None
    web_searches: int | None = None
    search_units: int | None = None
    audio_seconds: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """The sum of two answers; a count that one of them does not say is the other's."""
        return Usage(**{name: _sum(getattr(self, name), getattr(other, name)) for name in NAMES})


NAMES = tuple(get_type_hints(Usage))


@dataclass(slots=True)
class Reading:
    """What an answer said. `first_token_at` is on the clock of whoever fed the reader.

    `complete` is judged by the protocol alone: None where it does not say. `unread` says what
    could not be read, and why.
    """

    model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    tool_calls: tuple[str, ...] = ()
    first_token_at: float | None = None
    complete: bool | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    service_tier: str | None = None
    unread: str | None = None


class Counts:
    """How the counts of one dialect are found in its usage object.

    Each row names a field of Usage and where it may stand: the first place that holds a number
    counts; `a.b` is a key in a key; in a list of `{modality, count}` the key is the modality;
    `a+b` is the sum of those that are there, `a+b|c` takes c for b where b is missing. `mend`
    makes counts inclusive where only the numbers together tell that they are not.
    """

    def __init__(self, mend: Callable[[Usage], Usage] | None = None, /, **rows: str) -> None:
        self._mend = mend
        self._tree: _Tree = {}
        # In the order in which they are looked for: all places of a field, in each place all terms,
        # for each term all choices.
        self._places: list[_Place] = []
        for name, row in rows.items():
            for place, terms in enumerate(row.split()):
                for term, choices in enumerate(terms.split("+")):
                    for path in choices.split("|"):
                        _plant(self._tree, path, len(self._places))
                        self._places.append(_Place(name, place, term))

    def read(self, raw: Object, notes: list[str]) -> Usage | None:
        """The counts in `raw`, or None where there are none; oddities are added to `notes`."""
        hits: _Hits = {}
        _find(raw, self._tree, hits, notes)
        if not hits:
            return None
        found: dict[str, Any] = {}
        last = self._places[0]
        for order in sorted(hits):
            here = self._places[order]
            name, place, term = here
            if name not in found:
                found[name] = hits[order]
            elif last.place == place and last.term != term:
                found[name] += hits[order]
            else:  # a later place, or another choice for a term that is there
                continue
            last = here
        if "audio_seconds" in found:
            found["audio_seconds"] = float(found["audio_seconds"])
        usage = Usage(**found)
        return self._mend(usage) if self._mend else usage


class _Place(NamedTuple):
    """Where a count may stand: in which place of its field, and which term of that it is."""

    name: str
    place: int
    term: int


class _Node(NamedTuple):
    """A key of a usage object: the places that it is, by their order, and the keys below it."""

    path: str
    orders: list[int]
    below: "_Tree"


type _Tree = dict[str, _Node]
type _Hits = dict[int, int | float]  # by the order of their places


def _plant(tree: _Tree, path: str, order: int) -> None:
    keys = path.split(".")
    for depth, key in enumerate(keys):
        node = tree.setdefault(key, _Node(".".join(keys[: depth + 1]), [], {}))
        tree = node.below
    node.orders.append(order)


def _find(raw: Object, tree: _Tree, hits: _Hits, notes: list[str]) -> None:
    """Add the counts in `raw`: one look at each of its keys, however many places there are."""
    for key, value in raw.items():
        if value is None or (node := tree.get(key)) is None:
            continue
        path, orders, below = node
        if orders:
            plain = type(value) is int and 0 <= value < _MOST
            count = value if plain else _count(value, path, notes)
            if count is not None:
                for order in orders:
                    hits[order] = count
        if not below:
            continue
        if isinstance(value, dict):
            _find(value, below, hits, notes)
        elif isinstance(value, list):
            _find({name: _of_modality(value, name) for name in below}, below, hits, notes)


_MODALITIES = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
_MOST = 1 << 53  # beyond this JSON numbers are not exact, and no count is


def _of_modality(rows: list[Any], key: str) -> int | float | None:
    total = None
    for row in rows:
        if isinstance(row, dict):
            name = row.get("modality")
            name = _MODALITIES.get(name) if isinstance(name, int) else name
            if isinstance(name, str) and name.upper() == key:
                total = _sum(total, _count(row.get("tokenCount", row.get("tokens")), key, []))
    return total


def _count(value: Any, path: str, notes: list[str]) -> int | float | None:
    """A number as a count; seconds alone need not be whole."""
    if type(value) is int and 0 <= value < _MOST:
        return value
    if isinstance(value, float) and 0 <= value < _MOST:
        if path.endswith("seconds"):
            return value
        if value.is_integer():
            return int(value)
    if value is not None:
        notes.append(f"usage: {path} is not a count")
    return None


def _sum(one: float | None, other: float | None) -> Any:
    return other if one is None else one if other is None else one + other
