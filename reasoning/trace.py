"""What a completion of a reasoning model is made of: steps, an exit from thinking, and an answer."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

ExitReason = Literal[
    "model", "confidence", "step_budget", "token_budget", "length", "eos", "stop", "abort", "none"
]
"""Why thinking ended.

``model``: the model closed the block itself. ``confidence``, ``step_budget``, ``token_budget``: an exit policy closed it.
Ended inside the open block: ``length`` by the token limit, ``eos`` by the end of the sequence, ``stop`` by a stop string
of the request, ``abort`` by anything else (client gone, engine error). ``none``: no block was ever opened.
"""

EXIT_REASONS: Final[tuple[ExitReason, ...]] = get_args(ExitReason)


@dataclass(frozen=True, slots=True)
class Step:
    """One semantic step of the thinking block.

    Attributes:
        text: the step's own text; equals ``trace.text[start:end]``.
        marker: what opened it; None for a first step that no marker opens.
        start: offset of its first character in the completion.
        end: offset after its last character.
        tokens: tokens whose first character lies in it; the block's opening tag counts to the first step, the closing
            tag to the last.
    """

    text: str
    marker: str | None
    start: int
    end: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Where and why thinking ended.

    Attributes:
        reason: one of :data:`EXIT_REASONS`.
        step: 1-based index of the last step; 0 when there was none.
        reasoning_tokens: tokens of all steps, tags of the block included.
    """

    reason: ExitReason
    step: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """One completion, taken apart.

    ``text`` is ``preamble``, opening tag, ``reasoning``, closing tag, ``answer``, in this order, save that a blank
    block counts as no reasoning at all: it has no steps, and its tokens count to the answer.

    Attributes:
        text: the whole completion.
        preamble: what stands before the thinking block; nearly always empty.
        reasoning: the thinking block between its tags; equals the steps' texts, joined.
        answer: what follows the block; the whole text when no block was opened.
        steps: in order; empty without a block and for a blank one.
        exit: where and why thinking ended.
        completion_tokens: all tokens; the sum of ``exit.reasoning_tokens`` and ``answer_tokens``.
        answer_tokens: tokens outside the block.
    """

    text: str
    preamble: str
    reasoning: str
    answer: str
    steps: tuple[Step, ...]
    exit: Exit
    completion_tokens: int
    answer_tokens: int
