"""`llm-passthrough logs`: look at what was recorded."""

import typer

from llm_passthrough.cli.logs_export import export
from llm_passthrough.cli.logs_list import list_
from llm_passthrough.cli.logs_show import show
from llm_passthrough.cli.logs_stats import stats
from llm_passthrough.cli.logs_tail import tail

app = typer.Typer(no_args_is_help=True, help="Look at what was recorded.")
app.command()(tail)
app.command("list")(list_)
app.command()(show)
app.command()(stats)
app.command()(export)
