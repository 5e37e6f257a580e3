"""What a proxy client may reach beside our routes, and how: by name first, then by address.

Names are checked before anything is dialled, addresses after they were resolved: a name may lead
to this machine, or to one that only this machine can reach.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from llm_passthrough.errors import Refusal

type Other = Literal["block", "tunnel", "inspect"]
type Resolve = Callable[[str, int], Awaitable[list[str]]]

# Global addresses that are a cloud's own: Azure's host agent
# (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Forward:
    """The rules for hosts that no route stands for, and for plain HTTP to those that one does."""

    other: Other = "tunnel"
    plain_http: Literal["refuse", "upgrade"] = "refuse"
    private: frozenset[str] = frozenset()

    def allows_private(self, host: str) -> bool:
        """Whether a host may lead to a private address."""
        return named(host) in self.private

    def check_name(self, host: str) -> None:
        """Refuse other hosts where they are blocked: Refusal (forward_blocked, forward_private)."""
        if self.other == "block":
            raise Refusal(
                "forward_blocked",
                f"{shown(host)} is not a host that this gateway stands for; "
                "set forward.other to tunnel or inspect if it may be reached",
            )
        if named(host) in _METADATA_NAMES:
            raise Refusal("forward_private", "a cloud's metadata is not reached through us")


async def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


async def check_address(
    host: str, port: int, own_ports: frozenset[int], private: bool, resolve: Resolve = resolved
) -> None:
    """Refuse a host that leads to us, or (unless `private`) to an address that is not public.

    Raises Refusal (forward_private, upstream_unreachable).
    """
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError):
        raise Refusal(
            "upstream_unreachable", f"{shown(host)} could not be reached: no such host"
        ) from None
    for address in addresses:
        if port in own_ports and is_ours(address):
            raise Refusal("forward_private", "this is the gateway's own address")
        if not private and not is_public(address):
            raise Refusal(
                "forward_private",
                f"{shown(host)} leads to an address that is not public; "
                "name it in forward.allow_private if it may be reached",
            )


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody in the internet could reach.

    IPv6 addresses that stand for an IPv4 address (RFC 4291 2.5.5, 3056, 4380, 6052) are judged by
    that one.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.is_site_local:  # RFC 3879
            return False
        ip = inner or ip
    return ip.is_global and not ip.is_multicast and ip not in _METADATA


def is_ours(address: str) -> bool:
    """Whether an IP address is one of this machine's: then what is sent there starts from it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # sends nothing
            probe.connect((address, 9))
            source = probe.getsockname()[0]
    except OSError:
        return False
    there = ipaddress.ip_address(address.partition("%")[0])
    here = ipaddress.ip_address(str(source).partition("%")[0])
    return there == here or there.is_loopback or there.is_unspecified


def named(host: str) -> str:
    """A host's name in the one spelling that we compare."""
    return host.lower().rstrip(".").removeprefix("[").removesuffix("]")


def shown(host: str) -> str:
    """A host as a message may say it."""
    return "".join(c if c.isprintable() else "?" for c in host)[:100]
