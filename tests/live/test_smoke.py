"""The gateway answers, signs and records."""

import json

from live.harness import CLIENT_KEY, KEYS, Gateway, Provider, body_of, raw, request, status_of


def test_a_chat_goes_through_with_our_key_and_without_the_clients(
    gateway: Gateway, provider: Provider
) -> None:
    body = json.dumps({"model": "m-smoke", "messages": [{"role": "user", "content": "x"}]}).encode()
    answer = raw(gateway.port, request("/openai_passthrough/v1/chat/completions", body))
    assert status_of(answer) == 200
    seen = provider.last()
    assert seen.target == "/v1/chat/completions"
    assert seen.body == body
    assert ("Authorization", f"Bearer {KEYS['openai']}") in seen.headers
    assert CLIENT_KEY.encode() not in seen.head
    record = gateway.record_of("m-smoke")
    assert record["key"] == "openai-main"
    assert record["outcome"] == "ok"
    assert body_of(answer)
