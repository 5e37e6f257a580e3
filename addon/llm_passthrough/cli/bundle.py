"""Bundles of trusted certificates: the roots of the system, or those of a variable, and our CA.

A bundle takes the place of the roots that a program trusts otherwise: with our CA alone it could
call nobody but hosts that the gateway opens.
"""

import hashlib
import os
import ssl
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from llm_passthrough.cli.authority import Authority, AuthorityError, certificates, joined, write
from llm_passthrough.cli.variables import (
    ADDING_ROOTS,
    REPLACING_ROOTS,
    REPLACING_ROOTS_TOO,
    Trust,
)

# Where systems keep their roots in one file: Debian, Ubuntu, Arch and Alpine; Fedora and RHEL;
# openSUSE; macOS and FreeBSD.
_SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# What is asked where a variable is not set: it would not be asked any more.
_OTHERWISE = {
    "SSL_CERT_FILE": "SSL_CERT_DIR",
    "CURL_CA_BUNDLE": "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE": "CURL_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE": "SSL_CERT_FILE",
}
_NAME = "llm-passthrough-bundle"
_STORE = "llm-passthrough-truststore.p12"


def trust(authority: Authority, env: Mapping[str, str]) -> tuple[Trust, list[str]]:
    """The files for a command, written beside the CA, and warnings. Raises AuthorityError."""
    warned: list[str] = []
    named: dict[str, Path] = {}
    for name in (*REPLACING_ROOTS, *REPLACING_ROOTS_TOO, *ADDING_ROOTS):
        source = _named(name, env, authority)
        if source and _is_ours(source, authority):
            named[name] = Path(source)
        elif source:
            if roots := _read(source):
                named[name] = _write(authority, roots, source)
            else:
                warned.append(f"{name} names {source}, where no certificates are; it is not used")
    bundle = system_bundle(authority)
    return Trust(authority.file, bundle, _truststore(authority, bundle), named), warned


def system_bundle(authority: Authority) -> Path:
    """The file with the system's roots and our CA. Raises AuthorityError."""
    return _write(authority, system_roots())


def system_roots() -> list[bytes]:
    """The certificates that the system trusts: of OpenSSL, of the system, else certifi's."""
    if sys.platform == "win32":
        found = ssl.create_default_context().get_ca_certs(binary_form=True)
        return [ssl.DER_cert_to_PEM_cert(der).strip().encode() for der in found]
    usual = ssl.get_default_verify_paths()
    for place in (usual.openssl_cafile, *_SYSTEM, usual.openssl_capath, certifi.where()):
        if roots := _read(place):
            return roots
    raise AuthorityError("the system's roots were not found; name them in SSL_CERT_FILE")


def _named(name: str, env: Mapping[str, str], authority: Authority) -> str | None:
    """What a variable names already; our own plain files are as good as nothing."""
    source = env.get(name) or env.get(_OTHERWISE.get(name, "")) or None
    ours = (authority.file, authority.folder / f"{_NAME}.pem")
    return None if source in [str(path) for path in ours] else source


def _is_ours(source: str, authority: Authority) -> bool:
    """Whether it is a bundle of ours already: from a run around this one."""
    path = Path(source)
    return path.parent == authority.folder and path.name.startswith(_NAME) and path.exists()


def _write(authority: Authority, roots: list[bytes], source: str | None = None) -> Path:
    mark = f"-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}" if source else ""
    ours = certificates(authority.file.read_bytes())
    return write(authority.folder / f"{_NAME}{mark}.pem", joined([*roots, *ours]))


def _read(source: str) -> list[bytes]:
    """The certificates of a file, or of all files of folders; none where none can be read."""
    return [block for file in _files(source) for block in certificates(_bytes(file))]


def _files(source: str) -> Iterator[Path]:
    for name in source.split(os.pathsep):
        path = Path(name).expanduser()
        try:
            yield from sorted(path.iterdir()) if path.is_dir() else [path]
        except OSError:
            continue


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError:
        return b""


def _truststore(authority: Authority, bundle: Path) -> Path:
    """The bundle for Java, which reads no PEM: PKCS #12 without a password, as it has no secret."""
    path = authority.folder / _STORE
    try:
        if path.exists() and path.stat().st_mtime_ns >= bundle.stat().st_mtime_ns:
            return path
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror}") from None
    trusted = [
        pkcs12.PKCS12Certificate(certificate, f"root-{number}".encode())
        for number, certificate in enumerate(_parsed(certificates(bundle.read_bytes())))
    ]
    return write(path, pkcs12.serialize_java_truststore(trusted, NoEncryption()))


def _parsed(blocks: list[bytes]) -> Iterator[x509.Certificate]:
    """Those that can be read: some old roots break a rule or another (RFC 5280 4.1.2.2)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            try:
                yield x509.load_pem_x509_certificate(block)
            except ValueError:
                continue
