"""Keeping keys: from a question to a verdict with its secret, from an answer to a key's rest."""

import logging
import random
from collections.abc import Callable

from mitmproxy import http
from pydantic import SecretStr

from llm_passthrough import rest
from llm_passthrough.bodies import decoded
from llm_passthrough.build import Parts
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange
from llm_passthrough.forward import check_address
from llm_passthrough.providers import Target
from llm_passthrough.routes import Upstream
from llm_passthrough.seal import Sealed, pass_on
from llm_passthrough.tee import Tee
from llm_passthrough.tokens import TokenError
from llm_passthrough.verdict import Question, Verdict, decide
from llm_passthrough.wire import Fields, ask_to_retry, lowered

_LOG = logging.getLogger(__name__)
_NOT_THAT = "the key that it was signed with before is not there, or may not be used for it"
# How much of an answer's body is looked at for the pause that it names.
_LOOK = 64 << 10


async def choose(
    question: Question, chance: random.Random, clock: Callable[[], float]
) -> tuple[Verdict, SecretStr | None]:
    """The verdict and the secret that goes with it; a token may have to be fetched for it.

    A key for which no token can be had rests, and another one is tried. Raises Refusal.
    """
    verdict, secret = await _chosen(question, chance, clock)
    if question.preferred and verdict.key and verdict.key.name != question.preferred:
        _LOG.info("a repeated call is signed with %s: %s", verdict.key.name, _NOT_THAT)
    return verdict, secret


async def _chosen(
    question: Question, chance: random.Random, clock: Callable[[], float]
) -> tuple[Verdict, SecretStr | None]:
    tried: set[str] = set()
    while True:
        verdict = decide(question, chance, clock())
        key, ring = verdict.key, verdict.upstream.ring
        if key is None or key.token is None:
            return verdict, verdict.secret
        try:
            return verdict, await key.token.get(verdict.upstream.token)
        except TokenError as error:
            now = clock()
            ring.tokenless(key, now)
            # An endpoint may be so slow that a key's rest is over before another's fetch is.
            last = key.name in tried or not ring.another(key, verdict.wanted, now)
            tried.add(key.name)
            if question.pinned is not None or last:
                code = "token_timeout" if error.late else "no_token"
                raise Refusal(code, f"no token for {key.token.label}: {error}") from None


async def onward(
    request: http.Request, exchange: Exchange, parts: Parts, clock: Callable[[], float]
) -> tuple[Sealed, Target]:
    """A request to a host that is no provider's, sealed to it as it came, without a key of ours.

    Raises Refusal where the host's address may not be reached.
    """
    origin = exchange.onward
    assert origin is not None
    private = parts.forward.allows_private(origin.host)
    await check_address(origin.host, origin.port, parts.own_ports, private)
    fields, path = exchange.stripped.sent
    body = None if request.stream else request.raw_content or b""
    if body is None:
        request.stream = exchange.request_tee = Tee(exchange.body_limit, clock)
    sealed = pass_on(fields, origin, public=not private)
    exchange.pass_on(sealed.fields, path, body)
    return sealed, Target(origin, path)


def heard(exchange: Exchange, fields: Fields, now: float, wall: float) -> Fields:
    """Take note of an answer for its key; the answer's fields, as the client gets them.

    Where another key is ready the SDK is asked to try again: it does so by itself and meets the
    next key. `now` is monotonic seconds, `wall` seconds since the epoch.
    """
    key, upstream, status = exchange.key, exchange.upstream, exchange.status
    if key is None or upstream is None or status is None:
        return fields
    ring = upstream.ring
    if status < 400:
        ring.good(key, exchange.at)
        return fields
    if status == 401 and key.token is not None and key.token.drop(exchange.secret):
        again = True  # the next request fetches another token
    else:
        rests = ring.heard(key, status, dict(lowered(fields)), now, wall)
        again = rests and ring.another(key, exchange.wanted, now)
    return ask_to_retry(fields) if again and _obeys(exchange, upstream) else fields


def told(exchange: Exchange, body: bytes, now: float) -> None:
    """Take note of what the body of a 429 says: Google names the pause there."""
    if exchange.status != 429 or exchange.key is None or exchange.upstream is None:
        return
    coding = dict(lowered(exchange.answer_headers)).get("content-encoding")
    seconds = rest.duration(rest.retry_info(decoded(body, coding, _LOOK)[0]) or "")
    if seconds is not None:
        exchange.upstream.ring.extend(exchange.key, now + seconds)


def failed(exchange: Exchange, fields: Fields, now: float) -> Fields:
    """Take note that an exchange's upstream gave no answer; the fields of ours to the client.

    Where keys have endpoints of their own, another one is another host to try at once.
    """
    key, upstream = exchange.key, exchange.upstream
    if key is None or upstream is None:
        return fields
    upstream.ring.failed(key, now)
    again = bool(upstream.endpoints) and upstream.ring.another(key, exchange.wanted, now)
    return ask_to_retry(fields) if again and _obeys(exchange, upstream) else fields


def _obeys(exchange: Exchange, upstream: Upstream) -> bool:
    """Whether the client's SDK obeys our hints, and may be given another key."""
    pinned = b"x-passthrough-key" in exchange.stripped.control
    return not pinned and upstream.provider.error_shape != "google"
