"""`python -m llm_passthrough.cli.tethered ...`: the command, until its standard input ends.

The other end is held by who started it. When that is gone, also by `kill -9`, no gateway with
keys stays behind on its port.
"""

import os
import signal
import threading
import time

from llm_passthrough.cli import main

_DRAIN, _PATIENCE = 1.0, 10.0


def _watch() -> None:
    while os.read(0, 4096):
        pass
    for patience in (_DRAIN, _PATIENCE):  # a second signal cuts what is still open
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    main()
