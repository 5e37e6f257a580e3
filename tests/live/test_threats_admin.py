"""The threat catalogue's mitmweb (G): who has its token is an administrator, all others nobody.

And what a signal prints (F19), and options that stop the start (C14).
"""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.harness import KEYS, WEB_PASSWORD, Gateway, Provider, Web, config_for
from live.oracles import Oracles, found, talk
from live.test_secrets import SECRETS, chat, until


@pytest.fixture(scope="module")
def seen(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with mitmweb that has a call in its table."""
    gateway = Gateway(tmp_path_factory.mktemp("admin"), config_for(provider.url), "mitmweb")
    assert talk(gateway.port, chat("marker")).status == 200
    yield gateway
    gateway.stop()


def ask(
    gateway: Gateway, method: str, path: str, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.web_port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, b"{}" if method != "GET" else None, names)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


PAGES = (
    ("GET", "/flows"), ("GET", "/flows/dump"), ("GET", "/options"), ("GET", "/events"),
    ("GET", "/commands"), ("GET", "/state"), ("GET", "/llm"), ("GET", "/llm/stats"),
    ("GET", "/updates"), ("PUT", "/options"), ("POST", "/clear"), ("POST", "/flows/1/replay"),
    ("POST", "/commands/replay.client"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PAGES)
@pytest.mark.parametrize("token", ["", "?token=wrong", "?token="], ids=["none", "wrong", "empty"])
def test_without_its_token_mitmweb_shows_and_does_nothing(
    seen: Gateway, method: str, path: str, token: str
) -> None:
    """G01: our own pages included."""
    status, body, _ = ask(seen, method, path + token, Authorization="Bearer wrong")
    assert status == 403
    assert b"marker" not in body
    assert len(Web(seen).flows()) >= 1


@pytest.mark.parametrize("path", ["/options", "/clear", "/flows/1/replay"])
def test_a_page_of_another_origin_does_nothing_with_a_cookie(seen: Gateway, path: str) -> None:
    """G02: the cookie that a browser has alone is no leave to write."""
    _, _, headers = ask(seen, "GET", f"/?token={WEB_PASSWORD}")
    cookie = "; ".join(
        value.partition(";")[0] for name, value in headers.items() if name.lower() == "set-cookie"
    )
    assert cookie
    method = "PUT" if path == "/options" else "POST"
    site = {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.test"}
    status, _, _ = ask(seen, method, path, Cookie=cookie, **site)
    assert status == 403
    assert len(Web(seen).flows()) >= 1


def test_what_an_administrator_sees_of_the_options_holds_no_key(seen: Gateway) -> None:
    """G05: mitmweb's own password is among them, for who has it already."""
    shown = Web(seen).get("/options")
    assert not found(SECRETS, shown)
    assert json.loads(shown)["passthrough_config"]["value"].endswith("gateway.yaml")


def test_the_token_of_mitmweb_is_in_no_record(seen: Gateway, provider: Provider) -> None:
    """G07."""
    Web(seen).get("/flows")
    oracles = Oracles(seen, (provider,), clients=(WEB_PASSWORD,))
    for file in seen.records_path.parent.iterdir():
        assert WEB_PASSWORD.encode() not in file.read_bytes()
    oracles.mark()
    assert talk(seen.port, chat()).status == 200
    oracles.check()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_what_a_signal_makes_mitmproxy_print_holds_no_key(seen: Gateway, number: int) -> None:
    """F19: its dump of what is open, and of all stacks, while a request is on its way."""
    size = len(seen.output)
    os.kill(seen.process.pid, number)
    until(lambda: len(seen.output) > size)
    time.sleep(0.2)
    assert not found(SECRETS, seen.output.encode())
    assert not found(SECRETS, seen.log_path.read_bytes())
    assert talk(seen.port, chat()).status == 200


@pytest.mark.parametrize(
    ("option", "said"),
    [
        pytest.param("web_host=0.0.0.0", "web_host must be loopback", id="G04-everybodys-mitmweb"),
        pytest.param("ssl_insecure=true", "ssl_insecure must be false", id="C14-no-certificates"),
        pytest.param(
            "ssl_verify_upstream_trusted_ca=/nowhere/ca.pem",
            "ssl_verify_upstream_trusted_ca names nothing",
            id="C14-an-authority-that-is-not-there",
        ),
        pytest.param(
            "web_password=opensesame", "web_password must not be guessable", id="G03-a-password"
        ),
        pytest.param(
            "web_password=$opensesame", "not a valid argon2 hash", id="G03-what-is-no-hash"
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("program", ["mitmweb", "web"])
def test_an_option_that_would_open_the_gateway_stops_the_start(
    tmp_path: Path, provider: Provider, program: str, option: str, said: str
) -> None:
    """C14, G03, G04."""
    gateway = Gateway(
        tmp_path, config_for(provider.url), program, args=("--set", option), wait=False
    )
    code = gateway.process.wait(30)
    assert code != 0
    (line,) = [line for line in gateway.output.splitlines() if said in line]
    assert "sesame" not in line
    assert not found(KEYS.values(), gateway.output.encode())
