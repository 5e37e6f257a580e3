"""Bundles: real programs trust our CA by them, and go on trusting whom they trusted before."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from live.authorities import Authority as OtherAuthority
from llm_passthrough.cli import bundle
from llm_passthrough.cli.authority import Authority, authority, certificates
from llm_passthrough.cli.variables import (
    ADDING_ROOTS,
    REPLACING_ROOTS,
    REPLACING_ROOTS_TOO,
    Mode,
    Reach,
    variables,
)
from mitmproxy.certs import CertStore


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("it's a confdir"))


@pytest.fixture(scope="module")
def corporate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of another CA, as a company gives one to its machines."""
    return OtherAuthority(tmp_path_factory.mktemp("corporate")).ca_file


def blocks(path: Path) -> list[bytes]:
    return certificates(path.read_bytes())


def opened(path: Path) -> pkcs12.PKCS12KeyAndCertificates:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old roots
        return pkcs12.load_pkcs12(path.read_bytes(), None)


def test_a_bundle_has_the_systems_roots_and_ours(ca: Authority) -> None:
    roots = bundle.system_roots()
    assert len(roots) > 50
    path = bundle.system_bundle(ca)
    assert set(blocks(path)) == {*roots, *blocks(ca.file)}
    assert b"PRIVATE" not in path.read_bytes()
    assert path.parent == ca.folder


def test_every_certificate_of_a_bundle_is_taken_by_openssl(ca: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle.system_bundle(ca))
    names = [dict(pair[0] for pair in cert["subject"]) for cert in context.get_ca_certs()]
    assert len(names) > 50
    assert "mitmproxy" in [name.get("commonName") for name in names]


@pytest.mark.parametrize("name", [*REPLACING_ROOTS, *REPLACING_ROOTS_TOO, *ADDING_ROOTS])
def test_roots_that_a_variable_names_stay_trusted(
    ca: Authority, corporate: Path, name: str
) -> None:
    trust, told = bundle.trust(ca, {name: str(corporate)})
    assert blocks(trust.named[name]) == [*blocks(corporate), *blocks(ca.file)]
    assert corporate.read_bytes() not in trust.bundle.read_bytes()
    assert not told


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        pytest.param("SSL_CERT_FILE", "SSL_CERT_DIR", id="OpenSSL's folder"),
        pytest.param("CURL_CA_BUNDLE", "SSL_CERT_FILE", id="curl"),
        pytest.param("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", id="requests"),
        pytest.param("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", id="codex"),
    ],
)
def test_roots_that_were_asked_for_in_another_variable_stay_trusted(
    ca: Authority, corporate: Path, asked: str, named: str
) -> None:
    place = corporate.parent if named == "SSL_CERT_DIR" else corporate
    trust, _ = bundle.trust(ca, {named: str(place)})
    assert set(blocks(trust.named[asked])) >= {*blocks(corporate), *blocks(ca.file)}


def test_a_folder_of_roots_is_read(ca: Authority, corporate: Path, tmp_path: Path) -> None:
    shutil.copy(corporate, tmp_path / "corp.0")
    (tmp_path / "README").write_text("no certificate")
    trust, _ = bundle.trust(ca, {"SSL_CERT_DIR": f"/nowhere{os.pathsep}{tmp_path}"})
    assert blocks(trust.named["SSL_CERT_FILE"]) == [*blocks(corporate), *blocks(ca.file)]


