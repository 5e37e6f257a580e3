"""Vertex AI through the gateway: the same prefix as Gemini's."""

import os

from google import genai
from google.genai.types import HttpOptions

gateway = os.environ.get("LLM_PASSTHROUGH_URL", "http://localhost:8080")

client = genai.Client(
    vertexai=True,
    api_key="dummy-key",
    http_options=HttpOptions(base_url=f"{gateway}/genai_passthrough"),
)

response = client.models.generate_content(model="gemini-2.5-flash", contents="Hello!")
print(response.text)
