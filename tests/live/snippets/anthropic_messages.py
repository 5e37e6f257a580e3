"""Anthropic's SDK through the gateway."""

import os

from anthropic import Anthropic

gateway = os.environ.get("LLM_PASSTHROUGH_URL", "http://localhost:8080")

client = Anthropic(base_url=f"{gateway}/anthropic_passthrough", api_key="dummy-key")

message = client.messages.create(
    model="claude-haiku-4-5",
    max_tokens=1024,
    messages=[{"role": "user", "content": "Hello!"}],
)
print(message.content[0].text)
