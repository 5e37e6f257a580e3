"""`llm-passthrough ca`: the certificate authority that programs have to trust, never its key."""

from datetime import UTC, datetime

import typer
from cryptography.hazmat.primitives import hashes

from llm_passthrough.cli.authority import Authority, AuthorityError, authority, folder_of
from llm_passthrough.cli.bundle import system_bundle
from llm_passthrough.cli.options import Set
from llm_passthrough.cli.surroundings import Confdir, fail
from llm_passthrough.settings import others_can_read

app = typer.Typer(no_args_is_help=True, help="The certificate authority for proxy clients.")


@app.command()
def path(confdir: Confdir = None, set_: Set = None) -> None:
    """Print the file with the CA's certificate; the CA is made when there is none."""
    typer.echo(str(_authority(confdir, set_).file))


@app.command()
def bundle(confdir: Confdir = None, set_: Set = None) -> None:
    """Write the system's roots and the CA's certificate to a file, and print its path."""
    try:
        typer.echo(str(system_bundle(_authority(confdir, set_))))
    except AuthorityError as error:
        fail(str(error))


@app.command()
def show(confdir: Confdir = None, set_: Set = None) -> None:
    """Print the CA's subject, fingerprint and validity, and where its private key lies."""
    ca = _authority(confdir, set_)
    certificate = ca.certificate
    ends = certificate.not_valid_after_utc
    over = " (over)" if ends < datetime.now(UTC) else ""
    open_ = f" (others can read it: chmod 600 {ca.key})" if others_can_read(ca.key) else ""
    facts = {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d} to {ends:%Y-%m-%d}{over}",
        "certificate": str(ca.file),
        "private key": str(ca.key) + open_,
    }
    for name, value in facts.items():
        typer.echo(f"{name:<12} {value}")


def _authority(confdir: Confdir, set_: Set) -> Authority:
    try:
        return authority(folder_of(confdir, set_ or ()))
    except AuthorityError as error:
        fail(str(error))
