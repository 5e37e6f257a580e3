"""`llm-passthrough serve` and `web`: start mitmproxy with the gateway in it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from llm_passthrough.cli.options import ConfigFile, Demo, Set

Port = Annotated[int | None, typer.Option(help="The gateway's port (default 8080).")]
WebPort = Annotated[int | None, typer.Option(help="mitmweb's port (default 8081).")]
Host = Annotated[str | None, typer.Option(help="The address to listen on (default 127.0.0.1).")]
Workers = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Processes on the port, or auto (default 1)."),
]
NoWorkers = Annotated[str | None, typer.Option("--workers", hidden=True)]
Browser = Annotated[bool, typer.Option("--open/--no-open", help="Open a browser on mitmweb.")]


def serve(
    config: ConfigFile = None,
    port: Port = None,
    host: Host = None,
    demo: Demo = False,
    workers: Workers = None,
    set_: Set = None,
) -> None:
    """Run the gateway alone, without a user interface."""
    from llm_passthrough.cli.workers import count

    number = count(workers, config, demo, os.environ)
    from llm_passthrough.cli import fewer

    fewer.one_by_one()
    # mitmproxy takes a second to import: the other commands do not wait for it.
    from llm_passthrough.cli.launch import Wish, launch

    launch(Wish("serve", _options(config, port, host, demo), set_ or []), number)


def web(
    config: ConfigFile = None,
    port: Port = None,
    web_port: WebPort = None,
    host: Host = None,
    demo: Demo = False,
    browser: Browser = False,
    workers: NoWorkers = None,
    set_: Set = None,
) -> None:
    """Run the gateway with mitmweb, to look at the exchanges in a browser."""
    if workers not in (None, "1"):
        from llm_passthrough.cli.workers import refuse_with_mitmweb

        refuse_with_mitmweb()
    options = _options(config, port, host, demo)
    late: dict[str, object] = {"web_open_browser": browser}
    if web_port is not None:
        late["web_port"] = web_port
    from llm_passthrough.cli.launch import Wish, launch

    launch(Wish("web", options, set_ or [], late))


def _options(
    config: Path | None, port: int | None, host: str | None, demo: bool
) -> dict[str, object]:
    options: dict[str, object] = {"passthrough_demo": demo}
    if host is not None:
        options["listen_host"] = host
    if config is not None:
        options["passthrough_config"] = str(config)
    if port is not None:
        options["listen_port"] = port
    return options
