"""OpenAI's SDK through the gateway."""

import os

from openai import OpenAI

gateway = os.environ.get("LLM_PASSTHROUGH_URL", "http://localhost:8080")

client = OpenAI(base_url=f"{gateway}/openai_passthrough/v1", api_key="dummy-key")

response = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(response.choices[0].message.content)
