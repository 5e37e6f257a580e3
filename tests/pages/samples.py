"""Records that look like a day's work: an agent's session, questions, a few failures."""

import json
import random
from typing import Any

from llm_passthrough.record import Cost, Fault, Record
from made import id_at, record, usage

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9QzzCKRxUOVYUAQk4C/"
    "5xkPdMAAAAASUVORK5CYII="
)
SYSTEM = (
    "You are a coding agent. Work in small steps, run the tests after each change, and say what "
    "you did in one or two sentences.\n\nThe project is a small weather service in Python.\n"
    "Rules:\n- keep functions short\n- no new dependencies without asking\n"
) + "- every change has a test\n" * 12
TOOLS = [
    {
        "name": "read_file",
        "description": "Read a file of the project.",
        "input_schema": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "lines": {"type": "string"}},
            "required": ["path"],
        },
    },
    {
        "name": "edit_file",
        "description": "Replace a text in a file by another one.",
        "input_schema": {
            "type": "object",
            "properties": {"path": {}, "old": {}, "new": {}},
            "required": ["path", "old", "new"],
        },
    },
    {
        "name": "run",
        "description": "Run a command and give back its output.",
        "input_schema": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
]
_STEPS: list[tuple[str, str, dict[str, str], str]] = [
    (
        "I will look at the cache first.",
        "read_file",
        {"path": "weather/cache.py"},
        "import time\n\n\nclass Cache:\n    def __init__(self, ttl):\n        self.ttl = ttl\n"
        "        self._entries = {}\n\n    def get(self, key):\n"
        "        value, at = self._entries[key]\n        if time.time() - at > self.ttl:\n"
        "            raise KeyError(key)\n        return value\n",
    ),
    (
        "`get` keeps what is too old, and the wall clock may jump. I write a test that fails.",
        "edit_file",
        {
            "path": "tests/test_cache.py",
            "old": "",
            "new": "def test_an_old_entry_is_gone():\n    ...\n",
        },
        "ok: 1 file changed",
    ),
    ("", "run", {"command": "pytest -q tests/test_cache.py"}, "1 failed, 3 passed in 0.21s"),
    (
        "It fails as it should. Now the change.",
        "edit_file",
        {"path": "weather/cache.py", "old": "time.time()", "new": "time.monotonic()"},
        "ok: 1 file changed",
    ),
    ("", "run", {"command": "pytest -q"}, "." * 40 + "\n40 passed in 1.31s"),
]
QUESTION = "The weather service keeps stale entries in its cache. Find out why, and fix it."
DONE = (
    "The cache never dropped entries that were too old, and measured their age with the wall "
    "clock. It now uses `time.monotonic()` and removes an entry when it is found to be too old. "
    "The new test failed before and passes now; all 40 tests pass."
)
_THOUGHT = "The entry is only checked on read. Let me see whether anything removes it at all."


