"""mitmproxy's addons come one by one, and who asks for all gets all."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import mitmproxy
import pytest
from llm_passthrough.cli import fewer
from mitmproxy import addons as theirs
from mitmproxy.addons import core

NAME = "mitmproxy.addons"


@pytest.fixture
def addons() -> Iterator[ModuleType]:
    """The package as it is behind `one_by_one`; then as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mitmproxy, "addons", theirs)
        patch.delitem(sys.modules, NAME)
        fewer.one_by_one()
        yield sys.modules[NAME]


def test_an_addon_is_imported_when_it_is_asked_for(addons: ModuleType) -> None:
    assert addons is mitmproxy.addons is not theirs
    assert "core" not in vars(addons)
    assert addons.core is core
    assert importlib.import_module(f"{NAME}.core") is core
    assert "default_addons" not in vars(addons)


def test_who_asks_for_all_gets_all(addons: ModuleType) -> None:
    assert [type(one) for one in addons.default_addons()] == [
        type(one) for one in theirs.default_addons()
    ]
    assert "core" in vars(addons)


@pytest.mark.parametrize("name", ["nonsense", "_nonsense", "__all__"])
def test_what_is_not_there_is_not_there(addons: ModuleType, name: str) -> None:
    assert not hasattr(addons, name)


def test_what_is_imported_already_stays(addons: ModuleType) -> None:
    fewer.one_by_one()
    assert sys.modules[NAME] is addons
