"""Sealing: our credential goes on the wire to one origin, and shows nowhere else.

With `wire` and `tokens/` the only module that opens a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mitmproxy import http
from mitmproxy.connection import Server
from pydantic import SecretBytes, SecretStr

from llm_passthrough.forward import is_public
from llm_passthrough.providers import Credential, Origin
from llm_passthrough.wire import CREDENTIALS, Fields, onward, spelt


class Sealed(http.Headers):
    """Headers whose credential is a placeholder everywhere but on the wire.

    mitmproxy sends `bytes(headers)` and shows, saves, copies and exports `fields`. The secret is
    no part of `fields`; it is put in by the one `bytes()` that follows `unlock`, which the seam
    into mitmproxy calls when the connection is made, and only if that is the right one.
    """

    def __init__(self, fields: Fields = (), seal: "Seal | None" = None) -> None:
        super().__init__(fields)
        self.seal = seal
        self._block: SecretBytes | None = None

    def unlock(self, server: Server) -> bool:
        """Whether `server` is the origin that these headers are for; arms the next bytes()."""
        self._block = None
        if self.seal is None or not self.seal.fits(server):
            return False
        opened = self.seal.opened(self.fields)
        self._block = SecretBytes(b"".join(b"%s: %s\r\n" % field for field in opened))
        return True

    def __bytes__(self) -> bytes:
        block, self._block = self._block, None
        return super().__bytes__() if block is None else block.get_secret_value()

    def __copy__(self) -> http.Headers:
        return http.Headers(self.fields)

    def __deepcopy__(self, memo: dict[int, Any]) -> http.Headers:
        return http.Headers(self.fields)

    def __reduce__(self) -> NoReturn:
        raise TypeError("sealed headers are not pickled")


type Hidden = tuple[bytes, bytes, SecretBytes]


@dataclass(frozen=True, slots=True)
class Seal:
    """The one origin that headers may go to, and what is hidden in them.

    `hidden` are a header's name, the placeholder that is shown as its value, and the value.
    `public`: the origin must be at a public address; its name alone does not say where it is.
    """

    origin: Origin
    hidden: tuple[Hidden, ...] = field(default=(), repr=False)
    public: bool = False

    def fits(self, server: Server) -> bool:
        """Whether a made connection is the one that this seal was made for."""
        if server.via is not None or not self.origin.is_at(server.address, server.tls):
            return False
        if self.public and not (server.peername and is_public(server.peername[0])):
            return False
        # Verified by mitmproxy: ssl_insecure is refused at start and at run time.
        return not server.tls or (server.tls_established and server.sni == self.origin.host)

    def opened(self, fields: Fields) -> Fields:
        """The fields as they go on the wire.

        Only a credential's own header is opened: a client may know how the placeholder looks,
        and have put it into another one that the provider would show him.
        """
        if not self.hidden:
            return fields
        values = {(name, shown): value for name, shown, value in self.hidden}
        return tuple(
            (field[0], values[field].get_secret_value()) if field in values else field
            for field in fields
        )


def sign(
    fields: Fields,
    origin: Origin,
    credential: Credential | None,
    secret: SecretStr | None,
    label: str,
    extra: Fields = (),
) -> Sealed:
    """The fields with the origin's Host, `extra`, and exactly one credential, put on last.

    `label` stands for the secret in what is shown, such as `[openai/key-1]`. Without a
    credential (a route without a key) the headers are sealed to the origin all the same.
    """
    # A route may send its key in a header that `strip` does not know as a credential's.
    header = spelt(credential.header) if credential else b""
    extra += credential.extra if credential else ()
    ours = {header, *(spelt(name) for name, _ in extra)}
    out = _addressed([field for field in fields if spelt(field[0]) not in ours], origin)
    out.extend((name, value) for name, value in extra if spelt(name) != header)
    if credential is None or secret is None:
        return Sealed(tuple(out), Seal(origin))
    shown = credential.form.replace(b"{key}", label.encode())
    value = credential.form.replace(b"{key}", secret.get_secret_value().encode())
    out.append((credential.header, shown))
    return Sealed(tuple(out), Seal(origin, ((credential.header, shown, SecretBytes(value)),)))


def pass_on(fields: Fields, origin: Origin, public: bool) -> Sealed:
    """A client's fields with its own credentials, sealed to the origin that it asked for: that is
    no provider's, and gets no key of ours."""
    out: list[tuple[bytes, bytes]] = []
    hidden: list[Hidden] = []
    for name, value in onward(fields):
        if spelt(name) in CREDENTIALS:
            shown = b"[client/%d]" % (len(hidden) + 1)
            hidden.append((name, shown, SecretBytes(value)))
            out.append((name, shown))
        else:
            out.append((name, value))
    return Sealed(tuple(_addressed(out, origin)), Seal(origin, tuple(hidden), public))


def _addressed(fields: Iterable[tuple[bytes, bytes]], origin: Origin) -> list[tuple[bytes, bytes]]:
    """The fields with the origin's Host in the place of the client's, or first of all."""
    out = [(name, origin.authority if name.lower() == b"host" else value) for name, value in fields]
    if not any(name.lower() == b"host" for name, _ in out):
        out.insert(0, (b"Host", origin.authority))
    return out


def opened(headers: Sealed) -> dict[str, str]:
    """Sealed headers with their secret in them, for a request that the command line sends."""
    fields = headers.seal.opened(headers.fields) if headers.seal else headers.fields
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


def plain(secrets: Iterable[SecretStr]) -> list[str]:
    """The texts that must not stand in any record: for the redactor, at start."""
    return [secret.get_secret_value() for secret in secrets]
