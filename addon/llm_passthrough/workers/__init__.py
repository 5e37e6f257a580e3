"""Several processes that share one port: `llm-passthrough serve --workers N`.

    port      the sockets: each worker has its own where the system spreads connections evenly
    channel   lines between the parent and a worker; it passes on what workers tell each other
    parent    starts the workers, watches them, tells them when to reload and to end
    seat      what a worker has of it all: its number, its sockets, its line to the parent
    share     what workers tell each other: keys that rest, what clients used, uploads, health
    machines  what machines tell each other of that, through Redis (`bus`)

The parent imports and checks everything, then forks: before there is an event loop or a thread.
It never serves a request, and holds no more of the configuration than a worker does.
"""

MOST = 64
"""Workers of one gateway."""
