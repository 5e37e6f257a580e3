"""A ration: how many a minute there may be of each of several names, some of them at once."""

from collections.abc import Callable

_MINUTE = 60.0


class Ration:
    """Allows `per_minute` of each name, or any number of them; `clock` gives seconds."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self._most = per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # how many are left, and since when

    def allows(self, name: str) -> bool:
        """Whether there may be one more of this name."""
        if self._most is None:
            return True
        now = self._clock()
        left, since = self._left.get(name, (float(self._most), now))
        left = min(float(self._most), left + (now - since) * self._most / _MINUTE)
        allowed = left >= 1
        self._left[name] = (left - 1 if allowed else left, now)
        return allowed
