"""The exit policy: when to pause thinking, try an answer, go on, close the block and answer.

A pure state machine. It says what to do next (:class:`Think`, :class:`Probe`, :class:`Answer`, :class:`Finish`) and is
told what came back (:class:`Sampled`, :class:`Probed`); whoever holds an engine carries it out. With a threshold it is
the Dynamic Truncated Rollout of Step-GRPO (Section 3.2) and, at inference time, DEER; with ``max_steps`` a step budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reasoning.confidence import answer_confidence
from reasoning.markers import LETTER
from reasoning.trace import ExitReason

ANSWER_PROMPT = "\n**Final Answer**\n\\boxed"


@dataclass(frozen=True, slots=True)
class Think:
    """Append ``append`` to the path, then sample until a stop string (cut off the path), the limit or end of sequence."""

    append: str
    stop: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Probe:
    """On a throw-away copy of the path: append ``text`` and decode greedily, with log-probabilities."""

    text: str
    stop: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Append ``append`` to the path, then sample to the end of sequence or the limit."""

    append: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more to sample."""

    exit: ExitReason


Action = Think | Probe | Answer | Finish


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a :class:`Think` or :class:`Answer` brought: ``text`` ends before the ``stop`` string that ended it."""

    text: str
    tokens: int
    finish: Literal["stop", "length", "eos"]
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """What a :class:`Probe` brought: top-1 log-probabilities, and whether it reached the end of the block itself."""

    logprobs: tuple[float, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class ExitPolicyConfig:
    """When to leave the thinking block.

    Attributes:
        markers: where thinking pauses.
        total_tokens: bound of the completion, forced text included.
        think: tags of the block.
        answer_prompt: induces a trial answer inside the block.
        threshold: exit when the trial answer's confidence exceeds it; None tries no answers.
        max_probes: after so many declined trial answers thinking runs free.
        probe_tokens: longest trial answer.
        strict: a trial answer that does not close the block has confidence 0.
        max_steps: close the block when so many steps are done; None for no limit.
        thinking_tokens: bound of the block; None leaves it to ``total_tokens``.
        exit_margin: closer than this to the bound a paused block is closed.
        repetitions: close the block after so many chunks in a row with the same set of words.
    """

    markers: Sequence[str]
    total_tokens: int
    think: tuple[str, str] = ("<think>", "</think>")
    answer_prompt: str = ANSWER_PROMPT
    threshold: float | None = 0.95
    max_probes: int = 10
    probe_tokens: int = 20
    strict: bool = True
    max_steps: int | None = None
    thinking_tokens: int | None = None
    exit_margin: int = 50
    repetitions: int = 3

    @property
    def thinking_limit(self) -> int:
        """Tokens after which the block is closed."""
        return self.total_tokens if self.thinking_tokens is None else min(self.thinking_tokens, self.total_tokens)


class ExitPolicy:
    """One completion's way through thinking. Call :meth:`start` once, then :meth:`advance` with each result.

    Attributes:
        probes: confidences of the trial answers so far.
        steps: semantic steps begun so far.
        repeated: whether repetition closed the block (reported as ``token_budget``).
    """

    def __init__(self, config: ExitPolicyConfig) -> None:
        self.config = config
        self.probes: list[float] = []
        self.steps = 1
        self.repeated = False
        self._exit: ExitReason | None = None
        self._used = 0
        self._pending = ""
        self._words: frozenset[str] = frozenset()
        self._alike = 1

    @property
    def exit_reason(self) -> ExitReason:
        """Why thinking ended; ``none`` while it goes on."""
        return self._exit or "none"

    def start(self) -> Action:
        """The first action: think."""
        return self._think("")

    def advance(self, result: Sampled | Probed) -> Action:
        """The next action, now that the last one brought ``result``."""
        if isinstance(result, Probed):
            return self._judge(result)
        self._used += result.tokens
        if self._exit is not None:
            return Finish(self._exit)
        if result.finish == "eos":
            self._exit = "eos"
            return Finish("eos")
        if result.finish == "length":
            return self._close("token_budget")
        if result.stop == self.config.think[1]:
            return self._close("model", f"{self.config.think[1]}\n\n")
        return self._pause(result.text, result.stop or "")

    def _pause(self, text: str, marker: str) -> Action:
        self._pending = marker
        if text and LETTER.fullmatch(text[-1]) and LETTER.match(marker):
            return self._think(marker)
        self._alike = self._alike + 1 if (words := frozenset(text.split())) == self._words else 1
        self._words = words
        if self._alike >= self.config.repetitions:
            self.repeated = True
            return self._close("token_budget")
        if self.config.max_steps is not None and self.steps >= self.config.max_steps:
            return self._close("step_budget")
        if self.config.threshold is None:
            return self._resume_or_close()
        return Probe(self.config.answer_prompt, (self.config.think[1],), self.config.probe_tokens)

    def _judge(self, trial: Probed) -> Action:
        confidence = answer_confidence(trial.logprobs, closed=trial.closed, strict=self.config.strict)
        self.probes.append(confidence)
        if self.config.threshold is not None and confidence > self.config.threshold:
            return self._close("confidence")
        return self._resume_or_close()

    def _resume_or_close(self) -> Action:
        if self._used >= self.config.thinking_limit - self.config.exit_margin:
            return self._close("token_budget")
        self.steps += 1
        return self._think(self._pending)

    def _think(self, append: str) -> Action:
        room = self.config.thinking_limit - self._used
        if room <= 0:
            return self._close("token_budget")
        watching = self.config.max_steps is not None or (
            self.config.threshold is not None and len(self.probes) < self.config.max_probes
        )
        stops = (*self.config.markers, self.config.think[1]) if watching else (self.config.think[1],)
        return Think(append, stops, room)

    def _close(self, reason: ExitReason, closing: str | None = None) -> Action:
        """Close the block. The pending marker is dropped with the step that it would have opened."""
        self._exit = reason
        room = self.config.total_tokens - self._used
        if room <= 0:
            return Finish(reason)
        return Answer(f"\n{self.config.think[1]}\n\n" if closing is None else closing, room)
