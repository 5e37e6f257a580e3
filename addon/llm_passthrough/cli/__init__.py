"""The `llm-passthrough` command."""

import typer

from llm_passthrough import __version__
from llm_passthrough.cli.ca import app as ca
from llm_passthrough.cli.check import check
from llm_passthrough.cli.env import env
from llm_passthrough.cli.explain import explain
from llm_passthrough.cli.logs import app as logs
from llm_passthrough.cli.open import open_
from llm_passthrough.cli.replay import replay
from llm_passthrough.cli.run import serve, web
from llm_passthrough.cli.run_command import run
from llm_passthrough.cli.schema import schema

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours could show a value
    help="A gateway for LLM APIs that you can see through.",
)
app.command()(serve)
app.command()(web)
# What stands behind the command is the command's, options included.
app.command(context_settings={"allow_interspersed_args": False})(run)
app.command()(env)
app.command()(check)
app.command()(explain)
app.command()(schema)
app.command("open")(open_)
app.command()(replay)
app.add_typer(logs, name="logs")
app.add_typer(ca, name="ca")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        print(f"llm-passthrough {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point of the command."""
    app()
