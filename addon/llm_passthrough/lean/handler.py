"""A client's connection: what mitmproxy does with tasks and locks, done at once and in order.

mitmproxy makes a task for each hook, which waits for a lock to tell that it is over. Nearly all
hooks are over when they return: here the event that says so stands in a queue behind the present
one. Nothing runs between two events of the queue, so that no lock is needed; and what is written
while it is worked off leaves in one write.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Iterator
from dataclasses import fields
from inspect import isawaitable
from typing import Any

from mitmproxy import hooks
from mitmproxy.exceptions import AddonHalt
from mitmproxy.flow import Flow
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.utils import asyncio_utils

from llm_passthrough.lean.master import Hook, Lists

_LOG = logging.getLogger(__name__)
_JOINED = 1 << 16
"""Bytes up to which pieces are copied into one; longer ones are handed over as they are."""


class Handler(ProxyConnectionHandler):
    """mitmproxy's handler of a client's connection and of those to upstreams made for it."""

    def __init__(self, master: Any, reader: Any, writer: Any, options: Any, mode: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            master, reader, writer, master.plain, mode
        )
        self._lists: Lists = master.lists
        self._events: deque[events.Event] = deque()
        self._working = False
        self._out: list[tuple[ConnectionIO, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def server_event(self, event: events.Event) -> None:
        """Work off an event and what follows from it, or leave it to who is at it."""
        self._events.append(event)
        if not self._working:
            self._working = True
            try:
                self._work_off()
            finally:
                self._working = False

    def _work_off(self) -> None:
        self.timeout_watchdog.register_activity()
        while self._events:
            try:
                for command in self.layer.handle_event(self._events.popleft()):
                    self._carry_out(command)
            except Exception:  # noqa: BLE001 - as mitmproxy does
                self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
        self._write()

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.SendData():
                if io := self.transports.get(command.connection):
                    self._out.append((io, command.data))
            case commands.StartHook():
                self._start_hook(command)
            case commands.OpenConnection():
                self._open(command)
            case commands.ConnectionCommand() if command.connection not in self.transports:
                pass  # it is closed already
            case commands.CloseConnection():
                self._write()
                half = isinstance(command, commands.CloseTcpConnection) and command.half_close
                self.close_connection(command.connection, half)
            case commands.Log():
                self.log(command.message, command.level)
            case commands.RequestWakeup():
                self._wake(command)
            case _:
                raise RuntimeError(f"Unexpected command: {command}")

    def _open(self, command: commands.OpenConnection) -> None:
        assert command.connection not in self.transports
        task = asyncio_utils.create_task(
            self.open_connection(command),
            name=f"server connection handler {command.connection.address}",
            keep_ref=False,
            client=self.client.peername,
        )
        self.transports[command.connection] = ConnectionIO(handler=task)

    def _wake(self, command: commands.RequestWakeup) -> None:
        task = asyncio_utils.create_task(
            self.wakeup(command), name="wakeup timer", keep_ref=False, client=self.client.peername
        )
        self.wakeup_timer.add(task)

    def _write(self) -> None:
        """Write what was said so far: the pieces for one connection that follow each other."""
        out, self._out = self._out, []
        at = 0
        while at < len(out):
            io, begin = out[at][0], at
            while at < len(out) and out[at][0] is io:
                at += 1
            pieces = [piece for _, piece in out[begin:at]]
            writer = io.writer
            assert writer is not None
            if writer.is_closing():
                continue
            if len(pieces) > 1 and sum(map(len, pieces)) > _JOINED:
                writer.writelines(pieces)  # type: ignore[union-attr]
            else:
                writer.write(b"".join(pieces))

    # -- hooks ----------------------------------------------------------------------------------

    def _start_hook(self, hook: commands.StartHook) -> None:
        """Call a hook; where it has to wait, somebody else goes on with it."""
        data = getattr(hook, _argument(hook.name))
        rest = iter(self._lists.of(hook.name))
        waiting = _call(rest, data)
        held = isinstance(data, Flow) and (data.intercepted or self._told(data))
        if waiting is None and not held:
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
            return
        # Eager: it is over when it is made, if it does not have to wait after all.
        task = asyncio.get_running_loop().create_task(self._go_on(hook, data, waiting, rest))
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Call a hook of a connection."""
        data = getattr(hook, _argument(hook.name))
        rest = iter(self._lists.of(hook.name))
        await self._rest(data, _call(rest, data), rest)

    async def _go_on(
        self,
        hook: commands.StartHook,
        data: Any,
        waiting: Awaitable[Any] | None,
        rest: Iterator[Hook],
    ) -> None:
        await self._rest(data, waiting, rest)
        if hook.blocking:
            await self.server_event(events.HookCompleted(hook))

    async def _rest(self, data: Any, waiting: Awaitable[Any] | None, rest: Iterator[Hook]) -> None:
        """Wait for what has to be waited for, and call those behind it."""
        with self.timeout_watchdog.disarm():
            while waiting is not None:
                try:
                    await waiting
                except Exception as error:  # noqa: BLE001 - as mitmproxy does
                    _LOG.error("Addon error: %s", error, exc_info=error)
                waiting = _call(rest, data)
            if isinstance(data, Flow):
                if self._lists.of("update"):
                    await self._lists.trigger_event(hooks.UpdateHook([data]))
                await data.wait_for_resume()

    def _told(self, flow: Flow) -> bool:
        """Whether somebody wants to know of each change of a flow."""
        return bool(self._lists.of("update"))

    async def drain_writers(self) -> None:
        """Wait until there is room, where there is none."""
        for io in self.transports.values():
            if io.writer is not None and not _has_room(io):
                await super().drain_writers()  # type: ignore[no-untyped-call]
                return


def _has_room(io: ConnectionIO) -> bool:
    writer, reader = io.writer, io.reader
    if not isinstance(writer, asyncio.StreamWriter) or not isinstance(reader, asyncio.StreamReader):
        return False
    transport = writer.transport
    empty = not transport.get_write_buffer_size()
    return empty and not transport.is_closing() and reader.exception() is None


def _call(rest: Iterator[Hook], data: Any) -> Awaitable[Any] | None:
    """Call one after the other until there is something to wait for."""
    for hook in rest:
        try:
            waiting: Any = hook(data)
        except AddonHalt:
            for _ in rest:
                pass
            return None
        except Exception as error:  # noqa: BLE001 - as mitmproxy does
            _LOG.error("Addon error: %s", error, exc_info=error)
            continue
        if waiting is not None and isawaitable(waiting):
            return waiting
    return None


@functools.cache
def _argument(name: str) -> str:
    """The name of what a hook is about."""
    (field,) = fields(hooks.all_hooks[name])  # type: ignore[arg-type]
    return field.name
