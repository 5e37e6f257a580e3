"""The demo provider itself: the socket, the connections, and what happens to one request.

HTTP/1.1 over asyncio streams. For one request: read it, find its row, check the credential, do the
mischief that it asks for, call the handler, wrap the family's headers around, send.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable

from . import families, faults, routes
from .answers import Answer, Call, Framed, RefusedError, frame
from .families import Family
from .http1 import MAX_HEAD, BadRequestError, Request, Seen, read_request
from .realtime import Talk
from .shelf import Shelf
from .websocket import Socket


class DemoProvider:
    """A loopback server that speaks five provider APIs.

    ``pace`` is the seconds between streamed events. With ``journal``, ``seen`` keeps every request
    as it came in. With ``keys``, a request whose credential is not one of them gets the provider's
    401. With ``ssl_context`` it speaks TLS.

    ``bind`` works without a running loop, so that a configuration can name the port; then
    ``await start()``, and ``await stop()`` in the same loop.
    """

    def __init__(
        self,
        *,
        pace: float = 0.02,
        journal: bool = False,
        keys: frozenset[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self._pace, self._journal, self._keys, self._ssl = pace, journal, keys, ssl_context
        self._shelf = Shelf()
        self._socket: socket.socket | None = None
        self._address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Bind and listen now; returns the port. OSError when it is taken."""
        if self._socket is not None:
            raise RuntimeError(f"the demo provider is already bound to {self._address}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self._socket.setblocking(False)
        bound: int = self._socket.getsockname()[1]
        self._address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        return bound

    @property
    def base_url(self) -> str:
        """Scheme, host and port, no slash at the end."""
        if not self._address:
            raise RuntimeError("the demo provider has no address before bind()")
        return f"{self._scheme}://{self._address}"

    @property
    def _scheme(self) -> str:
        return "https" if self._ssl else "http"

    async def start(self) -> None:
        """Serve on the bound socket (bound to any free port if bind was not called)."""
        if self._socket is None:
            self.bind()
        self._server = await asyncio.start_server(
            self._connected, sock=self._socket, ssl=self._ssl, limit=MAX_HEAD
        )

    async def stop(self) -> None:
        """Close the socket and every connection; bind and start may follow again."""
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            with contextlib.suppress(TimeoutError):  # a client that never ends its handshake
                await asyncio.wait_for(self._server.wait_closed(), 1.0)
        self._server = self._socket = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # So drain() waits until all is on the wire; asyncio's TLS takes a limit of 0 as always full
        writer.transport.set_write_buffer_limits(high=1 if self._ssl else 0, low=0)
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, EOFError, TimeoutError, ssl.SSLError):
            pass  # the client went away, or a fault on request cut the connection
        finally:
            writer.close()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; False when the connection is to end."""
        try:
            request = await read_request(reader, writer)
        except BadRequestError as bad:
            await self._refuse(writer, bad)
            return False
        if request is None:
            return False
        if self._journal:
            self.seen.append(request.seen())
        fault = faults.in_request(request)
        if fault == "slow":
            await asyncio.sleep(faults.SLOW)
        family, answer = self._answer(request, fault)
        if isinstance(answer, Answer):
            framed = frame(
                request, families.finish(family, answer) if answer.status < 400 else answer
            )
            return await self._send(writer, request, framed, fault)
        await Socket(reader, writer, self._pace).run(request, family, answer)
        return False

    def _answer(self, request: Request, fault: str | None) -> tuple[Family, Answer | Talk]:
        """The family that answers, and its answer: for a WebSocket the conversation to have."""
        found = routes.find(request)
        if found is None:
            family = routes.guess(request)
            return family, _unknown(family, request)
        row, names = found
        family = row.family
        if "upload_id" not in request.query and not families.is_authorized(
            family, request, self._keys
        ):
            return family, families.error(family, 401, family.unauthorized)
        if fault and fault.isdigit():
            return family, families.error(family, int(fault))
        if row.talk is not None:
            return family, row.talk(request)
        host = request.header("host") or self._address
        azure = family is families.AZURE
        call = Call(request, names, self._shelf, f"{self._scheme}://{host}", azure)
        assert row.handler is not None
        try:
            return family, row.handler(call).ready()
        except RefusedError as no:
            return family, families.error(family, no.status, no.message, no.param)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Handlers read the client's JSON as it should be; this one is of another shape.
            return family, families.error(family, 400, f"Invalid request body: {error}")

    async def _refuse(self, writer: asyncio.StreamWriter, bad: BadRequestError) -> None:
        request = Request("GET", "/", b"", [("Connection", "close")], b"", 0.0, "1.1")
        answer = families.error(families.OPENAI, bad.status, str(bad))
        await self._send(writer, request, frame(request, answer), None)

    async def _send(
        self, writer: asyncio.StreamWriter, request: Request, framed: Framed, fault: str | None
    ) -> bool:
        writer.write(framed.head)
        if request.method == "HEAD":
            await writer.drain()
            return framed.keeps_alive
        if fault == "stall":
            await writer.drain()
            await asyncio.sleep(faults.STALL)
        for number, event in enumerate(_events(framed, fault)):
            if number and self._pace:
                await writer.drain()
                await asyncio.sleep(self._pace)
            if fault == "cut" and number == faults.CUT_AFTER:
                break
            writer.write(b"%x\r\n%b\r\n" % (len(event), event) if framed.chunked else event)
            await writer.drain()
        if fault == "cut":
            writer.transport.abort()
            return False
        if framed.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return framed.keeps_alive


def _events(framed: Framed, fault: str | None) -> Iterable[bytes]:
    """The pieces to send; a plain body to be cut is made of more pieces than will go out."""
    body = framed.body
    if not isinstance(body, bytes):
        return body
    if fault == "cut":
        size = max(1, len(body) // (faults.CUT_AFTER + 1))
        return [body[i : i + size] for i in range(0, len(body), size)]
    return [body] if body else []


def _unknown(family: Family, request: Request) -> Answer:
    if family is families.OPENAI and routes.allows_other_method(request):
        return families.error(family, 405, f"Not allowed to {request.method} on {request.path}.")
    path = request.path if family is families.OPENAI else ""
    message = family.unknown.format(method=request.method, path=path)
    return families.error(family, 404, message)
