"""How a prompt leaves the thinking block: chat templates open it, or close it at once where thinking is off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class PromptText(Protocol):
    """Text of a prompt's tokens."""

    @property
    def landmarks(self) -> frozenset[int]:
        """Ids of the tokens that stand between turns, not within them; the thinking tags are none."""

    def token(self, text: str) -> int | None:
        """The token that stands for this text alone; None where there is none."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a token sequence, special tokens included."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, no special ones added."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a prompt did to the thinking block.

    Attributes:
        state: ``open``; ``closed`` again, where thinking is off; ``none`` of both, where the model may open it.
        tokens: thinking that an open block holds already.
    """

    state: Literal["open", "closed", "none"]
    tokens: int = 0

    @property
    def inside(self) -> bool:
        """Whether the completion begins inside the block."""
        return self.state == "open"


def opening_of(prompt: Sequence[int], text: PromptText, think: tuple[str, str]) -> Opening:
    """Read the end of a prompt.

    Only what follows its last turn delimiter counts, so earlier turns may hold any tags.
    """
    tags = [text.token(tag) for tag in think]
    if None in tags:
        return _opening_by_text(prompt, text, think)
    opening, closing = tags
    for index in range(len(prompt) - 1, -1, -1):
        token = prompt[index]
        if token == closing:
            return Opening("closed")
        if token == opening:
            return Opening("open", len(prompt) - index - 1)
        if token in text.landmarks:
            break
    return Opening("none")


def _opening_by_text(prompt: Sequence[int], text: PromptText, think: tuple[str, str]) -> Opening:
    """The same where the tags are no tokens of their own."""
    start = next((i + 1 for i in range(len(prompt) - 1, -1, -1) if prompt[i] in text.landmarks), 0)
    tail = text.decode(prompt[start:])
    opened, closed = tail.rfind(think[0]), tail.rfind(think[1])
    if opened > closed:
        return Opening("open", len(text.encode(tail[opened + len(think[0]) :])))
    return Opening("closed" if closed >= 0 else "none")
