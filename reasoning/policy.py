r"""The exit policy: when to pause thinking, try an answer, go on, close the block and answer.

A pure state machine. It says what to do next (:class:`Think`, :class:`Probe`, :class:`Answer`, :class:`Finish`) and is
told what came back (:class:`Sampled`, :class:`Probed`); a driver that holds an engine carries it out. With a threshold
it is the Dynamic Truncated Rollout of Step-GRPO (Section 3.2) and, at inference time, DEER; with ``max_steps`` it is a
step budget. The completion under way is the *path*.

Budgets count every token of the path, forced ones too. Only the driver knows how many tokens a forced text takes, so
``max_tokens`` of an action bounds all that the action adds to the path, and ``Sampled.tokens`` reports what it added.
What an action appends always fits, and a token to sample as well: no tokenizer needs more tokens than a text has bytes.
Where that room is not left, the thinking budget closes the block, and the total ends the path as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from reasoning.confidence import Mean, answer_confidence
from reasoning.markers import LETTER, checked_markers
from reasoning.segmenter import DEFAULT_TAGS
from reasoning.trace import ExitReason

ANSWER_PROMPT: Final = "\n**Final Answer**\n\\boxed"
"""Induces a trial answer inside the thinking block."""
REPETITIONS: Final = 3
"""So many probed chunks in a row that have the same set of words close the block."""


@dataclass(frozen=True, slots=True)
class Think:
    """Append ``append`` to the path, then sample until a stop string, end of sequence or the limit.

    The path is cut, text and tokens, exactly where the stop string begins.
    """

    append: str
    stop: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Probe:
    """On a throw-away copy of the path: append ``text``, decode greedily, report the log-probabilities."""

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
    """What a :class:`Think` or :class:`Answer` brought.

    Attributes:
        text: what was sampled, up to the stop string.
        tokens: tokens that the action added to the path, the appended ones included.
        finish: why sampling ended.
        stop: the stop string that ended it, if one did. One that the action did not name ends the path.
        after: what the last sampled token held behind the stop string ("ing" of "Waiting"); put back together with it.
    """

    text: str
    tokens: int
    finish: Literal["stop", "length", "eos"]
    stop: str | None = None
    after: str = ""


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
        total_tokens: bound of the path.
        think: tags of the block.
        answer_prompt: induces a trial answer inside the block.
        threshold: exit when a trial answer's confidence exceeds it; None tries no answers.
        max_probes: after so many declined trial answers there are no more; None for no limit.
        probe_tokens: longest trial answer.
        mean: of a trial answer's probabilities, which is its confidence; 0 where it does not close the block.
        max_steps: close the block where one more step would begin; None for no limit.
        thinking_tokens: bound of the path up to the closing tag; None leaves it to ``total_tokens``.
        exit_margin: a pause closer than this to ``thinking_tokens`` closes the block.
        inside: take the path to be inside the block from its start, whether the prompt or the model opens it; False
            waits for the opening tag and lets a path without one run.

    Raises:
        TypeError: ``markers`` is one string.
        ValueError: a blank marker, or a number out of its range.
    """

    markers: Sequence[str]
    total_tokens: int
    think: tuple[str, str] = DEFAULT_TAGS
    answer_prompt: str = ANSWER_PROMPT
    threshold: float | None = 0.95
    max_probes: int | None = None
    probe_tokens: int = 20
    mean: Mean = "geometric"
    max_steps: int | None = None
    thinking_tokens: int | None = None
    exit_margin: int = 50
    inside: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "markers", checked_markers(self.markers))
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie between 0 and 1, not be {self.threshold}")
        positive = dict.fromkeys(("total_tokens", "probe_tokens", "max_steps", "thinking_tokens"), 1)
        for name, minimum in {**positive, "max_probes": 0, "exit_margin": 0}.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, not {value}")

    @property
    def pauses(self) -> tuple[str, ...]:
        """The markers to stop at: a phrase that begins with another marker's words ("Wait a minute") stops there."""
        return tuple(
            marker
            for marker in self.markers
            if not any(
                marker != other and marker.startswith(other) and not _one_word(other, marker[len(other) :])
                for other in self.markers
            )
        )

    @property
    def closing(self) -> str:
        """Closes the block where the policy decides to."""
        return f"\n{self.think[1]}\n\n"

    @property
    def thinking_limit(self) -> int:
        """Tokens of the path after which thinking ends; a budget leaves room for the closing and an answer."""
        if self.thinking_tokens is None:
            return self.total_tokens
        return min(self.thinking_tokens, max(1, self.total_tokens - _most_tokens(self.closing) - 1))