def test_a_variable_that_names_nothing_is_told_and_gets_the_systems_roots(
    ca: Authority, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.pem"
    trust, told = bundle.trust(ca, {"GIT_SSL_CAINFO": str(gone)})
    assert trust.named == {}
    assert told == [f"GIT_SSL_CAINFO names {gone}, where no certificates are; it is not used"]


def test_our_own_files_are_not_bundled_again(ca: Authority, corporate: Path) -> None:
    first, _ = bundle.trust(ca, {"CURL_CA_BUNDLE": str(corporate)})
    values = variables(Mode.proxy, Reach("127.0.0.1", 1), first, {})
    env = {name: value for name, value in values.items() if value is not None}
    again, _ = bundle.trust(ca, env)
    assert variables(Mode.proxy, Reach("127.0.0.1", 1), again, {}) == values
    only_ours, _ = bundle.trust(ca, {"SSL_CERT_FILE": str(ca.file)})
    assert "SSL_CERT_FILE" not in only_ours.named, "nobody else could be called"


def test_java_gets_all_of_them(ca: Authority) -> None:
    trust, _ = bundle.trust(ca, {})
    before = trust.truststore.stat().st_mtime_ns
    store = opened(trust.truststore)
    certificates_ = [entry.certificate for entry in store.additional_certs]
    assert store.key is None
    assert ca.certificate in certificates_
    assert len(certificates_) > 0.9 * len(blocks(trust.bundle))
    assert bundle.trust(ca, {})[0].truststore.stat().st_mtime_ns == before, "it is made once"


def test_another_authority_makes_new_files(tmp_path: Path) -> None:
    old = authority(tmp_path / "a")
    bundle.trust(old, {})
    other = authority(tmp_path / "b")
    old.key.write_bytes(other.key.read_bytes())
    trust, _ = bundle.trust(authority(tmp_path / "a"), {})
    assert blocks(other.file)[0] in blocks(trust.bundle)
    assert blocks(old.file)[0] not in blocks(trust.bundle)
    store = opened(trust.truststore)
    assert other.certificate in [entry.certificate for entry in store.additional_certs]


# -- real programs --------------------------------------------------------------------------------


class Page(BaseHTTPRequestHandler):
    """Says hello to everybody."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TLS server whose certificate our CA has signed, as the gateway shows one."""
    store = CertStore.from_store(ca.folder, "mitmproxy", 2048)
    names = x509.GeneralNames([x509.DNSName("localhost")])
    entry = store.get_cert("localhost", names)
    file = tmp_path_factory.mktemp("server") / "both"
    key = ca.key.read_bytes()
    file.write_bytes(key[: key.index(b"-----BEGIN CERT")] + entry.cert.to_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    httpd = HTTPServer(("127.0.0.1", 0), Page)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{httpd.server_port}/"
    httpd.shutdown()
    httpd.server_close()


PYTHON = """
import httpx, json, requests, sys, urllib.request

def library():
    return urllib.request.urlopen(sys.argv[1]).read().decode()

def said(get):
    try:
        return get()
    except (httpx.ConnectError, OSError) as error:
        return str(error)

print(json.dumps({
    "httpx": said(lambda: httpx.get(sys.argv[1]).text),
    "requests": said(lambda: requests.get(sys.argv[1]).text),
    "urllib": said(library),
}))
"""
NODE = """
const client = process.argv[1].startsWith('https') && require('https')
client.get(process.argv[1], answer => answer.on('data', data => console.log(String(data))))
"""
JAVA = """
public class Get {
    public static void main(String[] urls) throws Exception {
        new java.net.URL(urls[0]).openStream().transferTo(System.out);
    }
}
"""


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Commands that print what a URL gives."""
    folder = tmp_path_factory.mktemp("java")
    java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    (folder / "Get.java").write_text(JAVA)
    if shutil.which("java"):  # as `java Get.java` does, but once
        compiler = [*java, "-m", "jdk.compiler/com.sun.tools.javac.Main", "-nowarn"]
        subprocess.run([*compiler, str(folder / "Get.java")], check=True, timeout=60)
    return {
        "curl": ["curl", "-sS"],
        "node": ["node", "-e", NODE],
        "java": [*java, "-cp", str(folder), "Get"],
    }


def trusting(ca: Authority) -> tuple[dict[str, str], dict[str, str]]:
    """An environment without our variables, and the same with them."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(ca.folder)}
    trust, _ = bundle.trust(ca, bare)
    values = variables(Mode.proxy, Reach("127.0.0.1", 9), trust, bare)
    # The server is on loopback, for which no proxy is asked.
    return bare, bare | {key: value for key, value in values.items() if value is not None}


@pytest.mark.parametrize("name", ["curl", "node", "java"])
def test_a_program_trusts_our_ca_by_its_variable_and_not_without(
    ca: Authority, server: str, clients: dict[str, list[str]], name: str
) -> None:
    command = [*clients[name], server]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here")
    bare, env = trusting(ca)
    good = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert good.stdout.strip() == "hello", good.stderr
    bad = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60)
    assert bad.returncode != 0
    assert "hello" not in bad.stdout


def test_pythons_libraries_trust_our_ca_by_their_variables_and_not_without(
    ca: Authority, server: str
) -> None:
    told = []
    for env in trusting(ca):
        command = [sys.executable, "-c", PYTHON, server]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        told.append(json.loads(ended.stdout))
    without, with_them = told
    assert with_them == dict.fromkeys(("httpx", "requests", "urllib"), "hello")
    for name, error in without.items():
        assert "certificate verify failed" in error.lower(), name
