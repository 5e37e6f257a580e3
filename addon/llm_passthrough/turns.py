"""A WebSocket's turns: each is told as it ends, from what either side said since the one before.

A turn ends with the provider's answer (`response.done` and its like, Gemini's `turnComplete`), or
with an error outside of any answer. It was asked for by the client's last word before the answer
began: from then on its time is counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llm_passthrough.asked import read_messages
from llm_passthrough.conversation.sockets import messages
from llm_passthrough.listen import Ear
from llm_passthrough.record import Body
from llm_passthrough.tee import Tee
from llm_passthrough.usage import Reading

# A first message that is longer is left to the turn's own record.
_LONGEST = 256 << 10


@dataclass(slots=True)
class Turn:
    """A turn that has ended, the `number`th of its WebSocket (from 1).

    Times are monotonic seconds: when it was asked for, answered first, and ended.
    """

    number: int
    asked: float
    begun: float
    ended: float
    sent: Body
    got: Body
    reading: Reading


class Talk:
    """What is said on a WebSocket since its last turn ended.

    Each side keeps `limit` bytes of it. `model` is the one that the handshake asks for; what has
    no `ear` has no turns.
    """

    def __init__(
        self, limit: int, clock: Callable[[], float], ear: Ear | None, model: str | None
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._ear = ear
        self.model = model
        self.turns = 0
        self._silent = True
        self._begin()

    def _begin(self) -> None:
        self.sent = Tee(self._limit, self._clock)
        self.got = Tee(self._limit, self._clock, self._ear)
        self._asked: float | None = None
        self._begun: float | None = None

    @property
    def answering(self) -> bool:
        """Whether an answer is under way, as far as that can be heard."""
        return self._begun is not None and self.got.blind is None

    def hear(self, from_client: bool, message: bytes) -> Turn | None:
        """One message goes by; the turn that ends with it."""
        if from_client:
            if self._silent and self.model is None:
                self.model = _named(message)
            self._silent = False
            self.sent(message)
            return None
        self.got(message)
        ear = self._ear
        if ear is None or self.got.blind:
            return None
        if self._begun is None and ear.begun:
            self._begun, self._asked = self.got.last, self.sent.last
        reading = ear.turn()
        return self._over(reading) if reading is not None else None

    def _over(self, reading: Reading) -> Turn:
        ended = self.got.last or self._clock()
        begun = ended if self._begun is None else self._begun
        asked = self.sent.last if self._begun is None else self._asked
        self.turns += 1
        turn = Turn(
            self.turns,
            begun if asked is None else asked,
            begun,
            ended,
            whole(self.sent),
            whole(self.got),
            reading,
        )
        self._begin()
        return turn


def whole(tee: Tee) -> Body:
    """What a tee saw, as the writer takes it."""
    return Body(tee.copy, tee.size, tee.sha256() if tee.truncated else None)


def _named(message: bytes) -> str | None:
    """The model that a client's first message names, for all turns: Gemini Live's setup does."""
    if len(message) > _LONGEST:
        return None
    said = list(messages(message.decode("utf-8", "replace")))
    return read_messages(b"", "openai", said).model