class ExitPolicy:
    """One completion's way through thinking. Call :meth:`start` once, then :meth:`advance` with each result.

    A marker pauses thinking where it stands alone as far as can be seen: what follows it is not sampled yet. A longer
    word that begins like a marker ("Waiting") may so be probed or end a step budget; it is not counted as a step. A
    second marker inside the token that held the first is passed over.

    Attributes:
        config: as given.
        probes: confidences of the trial answers so far.
        steps: semantic steps of the path so far, as long as thinking pauses at markers.
        exit_reason: why thinking ended; ``none`` while it goes on.
    """

    def __init__(self, config: ExitPolicyConfig) -> None:
        self.config = config
        self.probes: list[float] = []
        self.steps = 0
        self.exit_reason: ExitReason = "none"
        self._stops = (*config.pauses, config.think[1])
        self._expected: type[Sampled | Probed] | None = None
        self._inside = config.inside
        self._answering = False
        self._used = 0
        self._last = ""
        self._provisional = False
        self._pending = ""
        self._chunk = ""
        self._words: frozenset[str] | None = None
        self._alike = 0

    def start(self) -> Action:
        """Return the first action."""
        if self._inside:
            return self._think("")
        self._expected = Sampled
        return Think("", self.config.think[:1], self.config.total_tokens)

    def advance(self, result: Sampled | Probed) -> Action:
        """Return the next action, now that the last one brought ``result``.

        Raises:
            RuntimeError: the last action asked for no such result.
        """
        if self._expected is None or not isinstance(result, self._expected):
            raise RuntimeError(f"the last action does not bring a {type(result).__name__}")
        if isinstance(result, Probed):
            return self._judge(result)
        self._used += result.tokens
        if self._answering:
            return self._finish(self.exit_reason)
        return self._thought(result) if self._inside else self._opened(result)

    def _opened(self, result: Sampled) -> Action:
        if result.stop != self.config.think[0]:
            return self._finish("none")
        append = result.stop + result.after
        if not self._fits(append):
            return self._finish("none")
        self._inside = True
        return self._think(append)

    def _thought(self, result: Sampled) -> Action:
        self._chunk += result.text
        self._extend(result.text)
        if result.finish == "eos":
            return self._finish("eos")
        if result.finish == "length":
            return self._finish("length") if self.config.thinking_tokens is None else self._close("token_budget")
        if result.stop == self.config.think[1]:
            return self._close("model", result.stop + result.after)
        if result.stop is None or result.stop not in self._stops:
            return self._finish("stop")
        return self._pause(result.stop, result.after)

    def _pause(self, marker: str, after: str) -> Action:
        """Thinking stands before a marker, unless letters touch it or nothing but blank space has come yet."""
        self._pending = marker + after
        if self.steps == 0 or _one_word(self._last, marker) or _one_word(marker, after):
            return self._think(self._pending)
        if self.config.max_steps is not None and self.steps >= self.config.max_steps:
            return self._close("step_budget")
        if not self._probing:
            return self._resume()
        words = frozenset(self._chunk.split())
        self._alike = self._alike + 1 if words == self._words else 1
        self._words = words
        if self._alike >= REPETITIONS:
            return self._close("repetition")
        self._expected = Probed
        return Probe(self.config.answer_prompt, (self.config.think[1],), self.config.probe_tokens)

    def _judge(self, trial: Probed) -> Action:
        confidence = answer_confidence(trial.logprobs, closed=trial.closed, mean=self.config.mean)
        self.probes.append(confidence)
        if self.config.threshold is not None and confidence > self.config.threshold:
            return self._close("confidence")
        return self._resume()

    def _resume(self) -> Action:
        """Put the marker back and go on with the step that it opens."""
        if self.config.thinking_tokens is not None and self._thinking_left <= self.config.exit_margin:
            return self._close("token_budget")
        return self._think(self._pending, new_step=True)

    def _think(self, append: str, new_step: bool = False) -> Action:
        if not self._fits(append):
            return self._finish("length") if self.config.thinking_tokens is None else self._close("token_budget")
        self._extend(append)
        if new_step:
            self.steps += 1
            self._provisional = append in self._stops
            self._chunk = ""
        else:
            self._chunk += append
        pausing = self._probing or self.config.max_steps is not None
        self._expected = Sampled
        return Think(append, self._stops if pausing else self._stops[-1:], self._thinking_left)

    def _close(self, reason: ExitReason, closing: str | None = None) -> Action:
        """Close the block. A marker that thinking stands before is dropped with the step that it would have opened."""
        append = self.config.closing if closing is None else closing
        room = self.config.total_tokens - self._used
        if room <= _most_tokens(append):
            return self._finish("length")
        self.exit_reason = reason
        self._answering = True
        self._expected = Sampled
        return Answer(append, room)

    def _finish(self, reason: ExitReason) -> Finish:
        self.exit_reason = reason
        self._expected = None
        return Finish(reason)

    @property
    def _thinking_left(self) -> int:
        return self.config.thinking_limit - self._used

    def _fits(self, append: str) -> bool:
        return self._thinking_left > _most_tokens(append)

    @property
    def _probing(self) -> bool:
        most = self.config.max_probes
        return self.config.threshold is not None and (most is None or len(self.probes) < most)

    def _extend(self, text: str) -> None:
        """Follow the path: its last character, its first step, and a marker that turns out to begin a longer word."""
        if not text:
            return
        if self._provisional and _one_word(self._last, text):
            self.steps -= 1
        self._provisional = False
        if self.steps == 0 and text.replace(self.config.think[0], "").strip():
            self.steps = 1
        self._last = text[-1]


def _one_word(left: str, right: str) -> bool:
    return bool(left and right and LETTER.match(left[-1]) and LETTER.match(right[0]))


def _most_tokens(text: str) -> int:
    return len(text.encode())