def session(start: float, seconds: float = 14.0, system: str = SYSTEM) -> list[Record]:
    """An agent's session on Anthropic's Messages: each call is the one before with more."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    records, cached, size = [], 0, 3200
    for number, step in enumerate([*_STEPS, None]):
        said: list[dict[str, Any]] = []
        if number == 1:
            said.append({"type": "thinking", "thinking": _THOUGHT, "signature": "x"})
        if step is None:
            said.append({"type": "text", "text": DONE})
        else:
            if step[0]:
                said.append({"type": "text", "text": step[0]})
            said.append(
                {"type": "tool_use", "id": f"toolu_{number}", "name": step[1], "input": step[2]}
            )
        records.append(
            anthropic(
                start + seconds * number,
                messages,
                said,
                system=system,
                tools=TOOLS,
                read=cached,
                write=size - cached - 40,
                out=60 + 40 * number,
            )
        )
        cached, size = size - 40, size + 380
        messages = [*messages, {"role": "assistant", "content": said}]
        if step is not None:
            result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": step[3]}
            messages.append({"role": "user", "content": [result]})
    return records


def missed(start: float) -> list[Record]:
    """A session whose last call finds nothing in the cache: its system prompt tells the time."""
    before = session(start, system=f"The time is 14:31.\n\n{SYSTEM}")
    body = json.loads(before[-1].request.body or "")
    text = {"type": "text", "text": "Thank you. Is the new behaviour in the README?"}
    messages = [
        *body["messages"],
        {"role": "assistant", "content": DONE},
        {"role": "user", "content": [text]},
    ]
    said = [
        {"type": "thinking", "thinking": "The README may name the wall clock.", "signature": "x"},
        {"type": "text", "text": "Not yet. I look for the place where the cache is described."},
        {
            "type": "tool_use",
            "id": "toolu_9",
            "name": "run",
            "input": {"command": "grep -n cache README.md"},
        },
    ]
    last = anthropic(
        start + 120,
        messages,
        said,
        system=f"The time is 14:33.\n\n{SYSTEM}",
        tools=TOOLS,
        write=5480,
        out=118,
        connect=0.041,
        tls=0.063,
    )
    return [*before, last]


def anthropic(
    start: float,
    messages: list[dict[str, Any]],
    said: list[dict[str, Any]],
    *,
    system: str = SYSTEM,
    tools: list[dict[str, Any]] | None = None,
    read: int | None = 0,
    write: int | None = 0,
    out: int = 80,
    beta: str = "prompt-caching",
    model: str = "claude-sonnet-4-5",
    **facts: Any,
) -> Record:
    """A call of Anthropic's Messages, with its usage."""
    blocks = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    body = {"model": model, "max_tokens": 4096, "system": blocks, "messages": messages}
    if tools:
        body["tools"] = tools
    answer = {"id": f"msg_{start:.0f}", "type": "message", "role": "assistant", "content": said}
    tokens = 40 + (read or 0) + (write or 0)
    return record(
        started=start,
        asked=body,
        answered=answer,
        client_path=b"/anthropic_passthrough/v1/messages",
        path=b"/v1/messages",
        route="/anthropic_passthrough",
        provider="anthropic",
        url="https://api.anthropic.com/v1/messages",
        shape="anthropic",
        request_headers=(
            (b"content-type", b"application/json"),
            (b"anthropic-beta", beta.encode()),
            (b"x-api-key", b"[anthropic/team]"),
        ),
        client="agent",
        model=model,
        usage=usage(
            input_tokens=tokens,
            output_tokens=out,
            cache_read_tokens=read,
            cache_write_tokens=write,
        ),
        cost=Cost(round(tokens * 1.1e-6 + out * 1.5e-5, 6), "USD", "genai-prices"),
        first_token=640.0 + out,
        first_byte=0.6,
        total=0.7 + out / 55,
        gateway=0.0012,
        **facts,
    )


