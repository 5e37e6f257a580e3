"""mitmproxy's options: our own, those that we set, and those with which we do not run."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_passthrough.clients import is_loopback

VIEW_FLOWS, VIEW_BYTES = "passthrough_view_flows", "passthrough_view_bytes"

# Our own: name, type, default, what it is.
OWN: tuple[tuple[str, type, object, str], ...] = (
    ("passthrough_config", str, "", "The gateway's configuration file."),
    ("passthrough_demo", bool, False, "Use the built-in demo provider."),
    (VIEW_FLOWS, int, 2000, "How many finished calls are kept to look at; 0 for all of them."),
    (VIEW_BYTES, str, "256m", "How many bytes of finished calls are kept; 0 for all of them."),
)

# What a gateway needs, whatever the user's own configuration of mitmproxy says.
FORCED: Mapping[str, object] = {
    "connection_strategy": "lazy",  # eager dials a host before anybody has judged the request
    "http2": False,  # sealed headers are written by HTTP/1; an HTTP/2 side would read the fields
    "rawtcp": False,  # what is no HTTP is not relayed
    "onboarding": False,  # mitm.it would answer on our port
    "tcp_timeout": 200_000,  # ends a connection without a word; our own deadlines are shorter
    "stream_large_bodies": None,  # would open the upstream before the request is judged
}
# Option: the only value with which we run, and why.
_REQUIRED: Mapping[str, tuple[object, str]] = {
    "ssl_insecure": (False, "a key would be sent to whoever answers"),
    "validate_inbound_headers": (True, "requests could be smuggled"),
    "proxyauth": (None, "it stores passwords in flows"),
    "upstream_auth": (None, "it would be sent to providers"),
    "stickyauth": (None, "it would send clients' credentials on"),
    "stickycookie": (None, "it would send clients' cookies on"),
    "server_replay": ([], "answers would not be the provider's"),
}
# What a plain web_password must have at least, and how much of it may be in order (1234, dcba).
_LENGTH, _DIFFERENT, _IN_ORDER = 16, 8, 0.5


def unsafe(options: Any) -> list[str]:
    """A line for each mitmproxy option that is set to something unsafe; it names the mend."""
    lines = [
        f"mitmproxy option {name} must be {_shown(value)}: {why}"
        for name, (value, why) in _REQUIRED.items()
        if getattr(options, name, value) != value
    ]
    if any(mode.partition("@")[0] != "regular" for mode in options.mode):
        lines.append("mitmproxy option mode must be regular: routes are chosen by path")
    lines.extend(
        f"mitmproxy option mode must listen on loopback only: {mode.partition('@')[0]}@PORT"
        for mode in options.mode
        if not _is_local(_listen_host(mode))
    )
    lines.extend(
        f"mitmproxy option {name} names nothing that is there: no certificate could be verified"
        for name in ("ssl_verify_upstream_trusted_ca", "ssl_verify_upstream_trusted_confdir")
        if (place := getattr(options, name, None)) and not Path(place).expanduser().exists()
    )
    web_host = getattr(options, "web_host", "127.0.0.1")
    if not _is_local(web_host):
        lines.append("mitmproxy option web_host must be loopback: who sees mitmweb controls it")
    if _is_weak(getattr(options, "web_password", "")):
        lines.append(
            "mitmproxy option web_password must not be guessable: who has it controls mitmweb; "
            f"leave it out for a random one, or give {_LENGTH} characters or more of chance"
        )
    return lines


def forced(options: Any) -> dict[str, object]:
    """The options that we set; one whose addon is left out needs no setting."""
    left_out = {"onboarding"} - options.keys()
    return {name: value for name, value in FORCED.items() if name not in left_out}


def unforced(options: Any, updated: set[str]) -> list[str]:
    """A line for each option that we set and that somebody now sets to something else."""
    lines = [
        f"mitmproxy option {name} is set by the gateway and stays {_shown(value)}"
        for name, value in FORCED.items()
        if name in updated and getattr(options, name, value) != value
    ]
    # At start an empty one means the configuration's; now it would mean all interfaces.
    if "listen_host" in updated and not _is_local(options.listen_host):
        lines.append("mitmproxy option listen_host must be loopback: whoever reaches it has keys")
    return lines


def _is_weak(password: str) -> bool:
    """Whether mitmweb's password could be found by trying: nothing there slows whoever tries.

    Without one mitmproxy makes one of 128 bits; what begins with `$` is an argon2 hash, of which
    only mitmproxy can say whether it is one. Beyond ASCII it compares none.
    """
    if not password or password.startswith("$"):
        return False
    steps = [abs(ord(a) - ord(b)) for a, b in pairwise(password)]
    return (
        not password.isascii()
        or len(password) < _LENGTH
        or len(set(password)) < _DIFFERENT
        or sum(step < 2 for step in steps) > _IN_ORDER * len(steps)
    )


def _listen_host(mode: str) -> str:
    """The address in a mode such as `regular@127.0.0.1:8080`; loopback where it has none."""
    place = mode.partition("@")[2]
    host = place.rpartition(":")[0]
    return host.removeprefix("[").removesuffix("]") or "localhost"


def _is_local(host: str) -> bool:
    return host == "localhost" or is_loopback(host)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value else "unset"
