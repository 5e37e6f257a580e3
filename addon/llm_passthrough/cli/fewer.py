"""Imports mitmproxy's addons when they are asked for: all of them are a fifth of a start.

`mitmproxy.addons` imports each addon, and with them Flask, an LDAP client and more than two hundred
other modules, of which `serve` needs none.
"""

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType

import mitmproxy

_NAME = "mitmproxy.addons"


def one_by_one() -> None:
    """From now on. Who asks for an addon or for all of them gets what he would have got."""
    spec = None if _NAME in sys.modules else find_spec(_NAME)
    if spec is not None:
        module = module_from_spec(spec)
        module.__getattr__ = lambda name: _found(module, name)  # type: ignore[method-assign]
        sys.modules[_NAME] = module
        mitmproxy.addons = module  # type: ignore[attr-defined]


def _found(module: ModuleType, name: str) -> object:
    """What the package has by that name: one of its modules, or what it defines itself."""
    if name.startswith("__"):  # the import system asks for these
        raise AttributeError(name)
    try:
        return importlib.import_module(f"{_NAME}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{_NAME}.{name}":
            raise
    del module.__getattr__
    assert module.__spec__
    assert module.__spec__.loader
    module.__spec__.loader.exec_module(module)
    return getattr(module, name)
