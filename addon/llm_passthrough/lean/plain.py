"""mitmproxy's options as plain attributes: it makes a deep copy at each look."""

from typing import Any

from mitmproxy.options import Options

_SIMPLE = (bool, int, str, type(None))


class Plain:
    """The present values of options; for those who only look at them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._take(options.keys())
        options.changed.connect(self._take)

    def _take(self, updated: set[str]) -> None:
        # Not only those: a change that is taken back is told before it is.
        for name in self._options.keys():  # noqa: SIM118 - it is no dict
            value = getattr(self._options, name)
            if isinstance(value, _SIMPLE):
                self.__dict__[name] = value
            else:
                self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)
