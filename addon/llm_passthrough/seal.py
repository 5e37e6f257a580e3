"""Sealing: our credential goes on the wire to one origin, and shows nowhere else.

With `wire` and `tokens/` the only module that opens a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mitmproxy import http
from mitmproxy.connection import Server
from pydantic import SecretBytes, SecretStr

from llm_passthrough.providers import Credential, Origin
from llm_passthrough.wire import Fields, spelt


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


@dataclass(frozen=True, slots=True)
class Seal:
    """A secret, the placeholder that stands for it, and the one origin it may go to."""

    origin: Origin
    header: bytes = b""
    shown: bytes = b""
    secret: SecretStr | None = field(default=None, repr=False)
    form: bytes = b"{key}"

    def fits(self, server: Server) -> bool:
        """Whether a made connection is the one that this seal was made for."""
        if server.via is not None or not self.origin.is_at(server.address, server.tls):
            return False
        # Verified by mitmproxy: ssl_insecure is refused at start and at run time.
        return not server.tls or (server.tls_established and server.sni == self.origin.host)

    def opened(self, fields: Fields) -> Fields:
        """The fields as they go on the wire.

        Only the credential's own header is opened: a client may know how the placeholder looks,
        and have put it into another one that the provider would show him.
        """
        if self.secret is None:
            return fields
        shown = (self.header, self.shown)
        value = self.form.replace(b"{key}", self.secret.get_secret_value().encode())
        return tuple((self.header, value) if field == shown else field for field in fields)


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
    out = [
        (name, origin.authority if name.lower() == b"host" else value)
        for name, value in fields
        if spelt(name) not in ours
    ]
    if not any(name.lower() == b"host" for name, _ in out):
        out.insert(0, (b"Host", origin.authority))
    out.extend((name, value) for name, value in extra if spelt(name) != header)
    if credential is None or secret is None:
        return Sealed(tuple(out), Seal(origin))
    shown = credential.form.replace(b"{key}", label.encode())
    out.append((credential.header, shown))
    return Sealed(tuple(out), Seal(origin, credential.header, shown, secret, credential.form))


def opened(headers: Sealed) -> dict[str, str]:
    """Sealed headers with their secret in them, for a request that the command line sends."""
    fields = headers.seal.opened(headers.fields) if headers.seal else headers.fields
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


def plain(secrets: Iterable[SecretStr]) -> list[str]:
    """The texts that must not stand in any record: for the redactor, at start."""
    return [secret.get_secret_value() for secret in secrets]
