"""The filters that `logs` subcommands share: the span of time, and what a record must be like."""

from datetime import datetime
from typing import Annotated

import typer

from llm_passthrough.ledger import Span
from llm_passthrough.ledger import filters as ledger_filters
from llm_passthrough.ledger.filters import DATES, Filter, WishError, moment

__all__ = ["Filter", "filters", "moment", "span"]

Since = Annotated[str | None, typer.Option(help=f"Only calls from then on: {DATES}.")]
Until = Annotated[str | None, typer.Option(help="Only calls until then; a day is included.")]
Provider = Annotated[str | None, typer.Option(help="Only this provider.")]
Model = Annotated[str | None, typer.Option(help="Only models with this in their name, or a glob.")]
Client = Annotated[str | None, typer.Option(help="Only this client.")]
Status = Annotated[str | None, typer.Option(help="Only these statuses: 429, 5xx, 400,404.")]
Outcome = Annotated[
    str | None, typer.Option(help="Only these outcomes: ok, timeout, ... or failed (all but ok).")
]
Grep = Annotated[str | None, typer.Option(help="Only calls that hold this text, in any case.")]


def span(since: str | None, until: str | None, now: datetime) -> Span:
    """The span that two options name; `now` is local time with its offset."""
    try:
        return ledger_filters.span(since, until, now)
    except WishError as error:
        raise _bad(error) from None


def filters(
    provider: str | None = None,
    model: str | None = None,
    client: str | None = None,
    status: str | None = None,
    outcome: str | None = None,
    grep: str | None = None,
) -> Filter:
    """The filter that the options of a command line name."""
    try:
        return ledger_filters.wanted(provider, model, client, status, outcome, grep)
    except WishError as error:
        raise _bad(error) from None


def _bad(error: WishError) -> typer.BadParameter:
    return typer.BadParameter(str(error), param_hint=f"--{error.name}")
