"""A demo provider: five LLM APIs on loopback, so that the gateway can be tried without a key.

It answers in the real shapes of OpenAI, Azure OpenAI, Anthropic, Gemini and Vertex, plain, streamed
and over WebSocket, but no model runs: the text says so and echoes what the user wrote. It imports
nothing from the rest of the package, so it can also stand in for a provider in the tests.

Words in the prompt steer it: ``error:429`` (any status), ``error:cut``, ``error:stall``,
``error:slow``; and ``tool``, when the request offers tools, makes it call the first one. Run it
alone with ``python -m llm_passthrough.demo``.
"""

from .http1 import Seen
from .server import DemoProvider

__all__ = ["DemoProvider", "Seen"]
