"""Azure OpenAI through the gateway; the endpoint is the one of the configured key."""

import os

from openai import AzureOpenAI

gateway = os.environ.get("LLM_PASSTHROUGH_URL", "http://localhost:8080")

client = AzureOpenAI(
    azure_endpoint=f"{gateway}/azure_passthrough",
    api_key="dummy-key",
    api_version="2024-10-21",
)

response = client.chat.completions.create(
    model="gpt-4o",  # the name of the deployment
    messages=[{"role": "user", "content": "Hello!"}],
)
print(response.choices[0].message.content)
