"""Run the demo provider alone: ``python -m llm_passthrough.demo [--port N] [--pace S]``."""

import argparse
import asyncio
import signal
from collections.abc import Sequence

from .server import DemoProvider


async def _serve(port: int, pace: float) -> None:
    provider = DemoProvider(pace=pace)
    provider.bind(port=port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows: its loops have none, Ctrl-C raises instead
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    await provider.start()
    print(f"demo provider on {provider.base_url} (Ctrl-C ends it)", flush=True)
    await stopped.wait()
    await provider.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="llm_passthrough.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (0: any free one)")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between streamed events")
    options = parser.parse_args(argv)
    try:
        asyncio.run(_serve(options.port, options.pace))
    except OSError as error:
        parser.exit(1, f"cannot listen on 127.0.0.1:{options.port}: {error.strerror}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
