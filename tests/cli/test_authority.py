"""The certificate authority: made once, its key for its owner alone, its certificate handed out."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from live.authorities import Authority as OtherAuthority
from llm_passthrough.cli.authority import (
    AuthorityError,
    authority,
    certificates,
    folder_of,
    joined,
    write,
)
from mitmproxy.certs import CertStore


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_where_there_is_none_and_stays(tmp_path: Path) -> None:
    made = authority(tmp_path / "new" / "folder")
    assert made.key == tmp_path / "new" / "folder" / "mitmproxy-ca.pem"
    assert mode_of(made.key) == 0o600
    assert authority(made.folder) == made


def test_what_is_handed_out_holds_no_key(tmp_path: Path) -> None:
    made = authority(tmp_path)
    assert made.file == tmp_path / "mitmproxy-ca-cert.pem"
    assert b"PRIVATE" not in made.file.read_bytes()
    pem = made.certificate.public_bytes(serialization.Encoding.PEM)
    assert certificates(made.file.read_bytes()) == certificates(pem)


def test_it_is_the_one_with_which_mitmproxy_signs(tmp_path: Path) -> None:
    made = authority(tmp_path)
    store = CertStore.from_store(tmp_path, "mitmproxy", 2048)
    assert store.default_ca.to_cryptography() == made.certificate


def test_an_authority_of_the_users_own_is_handed_out_too(tmp_path: Path) -> None:
    """mitmproxy writes its certificate alone for the CA that it makes, and for no other."""
    before = authority(tmp_path / "a")
    own = authority(tmp_path / "b")
    before.key.write_bytes(own.key.read_bytes())
    got = authority(tmp_path / "a")
    assert got.certificate == own.certificate
    assert certificates(got.file.read_bytes()) == certificates(own.file.read_bytes())
    assert b"PRIVATE" not in got.file.read_bytes()
    assert got.file.parent == tmp_path / "a"


def test_a_chain_is_handed_out_whole(tmp_path: Path) -> None:
    made = authority(tmp_path)
    (tmp_path / "tests").mkdir()
    root = OtherAuthority(tmp_path / "tests").ca_file.read_bytes()
    made.key.write_bytes(made.key.read_bytes() + root)
    got = authority(tmp_path)
    assert got.certificate == made.certificate
    assert certificates(got.file.read_bytes()) == [
        *certificates(made.file.read_bytes()),
        *certificates(root),
    ]


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\x00"])
def test_what_is_no_authority_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    key = tmp_path / "mitmproxy-ca.pem"
    key.write_bytes(content)
    with pytest.raises(AuthorityError, match=f"^{key}: holds no certificate"):
        authority(tmp_path)


def test_a_folder_that_cannot_be_had_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthorityError, match="Not a directory"):
        authority(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("confdir", "settings", "folder"),
    [
        pytest.param(None, [], "/home/u/.mitmproxy", id="mitmproxy's own"),
        pytest.param(None, ["x=1", "confdir=/a", "confdir=~/b"], "/home/u/b", id="a setting"),
        pytest.param("/c", ["confdir=/a"], "/c", id="our option"),
    ],
)
def test_the_folder_is_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, confdir: str | None, settings: list[str], folder: str
) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert folder_of(Path(confdir) if confdir else None, settings) == Path(folder)


# -- files ----------------------------------------------------------------------------------------


def test_a_file_that_is_as_it_should_be_is_not_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"one")
    before = path.stat()
    assert write(path, b"one").stat().st_ino == before.st_ino
    write(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != before.st_ino, "a program may be reading the old one"
    assert mode_of(path) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_certificates_are_joined_once_each() -> None:
    def block(text: str) -> bytes:
        dashes = "-" * 5
        lines = (f"{dashes}BEGIN CERTIFICATE{dashes}", text, f"{dashes}END CERTIFICATE{dashes}")
        return "\n".join(lines).encode()

    one, two = block("AAAA"), block("BBBB")
    text = b"# a comment\n" + one.replace(b"\n", b"\r\n") + b"\nmore\n" + two + one
    assert certificates(text) == [one, two, one]
    assert joined(certificates(text)) == one + b"\n" + two + b"\n"
