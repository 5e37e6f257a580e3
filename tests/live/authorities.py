"""Certificate authorities of the tests' own. Their keys are elliptic: RSA's cost 0.1 s to load."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

_USAGES = """digital_signature content_commitment key_encipherment data_encipherment key_agreement
key_cert_sign crl_sign encipher_only decipher_only""".split()
NAMES = (
    "api.openai.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "us-central1-aiplatform.googleapis.com",
    "europe-west4-aiplatform.googleapis.com",
    "aiplatform.us.rep.googleapis.com",
    "aiplatform.eu.rep.googleapis.com",
    "my-resource.openai.azure.com",
)


class Authority:
    """A certificate authority of the tests' own, and a server certificate for provider names."""

    def __init__(self, folder: Path, names: tuple[str, ...] = NAMES) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _own(self._key, _name("tests"))
        self.ca_file = folder / "test-ca.pem"
        self.ca_file.write_bytes(_pem(self._certificate))
        self._folder = folder
        self.context = self.server_context(names)

    def server_context(self, names: tuple[str, ...], days: int = 1) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate.subject
        builder = _builder(_name(names[0]), issuer, key.public_key(), days).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        file = self._folder / f"server-{key.public_key().public_numbers().x:x}"[:40]
        file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())) + _private(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def mitmproxys() -> dict[str, bytes]:
    """The files of an authority of a gateway's, as mitmproxy keeps them and by its names."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _own(key, _name("mitmproxy"))
    clear = serialization.NoEncryption()
    packed = pkcs12.serialize_key_and_certificates
    pem = _pem(certificate)
    return {
        "mitmproxy-ca.pem": _private(key) + pem,
        "mitmproxy-ca.p12": packed(b"mitmproxy", key, certificate, None, clear),
        "mitmproxy-ca-cert.pem": pem,
        "mitmproxy-ca-cert.cer": pem,
        "mitmproxy-ca-cert.p12": packed(b"mitmproxy", None, certificate, None, clear),
    }


def _own(key: ec.EllipticCurvePrivateKey, name: x509.Name) -> x509.Certificate:
    """An authority's own certificate, as strict clients want it (RFC 5280, section 4.2.1)."""
    public = key.public_key()
    usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    builder = (
        _builder(name, name, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    clear = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
