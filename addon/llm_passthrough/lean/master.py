"""A master with the addons that a gateway needs, and with their hooks in lists."""

import gc
from collections.abc import Callable
from inspect import isawaitable
from types import ModuleType
from typing import Any, TypeGuard

from mitmproxy import hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.addons import block, core, errorcheck, next_layer, proxyserver, termlog, tlsconfig
from mitmproxy.exceptions import AddonHalt
from mitmproxy.flow import Flow
from mitmproxy.master import Master
from mitmproxy.options import Options

from llm_passthrough.lean import memory
from llm_passthrough.lean.plain import Plain

_ALLOCATIONS = 50_000
"""How many more objects are made than let go before the garbage collector looks at the youngest."""

type Hook = Callable[..., Any]


class Lean(Master):
    """mitmdump's master, less the addons that neither serve nor record a call."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.addons = self.lists = Lists(self)
        self._termlog_addon = termlog.TermLog()
        self.addons.add(self._termlog_addon, *_addons(), errorcheck.ErrorCheck())
        self.plain = Plain(options)

    async def running(self) -> None:
        """As mitmproxy does; what is there then stays."""
        await super().running()
        settle()


def settle() -> None:
    """What is there now is not looked through again, and what comes not often; memory is kept."""
    memory.keep()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)


def _addons() -> list[Any]:
    return [
        core.Core(),
        block.Block(),
        proxyserver.Proxyserver(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
    ]


class _Names:
    """Hears which options addons have."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_option(self, name: str, *_: object, **__: object) -> None:
        self.names.add(name)


def offered() -> set[str]:
    """The options of mitmproxy that a lean master knows."""
    found = _Names()
    for addon in _addons():
        if load := getattr(addon, "load", None):
            load(found)
    return {*found.names, *Options().keys(), "termlog_verbosity"}


class Lists(AddonManager):
    """Keeps which functions a hook calls, instead of looking through all addons at each event."""

    def __init__(self, master: Master) -> None:
        self._lists: dict[str, tuple[Hook, ...]] = {}
        super().__init__(master)  # type: ignore[no-untyped-call]

    @property
    def chain(self) -> list[Any]:
        """The addons in their order."""
        return self._chain

    @chain.setter
    def chain(self, addons: list[Any]) -> None:
        self._chain = addons
        self._lists.clear()

    @classmethod
    def take(cls, master: Any) -> None:
        """Keep the lists of a master that has its addons already."""
        addons = master.addons
        chain = addons.__dict__.pop("chain")
        addons.__class__, addons._chain, addons._lists = cls, chain, {}
        master.options.changed.connect(addons.forget)
        master.lists, master.plain = addons, Plain(master.options)

    def forget(self, updated: object = None) -> None:
        """Addons came, went, or changed places."""
        self._lists.clear()

    def add(self, *addons: Any) -> None:
        """As mitmproxy does."""
        super().add(*addons)  # type: ignore[no-untyped-call]
        self.forget()

    def register(self, addon: Any) -> Any:
        """As mitmproxy does: also for a script, which has addons below it."""
        self.forget()
        return super().register(addon)  # type: ignore[no-untyped-call]

    def remove(self, addon: Any) -> None:
        """As mitmproxy does."""
        super().remove(addon)  # type: ignore[no-untyped-call]
        self.forget()

    def of(self, name: str) -> tuple[Hook, ...]:
        """What a hook calls, in order."""
        found = self._lists.get(name)
        if found is None:
            attributes = [getattr(addon, name, None) for addon in traverse(self._chain)]
            found = tuple(filter(_is_hook, attributes))
            self._lists[name] = found
        return found

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """As mitmproxy does, but nobody is told of a flow's change who does not ask."""
        await self.trigger_event(event)
        (data,) = event.args()
        if isinstance(data, Flow) and self.of("update"):
            await self.trigger_event(hooks.UpdateHook([data]))

    async def trigger_event(self, event: hooks.Hook) -> None:
        """Call all addons that have this hook."""
        for hook in self.of(event.name):
            try:
                with safecall():
                    result = hook(*event.args())
                    if result is not None and isawaitable(result):
                        await result
            except AddonHalt:
                return


def _is_hook(value: object) -> TypeGuard[Hook]:
    return callable(value) and not isinstance(value, ModuleType)
