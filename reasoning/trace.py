"""What a completion of a reasoning model is made of: steps, an exit from thinking, and an answer."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

ExitReason = Literal[
    "model", "confidence", "step_budget", "token_budget", "repetition", "length", "eos", "stop", "abort", "none"
]
"""Why thinking ended.

``model``: the model closed the block itself. ``confidence``, ``step_budget``, ``token_budget``, ``repetition``: an exit
policy closed it. While the block was open, ``length``: the token limit was reached; ``eos``: the sequence ended;
``stop``: a stop string or token of the request came. ``none``: the completion ended without ever opening a block.
``abort``: it was cut short before the block was closed or even opened (client gone, engine error).
"""

EXIT_REASONS: Final[tuple[ExitReason, ...]] = get_args(ExitReason)


class Step(NamedTuple):
    """One semantic step of the thinking block. A tuple, for they are made by the dozen for every answer.

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

    ``text`` is ``preamble``, opening tag, ``reasoning``, closing tag and ``answer``, in this order, less the tags that
    the completion does not have.

    Attributes:
        text: the whole completion.
        preamble: what stands before the thinking block; nearly always empty.
        reasoning: the thinking block between its tags; the steps' texts, joined.
        answer: what follows the block; the whole text when no block was opened.
        steps: in order; none without a block or in a blank one.
        exit: where and why thinking ended.
        completion_tokens: all tokens; the sum of ``exit.reasoning_tokens`` and ``answer_tokens``.
        answer_tokens: tokens that are in no step; those of a blank block and its tags count here.
    """

    text: str
    preamble: str
    reasoning: str
    answer: str
    steps: tuple[Step, ...]
    exit: Exit
    completion_tokens: int
    answer_tokens: int
