"""`llm-passthrough ca`: where the CA is and what it is; its key is never shown."""

import hashlib
import ssl
import stat
from pathlib import Path

import pytest
from click.testing import Result
from llm_passthrough.cli import app
from llm_passthrough.cli.authority import authority, certificates
from typer.testing import CliRunner


def ca(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["ca", *arguments], env={"HOME": str(home), "COLUMNS": "200"})


def test_the_path_is_that_of_the_certificate_which_is_made_when_there_is_none(
    tmp_path: Path,
) -> None:
    result = ca(tmp_path, "path")
    assert result.exit_code == 0
    path = Path(result.stdout.removesuffix("\n"))
    assert path == tmp_path / ".mitmproxy" / "mitmproxy-ca-cert.pem"
    assert len(certificates(path.read_bytes())) == 1
    key = path.with_name("mitmproxy-ca.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert ca(tmp_path, "path").stdout == result.stdout
    assert key.read_bytes() == before


def test_the_bundle_is_a_file_with_the_systems_roots_too(home: Path) -> None:
    result = ca(home, "bundle")
    assert result.exit_code == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(result.stdout.removesuffix("\n"))
    assert len(context.get_ca_certs()) > 50


def test_it_shows_what_a_person_compares(tmp_path: Path) -> None:
    made = authority(tmp_path / ".mitmproxy")
    result = ca(tmp_path, "show")
    assert result.exit_code == 0
    facts = dict(line.split(None, 1) for line in result.stdout.splitlines()[:4])
    der = ssl.PEM_cert_to_DER_cert(made.file.read_text())
    assert facts["subject"] == "O=mitmproxy,CN=mitmproxy"
    assert facts["sha256"].replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    years = [made.certificate.not_valid_before_utc.year, made.certificate.not_valid_after_utc.year]
    assert [int(part[:4]) for part in facts["valid"].split(" to ")] == years
    assert result.stdout.splitlines()[4] == f"private key  {made.key}"


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    made = authority(tmp_path / ".mitmproxy")
    made.key.chmod(0o644)
    assert f"chmod 600 {made.key}" in ca(tmp_path, "show").stdout


@pytest.mark.parametrize("command", ["path", "bundle", "show"])
@pytest.mark.parametrize("options", [["--confdir", "{}"], ["--set", "confdir={}"]])
def test_the_folder_may_be_another(tmp_path: Path, command: str, options: list[str]) -> None:
    folder = tmp_path / "elsewhere"
    result = ca(tmp_path, command, *(option.format(folder) for option in options))
    assert result.exit_code == 0
    assert str(folder) in result.stdout
    assert (folder / "mitmproxy-ca.pem").is_file()
    assert not (tmp_path / ".mitmproxy").exists()


@pytest.mark.parametrize("command", ["path", "bundle", "show"])
def test_no_private_key_is_ever_printed(tmp_path: Path, command: str) -> None:
    result = ca(tmp_path, command)
    secret = (tmp_path / ".mitmproxy" / "mitmproxy-ca.pem").read_text().splitlines()[1]
    assert secret not in result.output
    assert "BEGIN" not in result.output


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca.pem").write_text("nothing")
    for command in ("path", "bundle", "show"):
        result = ca(tmp_path, command, "--confdir", str(tmp_path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "holds no certificate that can be read" in result.stderr
