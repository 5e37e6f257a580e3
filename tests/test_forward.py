"""What a proxy client may reach: names by rule, addresses by what they are."""

import socket

import pytest
from llm_passthrough.errors import Refusal
from llm_passthrough.forward import Forward, check_address, is_ours, is_public, resolved, shown


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
     "2002:808:808::1"],
)  # fmt: skip
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.255.255.254", id="more loopback"),
        pytest.param("::1", id="IPv6 loopback"),
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("::", id="this host, IPv6"),
        pytest.param("10.0.0.1", id="private"),
        pytest.param("172.16.0.1", id="private too"),
        pytest.param("192.168.0.1", id="private as well"),
        pytest.param("100.64.0.1", id="shared, RFC 6598"),
        pytest.param("169.254.169.254", id="link-local, metadata"),
        pytest.param("168.63.129.16", id="a cloud's own"),
        pytest.param("fe80::1%eth0", id="link-local with a zone"),
        pytest.param("fd00:ec2::254", id="unique local, metadata"),
        pytest.param("fec0::1", id="site-local"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("ff02::1", id="IPv6 multicast"),
        pytest.param("ff0e::1", id="global multicast"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("240.0.0.1", id="reserved"),
        pytest.param("192.0.2.1", id="for documentation"),
        pytest.param("198.18.0.1", id="for benchmarks"),
        pytest.param("::ffff:127.0.0.1", id="mapped loopback"),
        pytest.param("::ffff:a9fe:a9fe", id="mapped metadata"),
        pytest.param("64:ff9b::7f00:1", id="loopback by NAT64"),
        pytest.param("2002:7f00:1::1", id="loopback by 6to4"),
        pytest.param("2001:0:0:0:0:0:80ff:fffe", id="loopback by Teredo"),
        pytest.param("localhost", id="a name"),
        pytest.param("", id="nothing"),
    ],
)
def test_no_other_address_is(address: str) -> None:
    assert not is_public(address)


def answers(*addresses: str):  # type: ignore[no-untyped-def]
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.1"
PORTS = frozenset({8080, 8081})


@pytest.mark.parametrize(
    ("addresses", "port", "private", "code"),
    [
        pytest.param([PUBLIC], 443, False, None, id="public"),
        pytest.param([PRIVATE], 443, False, "forward_private", id="private"),
        pytest.param([PRIVATE], 443, True, None, id="private, with leave"),
        pytest.param([PUBLIC, PRIVATE], 443, False, "forward_private", id="one of them private"),
        pytest.param(["127.0.0.1"], 443, True, None, id="loopback, with leave"),
        pytest.param(["127.0.0.1"], 8080, True, "forward_private", id="our port"),
        pytest.param(["127.9.9.9"], 8081, True, "forward_private", id="mitmweb's"),
        pytest.param(["::1"], 8080, True, "forward_private", id="our port by IPv6"),
        pytest.param(["0.0.0.0"], 8080, True, "forward_private", id="our port by no address"),
        pytest.param([PUBLIC], 8080, False, None, id="our port, somewhere else"),
    ],
)
async def test_an_address_is_judged_before_it_is_dialled(
    addresses: list[str], port: int, private: bool, code: str | None
) -> None:
    if code is None:
        await check_address("x.test", port, PORTS, private, answers(*addresses))
        return
    with pytest.raises(Refusal) as caught:
        await check_address("x.test", port, PORTS, private, answers(*addresses))
    assert caught.value.code == code


async def test_a_name_that_does_not_exist_is_said() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(Refusal, match=r"x\.test could not be reached: no such host"):
        await check_address("x.test", 443, PORTS, False, resolve)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1"])
async def test_whatever_a_resolver_takes_for_an_address_is_resolved(host: str) -> None:
    assert await resolved(host, 80) == ["127.0.0.1"]


def test_our_own_addresses_are_known() -> None:
    assert is_ours("127.0.0.1")
    assert is_ours("127.3.2.1")
    assert is_ours("0.0.0.0")
    assert not is_ours("192.0.2.1")


def test_other_hosts_are_blocked_by_name_with_the_mend() -> None:
    Forward("tunnel").check_name("x.test")
    Forward("inspect").check_name("x.test")
    with pytest.raises(Refusal, match=r"forward\.other") as caught:
        Forward("block").check_name("x.test\x1b[31m")
    assert caught.value.code == "forward_blocked"
    assert "\x1b" not in caught.value.message


def test_leave_for_a_private_host_is_by_its_name_in_any_spelling() -> None:
    forward = Forward(private=frozenset({"wiki.corp"}))
    assert forward.allows_private("WIKI.corp.")
    assert not forward.allows_private("x.wiki.corp")


def test_a_message_shows_no_control_character_and_no_more_than_fits() -> None:
    assert shown("a\x1bb" + "c" * 200) == "a?b" + "c" * 97


@pytest.mark.parametrize("host", ["metadata.google.internal", "Metadata.Google.Internal."])
def test_a_name_for_metadata_is_refused_whatever_it_leads_to(host: str) -> None:
    with pytest.raises(Refusal) as caught:
        Forward("tunnel").check_name(host)
    assert caught.value.code == "forward_private"
