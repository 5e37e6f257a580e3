"""What `mitmdump -s addon/passthrough.py` loads: it puts the gateway into this mitmproxy.

It stands beside the package on purpose: while mitmproxy loads a script, the script's own folder
can be imported from, so that nothing needs to be installed.
"""

from llm_passthrough import lean
from llm_passthrough.attach import attach
from mitmproxy import ctx
from mitmproxy.addonmanager import Loader


def load(loader: Loader) -> None:
    """Called by mitmproxy when it has loaded this file."""
    lean.hasten(ctx.master)
    attach(ctx.master)