def chat(start: float, question: str, answer: str, **more: Any) -> Record:
    """A question on Chat Completions."""
    given: dict[str, Any] = {
        "asked": {"model": "gpt-4o", "messages": [{"role": "user", "content": question}]},
        "answered": {
            "id": "chatcmpl-1",
            "choices": [{"message": {"role": "assistant", "content": answer}}],
        },
        "model": "gpt-4o",
        "usage": usage(input_tokens=820, output_tokens=len(answer) // 4, cache_read_tokens=0),
        "cost": Cost(0.0041, "USD", "genai-prices"),
        "first_token": 390.0,
        "first_byte": 0.35,
        "total": 0.4 + len(answer) / 300,
        "gateway": 0.0009,
        "client": "notebook",
    }
    return record(started=start, **(given | more))


def day(now: float, calls: int = 260) -> list[Record]:
    """What a log holds after a day of work, the oldest first."""
    chance = random.Random(7)
    records: list[Record] = []
    models = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash", "claude-sonnet-4-5")
    providers = ("openai", "azure", "anthropic", "gemini", "vertex")
    for number in range(calls):
        start = now - 86_400 + 82_000 * (number / calls) ** 0.8 + chance.random() * 60
        which = chance.choices(range(5), (5, 3, 4, 3, 2))[0]
        tokens = int(chance.lognormvariate(7.5, 1))
        out = int(chance.lognormvariate(5, 0.8))
        wait = chance.lognormvariate(6.2, 0.45)
        outcome = chance.choices(("ok", "upstream_error", "timeout", "client_abort"), (96, 2, 1, 1))
        records.append(
            chat(
                start,
                chance.choice(("Summarise this issue.", "Name this function.", "Translate.")),
                "Here is a short answer. " * (out // 12 + 1),
                model=models[which],
                provider=providers[which],
                client=chance.choice(("agent", "notebook", "ci")),
                usage=usage(
                    input_tokens=tokens,
                    output_tokens=out,
                    cache_read_tokens=int(tokens * chance.choice((0, 0, 0.6, 0.8))),
                ),
                cost=Cost(round(tokens * 2e-6 + out * 9e-6, 6), "USD", "genai-prices"),
                first_token=wait,
                first_byte=wait / 1000 - 0.03,
                total=wait / 1000 + out / 70,
                outcome=outcome[0],
                status=200 if outcome[0] == "ok" else 500,
            )
        )
    records.append(
        chat(
            now - 410,
            "What does HTTP status 429 mean?",
            "",
            status=429,
            outcome="upstream_error",
            answered={"error": {"type": "rate_limit_error", "message": "Rate limit reached"}},
            usage=None,
            cost=None,
            first_token=None,
            fault=Fault("rate_limit_error", "Rate limit reached for gpt-4o", "upstream"),
        )
    )
    records += session(now - 300)
    records.append(picture(now - 95))
    records.append(chat(now - 40, "Why is the sky blue?", "Because air scatters blue light more."))
    return sorted(records, key=lambda one: one.time)


def replayed(start: float) -> list[Record]:
    """A question, and the same once more with another model and key."""
    question = "Why is the sky blue?"
    first = chat(start, question, "Because air scatters blue light more.")
    again = chat(
        start + 60,
        question,
        "Because air scatters red light less.",
        replay_of=first.id,
        model="gpt-4o-mini",
        key="spare",
        cost=Cost(0.0003, "USD", "genai-prices"),
        first_token=210.0,
        client="notebook",
    )
    return [first, again]


def picture(start: float) -> Record:
    """A question about a small picture."""
    content = [
        {"type": "text", "text": "What colour is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
    return chat(start, "", "It is a plain blue.", asked=body)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ESCAPES = "\x1b[31mred\x1b[0m \u202eevil\u202c \u200bhidden\U000e0041"


def hostile(start: float) -> Record:
    """Everything that a page must not run or obey, in every place that comes from outside."""
    link = "[click](javascript:alert(3)) <a href='javascript:alert(4)'>x</a>"
    svg = "data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDUpIi8+"
    system = f"</details></main>{EVIL}<style>body{{display:none}}</style>"
    messages = [
        {"role": f"user{EVIL}", "content": f"{EVIL} {link} {ESCAPES} {{{{ 7*7 }}}} {{% raw x %}}"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": svg}}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://evil.invalid/pixel.png"}},
                {"type": "image_url", "image_url": {"url": 'data:image/png;base64,AA"onload="x'}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": EVIL, "function": {"name": EVIL, "arguments": EVIL}}],
        },
        {"role": "tool", "tool_call_id": EVIL, "content": f"result {EVIL}"},
    ]
    tools = [{"type": "function", "function": {"name": EVIL, "description": EVIL}}]
    return chat(
        start,
        "",
        f"{EVIL} {ESCAPES}",
        id=id_at(start, "e" * 16),
        asked={
            "model": EVIL,
            "messages": [{"role": "system", "content": system}, *messages],
            "tools": tools,
        },
        model=f"gpt{EVIL}",
        client=f'client"{EVIL}',
        provider=f"p'{EVIL}",
        session={EVIL: EVIL},
        request_headers=((b"x-evil", EVIL.encode()),),
        response_headers=((b"x-evil", EVIL.encode()),),
        fault=Fault(EVIL, EVIL, "upstream"),
        outcome="upstream_error",
        status=500,
    )
