"""The certificate authority of this gateway: mitmproxy's own, made where there is none yet.

Only its certificate is handed out. The private key stays in the file that mitmproxy keeps.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from mitmproxy.certs import CertStore
from mitmproxy.options import CONF_BASENAME, CONF_DIR, KEY_SIZE

_BLOCK = re.compile(rb"-{5}BEGIN CERTIFICATE-{5}.+?-{5}END CERTIFICATE-{5}", re.S)
_OWN = "llm-passthrough-ca.pem"


class AuthorityError(Exception):
    """The CA or a file made from it cannot be had: one line with the place and the reason."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: the folder, its certificate, the file with that alone, and where its key lies."""

    folder: Path
    certificate: x509.Certificate
    file: Path
    key: Path


def folder_of(confdir: Path | None, settings: Iterable[str] = ()) -> Path:
    """mitmproxy's folder: an option of ours, else `confdir=` among NAME=VALUE, else its default."""
    named = [
        value for name, _, value in (text.partition("=") for text in settings) if name == "confdir"
    ]
    return Path(confdir or (named[-1] if named else CONF_DIR)).expanduser().absolute()


def authority(folder: Path) -> Authority:
    """The CA in a folder; it is made (the key readable by its owner only) where there is none.

    Raises AuthorityError.
    """
    key = folder / f"{CONF_BASENAME}-ca.pem"
    try:
        if not key.exists():
            CertStore.from_store(folder, CONF_BASENAME, KEY_SIZE)
        signing = certificates(key.read_bytes())
        certificate = x509.load_pem_x509_certificate(signing[0])
        return Authority(folder, certificate, _public(folder, signing), key)
    except OSError as error:
        raise AuthorityError(f"{error.filename or folder}: {error.strerror}") from None
    except (ValueError, IndexError):
        raise AuthorityError(f"{key}: holds no certificate that can be read") from None


def _public(folder: Path, signing: list[bytes]) -> Path:
    """The file that holds what signs, without its key.

    mitmproxy writes one for the CA that it makes; for one of the user's own there may be none.
    """
    usual = folder / f"{CONF_BASENAME}-ca-cert.pem"
    if usual.exists() and certificates(usual.read_bytes()) == signing:
        return usual
    return write(folder / _OWN, joined(signing))


def certificates(pem: bytes) -> list[bytes]:
    """The certificates of a PEM file, each as its text without what stands around it."""
    return [block.replace(b"\r\n", b"\n") for block in _BLOCK.findall(pem)]


def joined(blocks: Iterable[bytes]) -> bytes:
    """Certificates as one PEM file, each once."""
    return b"".join(block + b"\n" for block in dict.fromkeys(blocks))


def write(path: Path, content: bytes) -> Path:
    """Write a public file in one step: programs that run may be reading the one before."""
    try:
        if path.exists() and path.read_bytes() == content:
            return path
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror}") from None
    return path
