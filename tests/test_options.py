"""mitmproxy's options: with which we do not run, and which stay as we set them."""

from typing import Any

import pytest
from llm_passthrough.options import FORCED, unforced, unsafe
from mitmproxy import options
from mitmproxy.addons import (
    proxyauth,
    proxyserver,
    serverplayback,
    stickyauth,
    stickycookie,
    upstream_auth,
)
from mitmproxy.test import taddons
from mitmproxy.tools.web.webaddons import WebAddon, WebAuth

ARGON2 = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b0dWRWJTmaaJObG"


def set_to(**values: Any) -> options.Options:
    """mitmproxy's real options, those of its addons included."""
    addons = (
        proxyserver.Proxyserver(),
        proxyauth.ProxyAuth(),
        upstream_auth.UpstreamAuth(),
        stickyauth.StickyAuth(),
        stickycookie.StickyCookie(),
        serverplayback.ServerPlayback(),
        WebAddon(),
        WebAuth(),
    )
    opts = options.Options()
    with taddons.context(*addons, options=opts, loadcore=False):
        opts.update(**values)
    return opts


def test_mitmproxy_as_it_comes_is_safe() -> None:
    assert unsafe(set_to()) == []


def test_mitmdump_alone_is_safe_too() -> None:
    assert unsafe(options.Options()) == []


@pytest.mark.parametrize(
    ("values", "line"),
    [
        pytest.param(
            {"ssl_insecure": True},
            "ssl_insecure must be false: a key would be sent to whoever answers",
            id="certificates are not checked",
        ),
        pytest.param(
            {"validate_inbound_headers": False},
            "validate_inbound_headers must be true: requests could be smuggled",
            id="headers are not checked",
        ),
        pytest.param({"stickyauth": "~all"}, "stickyauth must be unset:", id="credentials stick"),
        pytest.param({"stickycookie": "~all"}, "stickycookie must be unset:", id="cookies stick"),
        pytest.param({"mode": ["socks5"]}, "mode must be regular:", id="another mode"),
        pytest.param(
            {"mode": ["reverse:https://evil.test"]}, "mode must be regular:", id="reverse mode"
        ),
        pytest.param(
            {"mode": ["regular", "upstream:http://a.test@9"]}, "mode must be", id="one of two"
        ),
        pytest.param(
            {"mode": ["regular@0.0.0.0:9000"]},
            "mode must listen on loopback only: regular@PORT",
            id="a port for all",
        ),
        pytest.param(
            {"mode": ["regular@9000", "regular@[::]:9001"]},
            "mode must listen on loopback only: regular@PORT",
            id="a second port for all",
        ),
        pytest.param({"web_host": "0.0.0.0"}, "web_host must be loopback:", id="mitmweb for all"),
        pytest.param({"web_host": "gateway.local"}, "web_host must be loopback:", id="by a name"),
        *(
            pytest.param({"web_password": text}, "web_password must not be guessable:", id=what)
            for what, text in (
                ("G03-a-short-password", "letmein"),
                ("G03-short-though-of-chance", "q7XvT2mKd9LwRb4"),
                ("G03-one-character-again-and-again", "x" * 40),
                ("G03-a-word-twice", "passwordpassword"),
                ("G03-digits-in-order", "1234567890123456"),
                ("G03-letters-in-order", "zyxwvutsrqponmlk"),
                ("G03-none-that-can-be-compared", "pässwörter-q7XvT2mKd9"),
            )
        ),
    ],
)
def test_an_unsafe_option_is_named_with_its_mend(values: dict[str, Any], line: str) -> None:
    (told,) = unsafe(set_to(**values))
    assert told.startswith(f"mitmproxy option {line}")


@pytest.mark.parametrize(
    "values",
    [
        {"mode": ["regular@8888"]},
        {"mode": ["regular", "regular@127.0.0.1:9000"]},
        {"mode": ["regular@[::1]:9000"]},
        {"mode": ["regular@localhost:9000"]},
        {"web_host": "localhost"},
        {"web_host": "::1"},
        {"web_host": "127.0.0.2"},
        {"web_password": ""},
        {"web_password": "q7XvT2mKd9LwRb4z"},
        {"web_password": "correct horse battery staple"},
        {"web_password": "0f3c" * 4 + "9a8b7d6e5c41"},
        {"web_password": ARGON2},
    ],
)
def test_other_values_may_be_set(values: dict[str, Any]) -> None:
    assert unsafe(set_to(**values)) == []


def test_a_weak_password_is_not_said_again() -> None:
    """G03."""
    (told,) = unsafe(set_to(web_password="letmein"))
    assert "letmein" not in told
    assert "16 characters or more" in told


class Opts:
    """Options of addons that want files or a running proxy before they take a value."""

    def __init__(self, **values: object) -> None:
        self.mode = ["regular"]
        self.__dict__.update(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("proxyauth", "user:SECRET"), ("upstream_auth", "user:SECRET"), ("server_replay", ["f"])],
)
def test_what_would_hold_or_answer_for_credentials_must_be_unset(name: str, value: object) -> None:
    (line,) = unsafe(Opts(**{name: value}))
    assert line.startswith(f"mitmproxy option {name} must be unset: ")
    assert "SECRET" not in line


def test_each_unsafe_option_has_its_line() -> None:
    assert len(unsafe(set_to(ssl_insecure=True, mode=["socks5"], web_host="0.0.0.0"))) == 3


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("connection_strategy", "eager", "lazy"),
        ("http2", True, "false"),
        ("rawtcp", True, "false"),
        ("stream_large_bodies", "1", "unset"),
    ],
)
def test_what_we_set_cannot_be_set_to_something_else(name: str, value: object, shown: str) -> None:
    opts = set_to()
    opts.update(**{n: v for n, v in FORCED.items() if n in opts})
    assert unforced(opts, {name}) == []
    opts.update(**{name: value})
    line = f"mitmproxy option {name} is set by the gateway and stays {shown}"
    assert unforced(opts, {name, "listen_port"}) == [line]
    assert unforced(opts, {"listen_port"}) == []


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("", False), ("0.0.0.0", False)],
)
def test_at_run_time_the_port_stays_on_loopback(host: str, local: bool) -> None:
    told = unforced(set_to(listen_host=host), {"listen_host"})
    line = "mitmproxy option listen_host must be loopback: whoever reaches it has keys"
    assert told == ([] if local else [line])
